"""EEG windows as codes over several scales, and a transformer that generates them."""
