"""
TOML files of strangers. Used by ``plan`` and ``cli.importing``.

``tomllib`` takes time and memory by the square of the parts of a key: a file of some hundred kilobytes that is one key
would take all of a machine's.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

#: The most parts of a key ("a.b" has two). What settings have is far below that.
MAX_PARTS = 32

# No part is looked at from its middle, and nothing is given back: the time is linear.
_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+"""
_LONG_KEY = re.compile(rf"""(?<![\w"'.-])(?:{_PART}){{{MAX_PARTS}}}""")


def loads(text: str) -> dict[str, Any]:
    """Return what a TOML file holds. Raises `tomllib.TOMLDecodeError` or RecursionError."""
    if _LONG_KEY.search(text):
        raise tomllib.TOMLDecodeError(f"a key has more than {MAX_PARTS} parts")
    return tomllib.loads(text)
