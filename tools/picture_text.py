"""Names of classes and folders as Matplotlib may write them."""


def plain(text: str, longest: int | None = None) -> str:
    """`text` in one line, cut to `longest` characters, without what Matplotlib would take for a formula or cannot write."""
    line = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)
    if longest is not None and len(line) > longest:
        line = f"{line[: longest - 3]}..."
    # What stands between dollar signs would be a formula.
    return line.replace("$", r"\$")
