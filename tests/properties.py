"""
How many examples the tests of properties try: few and always the same by default, and ten times as many, chosen by
chance, where they are to be thorough.
"""

from __future__ import annotations

import os

#: `make thorough` sets it to 10; a whole night can take 1000.
FACTOR = int(os.environ.get("TWISTEDIPC_TESTS_EXAMPLES", "1"))


def examples(number: int) -> int:
    """Return how many examples to try where ``number`` are enough for every day."""
    return number * FACTOR


def seed(number: int) -> int:
    """Return the seed of tests that try the same examples each time; ``TWISTEDIPC_TESTS_SEED`` is another one."""
    return int(os.environ.get("TWISTEDIPC_TESTS_SEED", number))
