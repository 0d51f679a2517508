"""The files of a project in a commit of a git repository, which needs no working copy."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection
from pathlib import Path

from twistedipc.builds.recognition.tree import HEAD, MAX_FILE, CantRead


class GitTree:
    """A `builds.recognition.tree.Tree` of a commit. A link is a file that holds a path, as git has it."""

    def __init__(self, repository: Path, commit: str) -> None:
        self._git = ["git", "--git-dir", str(repository)]
        listed = self._run("ls-tree", "-r", "-z", "--full-tree", commit)
        self._blobs: dict[str, str] = {}
        self._names: dict[str, set[str]] = {}
        for entry in listed.split(b"\0"):
            about, tab, encoded = entry.partition(b"\t")
            if not tab:
                continue
            path = os.fsdecode(encoded)
            _mode, kind, name = about.decode().split(" ")
            if kind == "blob":
                self._blobs[path] = name
            parts = path.split("/")
            for depth, part in enumerate(parts):
                self._names.setdefault("/".join(parts[:depth]), set()).add(part)

    def read(self, path: str) -> bytes | None:
        """Return what the file holds; None if there is none. Raises `CantRead`."""
        blob = self._blobs.get(path)
        if blob is None:
            return None
        if int(self._run("cat-file", "-s", blob)) > MAX_FILE:
            raise CantRead(f"{path} has more than {MAX_FILE} bytes")
        return self._run("cat-file", "blob", blob)

    def head(self, path: str) -> bytes:
        """Return the first bytes of a file."""
        blob = self._blobs.get(path)
        if blob is None:
            return b""
        with subprocess.Popen(
            [*self._git, "cat-file", "blob", blob],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            assert process.stdout is not None
            found = process.stdout.read(HEAD)
            process.kill()
        return found

    def names(self, folder: str) -> Collection[str]:
        """Return the names in a folder."""
        return self._names.get(folder, ())

    def _run(self, *arguments: str) -> bytes:
        done = subprocess.run([*self._git, *arguments], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode != 0:
            raise CantRead(f"git can't read the repository: {os.fsdecode(done.stderr).strip()[:500]}")
        return done.stdout
