"""Whatever is packed is served, byte for byte; what can't be served is refused by packing, with a sentence."""

from __future__ import annotations

import os
import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.site_client import SiteClient
from twistedipc.publish.archive import CantPack, create, read_manifest
from twistedipc.publish.site_paths import is_hidden, problem_of_segment

NAMES = [
    "Screenshot 2024-11-01 at 5.00.00\u202fPM.png",
    "family-\U0001f468\u200d\U0001f469\u200d\U0001f467.svg",
    "prix\u00a0net.txt",
    "\u8cc7\u6599\u3000\u4e00.pdf",
    "co\u00adop.txt",
    "a\\b.txt",
    "\\\\evil.example",
    "..\\..\\x",
    "\u200fabc.txt",
    "a\u202eb.txt",
    "\ufeffbom.txt",
    "line\u2028separator.txt",
    "next\u0085line.txt",
    "\ue000private.txt",
    "\U000e0001tag.txt",
    "\u0378unassigned.txt",
    unicodedata.normalize("NFD", "über.txt"),
    unicodedata.normalize("NFC", "über.txt"),
    "100%.txt",
    "a%20b.txt",
    "%2e%2e",
    "%2fetc",
    "c#.txt",
    "what?.txt",
    "a b.txt",
    " ",
    "a+b.txt",
    "x;y&z=1.txt",
    "it's.txt",
    '"quoted".txt',
    "[...slug].js",
    "..x.txt",
    "...",
    "C:",
    "a:b@c",
    "~user",
    "x" * 255,
    "ü" * 127,
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_that_were_packed_and_then_404(tmp_path: Path, name: str) -> None:
    check_there_and_back(tmp_path, f"folder/{name}")


def check_there_and_back(base: Path, path: str) -> None:
    """Pack a file with this path, unpack it as a release, and fetch it."""
    content = path.encode()
    source = base / "source"
    where = source / path
    where.parent.mkdir(parents=True)
    where.write_bytes(content)
    create(source, base / "a.tar.gz")
    site = SiteClient(base / "releases")
    site.store.unpack("shop", 1, base / "a.tar.gz")
    site.store.activate("shop", 1)
    answer = site.fetch(path)
    assert (answer.status, answer.body) == (200, content)


_segment = st.text(min_size=1, max_size=12).filter(
    lambda name: "/" not in name and "\0" not in name and name not in (".", "..")
)


@given(st.lists(_segment, min_size=1, max_size=3))
@example(["\\"])
@example(["index.html"])
@example([".well-known", "x"])
@example([".well-known"])
@example(["a", ".well-known"])
@example([".env"])
@example(["\x1f", ".env"])
@example([".env", "\x1f"])
@example(["\x7f"])
@example(["a", "\ud800"])
def test_what_packing_takes_is_fetched_and_what_is_refused_is_said(segments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        path = "/".join(segments)
        where = base / "source" / path
        try:
            where.parent.mkdir(parents=True)
            where.write_bytes(b"x")
        except (OSError, UnicodeEncodeError):
            return  # no file can have this name
        # The folders that packing comes to before it leaves one out.
        seen = [segment for depth, segment in enumerate(segments) if not is_hidden(segments[: depth + 1])]
        if any(map(problem_of_segment, seen)):
            with pytest.raises(CantPack, match="can't be packed: its name "):
                create(base / "source", base / "a")
        elif is_hidden(segments):
            left_out: list[str] = []
            create(base / "source", base / "a", on_hidden=left_out.append)
            assert left_out
            assert read_manifest(base / "a").files == []
            assert SiteClient(base / "releases").fetch(path).status == 404
        else:
            (base / "more").mkdir()
            check_there_and_back(base / "more", path)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (b"new\nline.txt", r"'folder/new\\nline.txt' can't be packed: its name has control characters"),
        (b"\xfcber.txt", r"'folder/\\udcfcber.txt' can't be packed: its name isn't UTF-8"),
        (b"\x7f", r"can't be packed: its name has control characters"),
    ],
)
def test_packing_says_which_file_and_why(tmp_path: Path, name: bytes, sentence: str) -> None:
    folder = tmp_path / "source" / "folder"
    folder.mkdir(parents=True)
    with open(os.path.join(os.fsencode(folder), name), "wb"):
        pass
    with pytest.raises(CantPack, match=sentence):
        create(tmp_path / "source", tmp_path / "a")


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    for _ in range(5):
        folder = folder / ("d" * 210)
    folder.mkdir(parents=True)
    (folder / "x").write_text("x")
    with pytest.raises(CantPack, match="its path has more than 1024 bytes"):
        create(tmp_path / "source", tmp_path / "a")


def test_the_longest_path_fits_into_a_request(tmp_path: Path) -> None:
    """Percent-encoded, a path is three times as long."""
    check_there_and_back(tmp_path, "/".join(["ü" * 127] * 4))


def test_hidden_names_are_left_out_and_said(tmp_path: Path) -> None:
    """A build that writes `.nojekyll` or `.vite/` isn't wrong; but what is hidden was packed and never served."""
    site = tmp_path / "site"
    for path in ("index.html", ".nojekyll", ".vite/manifest.json", "docs/.env", ".well-known/a.json", ".well-known/.x"):
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text("x")
    left_out: list[str] = []
    manifest = create(site, tmp_path / "a", on_hidden=left_out.append)
    assert [file.path for file in manifest.files] == [".well-known/a.json", "index.html"]
    assert sorted(left_out) == [".nojekyll", ".vite", ".well-known/.x", "docs/.env"]
