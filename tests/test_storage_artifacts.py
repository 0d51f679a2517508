"""The artifact store on a real disk, and the rows beside it."""

from __future__ import annotations

import hashlib
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from tests.properties import examples
from tests.storage_fixtures import NOW, add_build, add_project, database
from twistedipc.builds.names import BadValue
from twistedipc.storage import artifacts
from twistedipc.storage.artifacts import ArtifactStore, TooLarge, WrongContent, WrongOffset
from twistedipc.storage.errors import NotFound, NotPossible

DATA = bytes(range(256)) * 40
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts", max_bytes=len(DATA) + 10)


def test_an_upload_in_parts(store: ArtifactStore) -> None:
    assert store.offset("1-1") == 0
    assert store.append("1-1", 0, DATA[:100]) == 100
    assert store.offset("1-1") == 100
    assert store.append("1-1", 100, DATA[100:]) == len(DATA)
    assert not store.path(SHA256).exists()
    assert store.under_way() == ["1-1"]
    path = store.complete("1-1", len(DATA), SHA256)
    assert path == store.path(SHA256)
    assert path.read_bytes() == DATA
    assert store.under_way() == []
    assert store.offset("1-1") == 0


@settings(max_examples=examples(30))
@given(cuts=st.lists(st.integers(0, len(DATA)), max_size=8), restart=st.booleans())
def test_an_upload_cut_anywhere_and_resumed(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], restart: bool
) -> None:
    folder = tmp_path_factory.mktemp("artifacts")
    store = ArtifactStore(folder)
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(DATA)], strict=True):
        if restart:
            store = ArtifactStore(folder)
        assert store.offset("1-1") == begin
        store.append("1-1", begin, DATA[begin:end])
    assert store.complete("1-1", len(DATA), SHA256).read_bytes() == DATA


def test_only_where_it_goes_on(store: ArtifactStore) -> None:
    store.append("1-1", 0, b"12345")
    for offset in (0, 4, 6, 100):
        with pytest.raises(WrongOffset, match="byte 5") as refused:
            store.append("1-1", offset, b"x")
        assert refused.value.have == 5
    assert store.partial("1-1").read_bytes() == b"12345"


def test_two_at_once_do_not_mix(store: ArtifactStore) -> None:
    """Many threads upload the same: each byte is taken once."""
    outcomes: list[bool] = []

    def upload() -> None:
        for offset in range(0, len(DATA), 1024):
            try:
                store.append("1-1", offset, DATA[offset : offset + 1024])
            except WrongOffset:
                outcomes.append(False)
            else:
                outcomes.append(True)

    threads = [threading.Thread(target=upload) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(180)
    have = store.offset("1-1")
    assert have == 1024 * outcomes.count(True)
    assert store.partial("1-1").read_bytes() == DATA[:have]


def test_no_more_than_the_bound(store: ArtifactStore) -> None:
    store.append("1-1", 0, DATA)
    with pytest.raises(TooLarge):
        store.append("1-1", len(DATA), bytes(11))
    assert store.append("1-1", len(DATA), bytes(10)) == store.max_bytes
    store.check(store.max_bytes, SHA256)
    for size in (store.max_bytes + 1, 0, -1):
        with pytest.raises(BadValue):
            store.check(size, SHA256)


def test_what_is_missing_or_wrong_is_not_complete(store: ArtifactStore) -> None:
    with pytest.raises(WrongOffset) as refused:
        store.complete("1-1", len(DATA), SHA256)
    assert refused.value.have == 0
    store.append("1-1", 0, DATA[:-1])
    with pytest.raises(WrongOffset) as refused:
        store.complete("1-1", len(DATA), SHA256)
    assert refused.value.have == len(DATA) - 1
    store.append("1-1", len(DATA) - 1, b"?")
    with pytest.raises(WrongContent):
        store.complete("1-1", len(DATA), SHA256)
    # It was deleted, so it can be uploaded again.
    assert store.offset("1-1") == 0
    store.append("1-1", 0, DATA + b"more")
    with pytest.raises(WrongContent):
        store.complete("1-1", len(DATA), SHA256)
    store.append("1-1", 0, DATA)
    assert store.complete("1-1", len(DATA), SHA256).read_bytes() == DATA


def test_the_same_archive_again(store: ArtifactStore) -> None:
    for attempt in ("1-1", "2-1"):
        store.append(attempt, 0, DATA)
        store.complete(attempt, len(DATA), SHA256)
    assert store.under_way() == []
    # To know what another has uploaded isn't to have it.
    with pytest.raises(WrongOffset):
        store.complete("3-1", len(DATA), SHA256)
    store.append("3-1", 0, b"?" * len(DATA))
    with pytest.raises(WrongContent):
        store.complete("3-1", len(DATA), SHA256)
    assert store.path(SHA256).read_bytes() == DATA


def test_a_full_disk_leaves_what_was_there(store: ArtifactStore) -> None:
    store.append("1-1", 0, DATA[:1000])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            store.append("1-1", 1000, DATA[1000:])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.offset("1-1") == 1000
    store.append("1-1", 1000, DATA[1000:])
    assert store.complete("1-1", len(DATA), SHA256).read_bytes() == DATA


def test_names_that_lead_elsewhere(store: ArtifactStore, tmp_path: Path) -> None:
    for attempt in ("../1-1", "1-1/..", "", "..", "1-1\0", "/etc/passwd"):
        for use in (
            store.offset,
            store.discard,
            lambda name: store.append(name, 0, b"x"),
            lambda name: store.complete(name, 1, SHA256),
        ):
            with pytest.raises(BadValue):
                use(attempt)
    for sha256 in ("", "../" + "a" * 61, "A" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n"):
        with pytest.raises(BadValue):
            store.path(sha256)
    target = tmp_path / "elsewhere"
    store.partial("1-1").symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        store.append("1-1", 0, b"x")
    assert not target.exists()


def test_discarding(store: ArtifactStore) -> None:
    store.discard("1-1")
    store.append("1-1", 0, b"x")
    store.discard("1-1")
    assert store.offset("1-1") == 0


# -- rows ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Connection]:
    with database(tmp_path) as connection:
        add_project(connection)
        add_build(connection)
        yield connection


def test_an_announced_archive_and_its_completion(ledger: Connection) -> None:
    assert artifacts.get(ledger, "1-1") is None
    row = artifacts.begin(ledger, "1-1", 7, SHA256, NOW)
    assert (row.attempt, row.project, row.size, row.sha256, row.complete) == ("1-1", "shop", 7, SHA256, False)
    assert artifacts.begin(ledger, "1-1", 7, SHA256, NOW + 1) == row
    with pytest.raises(NotFound):
        artifacts.mark_complete(ledger, "1-1", "b" * 64)
    done = artifacts.mark_complete(ledger, "1-1", SHA256)
    assert done.complete
    assert artifacts.get(ledger, "1-1") == done
    assert artifacts.begin(ledger, "1-1", 7, SHA256, NOW) == done


def test_what_the_project_has_uploaded_needn_t_come_again(ledger: Connection) -> None:
    """But to know the SHA-256 of another project's archive is of no use."""
    artifacts.begin(ledger, "1-1", 7, SHA256, NOW)
    again = f"{add_build(ledger).id}-1"
    artifacts.mark_complete(ledger, "1-1", SHA256)
    add_project(ledger, "other")
    others = f"{add_build(ledger, 'other').id}-1"
    assert artifacts.begin(ledger, again, 7, SHA256, NOW).complete
    assert not artifacts.begin(ledger, others, 7, SHA256, NOW).complete
    assert not artifacts.begin(ledger, f"{add_build(ledger).id}-1", 8, SHA256, NOW).complete


def test_another_archive_than_the_announced_one(ledger: Connection) -> None:
    artifacts.begin(ledger, "1-1", 7, SHA256, NOW)
    for size, sha256 in ((8, SHA256), (7, "b" * 64)):
        with pytest.raises(NotPossible):
            artifacts.begin(ledger, "1-1", size, sha256, NOW)
    for attempt in ("1-2", "9-1"):
        with pytest.raises(NotFound):
            artifacts.begin(ledger, attempt, 7, SHA256, NOW)
