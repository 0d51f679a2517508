"""
What there is to be done with an interface on a command line: ``python -m twistedipc.ipc``.

    python -m twistedipc.ipc dump calculator:CALCULATOR > calculator.json
    python -m twistedipc.ipc diff calculator.json new.json
    python -m twistedipc.ipc typescript calculator:CALCULATOR > calculator.ts

A command is a function that takes the parsed arguments, prints, and returns the exit code: 0; 1: versions don't fit;
2: it couldn't be done. `CannotBeDone`, raised by a command, is printed, and the code is 2.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from twistedipc.ipc.typescript import typescript
from twistedipc.ipc.wire.compatible import compare
from twistedipc.ipc.wire.errors import BadVocabulary
from twistedipc.ipc.wire.interface import Interface


class CannotBeDone(Exception):
    """What a command was to do can't be done; ``str()`` says why."""


def find_interface(text: str) -> Interface:
    """Return the interface that ``MODULE:NAME`` means. Raises `CannotBeDone`."""
    module, _, name = text.partition(":")
    if not module or not name:
        raise CannotBeDone(f"{text!r} is no MODULE:NAME, such as calculator:CALCULATOR")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        raise CannotBeDone(f"{module} can't be imported: {type(error).__name__}: {error}") from error
    for each in name.split("."):
        if not hasattr(found, each):
            raise CannotBeDone(f"{module} has no {name}")
        found = getattr(found, each)
    if not isinstance(found, Interface):
        raise CannotBeDone(f"{text} is {type(found).__qualname__}, and not an Interface")
    return found


def dump(arguments: argparse.Namespace) -> int:
    """Print the JSON Schema of an interface."""
    try:
        schema = find_interface(arguments.interface).schema()
    except BadVocabulary as error:
        raise CannotBeDone(str(error)) from error
    print(msgspec.json.format(msgspec.json.encode(schema)).decode("utf-8"))
    return 0


def diff(arguments: argparse.Namespace) -> int:
    """Print what breaks between two versions of an interface."""
    try:
        found = compare(_read(arguments.old), _read(arguments.new))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CannotBeDone(f"{arguments.old}, {arguments.new}: {error}") from error
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode("utf-8"))
        return 0 if found.compatible else 1
    print("compatible" if found.compatible else "not compatible:")
    for each in found.breaks:
        print(f"  {each}")
    for part, name in found.added:
        print(f"  {part} {name} is new: older peers don't take it, which Peer.understands tells")
    return 0 if found.compatible else 1


def write_typescript(arguments: argparse.Namespace) -> int:
    """Print the types of an interface in TypeScript."""
    sys.stdout.write(typescript(find_interface(arguments.interface), arguments.interface.rpartition(":")[2]))
    return 0


def _read(path: str) -> Any:
    try:
        return msgspec.json.decode(Path(path).read_bytes())
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        raise CannotBeDone(f"{path} can't be read: {error}") from error


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    whole = argparse.ArgumentParser(prog="python -m twistedipc.ipc", description="What is done with an interface.")
    commands = whole.add_subparsers(title="commands", required=True, metavar="COMMAND")
    one = commands.add_parser("dump", help="print the JSON Schema of an interface")
    one.add_argument("interface", metavar="MODULE:NAME", help="where it is, such as calculator:CALCULATOR")
    one.set_defaults(command=dump)
    one = commands.add_parser("diff", help="say what breaks between two versions of an interface, by their schemas")
    one.add_argument("old", metavar="OLD.json", help="as dump has written it")
    one.add_argument("new", metavar="NEW.json", help="as dump has written it")
    one.add_argument("--json", action="store_true", help="for programs")
    one.set_defaults(command=diff)
    one = commands.add_parser(
        "typescript",
        help="print the types of an interface in TypeScript, for programs that use the package for Node",
    )
    one.add_argument("interface", metavar="MODULE:NAME", help="where it is, such as calculator:CALCULATOR")
    one.set_defaults(command=write_typescript)
    return whole


def main(words: Sequence[str] | None = None) -> int:
    """Run a command, and return the exit code."""
    arguments = parser().parse_args(words)
    try:
        code: int = arguments.command(arguments)
    except CannotBeDone as error:
        print(error, file=sys.stderr)
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
