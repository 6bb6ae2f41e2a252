"""What a run came to: its predictions, its result, and what is told of it."""
