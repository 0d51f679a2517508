"""
``node_modules`` as a lock file gives them: what they depend on, and whether a build has left them as they were
installed. Used by ``course`` and ``keeping``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from twistedipc.attempts.sha256 import sha256  # a runner does without OpenSSL
from twistedipc.builds.caches import modules_key
from twistedipc.builds.plan import Plan
from twistedipc.builds.recognition.installed import Installed, installed, keep_to_themselves
from twistedipc.builds.recognition.recognised import PlannedStep
from twistedipc.trees.folder import FolderTree

#: The most bytes of a lock file that are digested.
MAX_DIGESTED = 64 * 1024 * 1024

#: The most bytes of a lock file that is looked into.
MAX_LOCK = 16 * 1024 * 1024

#: Settings of npm that name a folder of the attempt's own.
_ATTEMPTS_OWN = frozenset({"npm_config_cache", "npm_config_prefix"})

#: What npm itself makes in node_modules whose name begins with a dot; no package's name does.
_NPMS_OWN = frozenset({".bin", ".package-lock.json"})


class Modules(msgspec.Struct, frozen=True):
    """What the install of a project makes, and the key under which it is kept."""

    installed: Installed
    key: str
    install: PlannedStep  # the step in whose place it can be put back


def modules_of(
    work: Path, plan: Plan, environment: Mapping[str, str], said: Mapping[str, str], registries: Sequence[object]
) -> Modules | None:
    """
    Return what a plan's install makes; None if it can't be put back, or there is no such step.

    :param said: what people say of the environment: packages' install scripts may count on it
    """
    recognised = plan.recognised
    found = installed(FolderTree(work), recognised)
    if found is None or recognised.install is None or recognised.install not in plan.steps:
        return None
    parts = [("tools", _tools(environment["PATH"])), ("registries", msgspec.json.encode(list(registries)))]
    for path in sorted(set(found.files)):
        digest = _digest(work / path)
        if digest is None:
            return None
        parts.append((path, digest))
    if not keep_to_themselves(_read(work / found.lock)):
        return None
    for name in sorted(environment):
        if name in said or (name.lower().startswith("npm_config_") and name not in _ATTEMPTS_OWN):
            parts.append((name, environment[name].encode("utf-8", "surrogateescape")))
    return Modules(found, modules_key(parts), recognised.install)


def state_of(work: Path, found: Installed) -> str:
    """
    Return what node_modules are like now: another text if a package has come, gone or been changed at its top. npm's
    own list of what it has installed (``.package-lock.json``) is part of it; `tools_own` isn't.
    """
    digest = sha256()
    for folder in found.folders:
        for path in (work / folder, *_scopes(work / folder)):
            for name, written in _entries(path):
                digest.update(f"{folder}/{path.name}/{name}\0{written}\n".encode("utf-8", "surrogateescape"))
        digest.update(_digest(work / folder / ".package-lock.json") or b"")
    return digest.hexdigest()


def tools_own(work: Path, found: Installed) -> frozenset[str]:
    """
    Return the paths of what is in node_modules that no install makes: build tools put it there, some of it for a
    moment, some for their next run (``.cache``, ``.vite-temp``, ``.tmp`` with what TypeScript has built).
    """
    return frozenset(
        f"{folder}/{name}"
        for folder in found.folders
        for name in _names(work / folder)
        if name.startswith(".") and name not in _NPMS_OWN
    )


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _scopes(folder: Path) -> list[Path]:
    return [folder / name for name, _written in _entries(folder) if name.startswith("@")]


def _entries(folder: Path) -> list[tuple[str, int]]:
    """What is in a folder of packages, and when each package's own folder was changed."""
    try:
        with os.scandir(folder) as scanned:
            return sorted(
                (entry.name, entry.stat(follow_symlinks=False).st_mtime_ns)
                for entry in scanned
                if not entry.name.startswith(".") or entry.name in _NPMS_OWN
            )
    except OSError:
        return []


def _tools(path: str) -> bytes:
    """Which Node and which npm are the first on a PATH."""
    found = []
    for name in ("node", "npm"):
        for folder in path.split(os.pathsep):
            file = os.path.join(folder, name)
            if os.access(file, os.X_OK):
                real = os.path.realpath(file)
                status = os.stat(real)
                found.append(f"{real}\0{status.st_size}\0{status.st_mtime_ns}")
                break
    return "\n".join([*found, os.uname().machine]).encode("utf-8", "surrogateescape")


def _read(path: Path) -> bytes:
    """What is in a file that `_digest` has found to be one; b"" if that is too much."""
    with path.open("rb") as file:
        data = file.read(MAX_LOCK + 1)
    return data if len(data) <= MAX_LOCK else b""


def _digest(path: Path) -> bytes | None:
    """Return the digest of a file, b"" if there is none; None if it isn't a file, or too large."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError:
        return None
    digest = sha256()
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_DIGESTED:
            return None
        while data := file.read(1 << 20):
            digest.update(data)
    return bytes.fromhex(digest.hexdigest())
