"""A private data-set repository of the Hugging Face Hub as a store."""
