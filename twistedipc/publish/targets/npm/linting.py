"""
publint looks at the tarballs that were packed: a part of the pack step, so without network and without secrets. Used by
``pack``.

``lint.mjs`` is run by the Node that is there, with publint from the builder's store. What can't be looked at, or not in
time, fails no build: the reason takes the place of what publint would have said.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from twistedipc.builds.attempt import Package
from twistedipc.builds.lint import MAX_MESSAGE, Linted, LintedPackage, Linter, Message
from twistedipc.publish.targets.npm.tarballs import BadPackage, read_contents

#: Seconds for all packages of a build.
DEADLINE = 60.0

#: The most of a package that publint gets: files, and bytes of code. Of files that aren't code it gets the names alone.
MAX_FILES = 20_000
MAX_TEXTS = 32 << 20

#: The most memory of Node's heap, in MiB.
_HEAP = 512

_LINT = Path(__file__).with_name("lint.mjs")
_READ = re.compile(r".+\.(?:[cm]?[jt]sx?|json)\Z")
_TARGET = "npm"


class _Message(msgspec.Struct):
    type: str
    text: str


class _Said(msgspec.Struct):
    """A line of what ``lint.mjs`` says."""

    messages: list[_Message] = []
    more: int = 0
    failed: str = ""


class _File(msgspec.Struct):
    name: str
    data: str


class _CantLook(Exception):
    """A package isn't looked at. ``str()`` of it says why."""


def lint(linter: Linter, out: Path, packages: Sequence[Package]) -> Linted:
    """Have the packages looked at, whose files are in ``out``, and say in the log what was found."""
    found = _lint(linter, out, packages)
    if found.why:
        print(f"publint hasn't looked at what was packed: {found.why}")
    for package in found.packages:
        if package.why:
            print(f"publint hasn't looked at {package.name}: {package.why}")
        for message in package.messages:
            print(f"publint, {package.name}: {message.level}: {message.text}")
        if package.more:
            print(f"publint, {package.name}: and {package.more} more")
    return found


def _lint(linter: Linter, out: Path, packages: Sequence[Package]) -> Linted:
    if linter.why:
        return Linted(why=linter.why)
    try:
        inputs = [_input(out / package.file) for package in packages]
        with tempfile.TemporaryDirectory(prefix="publint-", dir=out) as name:
            folder = Path(name)
            for part, place in linter.packages.items():
                shutil.copytree(place, folder / "node_modules" / part)
            shutil.copyfile(_LINT, folder / _LINT.name)
            said, why = _run(folder, [each for each in inputs if isinstance(each, bytes)])
    except OSError as error:
        return Linted(why=f"it can't be started: {error}")
    answers = iter(said)
    results = []
    for package, data in zip(packages, inputs, strict=True):
        answer = next(answers, _Said(failed=why)) if isinstance(data, bytes) else _Said(failed=data)
        results.append(_result(package, answer))
    return Linted(version=linter.version, packages=results)


def _result(package: Package, said: _Said) -> LintedPackage:
    known = [each for each in said.messages if each.type in ("error", "warning", "suggestion")]
    return LintedPackage(
        target=_TARGET,
        name=package.name,
        version=package.version,
        messages=[msgspec.convert({"level": each.type, "text": each.text[:MAX_MESSAGE]}, Message) for each in known],
        more=max(0, said.more),
        why=said.failed[:MAX_MESSAGE],
    )


def _input(tarball: Path) -> bytes | str:
    """Return what ``lint.mjs`` is told of a package; or, as text, why it isn't looked at."""
    try:
        return msgspec.json.encode({"files": list(_files(tarball))}) + b"\n"
    except (_CantLook, BadPackage) as error:
        return str(error)


def _files(tarball: Path) -> Iterator[_File]:
    left = MAX_TEXTS

    def keep(path: str, size: int) -> bool:
        nonlocal left
        wanted = bool(_READ.match(path))
        left -= size if wanted else 0
        return wanted and left >= 0

    contents = read_contents(tarball, keep=keep)
    if len(contents.files) > MAX_FILES:
        raise _CantLook(f"it has more than {MAX_FILES} files")
    if left < 0:
        raise _CantLook(f"it has more than {MAX_TEXTS} bytes of code")
    texts = {"package.json": contents.package_json, **contents.texts}
    for path in contents.files:
        yield _File(f"package/{path}", texts.get(path, b"").decode("utf-8", "replace"))


def _run(folder: Path, inputs: Sequence[bytes]) -> tuple[list[_Said], str]:
    """Run ``lint.mjs``. Return its answers, and why there may be fewer than inputs."""
    command = ["node", f"--max-old-space-size={_HEAP}", "--conditions=browser", _LINT.name]
    with (folder / "input").open("w+b") as given, (folder / "output").open("w+b") as taken:
        given.writelines(inputs)
        given.seek(0)
        try:
            done = subprocess.run(
                command, cwd=folder, stdin=given, stdout=taken, stderr=subprocess.DEVNULL, timeout=DEADLINE, check=False
            )
            why = f"publint ended with exit code {done.returncode}"
        except FileNotFoundError:
            return [], "there is no node on the builder's PATH"
        except subprocess.TimeoutExpired:
            why = f"publint took longer than {DEADLINE:.0f} s"
        taken.seek(0)
        return _understood(taken.read().splitlines()), why


def _understood(lines: Sequence[bytes]) -> list[_Said]:
    found = []
    for line in lines:
        try:
            found.append(msgspec.json.decode(line, type=_Said))
        except (msgspec.DecodeError, UnicodeDecodeError):
            break  # it was killed in the middle of a line
    return found
