"""What is in your own images, and a config for them: `python -m tools.check_data`."""
