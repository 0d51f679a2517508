"""
How a process of the platform's own is started: isolated from the environment and from the folder that it works in, so
that nothing in either can put another module in its place. It is told where this package is, and doesn't look for it:
where that isn't with the other packages, it may not list the folder. Used for runners and for what they start.
"""

from __future__ import annotations

import sys
from pathlib import Path

import twistedipc

# msgspec takes typing_extensions where that is installed, and typing otherwise. Here they have the same, and the former
# imports `inspect`: a tenth of the time until a program begins, of which a build has four.
_START = (
    "import importlib.util as u, runpy, sys; sys.modules['typing_extensions'] = None; where = sys.argv.pop(1); "
    "s = u.spec_from_file_location('twistedipc', where + '/__init__.py', submodule_search_locations=[where]); "
    "sys.modules['twistedipc'] = m = u.module_from_spec(s); s.loader.exec_module(m); "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__')"
)
_PACKAGE = str(Path(twistedipc.__file__).parent)


def own_command(*own: str) -> list[str]:
    """Return the command that runs a module of this package with arguments."""
    return [sys.executable, "-I", "-X", "utf8", "-c", _START, _PACKAGE, *own]
