"""How scores grow with data, size and compute, and what that costs."""
