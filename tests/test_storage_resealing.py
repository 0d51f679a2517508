"""The key that seals secrets is replaced: whole, or not yet; wherever it ends; while an apiserver runs."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, LargeBinary, insert, select

from tests.postgres import running_postgresql
from tests.storage_fixtures import NOW, add_project, database
from twistedipc.cli.ledger import write_in_ledger
from twistedipc.storage import builders, projects
from twistedipc.storage.resealing import reseal, sealed_columns
from twistedipc.storage.secrets import SecretBox, SecretUnreadable
from twistedipc.storage.tables import metadata, secrets
from twistedipc.taps.config import ApiserverConfig, load_apiserver


def test_all_that_is_sealed_is_known() -> None:
    """A column that comes later is found by its comment."""
    binary = {str(each) for table in metadata.tables.values() for each in table.c if isinstance(each.type, LargeBinary)}
    assert binary - {str(each) for each in sealed_columns()} == {
        "log_chunks.data",
        "sealed_chunks.grams",
        "sealed_chunks.data",
    }


def test_a_box_reads_its_file_again(tmp_path: Path) -> None:
    """That of a running apiserver: what it seals meanwhile is under the new key."""
    path = tmp_path / "secret.key"
    running, other = SecretBox(path), SecretBox(path)
    before = running.seal("before")
    assert other.begin_replacing() is True
    assert other.begin_replacing() is False
    during = running.seal("during")
    assert [other.open(each) for each in (before, during)] == ["before", "during"]
    anew = other.sealed_anew(before)
    assert anew is not None
    assert other.sealed_anew(during) is None
    other.end_replacing()
    other.end_replacing()
    assert [running.open(each) for each in (anew, during)] == ["before", "during"]
    with pytest.raises(SecretUnreadable):
        running.open(before)
    with pytest.raises(SecretUnreadable):
        running.sealed_anew(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["secret.key"]


def test_all_secrets_are_sealed_anew(tmp_path: Path) -> None:
    box = SecretBox(tmp_path / "secret.key")
    with database(tmp_path) as connection:
        fill(connection, box)
        connection.execute(
            insert(secrets).values(project_id=1, name="other", sealed=b"not sealed", bound_to="x", updated=NOW)
        )
        box.begin_replacing()
        done = reseal(connection, box)
        assert (done.changed, done.unchanged, len(done.unreadable)) == (3, 0, 1)
        assert reseal(connection, box).unchanged == 3
        box.end_replacing()
        assert opened(connection, SecretBox(tmp_path / "secret.key")) == ["of-build", "of-builder", "of-target"]


def test_on_postgresql(tmp_path: Path) -> None:
    with running_postgresql() as server:
        config = configured(tmp_path, server.url)
        in_ledger(config, lambda connection: None)
        in_ledger(config, fill, SecretBox(config.secret_key))
        assert rotate(tmp_path, ("sealing", "write_in_ledger")) == -signal.SIGKILL
        assert rotate(tmp_path) == 0
        (_,) = config.secret_key.read_bytes().split()
        every = ["of-build", "of-builder", "of-target"]
        assert in_ledger(config, opened, SecretBox(config.secret_key)) == every


def fill(connection: Connection, box: SecretBox) -> None:
    """A secret of each kind that is easily made."""
    add_project(connection)
    projects.set_secret(connection, "shop", "npm_token", box.seal("of-target"), NOW)
    projects.set_build_secret(
        connection, "shop", "A", box.seal("of-build"), characters=8, steps="all", builds="all", now=NOW
    )
    builders.add(connection, name="one", pools=[], shared=False, id="k1", sealed=box.seal("of-builder"), now=NOW)


def opened(connection: Connection, box: SecretBox) -> list[str]:
    """All secrets that can be opened."""
    found = []
    for column in sealed_columns():
        for (sealed,) in connection.execute(select(column).where(column.is_not(None))):
            if sealed != b"not sealed":
                found.append(box.open(sealed))
    return sorted(found)


def configured(tmp_path: Path, address: str = "") -> ApiserverConfig:
    database = f'[database]\nurl = "{address}"\n' if address else ""
    (tmp_path / "apiserver.toml").write_text(f'data = "data"\n[link]\ndial = ["unix:link.sock"]\n{database}')
    return load_apiserver(tmp_path / "apiserver.toml")


#: The command, killed as soon as this function has returned.
KILLED = """
import os, signal, sys
from twistedipc.cli import main, sealing
from twistedipc.storage.secrets import SecretBox

owner, name = {"sealing": sealing, "SecretBox": SecretBox}[sys.argv[1]], sys.argv[2]
original = getattr(owner, name)

def killed(*arguments, **named):
    original(*arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, name, killed)
main(["secrets", "rotate", "--config", sys.argv[3]])
"""

#: Where it is killed: the new key is written; all is sealed anew, and not committed; committed; the old key is erased.
POINTS = [
    ("SecretBox", "begin_replacing"),
    ("sealing", "reseal"),
    ("sealing", "write_in_ledger"),
    ("SecretBox", "end_replacing"),
]


def rotate(tmp_path: Path, point: tuple[str, str] | None = None) -> int:
    config = str(tmp_path / "apiserver.toml")
    command = [sys.executable, "-m", "twistedipc.cli", "secrets", "rotate", "--config", config]
    if point is not None:
        command = [sys.executable, "-c", KILLED, *point, config]
    return subprocess.run(command, timeout=120, check=False).returncode


def in_ledger(config: ApiserverConfig, query: Callable[..., Any], *arguments: Any) -> Any:
    return write_in_ledger(config, query, *arguments)


@pytest.mark.parametrize(
    "point",
    # The two sides of the one commit; the others are for `make test-long`.
    [point if point[0] == "sealing" else pytest.param(point, marks=pytest.mark.long) for point in POINTS],
    ids=lambda point: point[1],
)
def test_wherever_it_is_killed_all_secrets_can_be_opened(tmp_path: Path, point: tuple[str, str]) -> None:
    config = configured(tmp_path)
    in_ledger(config, lambda connection: None)
    before = SecretBox(config.secret_key)
    in_ledger(config, fill, before)
    first = config.secret_key.read_bytes().split()
    assert rotate(tmp_path, point) == -signal.SIGKILL
    every = ["of-build", "of-builder", "of-target"]
    assert in_ledger(config, opened, SecretBox(config.secret_key)) == every
    assert rotate(tmp_path) == 0
    (key,) = config.secret_key.read_bytes().split()
    assert key not in first
    assert in_ledger(config, opened, SecretBox(config.secret_key)) == every
