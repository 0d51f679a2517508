"""
What `twistedipc builder join` writes: the key's file, and what builder.toml says of the link. Without the command's
words and without a link; used by ``builders``.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.setup import BUILDER_KEY, Setup
from twistedipc.ipc import BadKey, NamedKey, write_named_key
from twistedipc.taps.config import BuilderConfig, ConfigError, load_builder

_KEY = re.compile(r"([A-Za-z0-9._-]{1,64}):([0-9a-fA-F]{64})\Z")


@dataclass(frozen=True, kw_only=True)
class Joined:
    """What a builder needs to meet its apiserver. Paths of certificates are as they were typed."""

    name: str
    dial: Sequence[str]
    listen: Sequence[str]
    certificate: str = ""
    private_key: str = ""
    authority: str = ""

    def section(self, key: str) -> str:
        """Return the text of ``[link]``, with its key in the file ``key``."""
        lines = [
            "[link]",
            f"listen = {json.dumps(list(self.listen))}",
            f"dial = {json.dumps(list(self.dial))}",
            f"key = {json.dumps(key)}",
        ]
        files = [
            (name, os.path.abspath(os.path.expanduser(path)))
            for name, path in (
                ("certificate", self.certificate),
                ("private_key", self.private_key),
                ("authority", self.authority),
            )
            if path
        ]
        if files:
            lines += ["", "[link.tls]", *(f"{name} = {json.dumps(path)}" for name, path in files)]
        return "\n".join(lines) + "\n"


def read_pasted_key(text: str) -> NamedKey:
    """Return the key that `builder add` has printed. Raises `Failure`."""
    found = _KEY.match(text.strip())
    try:
        if found is not None:
            return NamedKey(found[1], bytes.fromhex(found[2]), role="apiserver")
    except BadKey:
        pass
    raise Failure(ExitCode.USAGE, "no key was given: paste the whole line that `twistedipc builder add` has printed")


def with_link(text: str, joined: Joined, key: str) -> str:
    """Return a builder.toml with this name and this ``[link]`` in the place of its own; all else stays as it is."""
    name = f"name = {json.dumps(joined.name)}"
    lines, inside = text.splitlines(), False
    kept: list[str] = []
    place: int | None = None
    for line in lines:
        table = re.match(r"\s*\[\s*([^\]]*?)\s*\]", line)
        if table is not None:
            inside = table[1] == "link" or table[1].startswith("link.")
            if inside and place is None:
                place = len(kept)
        if not inside:
            kept.append(line)
    head = next((index for index, line in enumerate(kept) if re.match(r"\s*\[", line)), len(kept))
    place = len(kept) if place is None else place
    kept[place:place] = [*joined.section(key).splitlines(), ""]
    for index, line in enumerate(kept[:head]):
        if re.match(r"\s*(#\s*)?name\s*=", line):
            kept[index] = name
            break
    else:
        kept.insert(0, name)
    return "\n".join(kept).rstrip("\n") + "\n"


class Files:
    """The two files of a builder: its configuration, and its key beside that."""

    def __init__(self, config: Path, joined: Joined, key: NamedKey) -> None:
        self.config = Path(os.path.abspath(config))
        self.key = self.config.with_name(BUILDER_KEY)
        self._joined = joined
        self._key = key
        self._drafts: list[Path] = []

    def check_free(self) -> None:
        """Raise `Failure` if something would be written over."""
        if os.path.lexists(self.key):
            raise Failure(ExitCode.USAGE, f"{self.key} is there already: --force writes over it")
        if self.config.exists() and load(self.config).link.key is not None:
            raise Failure(ExitCode.USAGE, f"{self.config} has a link already: --force replaces its [link]")

    def draft(self) -> BuilderConfig:
        """
        Write both beside their places, and return the configuration, as it will be. Raises `Failure` if it can't be.
        """
        self.config.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        text = self.config.read_text("utf-8") if self.config.exists() else Setup().builder_toml()
        folder = Path(tempfile.mkdtemp(dir=self.config.parent, prefix=".join-"))
        self._drafts = [folder / self.key.name, folder / self.config.name]
        write_named_key(self._drafts[0], self._key)
        # What is checked lies in another folder than it will: with the paths that it will have.
        self._drafts[1].write_text(with_link(text, self._joined, str(self._drafts[0])), "utf-8")
        checked = load(self._drafts[1], self.config)
        self._drafts[1].write_text(with_link(text, self._joined, self.key.name), "utf-8")
        return checked

    def keep(self) -> None:
        """Put both in their places."""
        for draft, path in zip(self._drafts, (self.key, self.config), strict=True):
            os.replace(draft, path)

    def close(self) -> None:
        """Remove what is left of the drafts."""
        for draft in self._drafts:
            draft.unlink(missing_ok=True)
        if self._drafts:
            self._drafts[0].parent.rmdir()


def load(path: Path, called: Path | None = None) -> BuilderConfig:
    """Read a builder.toml, which is called ``called`` in what is said of it. Raises `Failure`."""
    try:
        return load_builder(path)
    except ConfigError as error:
        raise Failure(ExitCode.USAGE, str(error).replace(str(path), str(called or path))) from error
