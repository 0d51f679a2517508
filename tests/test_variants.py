"""Compressed contents of releases: made once, kept with what they are of, and never something else."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import brotli
import pytest

from tests.test_releases import contents, site_of, tidy
from twistedipc.publish import archive
from twistedipc.publish.targets.static import variants
from twistedipc.publish.targets.static.releases import ReleaseStore
from twistedipc.web.releases.representation import represent


@pytest.fixture
def store(tmp_path: Path) -> ReleaseStore:
    return ReleaseStore(tmp_path / "releases", assets_days=0)


def compress(store: ReleaseStore, release_id: int, most: int = 1 << 20) -> int:
    """Compress a release whole; in how many parts that was done."""
    parts = 0
    while (made := store.compress("shop", release_id, most)) is not None:
        store.take_compressed("shop", made)
        parts += 1
    return parts


TEXT = "".join(f"<p>paragraph {number}</p>\n" for number in range(200))


def variants_in(store: ReleaseStore, release_id: int, path: str) -> dict[str, bytes]:
    release = store.release("shop", release_id)
    assert release is not None
    found = release.files[path].variants
    return {coding: store.file("shop", content.sha256).read_bytes() for coding, content in found.items()}


def test_what_becomes_smaller_is_compressed_once(store: ReleaseStore, tmp_path: Path) -> None:
    files = {"index.html": TEXT, "a.js": TEXT + "a", "b.png": TEXT, "short.css": "x" * 200}
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "noise.json").write_bytes(os.urandom(3000))
    store.unpack("shop", 1, site_of(tmp_path, "one", files))
    store.activate("shop", 1)
    assert compress(store, 1) == 1
    made = variants_in(store, 1, "index.html")
    assert list(made) == ["br", "gzip"]
    assert brotli.decompress(made["br"]).decode() == TEXT
    assert gzip.decompress(made["gzip"]).decode() == TEXT
    assert all(len(each) < len(TEXT) / 2 for each in made.values())
    assert [path for path in [*files, "noise.json"] if variants_in(store, 1, path)] == ["index.html", "a.js"]
    assert store.compress("shop", 1, 1) is None
    # The next release has those of what it leaves as it is, before anything is compressed; and they stay in the pool.
    store.unpack("shop", 2, site_of(tmp_path, "two", {"index.html": TEXT, "a.js": TEXT + "b"}))
    store.activate("shop", 2)
    assert variants_in(store, 2, "index.html") == made
    assert variants_in(store, 2, "a.js") == {}
    tidy(store)
    again = ReleaseStore(tmp_path / "releases")
    assert compress(again, 2) == 1
    assert brotli.decompress(variants_in(again, 2, "a.js")["br"]).decode() == TEXT + "b"
    assert variants_in(again, 2, "index.html") == made
    assert again.disk_use("shop").contents == len(list((tmp_path / "releases/shop/pool").glob("??/*")))


def test_compression_goes_on_where_it_was_broken_off(store: ReleaseStore, tmp_path: Path) -> None:
    files = {f"{number}.html": f"{number}{TEXT}" for number in range(5)}
    store.unpack("shop", 1, site_of(tmp_path, "one", files))
    made = store.compress("shop", 1, len(TEXT) * 2)
    assert made is not None
    store.take_compressed("shop", made)
    assert [path for path in files if variants_in(store, 1, path)] == ["0.html", "1.html"]
    again = ReleaseStore(tmp_path / "releases")
    assert compress(again, 1, len(TEXT) * 2) == 2
    assert all(variants_in(again, 1, path) for path in files)


def test_compression_ends_early_where_it_is_told_to(store: ReleaseStore, tmp_path: Path) -> None:
    files = {f"{number}.html": f"{number}{TEXT}" for number in range(4)}
    store.unpack("shop", 1, site_of(tmp_path, "one", files))
    asked = iter([*["a folder", "that of old assets", "a content", "another"], ""])
    made = store.compress("shop", 1, 1 << 20, lambda: bool(next(asked)))
    assert made is not None
    assert not made.complete
    store.take_compressed("shop", made)
    assert [path for path in files if variants_in(store, 1, path)] == ["0.html", "1.html"]
    assert compress(store, 1) == 1
    assert all(variants_in(store, 1, path) for path in files)


def test_a_release_that_is_removed_while_it_is_compressed(store: ReleaseStore, tmp_path: Path) -> None:
    store.unpack("shop", 1, site_of(tmp_path, "one", {"index.html": TEXT}))
    made = store.compress("shop", 1, 1)
    assert made is not None
    store.retire("shop", keep=())
    store.take_compressed("shop", made)
    tidy(store)
    assert (store.kept("shop"), contents(tmp_path)) == ([], [])
    assert list((tmp_path / "releases/shop/releases").iterdir()) == []


def test_what_was_made_stays_until_the_index_has_it(store: ReleaseStore, tmp_path: Path) -> None:
    store.unpack("shop", 1, site_of(tmp_path, "one", {"index.html": TEXT}))
    made = store.compress("shop", 1, 1)
    assert made is not None
    unused = store.unused("shop")
    assert len(unused.contents) == 2
    store.remove_unused("shop", unused, 10)
    store.take_compressed("shop", made)
    assert brotli.decompress(variants_in(store, 1, "index.html")["br"]).decode() == TEXT


def test_what_was_made_of_a_release_that_is_gone_is_removed(store: ReleaseStore, tmp_path: Path) -> None:
    store.unpack("shop", 1, site_of(tmp_path, "one", {"index.html": TEXT}))
    made = store.compress("shop", 1, 1)
    store.retire("shop", keep=())
    assert list((tmp_path / "releases/shop/releases").iterdir()) == [], "nothing is left if it is killed now"
    unused = store.unused("shop")
    assert store.remove_unused("shop", unused, 10).contents == []
    assert made is not None
    store.take_compressed("shop", made)
    tidy(store)
    assert contents(tmp_path) == []


def test_a_project_that_is_deleted_while_it_is_compressed(store: ReleaseStore, tmp_path: Path) -> None:
    store.unpack("shop", 1, site_of(tmp_path, "one", {"index.html": TEXT}))
    assert store.release("shop", 1) is not None  # it is in memory
    shutil.rmtree(tmp_path / "releases" / "shop")
    assert store.compress("shop", 1, 1) is None
    assert store.projects() == []


def test_what_the_build_has_compressed_is_taken_if_it_is_the_same(store: ReleaseStore, tmp_path: Path) -> None:
    site = tmp_path / "built"
    site.mkdir()
    own = {"br": brotli.compress(TEXT.encode(), quality=11), "gzip": gzip.compress(TEXT.encode(), 9, mtime=1)}
    bomb = brotli.compress(bytes(100 << 20), quality=1)
    for name, beside in (
        ("good.js", own),
        ("other.js", {**own, "br": brotli.compress(b"other")}),
        ("cut.js", {**own, "br": own["br"][:-5]}),
        ("bomb.js", {**own, "br": bomb}),
        ("one.js", {"br": own["br"]}),
    ):
        (site / name).write_text(TEXT)
        for coding, data in beside.items():
            (site / f"{name}{variants.ENDINGS[coding]}").write_bytes(data)
    archive.create(site, tmp_path / "built.tar.gz")
    store.unpack("shop", 1, tmp_path / "built.tar.gz")
    compress(store, 1)
    for name in ("good.js", "other.js", "cut.js", "bomb.js", "one.js"):
        made = variants_in(store, 1, name)
        assert brotli.decompress(made["br"]).decode() == gzip.decompress(made["gzip"]).decode() == TEXT
    release = store.release("shop", 1)
    assert release is not None
    for name in ("good.js", "other.js", "cut.js", "bomb.js"):
        sent = represent(release, name, "br", {}, changed=False, private=False).content
        assert sent is not None
        assert brotli.decompress(store.file("shop", sent.sha256).read_bytes()).decode() == TEXT


def test_what_is_compressed_while_unused_contents_are_found(store: ReleaseStore, tmp_path: Path) -> None:
    """A variant can be in the pool, unused, from a release that is gone; then it is made once more, of a live one."""
    store.unpack("shop", 1, site_of(tmp_path, "one", {"index.html": TEXT}))
    store.activate("shop", 1)
    assert compress(store, 1) == 1
    made = variants_in(store, 1, "index.html")
    store.unpack("shop", 2, site_of(tmp_path, "two", {"index.html": "2"}))
    store.activate("shop", 2)
    store.unpack("shop", 3, site_of(tmp_path, "three", {"index.html": TEXT}))
    store.activate("shop", 3)
    store.retire("shop", keep=())
    left = store.unused("shop")
    assert left.contents
    assert compress(store, 3) == 1
    while left.contents:
        left = store.remove_unused("shop", left, 1)
    assert variants_in(store, 3, "index.html") == made
