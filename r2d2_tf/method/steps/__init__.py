"""What the steps of an R2D2Model are built of, and what checks them."""
