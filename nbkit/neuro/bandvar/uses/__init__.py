"""Uses of Band-VAR's tokens and generator, each beside the simple way."""
