"""The paper's tables, theorems and figure 2: `python -m tools.reproduce`."""
