"""Shared modules that the library, the tools and the models may all import.

Nothing in this package imports another part of nbkit.
"""

__version__ = "0.2.0"
