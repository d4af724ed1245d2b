"""Hosts: the only code that knows Kaggle's, Colab's or Lightning Studio's folders and variables."""

from __future__ import annotations

import os
from collections.abc import Mapping

from nbkit.runtime.hosts import colab, kaggle, local, studio
from nbkit.runtime.hosts.colab import store_warning
from nbkit.runtime.hosts.host import Host

__all__ = ["Host", "detect", "store_warning"]

# Kaggle's image is built on Colab's, so Kaggle is asked first
_KNOWN = (kaggle, colab, studio, local)


def detect(environ: Mapping[str, str] | None = None) -> Host:
    """Say which host this process runs on.

    Parameters
    ----------
    environ : mapping or None
        Environment variables; those of this process by default.
    """
    environ = os.environ if environ is None else environ
    return next(found for module in _KNOWN if (found := module.detect(environ)) is not None)
