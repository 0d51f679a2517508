"""Who an apiserver is, by marks in its folders that are made at the first start."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import make_url

from twistedipc.storage.apiservers import Identity
from twistedipc.taps.config import ApiserverConfig, ConfigError
from twistedipc.taps.identity import identity_of


def identity(folder: Path, name: str) -> Identity:
    """What an apiserver of this name says of itself, whose files are in the shared folder."""
    config = SimpleNamespace(
        database_url=make_url("postgresql://db/twistedipc"),
        data=folder / name,
        files=folder / "shared",
        cluster=SimpleNamespace(name=""),
        link=SimpleNamespace(name=""),
        api_url="http://api.example",
    )
    found = identity_of(cast(ApiserverConfig, config))
    assert found is not None
    return found


def test_marks_stay(tmp_path: Path) -> None:
    one, two = identity(tmp_path, "one"), identity(tmp_path, "two")
    assert identity(tmp_path, "one") == one
    assert one.folder != two.folder
    assert one.files == two.files
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["files.id"]


def test_two_first_starts_at_once_with_the_same_process_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In containers: one took the other's unfinished file away, and that one didn't start."""
    link = os.link
    others: list[Identity | None] = []

    def slow(made: Any, path: Any) -> None:
        if Path(path).name == "files.id" and not others:
            others.append(None)
            others[0] = identity(tmp_path, "two")
        link(made, path)

    monkeypatch.setattr(os, "link", slow)
    monkeypatch.setattr(os, "getpid", lambda: 1)
    one = identity(tmp_path, "one")
    assert others[0] is not None
    assert one.files == others[0].files


def test_on_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(made: Any, path: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    one = identity(tmp_path, "one")
    assert (one, one.files) == (identity(tmp_path, "one"), identity(tmp_path, "two").files)
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["files.id"]


def test_a_mark_that_was_broken_off(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "files.id").touch()
    with pytest.raises(ConfigError, match=r"files.id is empty: .* Delete it, and start again"):
        identity(tmp_path, "one")
