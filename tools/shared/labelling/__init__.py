"""What asks a person for labels: the page, the pictures on it, the labels given already, and the command that comes next."""
