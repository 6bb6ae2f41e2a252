"""Images and labels: which data sets there are, how they are read, checked, split and augmented."""
