"""
How a step of the platform's own is started: isolated from the environment and from the folder that it works in, so that
nothing in either can put another module in its place. Used by ``course`` and ``from_store``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import twistedipc

_START = "import runpy, sys; sys.path.append(sys.argv.pop(1)); runpy.run_module(sys.argv.pop(1), run_name='__main__')"
_ROOT = str(Path(twistedipc.__file__).parent.parent)


def own_command(*own: str) -> list[str]:
    """Return the command that runs a module of this package with arguments."""
    return [sys.executable, "-I", "-X", "utf8", "-c", _START, _ROOT, *own]
