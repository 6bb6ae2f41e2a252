"""One module for each way in which images lie on a disk."""
