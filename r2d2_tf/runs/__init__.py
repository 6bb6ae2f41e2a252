"""A run on disk: its folder, state and checkpoints, and what another program finds there."""
