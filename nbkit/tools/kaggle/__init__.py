"""Kaggle through its own client: push, pull, quota, and the dispatcher."""
