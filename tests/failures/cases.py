"""The rows, which are in ``cases.toml``: what is laid out, which command fails, and what a developer would say why."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A failure; ``cases.toml`` says what its fields are."""

    name: str
    kind: str
    kit: str
    command: str
    cause: str
    files: dict[str, str]
    before: str = ""


class _Cases(msgspec.Struct, frozen=True):
    case: list[Case]


def _read() -> tuple[Case, ...]:
    text = (Path(__file__).parent / "cases.toml").read_text("utf-8")
    return tuple(msgspec.convert(tomllib.loads(text), _Cases).case)


CASES = _read()
