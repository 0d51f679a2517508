"""Releases on disk: unpacked, switched, kept, removed; and what a crash at any moment leaves."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from twistedipc.builds.names import BadValue
from twistedipc.publish import archive
from twistedipc.publish.archive import BadArchive
from twistedipc.publish.targets.static import history
from twistedipc.publish.targets.static.releases import ReleaseStore
from twistedipc.publish.targets.static.serving import Serving, serving_of
from twistedipc.publish.targets.target import NotUnpacked


@pytest.fixture
def store(tmp_path: Path) -> ReleaseStore:
    return ReleaseStore(tmp_path / "releases")


def packed(tmp_path: Path, content: str) -> Path:
    """An archive of a site whose page says ``content``."""
    site = tmp_path / "site"
    (site / "assets").mkdir(parents=True, exist_ok=True)
    (site / "index.html").write_text(content)
    (site / "assets" / "app.js").write_text(f"// {content}")
    target = tmp_path / f"{content}.tar.gz"
    archive.create(site, target)
    return target


def add(store: ReleaseStore, tmp_path: Path, *ids: int) -> None:
    for release_id in ids:
        store.unpack("shop", release_id, packed(tmp_path, f"r{release_id}"))


def page(store: ReleaseStore) -> str | None:
    live = store.live("shop")
    return None if live is None else (live / "index.html").read_text()


def test_unpacking_is_not_yet_releasing(store: ReleaseStore, tmp_path: Path) -> None:
    manifest = store.unpack("shop", 1, packed(tmp_path, "r1"))
    assert sorted(entry.path for entry in manifest.files) == ["assets/app.js", "index.html"]
    assert store.has("shop", 1)
    assert not store.has("shop", 2)
    assert (store.live("shop"), store.live_id("shop")) == (None, None)
    store.activate("shop", 1)
    assert page(store) == "r1"
    assert store.live("shop") == tmp_path / "releases" / "shop" / "releases" / "1"
    assert (tmp_path / "releases" / "shop" / "current" / "index.html").read_text() == "r1"


def test_unpacking_again_is_harmless(store: ReleaseStore, tmp_path: Path) -> None:
    add(store, tmp_path, 1)
    store.activate("shop", 1)
    assert store.unpack("shop", 1, tmp_path / "r1.tar.gz").files
    assert page(store) == "r1"


def test_a_bad_archive_leaves_nothing(store: ReleaseStore, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tar.gz"
    bad.write_bytes(packed(tmp_path, "r1").read_bytes()[:-20])
    with pytest.raises(BadArchive):
        store.unpack("shop", 1, bad)
    assert not store.has("shop", 1)
    assert store.kept("shop") == []


@pytest.mark.parametrize("files", [[], ["logo.txt"]])
def test_a_release_of_nothing_is_refused(store: ReleaseStore, tmp_path: Path, files: list[str]) -> None:
    """One empty file went live over a good site: whatever the builder says, an empty release doesn't."""
    site = tmp_path / "site"
    site.mkdir()
    for name in files:
        (site / name).touch()
    archive.create(site, tmp_path / "empty.tar.gz")
    with pytest.raises(BadArchive, match="there is nothing in it, or only empty files"):
        store.unpack("shop", 1, tmp_path / "empty.tar.gz")
    assert not store.has("shop", 1)


def test_back_and_forth(store: ReleaseStore, tmp_path: Path) -> None:
    add(store, tmp_path, 1, 2)
    for release_id in (1, 2, 1, 1, 2):
        store.activate("shop", release_id)
        assert page(store) == f"r{release_id}"
        assert store.live_id("shop") == release_id
    with pytest.raises(NotUnpacked, match="release 3"):
        store.activate("shop", 3)
    assert page(store) == "r2"


def test_there_is_no_moment_without_a_page(store: ReleaseStore, tmp_path: Path) -> None:
    """A reader of the link, all the while that it is switched, always finds a whole release."""
    add(store, tmp_path, 1, 2)
    store.activate("shop", 1)
    stop = threading.Event()
    seen: list[str] = []
    link = tmp_path / "releases" / "shop" / "current" / "index.html"

    def read() -> None:
        while not stop.is_set():
            try:
                seen.append(link.read_text())
            except OSError as error:
                seen.append(repr(error))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(100):
        store.activate("shop", 1 + turn % 2)
    stop.set()
    reader.join(30)
    assert set(seen) <= {"r1", "r2"}
    assert seen


@pytest.mark.parametrize("moment", ["os.symlink", "os.replace", "sync_folder"])
def test_killed_in_the_middle_of_a_switch(store: ReleaseStore, tmp_path: Path, moment: str) -> None:
    """The process dies just after each step of it: one of both is live, and the next start says which."""
    add(store, tmp_path, 1, 2)
    store.activate("shop", 1)
    program = f"""
        import os, signal, sys
        from pathlib import Path
        from twistedipc.publish.targets.static import releases
        def deadly(step):
            def then_die(*args):
                step(*args)
                if {moment!r} == "sync_folder" or "current" in str(args[-1]):
                    os.kill(os.getpid(), signal.SIGKILL)
            return then_die
        if {moment!r} == "sync_folder":
            releases.sync_folder = deadly(releases.sync_folder)
        else:
            setattr(os, {moment!r}.removeprefix("os."), deadly(getattr(os, {moment!r}.removeprefix("os."))))
        releases.ReleaseStore(Path(sys.argv[1])).activate("shop", 2)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "releases")],
        check=False,
        timeout=60,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert run.returncode == -9, run.stderr
    assert page(store) == ("r1" if moment == "os.symlink" else "r2")
    for live_id in (2, 1):
        store.reconcile("shop", live_id)
        assert page(store) == f"r{live_id}"


def test_old_ones_go_and_the_live_one_stays(store: ReleaseStore, tmp_path: Path) -> None:
    add(store, tmp_path, 1, 2, 3, 9, 10)
    store.activate("shop", 2)
    assert [path.name for path in store.kept("shop")] == ["10", "9", "3", "2", "1"]
    assert store.retire("shop", keep={10, 9}) == [3, 1]
    assert [path.name for path in store.kept("shop")] == ["10", "9", "2"]
    assert page(store) == "r2"
    assert store.retire("shop", keep={10, 9}) == []
    assert sorted(entry.name for entry in (tmp_path / "releases" / "shop" / "releases").iterdir()) == ["10", "2", "9"]


def test_what_is_half_there_is_no_release_and_goes(store: ReleaseStore, tmp_path: Path) -> None:
    add(store, tmp_path, 1)
    releases = tmp_path / "releases" / "shop" / "releases"
    for name in (".removed-7", ".8.x.new"):
        (releases / name).mkdir()
        (releases / name / "rest").write_text("x")
    assert [path.name for path in store.kept("shop")] == ["1"]
    # The second may be a release that is being unpacked right now; only at a start it isn't.
    store.retire("shop", keep={1})
    assert sorted(os.listdir(releases)) == [".8.x.new", "1"]
    store.reconcile("shop", 1)
    assert os.listdir(releases) == ["1"]
    assert page(store) == "r1"


def test_the_ledger_is_right(store: ReleaseStore, tmp_path: Path) -> None:
    store.reconcile("shop", None)
    assert store.live("shop") is None
    add(store, tmp_path, 1, 2)
    store.activate("shop", 1)
    store.reconcile("shop", 2)
    assert page(store) == "r2"
    with pytest.raises(NotUnpacked):
        store.reconcile("shop", 5)
    assert page(store) == "r2"
    store.reconcile("shop", None)
    assert store.live("shop") is None
    assert store.has("shop", 2)


def test_a_link_that_someone_bent(store: ReleaseStore, tmp_path: Path) -> None:
    add(store, tmp_path, 1)
    link = tmp_path / "releases" / "shop" / "current"
    for target in ("/etc", "../../..", "releases/../..", "releases/7", "releases/", "."):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        assert store.live("shop") is None
    store.reconcile("shop", 1)
    assert page(store) == "r1"


def test_a_removed_project(store: ReleaseStore, tmp_path: Path) -> None:
    add(store, tmp_path, 1, 2)
    store.activate("shop", 2)
    store.remove_project("shop")
    assert store.live("shop") is None
    assert store.kept("shop") == []
    assert list((tmp_path / "releases").iterdir()) == []
    store.remove_project("shop")


HASHED = "assets/index-BvJ3kT9a.js"


def site_of(tmp_path: Path, name: str, files: dict[str, str]) -> Path:
    """An archive of a site with these files."""
    for path, text in files.items():
        (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name / path).write_text(text)
    archive.create(tmp_path / name, tmp_path / f"{name}.tar.gz")
    return tmp_path / f"{name}.tar.gz"


def test_a_name_whose_content_has_changed_is_remembered(store: ReleaseStore, tmp_path: Path) -> None:
    """A name that looks hashed and isn't was kept by browsers for a year: what is the same in size may differ too."""
    store.unpack("shop", 1, site_of(tmp_path, "one", {HASHED: "1", "same-4f2a9c1b.css": "x", "index.html": "1"}))
    store.unpack("shop", 2, site_of(tmp_path, "two", {"index.html": "2", "same-4f2a9c1b.css": "x"}))
    assert store.history("shop").changed == frozenset()
    store.unpack("shop", 3, site_of(tmp_path, "three", {HASHED: "3", "same-4f2a9c1b.css": "x", "index.html": "3"}))
    assert store.history("shop").changed == {HASHED}, "compared with the nearest that has it; pages aren't hashed"
    store.unpack("shop", 4, site_of(tmp_path, "four", {HASHED: "3"}))
    again = ReleaseStore(tmp_path / "releases")
    assert again.history("shop").has_changed(HASHED), "once is enough"


def test_too_many_changed_names(store: ReleaseStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAX_CHANGED", 1)
    names = ["a-BvJ3kT9a.js", "b-4f2a9c1b.js"]
    store.unpack("shop", 1, site_of(tmp_path, "one", dict.fromkeys(names, "1")))
    store.unpack("shop", 2, site_of(tmp_path, "two", dict.fromkeys(names, "2")))
    assert store.history("shop").has_changed("any")


def test_only_what_was_live_is_once_live(store: ReleaseStore, tmp_path: Path) -> None:
    """A build of a branch is unpacked and never live: no page of it is open, and nothing of it is public."""
    add(store, tmp_path, 1, 2, 3)
    store.activate("shop", 1)
    store.activate("shop", 3)
    assert [path.name for path in store.once_live("shop")] == ["1"]
    store.activate("shop", 1)
    assert [path.name for path in store.once_live("shop")] == ["3"]
    store.retire("shop", keep=())
    add(store, tmp_path, 4)
    assert store.history("shop").live == {1}


@pytest.mark.parametrize("damage", [None, b"", b"\xff", b"{}x", b"[]"])
def test_releases_of_a_version_that_kept_no_history(store: ReleaseStore, tmp_path: Path, damage: bytes | None) -> None:
    for number, text in ((1, "1"), (2, "22"), (3, "33")):
        store.unpack("shop", number, site_of(tmp_path, text, {HASHED: text, "b-4f2a9c1b.js": "x"}))
    store.activate("shop", 3)
    kept = tmp_path / "releases" / "shop" / "history.json"
    kept.unlink()
    if damage is not None:
        kept.write_bytes(damage)
    upgraded = ReleaseStore(tmp_path / "releases")
    assert [path.name for path in upgraded.once_live("shop")] == ["2", "1"], "before the start has looked at them"
    upgraded.reconcile("shop", 3)
    assert [path.name for path in upgraded.once_live("shop")] == ["2", "1"]
    assert upgraded.history("shop").changed == {HASHED}
    add(upgraded, tmp_path, 4)
    assert upgraded.history("shop").live == {1, 2, 3}


def test_names_that_lead_elsewhere(store: ReleaseStore) -> None:
    for name in ("", "..", "../x", "a/b", "A", "a\0"):
        for use in (store.live, store.live_id, store.kept, store.remove_project):
            with pytest.raises(BadValue):
                use(name)
        with pytest.raises(BadValue):
            store.retire(name, ())


def test_how_a_release_is_served_comes_with_its_archive(store: ReleaseStore, tmp_path: Path) -> None:
    """Of each release by itself, so that a rollback brings it back; and never in the files that are served."""
    site = tmp_path / "app"
    site.mkdir()
    (site / "index.html").write_text("app")
    archive.create(site, tmp_path / "app.tar.gz", spa=True)
    store.unpack("shop", 1, tmp_path / "app.tar.gz")
    store.unpack("shop", 2, packed(tmp_path, "plain"))
    assert [serving_of(folder) for folder in store.kept("shop")] == [Serving(), Serving(spa=True)]
    store.activate("shop", 2)
    store.activate("shop", 1)
    assert serving_of(store.kept("shop")[1]).spa
