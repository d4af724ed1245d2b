"""Hosts: the only code that knows Kaggle's, Colab's or Lightning Studio's folders and variables."""

from nbkit.runtime.hosts.host import Host, detect, environment, store_warning

__all__ = ["Host", "detect", "environment", "store_warning"]
