"""The command line of Band-VAR's tokens: flags and checkpoints."""
