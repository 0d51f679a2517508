"""The rules for packages: what package.json says of itself, of what it depends on, and of what is in its tarball."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.publish.targets.npm.dependencies import find_uninstallable
from twistedipc.publish.targets.npm.entry_points import find_missing, find_unmatched
from twistedipc.publish.targets.npm.package import (
    Description,
    Tarball,
    check,
    check_contents,
    check_description,
    check_settings,
    integrity,
    older,
    read_tarball,
)
from twistedipc.publish.targets.npm.places import only
from twistedipc.publish.targets.npm.tarballs import BadPackage

REGISTRY = "https://r.example/"


def described(**values: object) -> Description:
    return msgspec.convert({"name": "x", "version": "1.0.0", **values}, Description)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"private": True}, "private"),
        ({"name": ""}, "needs a name"),
        ({"name": "-x"}, "needs a name"),
        ({"name": "--registry=x"}, "needs a name"),
        ({"name": "../x"}, "needs a name"),
        ({"name": "a b"}, "a b has U+0020 (SPACE) in it"),
        ({"name": "@Acme/ui"}, "a scope like @acme/ before it, in small letters"),
        ({"name": "r\u0435act"}, "U+0435 (CYRILLIC SMALL LETTER IE) in it"),
        ({"name": "re\u200bact\u202e"}, "re\u200bact\ufffd has U+200B (ZERO WIDTH SPACE), U+202E"),
        ({"name": "x" * 215}, "it has more than 214 characters"),
        ({"version": ""}, "needs a version"),
        ({"version": "1.0"}, "needs a version"),
        ({"version": "1.0.0; x"}, "needs a version"),
        ({"version": "1.0.0-rc.1"}, "is a prerelease"),
        ({"version": "1.0.0-rc.1", "publishConfig": {"tag": "next"}}, None),
        ({"version": "1.0.0+build-1"}, None),
        ({"publishConfig": None, "private": None}, None),  # npm takes null for none
        ({"publishConfig": {"tag": "--x"}}, "can't be the name of a tag"),
        ({"publishConfig": {"tag": 1}}, "can't be the name of a tag"),
        ({"publishConfig": {"registry": "https://other.example/"}}, "publishConfig.registry is https://other.example/"),
        ({"publishConfig": {"registry": 7}}, "publishConfig.registry is 7"),
        ({"publishConfig": {"registry": "https://r.example", "access": "public"}}, None),
        ({"name": "@s/x", "publishConfig": {"@s:registry": "https://r.example"}}, None),
        ({"name": "@s/x", "publishConfig": {"@s:registry": "https://evil.example"}}, "publishConfig.@s:registry is"),
    ],
)
def test_what_may_be_published(values: dict[str, object], sentence: str | None) -> None:
    if sentence is None:
        check_description(described(**values), only(REGISTRY).default)
        return
    with pytest.raises(BadPackage) as raised:
        check_description(described(**values), only(REGISTRY).default)
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("manifest", "sentence"),
    [
        ({"publishConfig": {"proxy": "http://evil"}}, "publishConfig.proxy isn't allowed"),
        ({"publishConfig": {"strict-ssl": False}}, "publishConfig.strict-ssl isn't allowed"),
        ({"publishConfig": {"//r/:_authToken": "x"}}, "isn't allowed"),
        ({"publishConfig": {"access": "public", "provenance": False, "tag": "next", "linkDirectory": True}}, None),
        ({"publishConfig": {"@s:registry": "https://r.example"}}, None),
        ({"publishConfig": None}, None),
        # What pnpm, yarn and lerna do with these, npm doesn't: another package was published, and green.
        ({"main": "src/index.ts", "publishConfig": {"main": "dist/index.js"}}, "replace `main` by it"),
        ({"publishConfig": {"exports": {".": "./dist/index.js"}}}, "replace `exports` by it"),
        ({"publishConfig": {"types": "dist/index.d.ts"}}, "replace `types` by it"),
        ({"publishConfig": {"bin": {"x": "dist/x.js"}}}, "replace `bin` by it"),
        ({"publishConfig": {"directory": "dist"}}, "pack the folder dist instead"),
        ({"publishConfig": {"executableFiles": ["x.sh"]}}, "executable"),
        # But it is no matter where a script has put them in place.
        ({"main": "dist/index.js", "publishConfig": {"main": "dist/index.js"}}, None),
        ({"publishConfig": {"directory": "."}}, None),
    ],
)
def test_what_another_package_manager_would_do_is_not_ignored(manifest: dict[str, Any], sentence: str | None) -> None:
    if sentence is None:
        check_settings(manifest)
        return
    with pytest.raises(BadPackage) as raised:
        check_settings(manifest)
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    "ascending",
    [
        [
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0",
            "1.0.1",
            "1.10.0",
            "2.0.0",
        ]
    ],
)
def test_order_of_versions(ascending: list[str]) -> None:
    for i, first in enumerate(ascending):
        for j, second in enumerate(ascending):
            assert older(first, second) == (i < j)
    assert not older("1.0.0+a", "1.0.0+b")
    assert not older("nonsense", "1.0.0")


# -- dependencies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        "workspace:*",
        "workspace:^",
        "workspace:~1.2.3",
        "workspace:../ui",
        " workspace:*",
        "WORKSPACE:*",
        "catalog:",
        "catalog:react18",
        "link:../ui",
        "file:../ui",
        "file:./vendor/x.tgz",
        "FILE:x",
        "portal:../ui",
        "patch:react@npm%3A18.0.0#./react.patch",
        "exec:./make.js",
        "jsr:^1.0.0",
        "root:",
        "git+file:///srv/x.git",
        ".",
        "..",
        "./ui",
        "../ui",
        "~/ui",
        "/srv/ui",
        "C:/ui",
        "packages/ui/dist",
        "x-1.0.0.tgz",
        "vendor/a/x.tar.gz",
        "npm:@acme/ui@workspace:^",
        7,
        None,
        {"version": "1"},
    ],
)
@pytest.mark.parametrize("group", ["dependencies", "optionalDependencies", "peerDependencies"])
def test_a_dependency_that_can_not_be_installed_elsewhere_is_named(group: str, spec: object) -> None:
    """Published with `workspace:^`, a package can't be installed, and its version can't be used again."""
    (sentence,) = find_uninstallable({group: {"good": "^1.0.0", "@acme/ui": spec}})
    assert sentence.startswith(f'{group}["@acme/ui"] is ')
    assert not list(find_uninstallable({"devDependencies": {"@acme/ui": spec}}))


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "*",
        "latest",
        "next",
        "1.2.3",
        "^1.2.3",
        "~1.2",
        ">=1.0.0 <2.0.0",
        "1.0.0 - 2.0.0",
        "^17 || ^18",
        "1.x",
        "=1.0.0-rc.1+build",
        "npm:other@^1.0.0",
        "npm:@acme/other@1.0.0",
        "npm:@acme/other",
        "https://example.org/x.tgz",
        "http://example.org/x.tar.gz",
        "git+https://example.org/x.git#semver:^1",
        "git+ssh://git@example.org:team/x.git",
        "git://example.org/x.git",
        "git@github.com:team/x.git",
        "github:team/x",
        "gitlab:team/x#main",
        "bitbucket:team/x",
        "gist:11081aaa281",
        "team/x",
        "team/x#feature/branch",
        "team/x#semver:^1",
    ],
)
def test_a_dependency_that_can_be_installed(spec: str) -> None:
    for group in ("dependencies", "optionalDependencies", "peerDependencies"):
        assert not list(find_uninstallable({group: {"x": spec}}))


def test_groups_of_dependencies_that_are_not_what_they_should_be_are_npms_business() -> None:
    assert not list(find_uninstallable({"dependencies": ["x"], "peerDependencies": None, "optionalDependencies": "x"}))


# -- entry points ----------------------------------------------------------------------------------------------------

# name -> package.json's part, the tarball's files beside package.json, what is missing ([]: nothing)
GOOD: dict[str, tuple[dict[str, object], str]] = {
    "nothing said, index.js": ({}, "index.js"),
    "nothing said, styles": ({}, "style.css theme/dark.css"),
    "nothing but package.json": ({}, ""),
    "a set of dependencies": ({"dependencies": {"a": "1"}, "files": []}, "README.md"),
    "a shared configuration": ({"main": "index.json"}, "index.json"),
    "main": ({"main": "dist/index.js"}, "dist/index.js"),
    "main with ./": ({"main": "./dist/index.js"}, "dist/index.js"),
    "main without .js": ({"main": "dist/index"}, "dist/index.js"),
    "main, json": ({"main": "data"}, "data.json"),
    "main, addon": ({"main": "build/addon"}, "build/addon.node"),
    "main is a folder": ({"main": "lib"}, "lib/index.js"),
    "main is a folder with a slash": ({"main": "lib/"}, "lib/index.json"),
    "main is the package's folder": ({"main": "."}, "index.js"),
    "main is the package's folder, too": ({"main": "./"}, "index.js"),
    "main with detours": ({"main": "./dist/../lib//index.js"}, "lib/index.js"),
    "main is empty, for types alone": ({"main": "", "types": "index.d.ts"}, "index.d.ts"),
    "main is a style": ({"main": "dist/theme.css"}, "dist/theme.css"),
    "main of bower": ({"main": ["a.js", "b.css"]}, ""),
    "module": ({"main": "a.cjs", "module": "a.mjs"}, "a.cjs a.mjs"),
    "module, without ending": ({"module": "es/index"}, "es/index.mjs"),
    "module is a folder": ({"module": "es"}, "es/index.js"),
    "types": ({"types": "dist/index.d.ts"}, "dist/index.d.ts"),
    "types without ending": ({"types": "dist/index"}, "dist/index.d.ts"),
    "types are a folder": ({"typings": "types"}, "types/index.d.ts"),
    "types of modules": ({"types": "index.d.mts"}, "index.d.mts"),
    "types beside the script": ({"types": "dist/index.js"}, "dist/index.d.ts"),
    "types of a script": ({"types": "dist/index.mjs"}, "dist/index.d.mts"),
    "types by versions": (
        {"types": "index.d.ts", "typesVersions": {">=4.0": {"*": ["ts4/*", "other/*"]}}},
        "ts4/index.d.ts",
    ),
    "types by versions, one path": (
        {"types": "./index", "typesVersions": {"*": {"index": ["./dist/types/main.d.ts"]}}},
        "dist/types/main.d.ts",
    ),
    "typesVersions of odd forms": ({"typesVersions": {"*": {"a": "b"}, "<4": []}, "types": "a.d.ts"}, "a.d.ts"),
    "bin": ({"bin": "cli.js"}, "cli.js"),
    "bin with ./": ({"bin": "./cli.js"}, "cli.js"),
    "bins": ({"bin": {"a": "bin/a", "b": "./bin/b.js"}}, "bin/a bin/b.js"),
    "bins as a list": ({"bin": ["./a.js", "b.js"]}, "a.js b.js"),
    "no bins": ({"bin": {}}, ""),
    "bins that are a folder": ({"directories": {"bin": "./bin"}}, "bin/a"),
    "other folders are only said": ({"directories": {"test": "test", "doc": "doc", "lib": "lib"}}, ""),
    "bin wins over directories.bin": ({"bin": "a.js", "directories": {"bin": "gone"}}, "a.js"),
    "manual": ({"man": ["./man/x.1", "man/y.1"]}, "man/x.1 man/y.1"),
    "unpkg, jsdelivr": ({"unpkg": "dist/x.min.js", "jsdelivr": "dist/x.min"}, "dist/x.min.js"),
    "source isn't an entry point": ({"source": "src/index.ts", "react-native": "src/n"}, ""),
    "browser": ({"browser": "dist/browser.js"}, "dist/browser.js"),
    "browser's replacements": (
        {"browser": {"fs": False, "ws": "./ws.js", "./a.js": "./b.js", "module": "other"}},
        "a.js b.js ws.js",
    ),
    "browser's replacement of a test's": ({"browser": {"./test/a.js": "./test/b.js"}}, "index.js"),
    "exports is null": ({"exports": None, "main": "a.js"}, "a.js"),
    "exports": ({"exports": "./index.js"}, "index.js"),
    "exports of nothing": ({"exports": {}}, ""),
    "exports, conditions": (
        {"exports": {"types": "./i.d.ts", "import": "./i.mjs", "require": "./i.cjs", "default": "./i.mjs"}},
        "i.d.ts i.mjs i.cjs",
    ),
    "exports, nested": (
        {
            "exports": {
                ".": {
                    "node": {"import": {"types": "./n.d.mts", "default": "./n.mjs"}, "require": "./n.cjs"},
                    "browser": "./b.js",
                    "default": "./b.js",
                },
                "./package.json": "./package.json",
                "./style.css": "./dist/style.css",
            }
        },
        "n.d.mts n.mjs n.cjs b.js dist/style.css",
    ),
    "exports, patterns": (
        {"exports": {"./*": "./dist/*.js", "./icons/*": {"types": "./dist/icons/*.d.ts", "default": "./d/*/*.js"}}},
        "dist/a.js dist/icons/b.d.ts d/x/x.js",
    ),
    "exports, a pattern over folders": ({"exports": {"./features/*.js": "./src/features/*.js"}}, "src/features/a/b.js"),
    "exports, a pattern for one file": ({"exports": {"./*": "./index.js"}}, "index.js"),
    "exports, what is not exported": (
        {"exports": {"./*": "./lib/*.js", "./internal/*": None, "./x": {"node": None, "default": "./lib/x.js"}}},
        "lib/x.js",
    ),
    "exports, a folder of old": ({"exports": {".": "./a.js", "./lib/": "./lib/"}}, "a.js lib/b.js"),
    "exports, an array": (
        {"exports": {"./h": [{"node": "./h.js", "default": "./h.mjs"}, "./h.js"]}},
        "h.js h.mjs",
    ),
    "exports, an array's first valid": ({"exports": {".": ["std:kv", "not/relative.js", "./kv.js"]}}, "kv.js"),
    "exports, an array of conditions": ({"exports": [{"import": "./a.mjs"}, "./a.cjs"]}, "a.mjs a.cjs"),
    "exports, an empty array": ({"exports": {".": "./a.js", "./no": []}}, "a.js"),
    "exports, names as in an address": ({"exports": {"./a": "./my%20file.js", "./b": "./my file.js"}}, "my:file.js"),
    "exports, types beside the script": ({"exports": {"types": "./dist/i.js", "default": "./dist/i.js"}}, "dist/i.js"),
    "exports, types of a version": ({"exports": {"types@>=4.7": "./t.js", "default": "./t.js"}}, "t.js t.d.ts"),
    "imports are the package's own": ({"imports": {"#test": "./test/x.js", "#dep": {"node": "dep"}}}, ""),
}

BAD: dict[str, tuple[dict[str, object], str, list[str]]] = {
    "main": ({"main": "dist/index.js"}, "README.md", ["main leads to dist/index.js"]),
    "main, although there is an index": ({"main": "dist/a.js"}, "index.js", ["main leads to dist/a.js"]),
    "main, another ending": ({"main": "a"}, "a.mjs a.cjs a.ts", ["main leads to a"]),
    "main, another case": ({"main": "Dist/A.js"}, "dist/a.js", ["main leads to Dist/A.js"]),
    "main, an empty folder": ({"main": "lib"}, "lib/a.js", ["main leads to lib"]),
    "main, outside": ({"main": "../a.js"}, "a.js", ["main leads to ../a.js"]),
    "main, from the root": ({"main": "/a.js"}, "a.js", ["main leads to /a.js"]),
    "module": ({"main": "a.js", "module": "es/a.js"}, "a.js", ["module leads to es/a.js"]),
    "types": ({"types": "dist/index.d.ts"}, "dist/index.js", ["types leads to dist/index.d.ts"]),
    "typings": ({"typings": "types"}, "types/a.d.ts", ["typings leads to types"]),
    "types by versions": (
        {"types": "a.d.ts", "typesVersions": {"*": {"b.d.ts": ["b.d.ts"], "*": ["gone/*"]}}},
        "b.d.ts",
        ["types leads to a.d.ts"],
    ),
    "bin": ({"bin": "./cli.js"}, "cli", ["bin leads to ./cli.js"]),
    "bins": ({"bin": {"a": "a.js", "b": "b"}}, "a.js b.js", ["bin.b leads to b"]),
    "bins of nothing": ({"bin": {"a": None, "b": ""}}, "", ["bin.a isn't the path", "bin.b isn't the path"]),
    "bins, a folder": ({"bin": {"a": "./bin"}}, "bin/a", ["bin.a leads to ./bin"]),
    "directories.bin": ({"directories": {"bin": "bin"}}, "a.js", ["directories.bin leads to bin"]),
    "man": ({"man": "x.1"}, "", ["man leads to x.1"]),
    "unpkg": ({"unpkg": "dist/x.min.js"}, "dist/x.js", ["unpkg leads to dist/x.min.js"]),
    "browser": ({"browser": "b.js"}, "a.js", ["browser leads to b.js"]),
    "browser's replacements": (
        {"browser": {"./a.js": "./b.js", "ws": "./ws.js"}},
        "a.js",
        ['browser["./a.js"] leads to ./b.js', 'browser["ws"] leads to ./ws.js'],
    ),
    "exports": ({"exports": "./a.js"}, "b.js", ["exports leads to ./a.js"]),
    "exports, no ending is tried": ({"exports": "./a"}, "a.js", ["exports leads to ./a"]),
    "exports, no index is tried": ({"exports": {".": "./lib"}}, "lib/index.js", ['exports["."] leads to ./lib']),
    "exports, not relative": ({"exports": "a.js"}, "a.js", ['exports can\'t be "a.js": a target begins with ./']),
    "exports, outside": ({"exports": "./../a.js"}, "a.js", ["Node refuses ., .. and node_modules"]),
    "exports, hidden ways out": ({"exports": "./%2e%2e/a.js"}, "a.js", ["Node refuses"]),
    "exports, node_modules": ({"exports": "./node_modules/a.js"}, "node_modules/a.js", ["Node refuses"]),
    "exports, a condition": (
        {"exports": {".": {"import": "./a.mjs", "require": {"types": "./a.d.cts", "default": "./a.cjs"}}}},
        "a.mjs a.cjs",
        ['exports["."].require.types leads to ./a.d.cts'],
    ),
    "exports, a pattern": ({"exports": {"./*": "./dist/*.js"}}, "dist/a.mjs", ["leads to files like ./dist/*.js"]),
    "exports, stars that differ": ({"exports": {"./*": "./d/*/*.js"}}, "d/a/b.js", ["files like ./d/*/*.js"]),
    "exports, a star is something": ({"exports": {"./*": "./d/*.js"}}, "d/.js", ["files like ./d/*.js"]),
    "exports, a star on one side": ({"exports": {"./a": "./d/*.js"}}, "d/a.js", ['exports["./a"] leads to ./d/*.js']),
    "exports, two stars": ({"exports": {"./*/*": "./d/*.js"}}, "d/a.js", ["a pattern has one *"]),
    "exports, an empty folder": ({"exports": {"./lib/": "./lib/"}}, "a.js", ['exports["./lib/"] leads to ./lib/']),
    "exports, a folder for a file": ({"exports": {".": "./lib/"}}, "lib/index.js", ['exports["."] leads to ./lib/']),
    "exports, a mix": ({"exports": {".": "./a.js", "import": "./a.js"}}, "a.js", ["both paths"]),
    "exports, paths below a condition": (
        {"exports": {"import": {".": "./a.js"}}},
        "a.js",
        ["exports.import.. is a path below a condition"],
    ),
    "exports, no path": ({"exports": {".a": "./a.js"}}, "a.js", ['exports[".a"] can\'t be imported']),
    "exports, a number": ({"exports": {"1": "./a.js"}}, "a.js", ["Node refuses numbers"]),
    "exports, false": ({"exports": {".": False}}, "a.js", ["can't be a target"]),
    "exports, an array isn't for missing files": (
        {"exports": {".": ["./gone.js", "./a.js"]}},
        "a.js",
        ['exports["."][0] leads to ./gone.js'],
    ),
    "exports, an array of nothing valid": (
        {"exports": ["a.js", "b:c"]},
        "a.js",
        ["exports[0] can't", "exports[1] can't"],
    ),
}


def held(files: str) -> frozenset[str]:
    """Names by spaces (a colon is a space of a name's own), and the package.json that every tarball has."""
    return frozenset({"package.json", *(name.replace(":", " ") for name in files.split())})


@pytest.mark.parametrize("name", GOOD)
def test_entry_points_that_are_there(name: str) -> None:
    manifest, files = GOOD[name]
    assert list(find_missing(manifest, held(files))) == []
    check_contents(manifest, held(files))


@pytest.mark.parametrize("name", BAD)
def test_entry_points_that_lead_to_nothing(name: str) -> None:
    """Such a package was published, and couldn't be used; its version can't be used again."""
    manifest, files, expected = BAD[name]
    found = list(find_missing(manifest, held(files)))
    assert len(found) == len(expected), found
    for sentence, part in zip(found, expected, strict=True):
        assert part in sentence
    with pytest.raises(BadPackage, match=r"isn't what its package\.json says"):
        check_contents(manifest, held(files))


_PATHS = st.lists(st.sampled_from(["a", "b.js", "lib", "index.js", "x y"]), min_size=1, max_size=3).map("/".join)


@given(files=st.frozensets(_PATHS, min_size=1), key=st.sampled_from(["main", "module", "types", "bin", "unpkg"]))
def test_each_file_of_a_package_can_be_its_entry_point(files: frozenset[str], key: str) -> None:
    for path in files:
        for form in (path, f"./{path}"):
            assert not list(find_missing({key: form, "exports": f"./{path}"}, files))
            assert list(find_missing({key: form, "exports": f"./{path}"}, frozenset({"other"}))) != []


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["./a.js", "./*", "a.js"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.just("./*"), inner, max_size=3)
    ),
    max_leaves=12,
)
_KEYS = "main module types typings typesVersions browser bin man directories exports files dependencies".split()


@given(manifest=st.dictionaries(st.sampled_from(_KEYS), _JSON))
def test_whatever_a_package_json_holds_is_answered(manifest: dict[str, object]) -> None:
    """JSON of any form is a sentence or none: never an error of ours."""
    list(find_missing(manifest, held("a.js")))
    list(find_uninstallable(manifest))
    list(find_unmatched(manifest, held("a.js")))


@pytest.mark.parametrize(
    ("entries", "files", "unmatched"),
    [
        (["dist"], "dist/a.js", []),
        (["dist/"], "dist/a.js", []),
        (["./dist"], "dist/a.js", []),
        (["/dist/**"], "dist/a/b.js", []),
        (["*.js", "lib/**/*.js"], "a.js lib/x/a.js", []),
        (["dist", "!dist/secret"], "dist/a.js", []),
        (["."], "a.js", []),
        ([], "", []),
        (["dist"], "", ["dist"]),
        (["dist", "src"], "src/a.js", ["dist"]),
        (["lib/*.mjs"], "lib/a.js", ["lib/*.mjs"]),
    ],
)
def test_what_files_names_and_there_is_not(entries: list[str], files: str, unmatched: list[str]) -> None:
    assert find_unmatched({"files": entries}, held(files)) == unmatched


def test_a_package_of_which_nothing_came_is_refused() -> None:
    """`"files": ["dist"]`, and nothing had made dist: package.json alone was published."""
    with pytest.raises(BadPackage, match=r"is empty: `files` in package.json names dist, and there is no such file"):
        check_contents({"files": ["dist"]}, held("README.md LICENSE"))
    check_contents({"files": ["dist", "types"]}, held("dist/a.js"))


def test_many_faults_are_said_in_one_sentence_of_bounded_length() -> None:
    manifest = {"exports": {f"./{'x' * 5000}{index}": f"./{'y' * 5000}{index}.js" for index in range(500)}}
    with pytest.raises(BadPackage) as raised:
        check_contents(manifest, frozenset(f"{'z' * 500}{index}" for index in range(500)))
    assert "and 495 more" in str(raised.value)
    assert len(str(raised.value)) < 3000


# -- tarballs --------------------------------------------------------------------------------------------------------


def packed(path: Path, package_json: bytes, *more: str) -> Path:
    """A tarball as npm makes it."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in (("package.json", package_json), *((name, b"x") for name in more)):
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_a_tarball_describes_itself(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf{"name": "@s/x", "version": "1.0.0", "publishConfig": {"tag": "next"}, "main": "a.js"}'
    path = packed(tmp_path / "x.tgz", content, "lib/a.js")
    tarball = read_tarball(path)
    description = tarball.description
    assert (description.name, description.scope, description.tag) == ("@s/x", "@s", "next")
    assert tarball.files == {"package.json", "lib/a.js"}
    assert tarball.manifest["main"] == "a.js"
    assert integrity(path) == "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    with pytest.raises(BadPackage, match=r"main leads to a\.js"):
        check(tarball)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(BadPackage):
        read_tarball(path)


@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff", b'{"name": 1}', b"[" * 100_000])
def test_a_package_json_that_is_none(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(BadPackage, match=r"package\.json can't be read"):
        read_tarball(packed(tmp_path / "x.tgz", content))
    with pytest.raises(BadPackage, match=r"has no package\.json"):
        read_tarball(packed_without(tmp_path / "y.tgz"))


def packed_without(path: Path) -> Path:
    """A tarball without a package.json."""
    with tarfile.open(path, "w:gz"):
        return path


def test_all_of_it_is_checked() -> None:
    manifest: dict[str, Any] = {"name": "x", "version": "1.0.0", "dependencies": {"y": "workspace:*"}}
    tarball = Tarball(msgspec.convert(manifest, Description), manifest, frozenset({"package.json"}))
    with pytest.raises(BadPackage, match=r'dependencies\["y"\] is "workspace:\*": pnpm, yarn and bun replace it'):
        check(tarball)
    assert json.dumps(manifest)
