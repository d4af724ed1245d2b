"""Floor 2: signals and models.

Knows no host, no store and no session. A system imports ``signals``, ``nn`` and ``plots`` and no other system.
"""
