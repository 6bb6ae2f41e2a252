"""What is measured: a module a part, named as `--parts` names it."""
