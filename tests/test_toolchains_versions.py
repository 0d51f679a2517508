"""Versions and ranges of tools: what npm's own ranges mean, and the words of Node's version managers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.node import node_folders
from twistedipc.toolchains.integrity import Digests, check_manager, check_registry, of_manager, of_registry
from twistedipc.toolchains.problems import BadIntegrity, BadRange
from twistedipc.toolchains.versions import MAX_RANGE, Range, Version, nearest, version

VERSIONS = [
    f"{major}.{minor}.{patch}"
    for major in (0, 1, 4, 9, 16, 18, 20, 21, 22, 24, 26)
    for minor in (0, 1, 9, 19)
    for patch in (0, 2, 10)
] + ["18.0.0-rc.1", "20.0.0-alpha", "20.9.0-x.1", "24.0.0-0"]

RANGES = [
    ">=18 <21", "^20.9.0 || >=22", "18.x", "v20", "20", ">=18", "*", "", "x", "18||20", "~18.1", ">= 18", "<20", "<=20",
    ">20", ">18 <=20.9", "18 - 20", "18.1.2 - 20.1", ">=14.0.0 <15 || >=16", "=18", "^v18", ">=v18.1", "~> 18.1",
    "^0.1", "20.0.0-alpha", "^20.0.0-alpha", ">=18.0.0-rc.0 <19", "18 ||", "  >=18   <21 ", "18.x.x", "^18 ^20",
    "18.1.2-", "foo", "^^18", ">=18 && <21", ">=18, <21", "!18", "18.01.2", "^22.22.2 || ^24.15.0 || >=26.0.0",
    ">= 18.17.0 <= 20",
]  # fmt: skip


def known(text: str) -> Version:
    found = version(text)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def npm_semver() -> Path:
    for folder in node_folders().values():
        semver = (folder / "npm").resolve().parent.parent / "node_modules" / "semver"
        if semver.is_dir():
            return semver
    pytest.skip("npm's own semver isn't here")


def test_ranges_mean_what_they_mean_to_npm(npm_semver: Path) -> None:
    program = (
        "const semver = require(process.argv[1]); const {versions, ranges} = JSON.parse(process.argv[2]);"
        "console.log(JSON.stringify(ranges.map(range => semver.validRange(range) === null ? null"
        " : versions.filter(each => semver.satisfies(each, range)))))"
    )
    node = next(iter(node_folders().values())) / "node"
    asked = json.dumps({"versions": VERSIONS, "ranges": RANGES})
    done = subprocess.run([node, "-e", program, npm_semver, asked], capture_output=True, check=True, timeout=180)
    for text, expected in zip(RANGES, json.loads(done.stdout), strict=True):
        try:
            wanted = Range(text)
        except BadRange:
            assert expected is None, text
        else:
            assert [each for each in VERSIONS if wanted.admits(known(each))] == expected, text


@pytest.mark.parametrize(
    ("text", "fits", "not_"),
    [
        ("lts/iron", "20.1.0", "22.1.0"),
        ("lts/Iron", "20.1.0", "18.1.0"),
        ("lts/*", "26.1.0", "24.1.0"),
        ("LTS/*", "26.1.0", "27.1.0"),
        ("lts/-1", "24.1.0", "26.1.0"),
        ("node", "31.0.0", "31.0.0-rc.1"),
        ("current", "5.0.0", "5.0.0-rc.1"),
        ("latest", "5.0.0", "5.0.0-rc.1"),
        ("v20.1.0", "20.1.0", "20.1.1"),
        ("=20.1.0", "20.1.0", "20.1.1"),
    ],
)
def test_words_of_version_managers(text: str, fits: str, not_: str) -> None:
    assert Range(text).admits(known(fits))
    assert not Range(text).admits(known(not_))


@pytest.mark.parametrize(
    "text", ["lts/unobtainium", "lts/-99", "iojs", "file:../x", "next", "20.x.1.2", "1" * (MAX_RANGE + 1), "../../x"]
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(BadRange):
        Range(text)


@given(st.text(max_size=300))
def test_any_text_is_a_range_or_is_refused(text: str) -> None:
    try:
        Range(text).admits(known("20.1.0"))
    except BadRange:
        pass


def test_an_exact_version_is_known_as_such() -> None:
    assert Range("v20.1.0").exact == known("20.1.0")
    assert Range("20.1").exact is None
    assert Range("^20.1.0").exact is None


def test_the_order_of_versions() -> None:
    ordered = [
        "1.0.0-1",
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-rc.2",
        "1.0.0-rc.11",
        "1.0.0",
        "1.0.10",
    ]
    assert [each.text for each in sorted(known(text) for text in reversed(ordered))] == ordered


@pytest.mark.parametrize(
    "text", ["1.2", "v1.2.3", "01.2.3", "1.2.3-", "1.2.3.4", "1.2.3-a..b", "", "1.2.3/../x", "1.2.3\n"]
)
def test_what_is_no_version(text: str) -> None:
    assert version(text) is None


def test_the_nearest_versions() -> None:
    there = [known(text) for text in ("18.20.7", "18.20.8", "19.0.0", "20.1.0", "26.0.0-rc.1")]
    assert nearest(Range("18.99.0"), there) == ["18.20.7", "18.20.8", "19.0.0"]
    assert nearest(Range("99"), there) == ["18.20.8", "19.0.0", "20.1.0"]
    assert nearest(Range("1"), there) == ["18.20.7", "18.20.8", "19.0.0"]
    assert nearest(Range("18"), []) == []


# -- hashes


def digests(data: bytes) -> dict[str, str]:
    found = Digests()
    found.update(data)
    return found.hex()


def test_the_strongest_hash_counts() -> None:
    sha1, sha512 = (
        "2jmj7l5rSw0yVb/vlWAYkK/YBwk=",
        "z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==",
    )
    assert of_registry(f"sha1-{sha1} sha512-{sha512}", "")[0] == "sha512"
    check_registry(digests(b""), f"sha512-{sha512}", "")
    check_registry(digests(b""), "", "da39a3ee5e6b4b0d3255bfef95601890afd80709")
    with pytest.raises(BadIntegrity, match="isn't what the registry announced"):
        check_registry(digests(b"x"), f"sha512-{sha512}", "")
    with pytest.raises(BadIntegrity, match="isn't what the registry announced"):
        # A weaker one that is right doesn't help.
        check_registry(digests(b"x"), f"sha512-{sha512}", digests(b"x")["sha1"])


@pytest.mark.parametrize("text", ["", "md5-aaaa", "sha512-", "sha512-!!!!", "sha512-YWJj", "sha512"])
def test_without_a_hash_nothing_is_believed(text: str) -> None:
    with pytest.raises(BadIntegrity, match="no hash"):
        of_registry(text, "")


def test_the_hash_of_package_manager() -> None:
    check_manager(digests(b"x"), f"sha512.{digests(b'x')['sha512']}")
    check_manager(digests(b"x"), f"sha224.{digests(b'x')['sha224'].upper()}")
    with pytest.raises(BadIntegrity, match="Correct the hash"):
        check_manager(digests(b"y"), f"sha1.{digests(b'x')['sha1']}")
    with pytest.raises(BadIntegrity, match="Leave out the part after"):
        check_manager({}, f"sha1.{digests(b'x')['sha1']}")


@pytest.mark.parametrize(
    "text", ["", "sha512", "sha512.", "sha512.00", "md5.d41d8cd98f00b204e9800998ecf8427e", "sha1.z"]
)
def test_what_is_no_hash_of_package_manager(text: str) -> None:
    with pytest.raises(BadIntegrity):
        of_manager(text)
