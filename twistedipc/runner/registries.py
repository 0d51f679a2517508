"""
The configuration by which the install step finds the project's registries: files in its home, with the names of the
variables that have the tokens, and never a token. Used by ``course``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from twistedipc.builds.registries import Registry, default_of, npmrc, yarnrc
from twistedipc.disk.files import PASSING_ERRORS

#: Variables that say which registry is for all packages. They count more than any file.
_DEFAULTS = frozenset("NPM_CONFIG_REGISTRY PNPM_CONFIG_REGISTRY YARN_NPM_REGISTRY_SERVER BUN_CONFIG_REGISTRY".split())


class Configuration:
    """The files in a ``home`` that name these registries; those of them that a step before has made stay its own."""

    def __init__(self, home: Path, registries: Sequence[Registry], given: Collection[str]) -> None:
        self._contents = {home / ".npmrc": npmrc(registries, given), home / ".yarnrc.yml": yarnrc(registries, given)}
        self._default = default_of(registries)
        self._written: set[Path] = set()

    def write(self) -> list[str]:
        """
        Write what isn't there. Return the names of the files that a step before has made. Raises those of
        `PASSING_ERRORS`.
        """
        others: list[str] = []
        for path, content in self._contents.items():
            if path in self._written:
                continue
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except OSError as error:
                if error.errno in PASSING_ERRORS:
                    raise
                others.append(path.name)  # a step has made it, or lets nobody write here
                continue
            self._written.add(path)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(content)
        return others

    def remove(self) -> None:
        """Remove what was written: the steps after it haven't the variables that it names."""
        for path in self._written:
            with contextlib.suppress(OSError):  # the step has put a folder in its place, say
                path.unlink()
        self._written.clear()

    def environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the step's environment, in which no variable leads elsewhere than these registries."""
        return {
            name: self._default if self._default and name.upper() in _DEFAULTS else value
            for name, value in environment.items()
        }
