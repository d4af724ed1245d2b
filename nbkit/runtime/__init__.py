"""Floor 1: hosts, files, clocks, networks, training loops. Knows no neuroscience."""
