"""What any program needs of the machine: files, messages, memory, signals. Knows nothing of images."""
