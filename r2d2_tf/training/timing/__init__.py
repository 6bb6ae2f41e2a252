"""How long a run takes: what it is made of, what that takes where it was timed, and the rest reckoned from it."""
