"""
Whether a mirror's objects are what their ids say: the commit that is checked out, its trees and its files. Used by
``working_copy``.

git checks the ids of what it receives, and not those of what it reads from its disk. A file in a mirror that something
else has written would be checked out under the true commit id. So each object of the commit is digested here, as git
reads it, before anything is made of it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import msgspec

from twistedipc.runner.checkout.git import BadMirror, CheckoutFailed, Git

#: How many files and folders a working copy may have: each tree of a commit can name another one many times, so that
#: a small repository can have more than any disk takes.
MAX_PATHS = 2_000_000

#: How many folders can be in one another: more than a path has room for.
MAX_DEPTH = 2048

#: How many objects git is asked for at once: as many as a pipe takes the ids of.
_ASKED = 800

#: Bytes that are read at once.
_BLOCK = 1 << 20

#: The largest commit, tag or tree: they are read whole.
_MAX_READ = 256 << 20

_TREE, _GITLINK = b"40000", b"160000"


class Verified(msgspec.Struct, frozen=True):
    """What was looked at."""

    commit: str
    objects: int
    size: int  # bytes


class _Tree(msgspec.Struct, frozen=True):
    """What is in a tree: how many names, and the trees below it, each with how often it is there."""

    names: int
    trees: Counter[bytes]


def verify(git: Git, mirror: Path, name: str, *, sha256: bool) -> Verified:
    """
    Verify the commit of this id, or the tag of this id and its commit, with all that is checked out of it. Raises
    `BadMirror` if an object isn't what its id says or is missing, and `CheckoutFailed` if the commit is what it is,
    and can't be checked out.
    """
    with _Objects(git, mirror, sha256=sha256) as objects:
        commit, tree = _commit(objects, bytes.fromhex(name))
        blobs: set[bytes] = set()
        trees: dict[bytes, _Tree] = {}
        level = Counter({tree: 1})
        paths = 0
        for _depth in range(MAX_DEPTH):
            asked = [each for each in level if each not in trees]
            for each, content in zip(asked, objects.read(asked, b"tree"), strict=True):
                trees[each] = _entries(content, blobs, objects.length)
            below: Counter[bytes] = Counter()
            for each, times in level.items():
                paths += times * trees[each].names
                for inner, count in trees[each].trees.items():
                    below[inner] += times * count
            if paths > MAX_PATHS:
                raise CheckoutFailed(f"commit {commit.hex()} has more than {MAX_PATHS} files and folders")
            level = below
            if not level:
                break
        else:
            raise CheckoutFailed(f"commit {commit.hex()} has folders that are more than {MAX_DEPTH} deep")
        objects.check(sorted(blobs), b"blob")
        return Verified(commit.hex(), objects.count, objects.size)


def _commit(objects: _Objects, name: bytes) -> tuple[bytes, bytes]:
    """Return the id of the commit that a commit's or a tag's id stands for, and of its tree."""
    for _tag in range(10):
        kind, content = objects.one(name)
        first, _, _rest = content.partition(b"\n")
        label, _, value = first.partition(b" ")
        if kind == b"commit" and label == b"tree":
            return name, bytes.fromhex(value.decode())
        if kind != b"tag" or label != b"object":
            break
        name = bytes.fromhex(value.decode())
    raise CheckoutFailed(f"{name.hex()} is no commit")


def _entries(content: bytes, blobs: set[bytes], length: int) -> _Tree:
    """Return what a tree has, and add its files to ``blobs``. Raises `CheckoutFailed` for what no folder can have."""
    trees: Counter[bytes] = Counter()
    seen: set[bytes] = set()
    position, count = 0, 0
    while position < len(content):
        blank = content.find(b" ", position)
        end = content.find(b"\0", blank)
        if blank < 0 or end < 0 or end + 1 + length > len(content):
            raise CheckoutFailed("a folder of the commit can't be read")
        mode, name = content[position:blank].lstrip(b"0"), content[blank + 1 : end]
        position = end + 1 + length
        object_id = content[end + 1 : position]
        if not name or name in (b".", b"..") or name.lower() == b".git" or b"/" in name or name in seen:
            raise CheckoutFailed(f"the commit has a file of the name {name[:100]!r}, or has it twice")
        seen.add(name)
        count += 1
        if mode == _TREE:
            trees[object_id] += 1
        elif mode != _GITLINK:
            blobs.add(object_id)
    return _Tree(count, trees)


class _Objects:
    """Objects as git reads them, each verified. It is to be entered."""

    def __init__(self, git: Git, mirror: Path, *, sha256: bool) -> None:
        self._process = git.converse("-C", str(mirror), "cat-file", "--batch")
        self._hash = hashlib.sha256 if sha256 else hashlib.sha1
        self.length = 32 if sha256 else 20
        self.count = 0
        self.size = 0

    def __enter__(self) -> _Objects:
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        for file in (self._process.stdin, self._process.stdout):
            assert file is not None
            try:
                file.close()
            except OSError:  # what it hadn't read is of no use any more
                pass
        self._process.wait()

    def one(self, name: bytes) -> tuple[bytes, bytes]:
        """Return the kind and the content of an object."""
        for output in self._asked([name]):
            kind, size = self._header(output, name)
            return kind, self._content(output, name, kind, size)
        raise AssertionError

    def read(self, names: Sequence[bytes], kind: bytes) -> Iterator[bytes]:
        """Yield the contents of these objects, which must be of a kind."""
        for start in range(0, len(names), _ASKED):
            part = names[start : start + _ASKED]
            for name, output in zip(part, self._asked(part), strict=True):
                found, size = self._header(output, name)
                _check_kind(name, found, kind)
                yield self._content(output, name, kind, size)

    def check(self, names: Sequence[bytes], kind: bytes) -> None:
        """Check these objects, which must be of a kind, however large they are."""
        for start in range(0, len(names), _ASKED):
            part = names[start : start + _ASKED]
            for name, output in zip(part, self._asked(part), strict=True):
                found, size = self._header(output, name)
                _check_kind(name, found, kind)
                digest = self._hash(b"%s %d\0" % (kind, size), usedforsecurity=False)
                left = size
                while left:
                    data = _exactly(output, min(_BLOCK, left), name)
                    digest.update(data)
                    left -= len(data)
                self._check_end(output, name, digest.digest())

    def _asked(self, names: Sequence[bytes]) -> Iterator[IO[bytes]]:
        """Ask git for these objects. Yield where it writes them, once for each."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(b"".join(name.hex().encode() + b"\n" for name in names))
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise BadMirror("git can't read its objects") from error
        for _name in names:
            yield self._process.stdout

    def _header(self, output: IO[bytes], name: bytes) -> tuple[bytes, int]:
        parts = output.readline(1024).split()
        if len(parts) != 3 or parts[0] != name.hex().encode() or not parts[2].isdigit():
            raise BadMirror(f"its object {name.hex()} is missing, or can't be read")
        self.count += 1
        self.size += int(parts[2])
        return parts[1], int(parts[2])

    def _content(self, output: IO[bytes], name: bytes, kind: bytes, size: int) -> bytes:
        if size > _MAX_READ:
            raise CheckoutFailed(f"the object {name.hex()} is too large to be a commit or a folder: {size} bytes")
        data = _exactly(output, size, name)
        digest = self._hash(b"%s %d\0" % (kind, size), usedforsecurity=False)
        digest.update(data)
        self._check_end(output, name, digest.digest())
        return data

    def _check_end(self, output: IO[bytes], name: bytes, digest: bytes) -> None:
        _exactly(output, 1, name)  # a newline
        if digest != name:
            raise BadMirror(f"its object {name.hex()} isn't what its id says")


def _check_kind(name: bytes, found: bytes, wanted: bytes) -> None:
    if found != wanted:
        raise BadMirror(f"its object {name.hex()} is a {found.decode()}, and not a {wanted.decode()}")


def _exactly(output: IO[bytes], size: int, name: bytes) -> bytes:
    data = output.read(size)
    if len(data) != size:
        raise BadMirror(f"its object {name.hex()} can't be read")
    return data
