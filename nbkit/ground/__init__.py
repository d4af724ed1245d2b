"""The ground floor: small things that the library, the tools and the models may all import.

Nothing here imports another part of nbkit.
"""

__version__ = "0.2.0"
