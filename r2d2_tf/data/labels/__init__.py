"""Files of labels: their formats, and which image and class a line means."""
