"""
numpy, which is loaded when something is sealed or searched first, or something with colours is read: what does none of
this does without its 16 MB.
"""

from __future__ import annotations

import os
from functools import cache

_THREADS = "OPENBLAS_NUM_THREADS"


@cache
def load() -> None:
    """
    Import numpy without the threads that its algebra begins, one for each processor: nothing here uses them. To be
    called before the first ``import numpy``.
    """
    had = os.environ.get(_THREADS)
    os.environ[_THREADS] = "1"
    try:
        import numpy  # noqa: F401
    finally:
        if had is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = had
