"""Releases on disk: unpacked, switched, kept, removed; and what a crash at any moment leaves."""

from __future__ import annotations

import gc
import gzip
import hashlib
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.site_client import file_of
from twistedipc.builds.names import BadValue
from twistedipc.builds.site import rules
from twistedipc.builds.site.rules import Serving
from twistedipc.publish import archive
from twistedipc.publish.members import BadArchive
from twistedipc.publish.targets.static import history, pool, release, releases
from twistedipc.publish.targets.static.release import Release
from twistedipc.publish.targets.static.releases import ReleaseStore
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
    file = file_of(store, "index.html")
    return None if file is None else file.read_text()


def test_unpacking_is_not_yet_releasing(store: ReleaseStore, tmp_path: Path) -> None:
    store.unpack("shop", 1, packed(tmp_path, "r1"))
    assert store.has("shop", 1)
    assert not store.has("shop", 2)
    assert (store.live("shop"), store.live_id("shop")) == (None, None)
    store.activate("shop", 1)
    assert page(store) == "r1"
    live = store.live("shop")
    assert live is not None
    assert (live.id, live.serving, sorted(live.files)) == (1, Serving(), ["assets/app.js", "index.html"])


def test_unpacking_again_is_harmless(store: ReleaseStore, tmp_path: Path) -> None:
    add(store, tmp_path, 1)
    store.activate("shop", 1)
    store.unpack("shop", 1, tmp_path / "r1.tar.gz")
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


def test_no_request_finds_out_about_a_release(
    store: ReleaseStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rules and its folders are known once it is live, is compressed, or was live at the start."""
    add(store, tmp_path, 1)
    assert looked_into(store, monkeypatch) == [], "nothing is live"
    store.activate("shop", 1)
    assert looked_into(store, monkeypatch) == []
    made = store.compress("shop", 1, 1 << 20)
    assert made is not None
    live = store.live("shop")
    store.take_compressed("shop", made)
    assert store.live("shop") is not live
    assert looked_into(store, monkeypatch) == []
    again = ReleaseStore(tmp_path / "releases")
    assert looked_into(again, monkeypatch) != []
    again = ReleaseStore(tmp_path / "releases")
    again.reconcile("shop", 1)
    assert looked_into(again, monkeypatch) == []


def looked_into(store: ReleaseStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What has to be looked into before the live release can answer."""
    found: list[str] = []

    def note(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any) -> Any:
            found.append(name)
            return real(*arguments)

        return noted

    with monkeypatch.context() as patched:
        for name in ("Site", "Folder", "forms_among", "may_be_hashed", "in_bundlers_folder"):
            patched.setattr(release, name, note(name, getattr(release, name)))
        live = store.live("shop")
        if live is not None:
            assert live.site.serving == live.serving
            assert live.is_folder("assets")
            assert live.has_plain_scripts
            assert not live.has_service_worker
    return found


def test_a_damaged_index_of_what_is_live_is_no_other_releases_matter(store: ReleaseStore, tmp_path: Path) -> None:
    """It can't be served. What else is to be done at the start is done."""
    add(store, tmp_path, 1)
    store.activate("shop", 1)
    (tmp_path / "releases/shop/releases/1.json").write_text("{")
    again = ReleaseStore(tmp_path / "releases")
    again.reconcile("shop", 1)
    assert again.live_id("shop") == 1


def test_there_is_no_moment_without_a_page(store: ReleaseStore, tmp_path: Path) -> None:
    """A reader, all the while that it is switched, always finds a whole release."""
    add(store, tmp_path, 1, 2)
    store.activate("shop", 1)
    stop = threading.Event()
    seen: list[str] = []
    other = ReleaseStore(tmp_path / "releases")

    def read() -> None:
        while not stop.is_set():
            try:
                seen.append(page(other) or "nothing")
            except OSError as error:
                seen.append(repr(error))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(100):
        store.activate("shop", 1 + turn % 2)
    stop.set()
    reader.join(180)
    assert set(seen) <= {"r1", "r2"}
    assert seen


def test_there_is_no_moment_without_the_assets_of_a_page(store: ReleaseStore, tmp_path: Path) -> None:
    """A page is open while its release goes live again: it got the files of the one that was live, for a moment."""
    add(store, tmp_path, 1, 2, 3)
    for number in (3, 1, 2):
        store.activate("shop", number)
    stop = threading.Event()
    missing: list[int] = []
    old: list[Release] = []

    def read() -> None:
        while not stop.is_set():
            missing.extend(number for number in (1, 2, 3) if store.assets_of("shop", number) is None)
            if not old or store.old_assets("shop") is not old[-1]:
                old.append(store.old_assets("shop"))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(60):
        store.activate("shop", 1 + turn % 2)
    stop.set()
    reader.join(180)
    assert not missing
    assert 1 < len(old) <= 61, "what is old is found out by who switches, and by no request"


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
            def then_die(*args, **more):
                step(*args, **more)
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
        timeout=180,
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
    assert store.kept("shop") == [10, 9, 3, 2, 1]
    assert store.retire("shop", keep={10, 9}) == [3, 1]
    assert store.kept("shop") == [10, 9, 2]
    assert page(store) == "r2"
    assert store.retire("shop", keep={10, 9}) == []
    listed = sorted(entry.name for entry in (tmp_path / "releases" / "shop" / "releases").iterdir())
    assert listed == ["10.json", "2.json", "9.json"]
    tidy(store)
    assert contents(tmp_path) == ["// r10", "// r2", "// r9", "r10", "r2", "r9"]


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
    upgraded.reconcile("shop", 3)
    assert sorted(upgraded.history("shop").left) == [1, 2], "any of them may have been live"
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
    archive.create(site, tmp_path / "app.tar.gz", serving=rules.Serving(spa=True))
    store.unpack("shop", 1, tmp_path / "app.tar.gz")
    store.unpack("shop", 2, packed(tmp_path, "plain"))
    for release_id, serving in ((2, Serving()), (1, Serving(spa=True))):
        store.activate("shop", release_id)
        live = ReleaseStore(tmp_path / "releases").live("shop")
        assert live is not None
        assert live.serving == serving


# -- the pool -------------------------------------------------------------------------------------------------------


def contents(folder: Path) -> list[str]:
    return sorted(path.read_text() for path in (folder / "releases" / "shop" / "pool").glob("??/*"))


def tidy(store: ReleaseStore) -> None:
    """Remove what no release has."""
    left = store.unused("shop")
    while left.contents:
        left = store.remove_unused("shop", left, 1)


def test_a_content_is_stored_once(store: ReleaseStore, tmp_path: Path) -> None:
    """Whatever number of paths and releases has it; and it stays as long as one of them does."""
    store.unpack("shop", 1, site_of(tmp_path, "one", {"index.html": "1", "a.js": "same", "b/c.js": "same"}))
    store.unpack("shop", 2, site_of(tmp_path, "two", {"index.html": "2", "a.js": "same"}))
    assert contents(tmp_path) == ["1", "2", "same"]
    store.activate("shop", 2)
    store.retire("shop", keep=())
    tidy(store)
    assert contents(tmp_path) == ["2", "same"]
    assert file_of(store, "a.js") is not None


def test_a_release_of_which_a_part_is_wrong_leaves_nothing(store: ReleaseStore, tmp_path: Path) -> None:
    """A name in the pool is a promise: what is cut off, or isn't what its manifest says, is never there."""
    store.unpack("shop", 1, site_of(tmp_path, "one", {"index.html": "1"}))
    for cut in (20, 600, 1500):
        bad = tmp_path / "bad.tar.gz"
        raw = gzip.decompress(site_of(tmp_path, "two", {"index.html": "2", "z.js": "z"}).read_bytes())
        bad.write_bytes(gzip.compress(raw[:-cut]))
        with pytest.raises(BadArchive):
            store.unpack("shop", 2, bad)
        assert contents(tmp_path) == ["1"]
        assert sorted(os.listdir(tmp_path / "releases" / "shop" / "pool")) == [hashlib.sha256(b"1").hexdigest()[:2]]


@pytest.mark.parametrize(
    "serving",
    [
        Serving(headers=[rules.HeaderRule(source="/*", values=[("a", "b")])] * 1000),
        Serving(headers=[rules.HeaderRule(source="/*", values=[("a", "b")] * 10_000)]),
        Serving(redirects=[rules.Redirect(source="/a", target="/b", query={f"q{n}": ":q"}) for n in range(1000)]),
    ],
)
def test_rules_that_would_make_each_request_expensive(store: ReleaseStore, tmp_path: Path, serving: Serving) -> None:
    """Whoever has packed them: a builder's word isn't enough."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text("1")
    archive.create(site, tmp_path / "site.tar.gz", serving=serving)
    with pytest.raises(BadArchive, match="rules that can't be used: too many"):
        store.unpack("shop", 1, tmp_path / "site.tar.gz")
    assert store.kept("shop") == []


def test_many_new_contents_and_few(store: ReleaseStore, tmp_path: Path) -> None:
    """They are made durable in different ways."""
    many = {f"page-{number}.html": str(number) for number in range(pool.FEW + 10)}
    store.unpack("shop", 1, site_of(tmp_path, "many", many))
    store.unpack("shop", 2, site_of(tmp_path, "few", {**many, "page-0.html": "new"}))
    assert contents(tmp_path) == sorted([*many.values(), "new"])


@pytest.mark.parametrize("damage", [b"", b"\xff", b"[]", b'{"format": 2, "files": {}}'])
def test_a_damaged_index_is_said(store: ReleaseStore, tmp_path: Path, damage: bytes) -> None:
    add(store, tmp_path, 1)
    store.activate("shop", 1)
    (tmp_path / "releases" / "shop" / "releases" / "1.json").write_bytes(damage)
    with pytest.raises(OSError, match="index"):
        ReleaseStore(tmp_path / "releases").live("shop")


def test_what_is_in_memory_has_a_bound(store: ReleaseStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "MAX_FILES_IN_MEMORY", 5)
    add(store, tmp_path, 1, 2, 3)
    found = {number: store.release("shop", number) for number in (1, 2, 3)}
    assert store.release("shop", 3) is found[3], "read last"
    assert store.release("shop", 1) is not found[1], "read again"


# -- what pages that are open may ask for ----------------------------------------------------------------------------


class Days:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.day = 0.0

    def __call__(self) -> int:
        return int(self.day * 24 * 3600 * 1000)


@pytest.fixture
def days() -> Days:
    return Days()


@pytest.fixture
def dated(tmp_path: Path, days: Days) -> ReleaseStore:
    return ReleaseStore(tmp_path / "releases", now=days, assets_days=30)


def chunk(number: int) -> str:
    return f"assets/index-BvJ3kT{number:02}.js"


def publish(store: ReleaseStore, tmp_path: Path, number: int) -> None:
    """A release whose page loads a chunk of its own, and one that has the same name in each."""
    files = {"index.html": f"r{number}", "app.js": f"app {number}", chunk(number): f"chunk {number}"}
    store.unpack("shop", number, site_of(tmp_path, f"r{number}", files))
    store.activate("shop", number)
    store.retire("shop", keep=range(number - 2, number + 1))
    tidy(store)


def old(store: ReleaseStore) -> dict[str, str]:
    """The assets of earlier releases."""
    files = store.old_assets("shop").files
    return {path: store.file("shop", entry.sha256).read_text() for path, entry in files.items()}


def test_assets_stay_by_age_and_not_by_count(dated: ReleaseStore, days: Days, tmp_path: Path) -> None:
    """50 releases in an afternoon took the chunks away from a page that had been open since lunch."""
    for number in range(1, 51):
        publish(dated, tmp_path, number)
        days.day += 0.001
    assert old(dated) == {**{chunk(number): f"chunk {number}" for number in range(1, 50)}, "app.js": "app 49"}
    assert dated.kept("shop") == [50, 49, 48]
    gone = [path for path in contents(tmp_path) if path.startswith("r")]
    assert gone == ["r48", "r49", "r50"], "documents go with their release"
    first = dated.assets_of("shop", 1)
    assert first is not None
    assert dated.file("shop", first.files["app.js"].sha256).read_text() == "app 1", "as its own page knows it"
    again = ReleaseStore(tmp_path / "releases", now=days)
    assert old(again) == old(dated)
    days.day += 30
    publish(dated, tmp_path, 51)
    assert old(dated) == {"app.js": "app 50", chunk(50): "chunk 50"}
    assert dated.assets_of("shop", 1) is None
    assert contents(tmp_path) == sorted(
        [text.format(number) for number in (49, 50, 51) for text in ("r{}", "app {}", "chunk {}")]
    ), "what can be rolled back to stays whole"


def test_of_what_was_never_live_nothing_is_served(dated: ReleaseStore, tmp_path: Path) -> None:
    publish(dated, tmp_path, 1)
    dated.unpack("shop", 2, site_of(tmp_path, "branch", {"index.html": "x", chunk(2): "secret"}))
    publish(dated, tmp_path, 3)
    assert old(dated) == {chunk(1): "chunk 1", "app.js": "app 1"}
    assert dated.assets_of("shop", 2) is None


def test_days_without_a_release(dated: ReleaseStore, days: Days, tmp_path: Path) -> None:
    """Nothing but the time makes the assets too old; and a rollback makes a release's time begin again."""
    for number in (1, 2):
        publish(dated, tmp_path, number)
    days.day = 20
    dated.activate("shop", 1)
    dated.activate("shop", 2)
    days.day = 49
    assert dated.retire("shop", keep=()) == [1]
    assert old(dated) == {"app.js": "app 1", chunk(1): "chunk 1"}
    days.day = 51
    assert dated.retire("shop", keep=()) == [1]
    tidy(dated)
    assert old(dated) == {}
    assert contents(tmp_path) == ["app 2", "chunk 2", "r2"]


def test_what_a_release_needs_that_came_meanwhile_is_not_removed(dated: ReleaseStore, tmp_path: Path) -> None:
    """The removal has found what nothing has any more; before it goes on, a new release has it again."""
    for number in (1, 2):
        dated.unpack("shop", number, site_of(tmp_path, f"r{number}", {"index.html": f"r{number}", "a.js": "a"}))
    dated.activate("shop", 2)
    dated.unpack("shop", 3, site_of(tmp_path, "r3", {"index.html": "r3", "b.js": "b"}))
    dated.retire("shop", keep=())
    left = dated.unused("shop")
    assert len(left.contents) == 3
    dated.unpack("shop", 4, site_of(tmp_path, "r4", {"index.html": "r1", "b.js": "b"}))
    left = dated.remove_unused("shop", left, 10)
    assert not left.contents
    assert contents(tmp_path) == ["a", "b", "r1", "r2"]


def test_an_index_that_can_t_be_read_keeps_all_contents(dated: ReleaseStore, tmp_path: Path) -> None:
    for number in (1, 2):
        publish(dated, tmp_path, number)
    (tmp_path / "releases" / "shop" / "releases" / "1.json").write_bytes(b"{")
    with pytest.raises(OSError, match="a damaged index"):
        dated.unused("shop")


def test_the_disk_that_releases_use(dated: ReleaseStore, tmp_path: Path) -> None:
    assert dated.disk_use("shop") == (0, 0, 0)
    dated.unpack("shop", 1, site_of(tmp_path, "one", {"index.html": "12", "a.js": "same", "b.js": "same"}))
    dated.unpack("shop", 2, site_of(tmp_path, "two", {"index.html": "123", "a.js": "same"}))
    assert dated.disk_use("shop") == (2, 3, 9)


# -- archives that leave out what is stored ---------------------------------------------------------------------------


def part_of(store: ReleaseStore, tmp_path: Path, name: str, files: dict[str, str], attempt: str) -> Path:
    """An archive of a site without the contents of which the store has told this attempt."""
    known = frozenset(bytes.fromhex(archive.short(each)) for each in store.count_on("shop", attempt))
    site_of(tmp_path, name, files)
    archive.create(tmp_path / name, tmp_path / f"{name}.tar.gz", stored=known)
    return tmp_path / f"{name}.tar.gz"


def test_an_archive_needs_only_what_is_new(dated: ReleaseStore, tmp_path: Path) -> None:
    """Of 5,000 files with 10 changed, 10 are uploaded."""
    files = {f"page-{number}.html": str(number) for number in range(50)}
    assert dated.count_on("shop", "1-1") == ()
    dated.unpack("shop", 1, site_of(tmp_path, "one", files))
    dated.activate("shop", 1)
    part = part_of(dated, tmp_path, "two", {**files, "page-0.html": "new"}, "2-1")
    assert [file.path for file in archive.files_in(archive.read_manifest(part))] == ["page-0.html"]
    dated.unpack("shop", 2, part)
    dated.activate("shop", 2)
    live = dated.live("shop")
    assert live is not None
    assert {path: dated.file("shop", each.sha256).read_text() for path, each in live.files.items()} == {
        **files,
        "page-0.html": "new",
    }


@pytest.mark.parametrize("stays_live", [True, False])
def test_what_is_left_out_has_the_size_that_is_stored(dated: ReleaseStore, tmp_path: Path, stays_live: bool) -> None:
    """Else each answer with it would be cut off, or would wait for bytes that there aren't."""
    dated.unpack("shop", 1, site_of(tmp_path, "one", {"index.html": "1", "a.html": "a"}))
    dated.activate("shop", 1)
    part = part_of(dated, tmp_path, "two", {"index.html": "2", "a.html": "a"}, "2-1")
    if not stays_live:
        dated.unpack("shop", 3, site_of(tmp_path, "three", {"index.html": "3"}))
        dated.activate("shop", 3)
    raw = gzip.decompress(part.read_bytes())
    told = b'"path":"a.html","size":1,'
    assert told in raw
    part.write_bytes(gzip.compress(raw.replace(told, told.replace(b"1", b"9"))))
    with pytest.raises(BadArchive, match=r"a\.html has 9 bytes in its manifest, and 1 where it is stored"):
        dated.unpack("shop", 2, part)


def test_what_an_attempt_counts_on_stays_for_a_week(dated: ReleaseStore, days: Days, tmp_path: Path) -> None:
    dated.unpack("shop", 1, site_of(tmp_path, "one", {"index.html": "1", "a.html": "a"}))
    dated.activate("shop", 1)
    part = part_of(dated, tmp_path, "new", {"index.html": "3", "a.html": "a"}, "3-1")
    dated.unpack("shop", 2, site_of(tmp_path, "two", {"index.html": "2"}))
    dated.activate("shop", 2)
    again = ReleaseStore(tmp_path / "releases", now=days)
    assert again.retire("shop", keep=()) == []
    tidy(again)
    again.unpack("shop", 3, part)
    again.count_off("shop", "3-1")
    assert again.retire("shop", keep=[3]) == [1]
    tidy(again)
    assert contents(tmp_path) == ["2", "3", "a"]
    again.count_on("shop", "4-1")
    again.activate("shop", 3)
    days.day = 8
    assert again.retire("shop", keep=[3]) == [2]
    tidy(again)
    assert contents(tmp_path) == ["3", "a"]
    part_of(again, tmp_path, "late", {"index.html": "5", "a.html": "a"}, "5-1")
    (tmp_path / "releases" / "shop" / "pool" / hashlib.sha256(b"a").hexdigest()[:2]).rename(tmp_path / "lost")
    again.unpack("shop", 5, site_of(tmp_path, "five", {"index.html": "5"}))
    again.activate("shop", 5)
    with pytest.raises(BadArchive, match=r"a\.html was left out of it, and isn't stored any more: build it again"):
        again.unpack("shop", 6, tmp_path / "late.tar.gz")


# -- releases that older versions left -------------------------------------------------------------------------------


def left_by_an_older_version(tmp_path: Path, number: int, files: dict[str, bytes], *, live: bool = False) -> Path:
    """A release as version 0.2 unpacked it."""
    project = tmp_path / "releases" / "shop"
    folder = project / "releases" / str(number)
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    if live:
        (project / "current").unlink(missing_ok=True)
        (project / "current").symlink_to(f"releases/{number}")
    return folder


OLD = {"index.html": b"old", "a/b.js": b"same", "c.js": b"same", ".serving.json": b'{"spa":true}', ".env": b"hidden"}


def test_releases_that_were_folders_are_taken_in(store: ReleaseStore, tmp_path: Path) -> None:
    folder = left_by_an_older_version(tmp_path, 1, OLD, live=True)
    (folder / "link").symlink_to("/etc/passwd")
    left_by_an_older_version(tmp_path, 2, {"index.html": b"newer", ".serving.json": b"\xff{"})
    for name in (".removed-7", ".8.x.new"):
        (folder.parent / name / "rest").mkdir(parents=True)
    store.reconcile("shop", 1)
    assert store.kept("shop") == [2, 1]
    live, other = store.live("shop"), store.release("shop", 2)
    assert live is not None
    assert other is not None
    assert (sorted(live.files), live.serving) == (["a/b.js", "c.js", "index.html"], Serving(spa=True))
    assert other.serving == Serving()
    assert page(store) == "old"
    assert contents(tmp_path) == ["newer", "old", "same"]
    assert sorted(os.listdir(folder.parent)) == ["1.json", "2.json"]
    store.activate("shop", 2)
    assert page(store) == "newer"


@pytest.mark.parametrize("calls", range(12))
def test_a_start_that_is_killed_while_it_takes_them_in(tmp_path: Path, calls: int) -> None:
    """At any of the calls that change the disk: the next start has all of it."""
    left_by_an_older_version(tmp_path, 1, OLD, live=True)
    left_by_an_older_version(tmp_path, 2, {"index.html": b"newer"})
    program = f"""
        import os, signal, sys
        from pathlib import Path
        from twistedipc.publish.targets.static.releases import ReleaseStore
        left = {calls}
        def deadly(step):
            def counted(*args, **more):
                global left
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
                return step(*args, **more)
            return counted
        store = ReleaseStore(Path(sys.argv[1]))
        for name in ("link", "replace", "unlink", "rmdir"):
            setattr(os, name, deadly(getattr(os, name)))
        store.reconcile("shop", 1)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "releases")],
        check=False,
        timeout=60,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert run.returncode == -9, run.stderr
    store = ReleaseStore(tmp_path / "releases")
    store.reconcile("shop", 1)
    assert page(store) == "old"
    assert store.kept("shop") == [2, 1]
    assert contents(tmp_path) == ["newer", "old", "same"]


def test_the_files_of_a_release_cost_a_collection_of_garbage_nothing(store: ReleaseStore, tmp_path: Path) -> None:
    """Else every full one would stop all requests until it has looked through the files of all releases in memory."""
    store.unpack(
        "shop", 1, site_of(tmp_path, "one", {f"{number}.html": "x" * 300 + str(number) for number in range(9)})
    )
    made = store.compress("shop", 1, 1 << 20)
    assert made is not None
    store.take_compressed("shop", made)
    release = ReleaseStore(tmp_path / "releases").release("shop", 1)
    assert release is not None
    entries = list(release.files.values())
    assert all(entry.variants for entry in entries)
    assert not any(gc.is_tracked(each) for entry in entries for each in (entry, entry.variants))
