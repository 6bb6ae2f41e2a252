"""Programs around a run, each `python -m tools.NAME`; nothing in r2d2_tf imports them."""
