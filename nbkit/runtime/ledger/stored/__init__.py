"""What the ledger keeps in the store, by name and content."""
