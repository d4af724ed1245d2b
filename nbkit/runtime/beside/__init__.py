"""Sessions of one phase that are open at the same time, on this machine and on others."""
