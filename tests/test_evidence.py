"""What somebody who approves a package is told of it, against what is published; and tarballs that are to do harm."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.publish.compared import File, Remark
from twistedipc.publish.targets.npm import exported, tarballs
from twistedipc.publish.targets.npm.evidence import evidence
from twistedipc.publish.targets.npm.exported import TooMany, entry_points
from twistedipc.publish.targets.npm.manifests import reaches_users
from twistedipc.publish.targets.npm.package import read_tarball
from twistedipc.publish.targets.npm.tarballs import BadPackage, Contents, read_contents

INSTALLED = "which is run where the package is installed,"
BREAKS = ": a breaking change in a version that users get without asking"


def contents(manifest: Mapping[str, Any], files: str | Mapping[str, str] = "") -> Contents:
    """A package with this package.json and these files: names, or what is in them."""
    named = files if isinstance(files, Mapping) else {name: name for name in files.split()}
    return Contents(
        {name: File(size=len(text), sha256=text) for name, text in named.items()},
        dict(manifest),
        json.dumps(manifest).encode(),
    )


def remarks(
    now: Contents, before: Contents | None, version: str = "1.0.1", published: str = "1.0.0"
) -> list[tuple[str, str]]:
    """The remarks' levels and texts."""
    found = evidence(now, before, version=version, published=published if before is not None else "")
    return [(each.level, each.text) for each in found]


CASES: dict[str, tuple[Mapping[str, Any], Mapping[str, Any], list[tuple[str, str]]]] = {
    "nothing": ({}, {}, []),
    "what says nothing of its use": ({"version": "2.0.0", "description": "x"}, {"version": "1.0.0"}, []),
    "a new install script": (
        {"scripts": {"postinstall": "node x"}}, {},
        [("danger", f"the script postinstall, {INSTALLED} is new: node x")],
    ),
    "another install script": (
        {"scripts": {"preinstall": "b"}}, {"scripts": {"preinstall": "a"}},
        [("danger", f"the script preinstall, {INSTALLED} was a, and is b")],
    ),
    "an install script that is gone": (
        {}, {"scripts": {"install": "a"}}, [("info", f"the script install, {INSTALLED} is gone: it was a")],
    ),
    "prepare is for git": (
        {"scripts": {"prepare": "husky"}}, {},
        [("warning", "the script prepare, which is run where the package is installed from git, is new: husky")],
    ),
    "scripts of the author's own": ({"scripts": {"test": "a"}}, {"scripts": {"test": "b"}}, []),
    "dependencies, new ones first": (
        {"dependencies": {"a": "^2", "b": "1"}}, {"dependencies": {"a": "^1", "c": "3"}},
        [("warning", "dependencies: b is new: 1"), ("info", "dependencies: a was ^1, and is ^2"),
         ("info", "dependencies: c is gone: it was 3")],
    ),
    "dependencies from elsewhere": (
        {"dependencies": {"a": "git+ssh://h/x", "b": "u/r", "c": "npm:d@1", "e": "1.x || >=2 || 5.0.0 - 7.2.3"}},
        {"dependencies": {"a": "1", "b": "u/r", "e": "1"}},
        [("danger", "dependencies: c is new: npm:d@1; so it isn't the registry's package of this name"),
         ("danger", "dependencies: a was 1, and is git+ssh://h/x; so it isn't the registry's package of this name"),
         ("info", "dependencies: e was 1, and is 1.x || >=2 || 5.0.0 - 7.2.3")],
    ),
    "bundled": (
        {"dependencies": {"a": "1"}, "bundleDependencies": ["a"]}, {"dependencies": {"a": "1"}},
        [("warning", "a is bundled: the package brings a copy of its own, which may be any code")],
    ),
    "what it is developed with": ({"devDependencies": {"a": "1"}}, {}, []),
    "commands": (
        {"name": "@s/tool", "bin": "./c.js"}, {"bin": {"old": "x"}},
        [("info", "the command old is gone: it was x"), ("warning", "the command tool is new: ./c.js")],
    ),
    "commands of other programs": (
        {"bin": {"git": "./g.js"}}, {},
        [("danger", "the command git, which has the name of another program, is new: ./g.js")],
    ),
    "a folder of commands": (
        {"directories": {"bin": "b"}}, {}, [("warning", "all files in b are commands (directories.bin)")],
    ),
    "licence": ({"license": "GPL-3.0"}, {"license": "MIT"}, [("warning", "license was MIT, and is GPL-3.0")]),
    "type": (
        {"type": "module"}, {}, [("danger", f"type was commonjs, and is module{BREAKS}")],
    ),
    "engines": (
        {"engines": None}, {"engines": {"node": ">=20"}},
        [("warning", 'engines was {"node":">=20"}, and is null')],
    ),
    "machines": ({"os": ["linux"]}, {}, [("warning", 'os is new: ["linux"]')]),
    "exports, one form and another": (
        {"exports": {".": "./a.js"}}, {"exports": "./a.js"}, [],
    ),
    "exports, entry by entry": (
        {"exports": {".": "./b.js", "./x": "./x.js"}}, {"exports": {".": "./a.js"}},
        [("info", 'exports["."] was ./a.js, and is ./b.js'), ("info", 'exports["./x"] is new: ./x.js')],
    ),
    "nonsense": ({"scripts": "x", "dependencies": [], "bin": 5, "exports": 7, "bundleDependencies": 1}, {"exports": 7},
                 []),
    "too long": ({"main": "x" * 300}, {}, [("info", f"main is new: {'x' * 199}…")]),
    "hostile names": (
        {"dependencies": {"a\x1b[2J\u202e": "1\n2"}}, {},
        [("warning", "dependencies: a\ufffd[2J\ufffd is new: 1\ufffd2")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_a_package_json_says_otherwise(name: str) -> None:
    now, before, expected = CASES[name]
    assert remarks(contents(now), contents(before)) == expected


def test_a_first_version_is_shown_with_what_is_dangerous_in_it() -> None:
    manifest = {"scripts": {"install": "node x"}, "dependencies": {"a": "1"}, "license": "MIT", "exports": "./a.js"}
    assert remarks(contents(manifest, "a.js .env"), None) == [
        ("danger", f"the script install, {INSTALLED} is new: node x"),
        ("info", "dependencies: a is new: 1"),
        ("danger", ".env is new, and by its name it may hold secrets"),
    ]


@pytest.mark.parametrize(
    ("now", "before", "said"),
    [
        ({"binding.gyp": "a"}, {}, "the script install, which npm makes of the package's binding.gyp, is new: "
                                   "node-gyp rebuild"),
        ({"binding.gyp": "b"}, {"binding.gyp": "a"},
         "the script install is as it was, but binding.gyp, which it runs, is another"),
    ],
)  # fmt: skip
def test_a_binding_gyp_is_an_install_script(now: dict[str, str], before: dict[str, str], said: str) -> None:
    assert ("danger", said) in remarks(contents({}, now), contents({}, before))


@pytest.mark.parametrize("manifest", [{"gypfile": False}, {"scripts": {"preinstall": "true"}}])
def test_a_binding_gyp_that_npm_does_not_build(manifest: dict[str, Any]) -> None:
    assert remarks(contents(manifest, "binding.gyp"), contents(manifest)) == []


@pytest.mark.parametrize("command", ["node ./scripts/i.js", "node scripts/i || true", "sh -c 'node scripts/i.js'"])
def test_a_script_that_runs_another_file_than_before(command: str) -> None:
    manifest = {"scripts": {"postinstall": command}}
    found = remarks(contents(manifest, {"scripts/i.js": "b"}), contents(manifest, {"scripts/i.js": "a"}))
    assert found == [
        ("danger", "the script postinstall is as it was, but scripts/i.js, which it runs, is another"),
    ]


# -- what users ask for

ENTRIES: dict[str, tuple[Mapping[str, Any], str, dict[str, str]]] = {
    "a string": ({"exports": "./a.js"}, "a.js", {".": "import require"}),
    "conditions": (
        {"exports": {"types": "./a.d.ts", "import": "./a.mjs", "require": "./a.cjs"}}, "a.d.ts a.mjs a.cjs",
        {".": "import require types"},
    ),
    "only by import": ({"exports": {"import": "./a.mjs"}}, "a.mjs a.d.mts", {".": "import types"}),
    "a module can't be required": ({"type": "module", "exports": "./a.js"}, "a.js", {".": "import"}),
    "null": ({"exports": {".": "./a.js", "./no": None, "./maybe": {"node": None, "default": "./b.js"}}}, "a.js b.js",
             {".": "import require", "./maybe": "import require"}),
    "patterns": ({"exports": {"./x/*": "./src/*.js", "./x/i/*": None}}, "src/a.js src/i/b.js src/c.css",
                 {"./x/a": "import require"}),
    "a pattern with the same twice": ({"exports": {"./*": "./d/*/*.js"}}, "d/a/a.js", {"./a/a": "import require"}),
    "an exact name before a pattern": ({"exports": {"./*": "./*.js", "./a": None}}, "a.js b.js",
                                       {"./b": "import require"}),
    "folders": ({"exports": {"./f/": "./d/"}}, "d/a.js", {"./f/a.js": "import require"}),
    "without exports": ({"main": "./lib"}, "lib/index.js x.mjs r.md",
                        {".": "import require", "./lib/index.js": "import require", "./x.mjs": "import"}),
    "without exports, types": ({"types": "t.d.ts"}, "index.js index.d.ts",
                               {".": "import require types", "./index.js": "import require types"}),
    "nothing": ({}, "r.md", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", ENTRIES)
def test_by_which_names_a_package_can_be_asked_for(name: str) -> None:
    manifest, files, expected = ENTRIES[name]
    found = entry_points(manifest, files.split())
    assert {name: " ".join(sorted(ways)) for name, ways in found.items()} == expected


def test_entry_points_that_are_gone() -> None:
    before = contents({"exports": {".": {"import": "./a.mjs", "require": "./a.cjs"}, "./x": "./x.cjs"}}, "a.mjs a.cjs")
    now = contents({"exports": {".": "./a.mjs"}}, "a.mjs")
    gone = [
        f"the package itself can't be asked for any more by require{BREAKS}",
        f"./x can't be asked for any more at all{BREAKS}",
    ]
    assert [text for level, text in remarks(now, before, "1.9.0") if level == "danger"] == gone
    assert [level for level, _ in remarks(now, before, "2.0.0")] == ["info"] * len(remarks(now, before, "2.0.0"))


def test_files_that_exports_leaves_out() -> None:
    before = contents({"main": "a.js"}, "a.js lib/b.js")
    now = contents({"exports": "./a.js"}, "a.js lib/b.js")
    assert remarks(now, before)[0] == (
        "warning",
        "2 files that could be asked for by path can't be any more: ./a.js, ./lib/b.js; exports is new, and "
        f"leaves them out{BREAKS}",
    )


@pytest.mark.parametrize(
    ("before", "now", "reaches"),
    [
        ("1.2.3", "1.2.4", True), ("1.2.3", "1.3.0", True), ("1.2.3", "2.0.0", False), ("0.2.3", "0.2.4", True),
        ("0.2.3", "0.3.0", False), ("0.0.3", "0.0.4", False), ("1.2.3", "1.3.0-rc.1", False), ("1.2.3", "1.0.0", False),
        ("1.2.3-rc.1", "1.2.3", True), ("1.2.3-rc.1", "1.2.3-rc.2", True), ("", "1.0.0", False), ("x", "y", False),
    ],
)  # fmt: skip
def test_which_versions_users_get_without_asking(before: str, now: str, reaches: bool) -> None:
    assert reaches_users(now, before) is reaches


@given(
    st.recursive(
        st.none() | st.booleans() | st.sampled_from(["./a.js", "./*.js", "./d/", "a", "", "*"]) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([".", "./x", "./*", "./f/", "import", "types", "0", "*"]), inner, max_size=4
            )
        ),
        max_leaves=12,
    )
)
def test_any_exports_can_be_looked_at(exports: object) -> None:
    one = contents({"exports": exports}, "a.js b.js d/c.js")
    assert all(name.startswith(".") or "*" in str(exports) for name in entry_points(one.manifest, one.files))
    assert not [text for _, text in remarks(one, one) if "asked for" in text]


# -- files


def sized(sizes: Mapping[str, int]) -> Contents:
    return Contents({path: File(size=size, sha256=str(size)) for path, size in sizes.items()}, {}, b"{}")


def test_files_that_have_grown() -> None:
    found = remarks(
        sized({"a.js": 900_000, "b.js": 50, "c.js": 110_000}), sized({"a.js": 9, "b.js": 1, "c.js": 60_000})
    )
    assert found == [
        ("warning", "a.js has grown a lot, from 9 to 900000 bytes"),
        ("warning", "the package has grown a lot, from 60010 to 1010050 bytes in 3 files"),
    ]


def test_files_that_nobody_means_to_publish_or_that_nobody_can_read() -> None:
    now = contents({}, "a.js .npmrc deploy/id_rsa cfg/.env.production .env.example test/x.pem k.pem n.node .git/config")
    assert remarks(now, contents({}, "a.js")) == [
        *(("danger", f"{path} is new, and by its name it may hold secrets")
          for path in (".git/config", ".npmrc", "cfg/.env.production", "deploy/id_rsa", "k.pem")),
        ("warning", "n.node is new, and a program that can't be read"),
    ]  # fmt: skip
    assert remarks(now, now) == []


def test_of_many_the_first_are_named() -> None:
    found = remarks(contents({}, " ".join(f"{number:03}.pem" for number in range(50))), contents({}))
    assert len(found) == 11
    assert found[-1] == ("danger", "and 40 more like 000.pem")
    many = {"dependencies": {f"d{number}": "1" for number in range(50_000)}}
    assert remarks(contents(many), contents({}))[-1] == ("warning", "and 49970 more dependencies that are new")


# -- tarballs


def packed(path: Path, members: Sequence[tuple[tarfile.TarInfo | str, bytes]], *, behind: bytes = b"") -> Path:
    """A tarball with these members."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for each, content in members:
            info = each if isinstance(each, tarfile.TarInfo) else tarfile.TarInfo(f"package/{each}")
            info.size = len(content) if info.isfile() else 0
            tar.addfile(info, io.BytesIO(content))
    path.write_bytes(gzip.compress(data.getvalue() + behind, 1))
    return path


MANIFEST = ("package.json", b'{"name": "p", "version": "1.0.0"}')


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def test_what_is_in_a_package(tmp_path: Path) -> None:
    found = read_contents(packed(tmp_path / "p.tgz", [MANIFEST, ("lib/a.js", b"a")]))
    assert found.manifest["name"] == "p"
    assert {path: file.size for path, file in found.files.items()} == {"package.json": 33, "lib/a.js": 1}
    other = tarfile.TarInfo("node/package.json")  # the folder has another name in some packages
    assert read_contents(packed(tmp_path / "o.tgz", [(other, MANIFEST[1])])).manifest["name"] == "p"


def test_what_misleads_is_said(tmp_path: Path) -> None:
    members: list[tuple[tarfile.TarInfo | str, bytes]] = [
        MANIFEST, ("a.js", b"1"), ("a.js", b"2"), ("A.js", b"3"), ("\u202egpj.exe", b""), ("x/../../y", b""),
        special("package/link", tarfile.SYMTYPE, "/etc/passwd"),
    ]  # fmt: skip
    now = read_contents(packed(tmp_path / "p.tgz", members))
    assert now.files["a.js"].size == 1
    assert [text for _, text in remarks(now, contents({}, "a.js A.js"))] == [
        "a.js is in the tarball more than once: others may see another one of them",
        "x/../../y has a path that leads out of the package",
        "link is neither a file nor a folder: npm leaves it out",
        "\ufffdgpj.exe has a name with characters that can't be seen",
        "A.js has the name of another file, but for upper and lower case: many systems mix them up",
        "\ufffdgpj.exe is new, and a program that can't be read",
    ]
    with pytest.raises(BadPackage, match=r"has a\.js in it twice"):
        read_tarball(tmp_path / "p.tgz")
    with pytest.raises(BadPackage, match=r"lead out of it: x/\.\./\.\./y"):
        read_tarball(packed(tmp_path / "q.tgz", [MANIFEST, ("x/../../y", b"")]))


def test_a_name_that_is_no_text_can_be_said_in_json(tmp_path: Path) -> None:
    info = tarfile.TarInfo("package/\udcff.js")
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
        for each, content in ((tarfile.TarInfo("package/package.json"), b"{}"), (info, b"")):
            each.size = len(content)
            tar.addfile(each, io.BytesIO(content))
    (tmp_path / "p.tgz").write_bytes(gzip.compress(data.getvalue()))
    assert json.dumps(list(read_contents(tmp_path / "p.tgz").files)).encode()
    assert "\ufffd.js" in read_contents(tmp_path / "p.tgz").files


def bomb(header: int) -> bytes:
    """A header for long names of so many bytes, and no more."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, header
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20)


BAD: dict[str, tuple[Sequence[tuple[tarfile.TarInfo | str, bytes]], bytes, str]] = {
    "no package.json": ([("a.js", b"")], b"", "has no package.json"),
    "a large one": ([("package.json", b" " * (1 << 20) + b"{}")], b"", "package.json is too large"),
    "a deep one": ([("package.json", b'{"exports":' + b"[" * 100 + b"]" * 100 + b"}")], b"", "more than 60 lists"),
    "a very deep one": ([("package.json", b'{"exports":' + b"[" * 500_000)], b"", "package.json can't be read"),
    "no JSON": ([("package.json", b"{")], b"", "package.json can't be read"),
    "a long path": ([MANIFEST, ("x" * 2000, b"")], b"", "longer than 1024 characters"),
    "something behind its end": ([MANIFEST], b"evil", "something behind its end"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_tarballs(tmp_path: Path, name: str) -> None:
    members, behind, said = BAD[name]
    with pytest.raises(BadPackage, match=said):
        read_contents(packed(tmp_path / "p.tgz", members, behind=behind))


def test_tarballs_that_are_to_do_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.tgz"
    path.write_bytes(gzip.compress(bomb(1 << 33)))
    with pytest.raises(BadPackage, match="a header of 8589934592 bytes"):
        read_contents(path)
    path.write_bytes(gzip.compress(b"".join(bomb(0)[:512] for _ in range(5000))))
    with pytest.raises(BadPackage, match="can't be read"):
        read_contents(path)
    # npm goes on behind a header that isn't one, and would install what comes then.
    whole = gzip.decompress(packed(path, [MANIFEST, ("evil.js", b"evil")]).read_bytes())
    at = whole.index(b"package/evil.js")
    path.write_bytes(gzip.compress(whole[:at] + b"\xff" * 512 + whole[at:]))
    with pytest.raises(BadPackage, match="neither a file nor its end"):
        read_contents(path)
    path.write_bytes(b"no tarball")
    with pytest.raises(BadPackage, match="can't be read"):
        read_contents(path)
    path.write_bytes(gzip.compress(whole[:-8000])[:-20])
    with pytest.raises(BadPackage, match="can't be read"):
        read_contents(path)
    monkeypatch.setattr(tarballs, "MAX_UNPACKED", 1 << 20)
    with pytest.raises(BadPackage, match="more than 1048576 bytes"):
        read_contents(packed(path, [MANIFEST, ("zeros", bytes(2 << 20))]))
    monkeypatch.setattr(tarballs, "MAX_MEMBERS", 3)
    with pytest.raises(BadPackage, match="more than 3 files"):
        read_contents(packed(path, [MANIFEST, *((str(number), b"") for number in range(3))]))


def test_patterns_are_looked_up_among_so_many_files_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exported, "MAX_LOOKED_AT", 20_000)
    one = contents({"exports": "./src/1.js"}, " ".join(f"src/{number}.js" for number in range(10_000)))
    hostile = {f"./{number}/*": "./src/*" for number in range(30_000)}
    with pytest.raises(TooMany):
        entry_points({"exports": hostile}, one.files)
    forbidden: dict[str, object] = {f"./{number}*": None for number in range(30_000)}
    with pytest.raises(TooMany):
        entry_points({"exports": forbidden | {"./*": "./src/*"}}, one.files)
    found = remarks(contents({"exports": hostile}, " ".join(one.files)), one)
    assert ("warning", "the patterns in exports are too many to say what can't be asked for any more") in found


def test_a_remark_says_what_it_is_about() -> None:
    now = contents({"scripts": {"postinstall": "x"}, "dependencies": {"a": "2"}})
    found = list(evidence(now, contents({"dependencies": {"a": "1"}}), version="1.0.1", published="1.0.0"))
    assert found[1] == Remark(level="info", about="dependency", name="a", before="1", after="2",
                              text="dependencies: a was 1, and is 2")  # fmt: skip
    assert (found[0].about, found[0].name, found[0].before, found[0].after) == ("script", "postinstall", None, "x")
