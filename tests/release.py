"""
Builds the wheel and the source distribution in ``dist``, and checks what somebody gets who installs them.

    make release

Exits with 1, and says why, if they must not be published: a file is missing or too many, the metadata isn't what
``pyproject.toml`` says, a fresh environment can't run them, or the version has no changes or no ledger of its own.
"""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import hatch_build
import twistedipc

ROOT = Path(__file__).parent.parent

#: Seconds for one program: installing from the index takes longest.
PATIENCE = 600.0

#: What the wheel has beside the package: who imports it gets nothing else in the top of their site-packages.
TOP_LEVEL = {"twistedipc", "twisted", f"twistedipc-{twistedipc.__version__}.dist-info"}


class NotFit(Exception):
    """Why this can't be published, as a sentence."""


def build(folder: Path, source: Path = ROOT) -> tuple[Path, Path]:
    """Build the wheel and the source distribution of the sources, into an empty folder."""
    run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], source)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def run(command: list[str], folder: Path, **environment: str) -> str:
    """Run a program to its end, in this folder; its output. Raises `NotFit`."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**inherited, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode:
        raise NotFit(f"`{' '.join(command)}` exits with {done.returncode}:\n{done.stdout}")
    return done.stdout


def need(truth: object, otherwise: str) -> None:
    if not truth:
        raise NotFit(otherwise)


# -- what is in them -------------------------------------------------------------------------------------------------


def check_wheel(wheel: Path) -> None:
    """All of the package, its licence, and nothing that would hide another package's files."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"twistedipc-{twistedipc.__version__}.dist-info"
        licence, metadata = archive.read(f"{info}/licenses/LICENSE"), archive.read(f"{info}/METADATA")
    need({PurePosixPath(name).parts[0] for name in names} == TOP_LEVEL, f"{wheel.name} has more than the package")
    shipped = {name for name in names if not name.startswith(info)}
    sources = {*_sources(), *_library()}
    missing, strange = sources - shipped, shipped - sources
    need(not missing, f"{wheel.name} lacks {', '.join(sorted(missing))}")
    need(not strange, f"{wheel.name} has what git doesn't have: {', '.join(sorted(strange))}")
    need(licence == (ROOT / "LICENSE").read_bytes(), f"the licence in {wheel.name} is another")
    _check_metadata(email.message_from_string(metadata.decode()), wheel.name)


def check_sdist(sdist: Path) -> None:
    """All that is needed to build and to test it: what git has, but for the settings of our own machines."""
    head = f"twistedipc-{twistedipc.__version__}/"
    with tarfile.open(sdist) as archive:
        names = {name.removeprefix(head) for name in archive.getnames()}
        licence, metadata = archive.extractfile(head + "LICENSE"), archive.extractfile(head + "PKG-INFO")
        need(licence is not None and licence.read() == (ROOT / "LICENSE").read_bytes(), f"no licence in {sdist.name}")
        assert metadata is not None
        _check_metadata(email.message_from_string(metadata.read().decode()), sdist.name)
    missing = {name for name in (*_tracked(), *_library()) if not name.startswith(".")} - names
    need(not missing, f"{sdist.name} lacks {', '.join(sorted(missing))}")
    need(not [name for name in names if name.endswith("dropin.cache")], f"{sdist.name} has a cached list of plugins")


def _check_metadata(metadata: email.message.Message, name: str) -> None:
    said = {key: metadata[key] for key in ("Name", "Version", "License-Expression", "Requires-Python")}
    expected = {
        "Name": "twistedipc",
        "Version": twistedipc.__version__,
        "License-Expression": "MIT",
        "Requires-Python": ">=3.11",
    }
    need(said == expected, f"the metadata of {name} says {said}")
    need(metadata["Summary"], f"{name} has no summary")
    need(metadata.get_payload() == (ROOT / "README.md").read_text("utf-8"), f"{name} describes itself otherwise")
    for requirement in metadata.get_all("Requires-Dist", []):
        need("@" not in requirement, f"{name} needs {requirement}: only packages of the index can be needed")


def _tracked() -> list[str]:
    """What git has, or would have if all were added."""
    listed = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], ROOT)
    return [name for name in listed.rstrip("\0").split("\0") if (ROOT / name).is_file()]


def _library() -> list[str]:
    """The page's library with its licences, which git doesn't have."""
    return [str(hatch_build.VENDOR / name) for name in (*hatch_build.FILES, hatch_build.STAMP)]


def _sources() -> Iterator[str]:
    """What a wheel has, as git has it: the package, and the documentation that the apiserver serves."""
    for name in _tracked():
        if name.startswith(("twistedipc/", "twisted/")):
            yield name
        elif re.fullmatch(r"docs/[^/]+\.md", name):
            yield str(hatch_build.DOCS / PurePosixPath(name).name)


# -- whether they work -----------------------------------------------------------------------------------------------


def check_rebuilt(sdist: Path, wheel: Path, folder: Path) -> None:
    """The wheel that somebody builds from the source distribution is the same."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = folder.iterdir()
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "again")], unpacked)
    (again,) = (folder / "again").iterdir()
    need(_contents(again) == _contents(wheel), f"the wheel built from {sdist.name} is another than {wheel.name}")


def _contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def check_installed(wheel: Path, folder: Path) -> None:
    """In a fresh environment, both services and the command run, from the index's packages alone."""
    venv.create(folder / "venv", with_pip=True)
    programs = folder / "venv" / "bin"
    pip = [str(programs / "python"), "-m", "pip", "--disable-pip-version-check"]
    run([*pip, "install", "--quiet", str(wheel)], folder)
    run([*pip, "check"], folder)
    where = run([str(programs / "python"), "-c", "import twistedipc; print(twistedipc.__file__)"], folder)
    need(where.startswith(str(folder)), f"twistedipc is imported from {where}")
    plugins = run([str(programs / "twistd"), "--help"], folder)
    for plugin in ("apiserver", "buildipc"):
        need(plugin in plugins, f"twistd doesn't list {plugin}")
        need("--config=" in run([str(programs / "twistd"), plugin, "--help"], folder), f"{plugin} has no --config")
    run([str(programs / "twistedipc"), "init", str(folder / "here")], folder)


# -- whether it is time ----------------------------------------------------------------------------------------------


def check_ready() -> None:
    """This version's changes are told, and later versions will have its ledger to migrate."""
    version = twistedipc.__version__
    told = (ROOT / "CHANGELOG.md").read_text("utf-8")
    need(f"\n## {version}" in told, f"CHANGELOG.md has no heading `## {version}`")
    ledger = f"tests/fixtures/ledger-{version}.sql"
    need(ledger in _tracked(), f"there is no {ledger}: make it by `python -m tests.make_ledger`, and commit it")


def check(wheel: Path, sdist: Path) -> None:
    """All but `check_ready`."""
    check_wheel(wheel)
    check_sdist(sdist)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sdist").mkdir()
        check_rebuilt(sdist, wheel, folder / "sdist")
        check_installed(wheel, folder)


def main() -> None:
    folder = ROOT / "dist"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    try:
        need(not run(["git", "status", "--porcelain"], ROOT), "there are changes that aren't committed")
        wheel, sdist = build(folder)
        check(wheel, sdist)
        check_ready()
    except NotFit as error:
        sys.exit(f"not fit to be published: {error}")
    print(f"{wheel.relative_to(ROOT)} and {sdist.relative_to(ROOT)} are fit to be published")


if __name__ == "__main__":
    main()
