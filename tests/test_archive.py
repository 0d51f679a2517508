"""Archives: the same for equal folders, verified to the byte, and harmless whatever they hold."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.publish.archive import (
    CantPack,
    Manifest,
    ManifestFile,
    create,
    extract,
    read_manifest,
    short,
    unpack,
)
from twistedipc.publish.members import BadArchive


def tree(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


FILES = {
    "index.html": b"<html>",
    "assets/a-1.js": b"x" * 100_000,
    "assets/b.css": b"",
    "ü/日本語.txt": b"unicode",
    "long/" + "/".join(["d" * 60] * 6) + "/file": b"deep",
    "tool": b"#!/bin/sh\n",
}


def entry(path: str, content: bytes = b"x", *, mode: int = 0o644, size: int | None = None) -> ManifestFile:
    return ManifestFile(
        path=path,
        size=len(content) if size is None else size,
        sha256=hashlib.sha256(content).hexdigest(),
        mode=mode,
    )


def forge(path: Path, manifest: Manifest, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    """An archive that `create` wouldn't make."""
    with tarfile.open(path, "w:gz") as tar:
        encoded = msgspec.json.encode(manifest)
        info = tarfile.TarInfo("manifest.json")
        info.size = len(encoded)
        tar.addfile(info, io.BytesIO(encoded))
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    # tarfile fills up to its record size; ours ends with two empty blocks.
    data = gzip.decompress(path.read_bytes()).rstrip(b"\0")
    data += bytes(-len(data) % 512) + bytes(1024)
    path.write_bytes(gzip.compress(data))
    return path


def member(
    name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    info.type = kind
    info.linkname = link
    return info, content if kind == tarfile.REGTYPE else b""


def test_there_and_back(tmp_path: Path) -> None:
    source = tree(tmp_path / "source", FILES)
    (source / "tool").chmod(0o700)
    (source / "empty").mkdir()
    manifest = create(source, tmp_path / "a.tar.gz")
    assert [file.path for file in manifest.files] == sorted(FILES, key=str.encode)
    assert manifest.size == sum(map(len, FILES.values()))
    assert read_manifest(tmp_path / "a.tar.gz") == manifest
    assert unpack(tmp_path / "a.tar.gz", tmp_path / "target") == manifest
    assert contents(tmp_path / "target") == FILES
    assert (tmp_path / "target" / "tool").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "target" / "index.html").stat().st_mode & 0o7777 == 0o644
    assert (tmp_path / "target").stat().st_mode & 0o7777 == 0o755
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar.gz", "source", "target"]


def test_a_thousand_files_are_made_durable_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site of 100,000 files would keep the disk, and one of the few threads for files, for many minutes."""
    create(tree(tmp_path / "source", {f"f{number}": b"x" for number in range(1000)}), tmp_path / "a.tar.gz")
    calls: list[int] = []
    sync = os.fsync

    def counted(descriptor: int) -> None:
        calls.append(descriptor)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", counted)
    unpack(tmp_path / "a.tar.gz", tmp_path / "target")
    assert len(calls) < 5


def stored(*contents: bytes) -> frozenset[bytes]:
    return frozenset(bytes.fromhex(short(hashlib.sha256(each).hexdigest())) for each in contents)


def test_what_is_stored_already_is_left_out(tmp_path: Path) -> None:
    """Its manifest lists it all the same; what unpacks into a folder, and has nothing stored, says what is missing."""
    source = tree(tmp_path / "source", {"a": b"new", "b": b"old", "c/d": b"old", "e": b"new too"})
    manifest = create(source, tmp_path / "a.tar.gz", stored=stored(b"old", b"of no use"))
    assert [file.path for file in manifest.files] == ["a", "b", "c/d", "e"]
    assert read_manifest(tmp_path / "a.tar.gz") == manifest
    found: dict[str, bytes] = {}
    extract(tmp_path / "a.tar.gz", lambda file, blocks: found.update({file.path: b"".join(blocks)}))
    assert found == {"a": b"new", "e": b"new too"}
    with pytest.raises(BadArchive, match="some of its files are left out"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_an_archive_of_which_nothing_is_stored_is_the_whole(tmp_path: Path) -> None:
    source = tree(tmp_path / "source", FILES)
    create(source, tmp_path / "a.tar.gz")
    create(source, tmp_path / "b.tar.gz", stored=stored(b"something else"))
    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "b.tar.gz").read_bytes()


@pytest.mark.parametrize(
    ("manifest", "members"),
    [
        (Manifest(format=2, files=[entry("a")]), ["files/a"]),
        (Manifest(format=1, files=[entry("a")], packed=["a"]), ["files/a"]),
        (Manifest(format=2, files=[entry("a")], packed=["a", "b"]), ["files/a"]),
        (Manifest(format=2, files=[entry("a")], packed=[]), ["files/a"]),
        (Manifest(format=2, files=[entry("a"), entry("b")], packed=["b"]), ["files/a"]),
        (Manifest(format=3, files=[entry("a")]), ["files/a"]),
    ],
)
def test_archives_that_lie_about_their_parts(tmp_path: Path, manifest: Manifest, members: list[str]) -> None:
    path = forge(tmp_path / "a", manifest, [member(name) for name in members])
    with pytest.raises(BadArchive):
        extract(path, lambda file, blocks: None)


@pytest.mark.parametrize("what", ["folder", "file", "pipe"])
def test_a_link_that_is_put_there_while_it_is_packed(tmp_path: Path, what: str) -> None:
    """By a process that the build has left: what the folder leads to then isn't read."""
    source = tree(tmp_path / "source", {"a": b"small", "first/x": b"", "folder/secret": b"harmless"})
    tree(tmp_path / "elsewhere", {"secret": b"of another"})

    def swap(path: str, _content: bytes) -> None:
        if path != "a":
            return
        if what == "folder":
            (source / "folder").rename(tmp_path / "aside")
            (source / "folder").symlink_to(tmp_path / "elsewhere")
            return
        (source / "folder/secret").unlink()
        if what == "file":
            (source / "folder/secret").symlink_to(tmp_path / "elsewhere/secret")
        else:
            os.mkfifo(source / "folder/secret")

    with pytest.raises(CantPack, match=r"folder/secret (can't be read|isn't a file any more)"):
        create(source, tmp_path / "a.tar.gz", on_small=swap)
    assert not (tmp_path / "a.tar.gz").exists()


def test_a_file_that_grows_while_it_is_packed(tmp_path: Path) -> None:
    source = tree(tmp_path / "source", {"a": b"small", "b": b"x" * 5000})

    def grow(_path: str, _content: bytes) -> None:
        with (source / "b").open("ab") as file:
            file.truncate(1 << 40)  # a hole

    with pytest.raises(CantPack, match="more than 10000 bytes"):
        create(source, tmp_path / "a.tar.gz", on_small=grow, max_bytes=10_000)


def test_any_tar_reads_it(tmp_path: Path) -> None:
    create(tree(tmp_path / "source", FILES), tmp_path / "a.tar.gz")
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        names = tar.getnames()
        assert names[0] == "manifest.json"
        assert sorted(names[1:]) == sorted(f"files/{name}" for name in FILES)
        assert {(m.uid, m.gid, m.mtime) for m in tar.getmembers()} == {(0, 0, 0)}


@given(st.dictionaries(st.text("abcü", min_size=1, max_size=3), st.binary(max_size=600), max_size=5))
def test_equal_folders_give_equal_archives(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    base = tmp_path_factory.mktemp("archive")
    made = []
    for number, names in enumerate([list(files), list(reversed(files))]):
        source = base / f"source{number}"
        source.mkdir()
        for name in names:
            (source / name).write_bytes(files[name])
            os.utime(source / name, (number * 1000, number * 1000))
        create(source, base / f"{number}.tar.gz")
        made.append((base / f"{number}.tar.gz").read_bytes())
    assert made[0] == made[1]
    unpack(base / "0.tar.gz", base / "target")
    assert contents(base / "target") == files


def test_links_within_are_followed(tmp_path: Path) -> None:
    source = tree(tmp_path / "source", {"real/file": b"x"})
    (source / "link").symlink_to("real/file")
    (source / "folder").symlink_to("real")
    assert [file.path for file in create(source, tmp_path / "a").files] == ["folder/file", "link", "real/file"]


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("/etc/passwd", "bad is a link that leaves the folder"),
        ("../outside", "bad is a link that leaves the folder"),
        (".git", "bad is a link into .git"),  # a site showed the repository's address in /bad/config
        (".git/config", "bad is a link into .git"),
        ("nothing", "bad is a link to nothing"),
        ("bad", "bad is a link that goes round in a circle"),
        (".", "is a link that goes round in a circle"),
    ],
)
def test_other_links_are_errors(tmp_path: Path, target: str, sentence: str) -> None:
    (tmp_path / "outside").write_text("secret")
    source = tree(tmp_path / "source", {"file": b"x", ".git/config": b"x"})
    (source / "bad").symlink_to(target)
    with pytest.raises(CantPack, match=sentence):
        create(source, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_special_files_are_errors(tmp_path: Path) -> None:
    source = tree(tmp_path / "source", {"file": b"x"})
    os.mkfifo(source / "pipe")
    with pytest.raises(CantPack, match="pipe is neither a file nor a folder"):
        create(source, tmp_path / "a")


@pytest.mark.parametrize("name", [b"new\nline", b"\xff\xfe", b"\x1b[2J"])
def test_names_that_can_t_be_served(tmp_path: Path, name: bytes) -> None:
    source = tree(tmp_path / "source", {"file": b"x"})
    with open(os.path.join(os.fsencode(source), name), "wb"):
        pass
    with pytest.raises(CantPack, match="can't be packed"):
        create(source, tmp_path / "a")


def test_limits(tmp_path: Path) -> None:
    source = tree(tmp_path / "source", {"a": b"x" * 10, "b": b"y" * 10})
    with pytest.raises(CantPack, match="more than 1 files"):
        create(source, tmp_path / "a", max_files=1)
    with pytest.raises(CantPack, match="more than 19 bytes"):
        create(source, tmp_path / "a", max_bytes=19)
    create(source, tmp_path / "a")
    with pytest.raises(BadArchive, match="more than 1 files"):
        unpack(tmp_path / "a", tmp_path / "target", max_files=1)
    with pytest.raises(BadArchive, match="more than 19 bytes"):
        unpack(tmp_path / "a", tmp_path / "target", max_bytes=19)
    assert not (tmp_path / "target").exists()


def test_git_s_own_folder_is_left_out(tmp_path: Path) -> None:
    source = tree(tmp_path / "source", {"index.html": b"x", ".git/config": b"secret", "sub/.git/x": b"y"})
    assert [file.path for file in create(source, tmp_path / "a").files] == ["index.html"]


def test_a_target_that_exists(tmp_path: Path) -> None:
    create(tree(tmp_path / "source", {"a": b"x"}), tmp_path / "a")
    (tmp_path / "target").mkdir()
    with pytest.raises(FileExistsError):
        unpack(tmp_path / "a", tmp_path / "target")


def test_the_forger_can_make_a_good_one(tmp_path: Path) -> None:
    path = forge(tmp_path / "a", Manifest(files=[entry("a"), entry("b/c")]), [member("files/a"), member("files/b/c")])
    unpack(path, tmp_path / "target")
    assert contents(tmp_path / "target") == {"a": b"x", "b/c": b"x"}


def test_an_older_archive_with_hidden_names_is_unpacked(tmp_path: Path) -> None:
    """Packing once took names that begin with a dot; a rollback to such an archive must go on working."""
    path = forge(
        tmp_path / "a", Manifest(files=[entry(".nojekyll"), entry("b")]), [member("files/.nojekyll"), member("files/b")]
    )
    unpack(path, tmp_path / "target")
    assert contents(tmp_path / "target") == {".nojekyll": b"x", "b": b"x"}


@pytest.mark.parametrize(
    ("files", "members"),
    [
        ([entry("../x")], [member("files/../x")]),
        ([entry("a/../../x")], [member("files/a/../../x")]),
        ([entry("/etc/x")], [member("files//etc/x")]),
        ([msgspec.structs.replace(entry("a"), sha256="/etc/cron.d/x")], [member("files/a")]),
        ([msgspec.structs.replace(entry("a"), sha256="../../../x")], [member("files/a")]),
        ([msgspec.structs.replace(entry("a"), sha256="A" * 64)], [member("files/a")]),
        ([entry("")], [member("files/")]),
        ([entry("a//b")], [member("files/a//b")]),
        ([entry("./a")], [member("files/./a")]),
        ([entry("a\nb")], [member("files/a\nb")]),
        ([entry("a" * 300)], [member("files/" + "a" * 300)]),
        ([entry("a\x7f")], [member("files/a\x7f")]),
        ([entry("a"), entry("a")], [member("files/a"), member("files/a")]),
        ([entry("b"), entry("a")], [member("files/b"), member("files/a")]),
        ([entry("a"), entry("a/b")], [member("files/a"), member("files/a/b")]),
        ([entry("a", mode=0o4755)], [member("files/a")]),
        ([entry("a", size=-1)], [member("files/a")]),
        ([entry("a", size=2)], [member("files/a")]),
        ([entry("a", b"y")], [member("files/a")]),
        ([entry("a")], [member("files/b")]),
        ([entry("a")], [member("../a")]),
        ([entry("a")], []),
        ([entry("a")], [member("files/a"), member("files/b")]),
        ([entry("a")], [member("files/a", kind=tarfile.SYMTYPE, link="/etc/passwd")]),
        ([entry("a")], [member("files/a", kind=tarfile.LNKTYPE, link="/etc/passwd")]),
        ([entry("a", b"")], [member("files/a", kind=tarfile.CHRTYPE)]),
        ([entry("a", b"")], [member("files/a", kind=tarfile.FIFOTYPE)]),
        ([entry("a")], [member("files/a"), member("files/a")]),
        ([entry("a")], [member("files", kind=tarfile.SYMTYPE, link="/tmp"), member("files/a")]),
    ],
)
def test_hostile_archives(
    tmp_path: Path, files: list[ManifestFile], members: list[tuple[tarfile.TarInfo, bytes]]
) -> None:
    base = tmp_path / "in" / "here"
    base.mkdir(parents=True)
    path = forge(base / "a", Manifest(files=files), members)
    with pytest.raises(BadArchive):
        unpack(path, base / "target")
    assert [p.name for p in base.iterdir()] == ["a"]
    assert [p.name for p in (tmp_path / "in").iterdir()] == ["here"]


def test_a_size_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = forge(tmp_path / "a", Manifest(files=[entry("a", size=1 << 50)]), [])
    with pytest.raises(BadArchive, match="bytes of files"):
        unpack(path, tmp_path / "target")


def test_a_header_bomb(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type = tarfile.XHDTYPE
    info.size = 1 << 30
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(info.tobuf(tarfile.USTAR_FORMAT) + bytes(1 << 20)))
    with pytest.raises(BadArchive, match="header that is too large"):
        unpack(path, tmp_path / "target")


def test_many_headers_that_are_not_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would take a reader a moment, and an archive of some megabytes can have 200,000 of them."""
    monkeypatch.setattr("twistedipc.publish.members._MAX_HEADERS", 3000)
    folder = member("files/folder", kind=tarfile.DIRTYPE)
    folder[0].pax_headers = {"comment": "x" * 1000}
    path = forge(tmp_path / "a", Manifest(files=[entry("a")]), [folder] * 2 + [member("files/a")])
    unpack(path, tmp_path / "target")
    path = forge(tmp_path / "b", Manifest(files=[entry("a")]), [folder] * 3 + [member("files/a")])
    with pytest.raises(BadArchive, match="too large together"):
        unpack(path, tmp_path / "other")


def _cut(data: bytes, at: int) -> bytes:
    return data[:at]


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


@pytest.mark.parametrize("damage", [_cut, _flip])
def test_damage_at_every_byte(tmp_path: Path, damage: Callable[[bytes, int], bytes]) -> None:
    source = tree(tmp_path / "source", {"a": bytes(range(200)), "b/c": b"x"})
    create(source, tmp_path / "a")
    data = (tmp_path / "a").read_bytes()
    for at in range(0, len(data), 3):
        (tmp_path / "damaged").write_bytes(damage(data, at))
        try:
            unpack(tmp_path / "damaged", tmp_path / "target")
        except BadArchive:
            assert not (tmp_path / "target").exists()
        else:
            # A bit that changes nothing of what is unpacked: in gzip's own header, say.
            assert contents(tmp_path / "target") == contents(source)
            (tmp_path / "target").rename(tmp_path / f"good-{at}")


@pytest.mark.parametrize(
    "data", [b"", b"nonsense", *(gzip.compress(data, mtime=0) for data in (b"", b"x" * 2000, bytes(4096)))]
)
def test_not_an_archive(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(BadArchive):
        read_manifest(tmp_path / "a")


def by_tar(archive: Path, files: dict[str, bytes], *options: str) -> Path:
    """Make an archive from a folder and a manifest with GNU tar."""
    folder = archive.with_name(f"{archive.name}-folder")
    tree(folder / "files", files)
    manifest = Manifest(files=[entry(path, files[path]) for path in sorted(files, key=str.encode)])
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    where = ["-C", str(folder), "manifest.json", "files"]
    subprocess.run(["tar", "-czf", str(archive), *options, *where], check=True, capture_output=True)
    return archive


@pytest.mark.skipif(shutil.which("tar") is None, reason="there is no tar")
@pytest.mark.parametrize(
    "options",
    [
        [],  # GNU's own format, filled up to 10,240 bytes
        ["--format=posix"],  # pax, with the times of each file
        ["--format=ustar"],
        ["--blocking-factor=1"],
        ["--blocking-factor=2048"],  # filled up to 1 MiB
        ["--sort=name", "--mode=0600", "--owner=someone:70000"],
        ["--format=posix", "--pax-option=comment:=by hand"],
    ],
    ids=" ".join,
)
def test_what_a_tar_makes_is_unpacked(tmp_path: Path, options: list[str]) -> None:
    """A builder in another language needn't write tar headers: a folder, a manifest and ``tar`` are enough."""
    files = {**FILES, "empty": b""}
    if "--format=ustar" in options:  # which has no room for such a path
        files = {path: content for path, content in files.items() if len(path) < 200}
    path = by_tar(tmp_path / "a.tar.gz", files, *options)
    unpack(path, tmp_path / "target")
    assert contents(tmp_path / "target") == files
    assert (tmp_path / "target" / "index.html").stat().st_mode & 0o7777 == 0o644


def test_a_tar_of_more_than_the_files(tmp_path: Path) -> None:
    """Folders mean nothing, also empty ones; links do, and there is no place for them."""
    folder = tmp_path / "a.tar.gz-folder" / "files"
    (folder / "nothing").mkdir(parents=True)
    path = by_tar(tmp_path / "a.tar.gz", {"index.html": b"x"})
    unpack(path, tmp_path / "target")
    assert sorted(found.name for found in (tmp_path / "target").iterdir()) == ["index.html"]
    (folder / "link").symlink_to("index.html")
    with pytest.raises(BadArchive, match="neither a file nor a folder"):
        unpack(by_tar(path, {"index.html": b"x"}), tmp_path / "other")


def test_node_s_tar_is_unpacked(tmp_path: Path) -> None:
    """npm's package ``tar``, which writes a pax header with all that it knows where a name is long."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm")
    root = subprocess.run(["npm", "root", "-g"], check=True, capture_output=True, text=True).stdout.strip()
    package = Path(root) / "npm" / "node_modules" / "tar"
    files = {**FILES, "n" * 120 + ".txt": b"long"}
    by_tar(tmp_path / "a.tar.gz", files)
    program = "const [, tar, file, cwd, ...names] = process.argv; require(tar).c({file, cwd, gzip: true}, names)"
    where = [str(package), str(tmp_path / "node.tar.gz"), str(tmp_path / "a.tar.gz-folder"), "manifest.json", "files"]
    subprocess.run(["node", "-e", program, *where], check=True)
    unpack(tmp_path / "node.tar.gz", tmp_path / "target")
    assert contents(tmp_path / "target") == files


def padding(archive: Path, rest: bytes) -> Path:
    """The same with something behind its end."""
    path = archive.with_name("padded")
    path.write_bytes(gzip.compress(gzip.decompress(archive.read_bytes()) + rest))
    return path


@pytest.mark.parametrize("rest", [b"\0" * 511 + b"x", bytes(1 << 20), bytes(8192) + b"more"], ids=len)
def test_more_than_a_tar_puts_behind_the_end(tmp_path: Path, rest: bytes) -> None:
    create(tree(tmp_path / "source", {"a": b"x"}), tmp_path / "a")
    with pytest.raises(BadArchive, match="more in it than its manifest says"):
        unpack(padding(tmp_path / "a", rest), tmp_path / "target")


def test_more_folders_than_there_may_be(tmp_path: Path) -> None:
    folders = [member(f"files/{number}", kind=tarfile.DIRTYPE) for number in range(20)]
    path = forge(tmp_path / "a", Manifest(files=[entry("a")]), [*folders, member("files/a")])
    with pytest.raises(BadArchive, match="too many folders"):
        unpack(path, tmp_path / "target", max_files=10)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_size_below_nothing(tmp_path: Path, kind: bytes) -> None:
    """A binary number can be negative: it was read as "all that there is", into memory."""
    info = tarfile.TarInfo("manifest.json")
    info.type = kind
    info.size = -1
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20)))
    with pytest.raises(BadArchive, match="impossible size"):
        unpack(path, tmp_path / "target")


@pytest.mark.parametrize(
    "header", [{"size": "7"}, {"linkpath": "/etc/passwd"}, {"hdrcharset": "BINARY"}, {"GNU.sparse.major": "1"}]
)
def test_headers_that_change_a_content(tmp_path: Path, header: dict[str, str]) -> None:
    info = tarfile.TarInfo("manifest.json")
    info.pax_headers = header
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(info.tobuf(tarfile.PAX_FORMAT) + bytes(1 << 12)))
    with pytest.raises(BadArchive, match=f"unexpected header: {next(iter(header))}"):
        unpack(path, tmp_path / "target")
