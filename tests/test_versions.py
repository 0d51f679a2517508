"""Versions of packages: raised as npm does it, and what canaries are called."""

from __future__ import annotations

import json
import re
import subprocess

import nodesemver
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.node import need_node, node_path
from twistedipc.builds.names import BadValue
from twistedipc.builds.versions import (
    BUMP,
    bumped,
    canary_of,
    check_bump,
    is_canary,
    is_prerelease,
    next_free,
    tag_of,
)

BUMPS = ("patch", "minor", "major", "prerelease", "prerelease:beta", "prerelease:rc", "prerelease:pre-1")

#: version -> what npm 11.19 makes of it, by `BUMPS` (`semver.inc`, which is what `npm version` calls).
BY_NPM = {
    "0.0.0": "0.0.1 0.1.0 1.0.0 0.0.1-0 0.0.1-beta.0 0.0.1-rc.0 0.0.1-pre-1.0",
    "1.2.3": "1.2.4 1.3.0 2.0.0 1.2.4-0 1.2.4-beta.0 1.2.4-rc.0 1.2.4-pre-1.0",
    "1.0.0-0": "1.0.0 1.0.0 1.0.0 1.0.0-1 1.0.0-beta.0 1.0.0-rc.0 1.0.0-pre-1.0",
    "1.0.0-beta": "1.0.0 1.0.0 1.0.0 1.0.0-beta.0 1.0.0-beta.0 1.0.0-rc.0 1.0.0-pre-1.0",
    "1.0.0-beta.0": "1.0.0 1.0.0 1.0.0 1.0.0-beta.1 1.0.0-beta.1 1.0.0-rc.0 1.0.0-pre-1.0",
    "1.2.0-beta.4": "1.2.0 1.2.0 2.0.0 1.2.0-beta.5 1.2.0-beta.5 1.2.0-rc.0 1.2.0-pre-1.0",
    "1.2.3-beta.4": "1.2.3 1.3.0 2.0.0 1.2.3-beta.5 1.2.3-beta.5 1.2.3-rc.0 1.2.3-pre-1.0",
    "2.0.0-rc.1.2": "2.0.0 2.0.0 2.0.0 2.0.0-rc.1.3 2.0.0-beta.0 2.0.0-rc.1.3 2.0.0-pre-1.0",
    "1.0.0-1.beta": "1.0.0 1.0.0 1.0.0 1.0.0-2.beta 1.0.0-beta.0 1.0.0-rc.0 1.0.0-pre-1.0",
    "1.0.0-alpha.9.x": "1.0.0 1.0.0 1.0.0 1.0.0-alpha.10.x 1.0.0-beta.0 1.0.0-rc.0 1.0.0-pre-1.0",
    "1.2.3+build.7": "1.2.4 1.3.0 2.0.0 1.2.4-0 1.2.4-beta.0 1.2.4-rc.0 1.2.4-pre-1.0",
    "1.2.3-rc.1+build": "1.2.3 1.3.0 2.0.0 1.2.3-rc.2 1.2.3-beta.0 1.2.3-rc.2 1.2.3-pre-1.0",
    "0.9.9": "0.9.10 0.10.0 1.0.0 0.9.10-0 0.9.10-beta.0 0.9.10-rc.0 0.9.10-pre-1.0",
    "1.0.0-beta.x.2": "1.0.0 1.0.0 1.0.0 1.0.0-beta.x.3 1.0.0-beta.0 1.0.0-rc.0 1.0.0-pre-1.0",
    "1.2.3-0.1": "1.2.3 1.3.0 2.0.0 1.2.3-0.2 1.2.3-beta.0 1.2.3-rc.0 1.2.3-pre-1.0",
    "1.0.0-pr12.345": "1.0.0 1.0.0 1.0.0 1.0.0-pr12.346 1.0.0-beta.0 1.0.0-rc.0 1.0.0-pre-1.0",
    "1.2.3-beta-2": "1.2.3 1.3.0 2.0.0 1.2.3-beta-2.0 1.2.3-beta.0 1.2.3-rc.0 1.2.3-pre-1.0",
}

NUMBERS = st.integers(0, 30)
IDENTIFIERS = st.from_regex(r"(?:0|[1-9][0-9]{0,2}|[0-9]{0,2}[a-zA-Z-][0-9a-zA-Z-]{0,5})", fullmatch=True)
VERSIONS = st.builds(
    lambda numbers, before: ".".join(map(str, numbers)) + ("-" + ".".join(before) if before else ""),
    st.tuples(NUMBERS, NUMBERS, NUMBERS),
    st.lists(IDENTIFIERS, max_size=3),
)
REFS = st.one_of(
    st.text(alphabet="abxv019-/._AZü", min_size=1, max_size=30),
    st.sampled_from(["refs/pull/1/head", "refs/merge-requests/12/head", "refs/tags/v1", "tags/v1", "latest", "beta"]),
    st.from_regex(r"[a-z][a-z0-9-]{0,50}", fullmatch=True),
)


@pytest.mark.parametrize("version", BY_NPM)
def test_a_version_is_raised_as_npm_does_it(version: str) -> None:
    assert [bumped(version, bump) for bump in BUMPS] == BY_NPM[version].split(" ")


@pytest.mark.long
def test_a_version_is_raised_as_the_npm_that_is_here_does_it() -> None:
    need_node()
    versions = [
        f"{numbers}{before}"
        for numbers in ("0.0.0", "1.0.0", "1.2.0", "1.2.3")
        for before in (
            "",
            "-0",
            "-a",
            "-a.0",
            "-a.b",
            "-a.b.1",
            "-1.a",
            "-beta.2",
            "-beta",
            "-rc.1.x",
            "-pre-1.9",
            "+b",
        )
    ]
    program = (
        "const semver = require(require('child_process').execSync('npm root -g').toString().trim() + "
        "'/npm/node_modules/semver'); const [versions, bumps] = JSON.parse(process.argv[1]); "
        "console.log(JSON.stringify(versions.map(v => bumps.map(b => semver.inc(v, ...b.split(':'))))))"
    )
    said = subprocess.run(
        ["node", "-e", program, json.dumps([versions, BUMPS])],
        env={"PATH": node_path()},
        capture_output=True,
        check=True,
    )
    assert [[bumped(version, bump) for bump in BUMPS] for version in versions] == json.loads(said.stdout)


@given(VERSIONS, st.sampled_from(BUMPS))
def test_what_is_raised_comes_after_what_was(version: str, bump: str) -> None:
    raised = bumped(version, bump)
    line = bump.partition(":")[2]
    if not line or not is_prerelease(version):  # another line of prereleases may come before
        assert nodesemver.gt(raised, version, False)
    assert nodesemver.make_semver(raised, False).version == raised


@given(VERSIONS, st.sampled_from(BUMPS), st.integers(0, 4))
def test_a_version_that_is_taken_is_passed_over(version: str, bump: str, count: int) -> None:
    taken: list[str] = []
    for _ in range(count):
        taken.append(bumped(taken[-1] if taken else version, bump))
    free = next_free(version, bump, taken)
    assert free == bumped(taken[-1] if taken else version, bump)


@pytest.mark.parametrize("version", ["", "1", "1.2", "v1.2.3", "01.2.3", "1.2.3-", "latest", "1.2.3 ", "1.2.3-a..b"])
def test_what_is_no_version_is_not_raised(version: str) -> None:
    with pytest.raises(BadValue, match=r"isn't a version like 1\.2\.3"):
        bumped(version, "patch")


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("", "versions are raised by patch, minor"),
        ("Patch", "versions are raised by patch, minor"),
        ("1.2.3", "versions are raised by patch, minor"),
        ("prepatch", "versions are raised by patch, minor"),
        ("prerelease:", "versions are raised by patch, minor"),
        ("prerelease:Beta", "ID has 1 to 32 of a-z, 0-9 and -, a letter first"),
        ("prerelease:be.ta", "ID has 1 to 32 of a-z, 0-9 and -, a letter first"),
        ("prerelease:1", "ID has 1 to 32 of a-z, 0-9 and -, a letter first"),
        ("prerelease:a b\n", "ID has 1 to 32 of a-z, 0-9 and -, a letter first"),
        ("prerelease:" + "a" * 33, "ID has 1 to 32 of a-z, 0-9 and -, a letter first"),
        ("prerelease:latest", "a prerelease can't have the tag latest"),
        ("prerelease:v1", "npm would take a tag of that name for a range of versions"),
        ("prerelease:x", "npm would take a tag of that name for a range of versions"),
    ],
)
def test_what_is_no_bump(asked: str, sentence: str) -> None:
    with pytest.raises(BadValue) as caught:
        check_bump(asked)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("asked", [*BUMPS, "changesets"])
def test_a_bump_is_what_the_document_of_the_api_says(asked: str) -> None:
    assert check_bump(asked) == asked
    assert re.fullmatch(BUMP, asked)


def test_a_prerelease_has_the_tag_of_its_line() -> None:
    for version, tag in [
        ("1.0.0-beta.0", "beta"),
        ("1.0.0-rc-2.1", "rc-2"),
        ("1.0.0-0", ""),
        ("1.0.0-latest.1", ""),
        ("1.0.0-v1.1", ""),
        ("1.0.0-Beta.1", ""),
        ("1.0.0", ""),
        ("1.0.0+beta", ""),
    ]:
        assert tag_of(version) == tag


# -- canaries


def test_what_canaries_are_called() -> None:
    for ref, tag, version in [
        ("feature-x", "feature-x", "1.4.0-feature-x.3"),
        ("refs/heads/feature-x", "feature-x", "1.4.0-feature-x.3"),
        ("heads/feature-x", "feature-x", "1.4.0-feature-x.3"),
        ("refs/pull/12/head", "pr-12", "1.4.0-pr12.3"),
        ("refs/pull/12/merge", "pr-12", "1.4.0-pr12.3"),
        ("refs/merge-requests/12/head", "pr-12", "1.4.0-pr12.3"),
    ]:
        canary = canary_of(ref, 3)
        assert (canary.tag, canary.version("1.4.0")) == (tag, version)


@given(REFS, st.integers(1, 10**9))
def test_each_canary_is_a_version_with_a_tag_that_npm_takes(ref: str, build: int) -> None:
    canary = canary_of(ref, build)
    version = canary.version("1.4.0")
    assert nodesemver.make_semver(version, False).version == version
    assert nodesemver.gt("1.4.0", version, False)
    assert nodesemver.gt(version, "1.3.9", False)
    assert len(canary.tag) <= 64
    assert re.fullmatch(r"[a-z][a-z0-9-]*", canary.tag)
    with pytest.raises(ValueError, match="Invalid"):
        nodesemver.make_range(canary.tag, False)  # npm would install a range by that name
    assert canary.tag not in ("latest", "next", "beta")
    assert not re.fullmatch(r"build-[0-9]+", canary.tag)
    assert canary.is_its_own(version)
    assert not canary_of(ref, build + 1).is_its_own(version)
    assert is_canary(canary.tag, version)


def same(one: str, other: str) -> bool:
    """Return whether two names mean one ref, or one pull request's two."""

    def full(ref: str) -> str:
        ref = re.sub(r"^(heads|tags)/", r"refs/\1/", ref)
        return ref if ref.startswith("refs/") else f"refs/heads/{ref}"

    return full(one) == full(other)


@given(REFS, REFS)
def test_two_refs_have_other_canaries(one: str, other: str) -> None:
    first, second = canary_of(one, 1), canary_of(other, 1)
    assert (first == second) == same(one, other)
    assert (first.tag == second.tag) == (first.identifier == second.identifier)
    assert is_canary(first.tag, second.version("1.0.0")) == same(one, other)
