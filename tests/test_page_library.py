"""The page's library is put in its place by the build: from npm as the lock has it, once."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

import hatch_build

STAND_IN = """#!{sh}
[ "$1" = --version ] && {{ echo {node}; exit; }}
[ "$1" = ci ] || exit 64
{does}
for file in htm/preact/standalone.module.js htm/LICENSE preact/LICENSE; do
  mkdir -p "node_modules/${{file%/*}}" && echo "$file" >"node_modules/$file"
done
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Sources with the page's lock alone."""
    page = tmp_path / "sources" / hatch_build.PAGE
    page.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(hatch_build.ROOT / hatch_build.PAGE / name, page)
    return tmp_path / "sources"


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, *, node: str = "v22.1.0", does: str = "") -> None:
    """Make stand-ins for node and npm the only ones."""
    folder.mkdir(exist_ok=True)
    for name in ("node", "npm"):
        program = folder / name
        program.write_text(STAND_IN.format(sh=shutil.which("sh"), node=node, does=does))
        program.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join((str(folder), "/usr/bin", "/bin")))
    monkeypatch.setattr(sys, "executable", str(folder / "python"))


def no_programs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(sys, "executable", str(folder / "python"))


def test_it_is_put_there_once(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path / "bin", monkeypatch)
    assert hatch_build.put_library(root)
    vendor = root / hatch_build.VENDOR
    assert (vendor / "htm-preact.js").read_text() == "htm/preact/standalone.module.js\n"
    assert (vendor / "preact-LICENSE.txt").read_text() == "preact/LICENSE\n"
    no_programs(tmp_path / "empty", monkeypatch)
    assert not hatch_build.put_library(root), "what is there needs no npm"


def test_another_lock_has_it_fetched_again(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path / "bin", monkeypatch)
    hatch_build.put_library(root)
    lock = root / hatch_build.PAGE / "package-lock.json"
    lock.write_text(lock.read_text().replace('"integrity": "sha512-983', '"integrity": "sha512-000'))
    assert not hatch_build.is_there(root)
    assert hatch_build.put_library(root)


def test_a_file_that_is_missing_has_it_fetched_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(tmp_path / "bin", monkeypatch)
    hatch_build.put_library(root)
    (root / hatch_build.VENDOR / "htm-preact.js").unlink()
    assert hatch_build.put_library(root)


@pytest.mark.parametrize("node", [None, "v18.19.0"])
def test_without_npm_or_with_an_old_one_it_says_what_to_do(
    node: str | None, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if node is None:
        no_programs(tmp_path / "bin", monkeypatch)
    else:
        programs(tmp_path / "bin", monkeypatch, node=node)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(hatch_build.NoLibraryError, match="no npm with Node 20 or newer"):
        hatch_build.put_library(root)


def test_npm_s_failure_is_told_and_leaves_nothing(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path / "bin", monkeypatch, does="echo 'npm error EINTEGRITY'; exit 1")
    with pytest.raises(hatch_build.NoLibraryError, match="EINTEGRITY"):
        hatch_build.put_library(root)
    assert not (root / hatch_build.VENDOR).exists()


def test_the_lock_names_no_registry() -> None:
    lock = json.loads((hatch_build.ROOT / hatch_build.PAGE / "package-lock.json").read_text())
    assert not [name for name, package in lock["packages"].items() if "resolved" in package]
    assert all(package["integrity"] for name, package in lock["packages"].items() if name)
