"""
TOML files of strangers. Used by ``plan`` and ``cli.importing``.

``tomllib`` takes time and memory by the square of the parts of a key: a file of some hundred kilobytes that is one key
would take all of a machine's.
"""

from __future__ import annotations

import re
from typing import Any

#: The most parts of a key ("a.b" has two). What settings have is far below that.
MAX_PARTS = 32

# No part is looked at from its middle, and nothing is given back: the time is linear.
_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+"""
_LONG_KEY = rf"""(?<![\w"'.-])(?:{_PART}){{{MAX_PARTS}}}"""


class BadToml(ValueError):
    """It isn't TOML; ``str()`` says why, and where."""


def loads(text: str) -> dict[str, Any]:
    """Return what a TOML file holds. Raises `BadToml` or RecursionError."""
    if re.search(_LONG_KEY, text):
        raise BadToml(f"a key has more than {MAX_PARTS} parts")
    import tomllib  # not above: most projects have no such file, and steps that don't read one import this too

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadToml(str(error)) from error
