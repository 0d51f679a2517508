"""
What may lie in a mirror's folder, and what becomes of all else. Used by ``mirror``.

git takes files that it finds in a repository for its own: ``commondir`` leads to another configuration,
``objects/info/alternates`` to other objects, ``info/grafts`` and ``refs/replace`` change what a commit is. Nothing but
a fetch by us, and git's own packing, has written into a mirror. So what neither of them makes is somebody else's, and
the mirror with it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from twistedipc.runner.checkout.git import BadMirror

_FOLDERS = re.compile(
    r"info|objects(?:/(?:info|pack|[0-9a-f]{2}))?|refs(?:/(?:heads|tags|asked)(?:/.*)?)?|lfs(?:/.*)?", re.S
)

#: Files that belong there. Their contents are looked at elsewhere: HEAD and config are written each time, objects are
#: checked where they are used (``verification``).
_FILES = re.compile(
    r"HEAD|config|packed-refs|lfs/.+"
    r"|objects/[0-9a-f]{2}/(?:[0-9a-f]{38}|[0-9a-f]{62})"
    r"|objects/pack/(?:pack-[0-9a-f]{40,64}\.(?:pack|idx|rev|bitmap|mtimes)"
    r"|multi-pack-index(?:-[0-9a-f]{40,64}\.(?:bitmap|rev))?)"
    r"|objects/info/packs",
    re.S,
)
_REFS = re.compile(r"refs/(?:heads|tags|asked)/.+", re.S)

#: What a git that was killed has left, and lists that git makes of what is there and does without: they are removed.
#: The lists of commits are, since nothing can check them.
_REMOVED = re.compile(
    r"[^/]+\.lock|refs/.+\.lock|config\.new|packed-refs\.new|gc\.(?:pid|log)|FETCH_HEAD|info/refs"
    r"|objects/info/commit-graphs?(?:/.*)?|objects/info/[^/]+\.lock"
    r"|objects/(?:tmp_[^/]+|[0-9a-f]{2}/tmp_obj_[^/]+|pack/(?:tmp_|\.tmp-|\.keep)[^/]*|pack/pack-[0-9a-f]+\.keep)",
    re.S,
)

_REF = re.compile(rb"(?:[0-9a-f]{40}|[0-9a-f]{64})\n?\Z")


def inspect(mirror: Path) -> None:
    """
    Remove from a mirror what git does without. No git may be writing into it: the caller has its lock. Raises
    `BadMirror` if something is there that doesn't belong there, or something is missing; and OSError.
    """
    if mirror.is_symlink() or not mirror.is_dir():
        raise BadMirror("it isn't a folder")
    if os.stat(mirror).st_uid != os.geteuid():
        raise BadMirror("it belongs to another user")
    found = set()
    for path, entry in _walk(mirror):
        kind = _kind(entry)
        if _REMOVED.fullmatch(path) and kind:
            if kind == "folder":
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
        elif not (kind and (_FOLDERS if kind == "folder" else _FILES).fullmatch(path)):
            if kind != "file" or not _REFS.fullmatch(path):
                raise BadMirror(f"{path[:200]!a} doesn't belong in it")
            _check_ref(path, entry)
        elif kind == "folder":
            found.add(path)
    if not {"objects", "refs"} <= found:
        raise BadMirror("it isn't whole")


def _walk(mirror: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield what is in a mirror, each with its path below it. What is removed meanwhile isn't looked into."""
    pending = [""]
    while pending:
        folder = pending.pop()
        with os.scandir(mirror / folder) as scanned:
            for entry in scanned:
                path = folder + entry.name
                yield path, entry
                if entry.is_dir(follow_symlinks=False) and not _REMOVED.fullmatch(path):
                    pending.append(f"{path}/")


def _kind(entry: os.DirEntry[str]) -> str:
    """Return "file" or "folder"; "" for all else, also for a link."""
    if entry.is_file(follow_symlinks=False):
        return "file"
    return "folder" if entry.is_dir(follow_symlinks=False) else ""


def _check_ref(path: str, entry: os.DirEntry[str]) -> None:
    """Raise `BadMirror` unless a ref is an id: one that leads to another ref isn't from a fetch."""
    with open(entry.path, "rb") as file:
        if not _REF.match(file.read(80)):
            raise BadMirror(f"{path[:200]!a} isn't a ref")
