"""Projects in memory."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from twistedipc.builds.recognition.tree import HEAD, MAX_FILE, CantRead


class TreeInMemory:
    """A tree whose files are given; what isn't bytes or text is JSON."""

    def __init__(self, files: Mapping[str, object]) -> None:
        self._files = {path: _bytes(value) for path, value in files.items()}
        self._names: dict[str, set[str]] = {}
        self.reads: list[str] = []
        for path in files:
            parts = path.split("/")
            for depth, name in enumerate(parts):
                self._names.setdefault("/".join(parts[:depth]), set()).add(name)

    def read(self, path: str) -> bytes | None:
        self.reads.append(path)
        found = self._files.get(path)
        if found is not None and len(found) > MAX_FILE:
            raise CantRead(f"{path} has more than {MAX_FILE} bytes")
        return found

    def head(self, path: str) -> bytes:
        return self._files.get(path, b"")[:HEAD]

    def names(self, folder: str) -> Collection[str]:
        return self._names.get(folder, ())


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else json.dumps(value, indent=2).encode()
