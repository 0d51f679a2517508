"""
``python -m twistedipc.ipc COMMAND``: what can be done with an interface that isn't running. A command line; the modules
that it calls are pure.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from twistedipc.ipc.typescript import typescript
from twistedipc.ipc.wire.interface import Interface


def main(words: list[str] | None = None) -> int:
    """Run a command, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m twistedipc.ipc", description="Tools for interfaces.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    types = commands.add_parser(
        "typescript",
        help="write the types of an interface in TypeScript, for programs that use the package for Node",
    )
    types.add_argument("interface", metavar="MODULE:NAME", help="where the interface is, as calculator:CALCULATOR")
    types.set_defaults(run=_typescript)
    options = parser.parse_args(words)
    try:
        output: str = options.run(options)
    except NoInterface as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    sys.stdout.write(output)
    return 0


class NoInterface(Exception):
    """There is no interface where one was said to be; ``str()`` says what is wrong."""


def found_interface(place: str) -> Interface:
    """Return the interface at ``MODULE:NAME``, from the folder in which the command runs too."""
    module, colon, name = place.partition(":")
    if not (module and colon and name):
        raise NoInterface(f"{place!r} isn't MODULE:NAME, as calculator:CALCULATOR")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise NoInterface(f"{module} can't be imported: {error}") from None
    except AttributeError:
        raise NoInterface(f"{module} has no {name}") from None
    if not isinstance(found, Interface):
        raise NoInterface(f"{place} is no Interface, but {type(found).__name__}")
    return found


def _typescript(options: argparse.Namespace) -> str:
    return typescript(found_interface(options.interface), options.interface.rpartition(":")[2])


if __name__ == "__main__":
    sys.exit(main())
