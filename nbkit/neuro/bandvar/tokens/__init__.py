"""Tokenizer for EEG windows over several scales, and a transformer that generates the tokens."""
