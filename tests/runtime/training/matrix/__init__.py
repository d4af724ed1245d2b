"""The promise of fit over what a user may bring, as a generated matrix."""
