"""The paper: losses, the table of pseudo-logits, the model that trains on it, reprediction and schedules."""
