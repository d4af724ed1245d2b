"""What the cells of a notebook show beside their results."""
