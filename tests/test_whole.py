"""What a build has made, as an archive for people."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Collection
from pathlib import Path

import pytest

from twistedipc.publish.archive import create
from twistedipc.publish.members import BadArchive
from twistedipc.publish.whole import write_whole

FILES = {"index.html": b"hello", "assets/größe.js": b"x" * 700_000, "empty.txt": b""}


def packed(folder: Path, without: Collection[str] = ()) -> Path:
    site = folder / "site"
    for name, content in FILES.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(content)
    archive = folder / "archive.tar.gz"
    create(
        site, archive, stored=frozenset(bytes.fromhex(hashlib.sha256(FILES[name]).hexdigest()[:16]) for name in without)
    )
    return archive


def unpacked(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {each.name: tar.extractfile(each).read() for each in tar}  # type: ignore[union-attr]


def test_it_has_the_files_by_their_own_names(tmp_path: Path) -> None:
    archive = packed(tmp_path)
    into = io.BytesIO()
    assert write_whole(archive, lambda _: None, into) == len(into.getvalue())
    assert unpacked(into.getvalue()) == FILES
    again = io.BytesIO()
    write_whole(archive, lambda _: None, again)
    assert again.getvalue() == into.getvalue()


def test_what_was_left_out_is_put_back(tmp_path: Path) -> None:
    archive = packed(tmp_path, ["index.html", "assets/größe.js"])
    pool = {hashlib.sha256(content).hexdigest(): tmp_path / "site" / name for name, content in FILES.items()}
    into = io.BytesIO()
    write_whole(archive, pool.get, into)
    assert unpacked(into.getvalue()) == FILES
    # It is gone since, or isn't what it was.
    for name, said in (("index.html", "isn't what the manifest says"), ("assets/größe.js", "isn't stored any more")):
        path = tmp_path / "site" / name
        if name == "index.html":
            path.write_bytes(b"hallo")
        else:
            (tmp_path / "site/index.html").write_bytes(FILES["index.html"])
            path.unlink()
        with pytest.raises(BadArchive, match=said):
            write_whole(archive, pool.get, io.BytesIO())
