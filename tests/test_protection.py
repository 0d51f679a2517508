"""Protected refs: which refs a pattern means, and which builds publish for a project's users."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.builds import names, protection
from twistedipc.builds.names import BadValue

COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("main", ["refs/heads/main"], ["refs/tags/main", "refs/heads/main2", "refs/heads/x/main", "refs/heads/Main"]),
        (
            "release/*",
            ["refs/heads/release/1"],
            ["refs/heads/release/1/2", "refs/heads/release", "refs/tags/r"],
        ),
        ("release/**", ["refs/heads/release/1", "refs/heads/release/1/2"], ["refs/heads/releases/1"]),
        ("tags/v*", ["refs/tags/v1", "refs/tags/v"], ["refs/heads/tags/v1", "refs/heads/v1", "refs/tags/x/v1"]),
        ("heads/a.b", ["refs/heads/a.b"], ["refs/heads/aXb"]),
        ("refs/pull/*/head", ["refs/pull/7/head"], ["refs/pull/7/merge"]),
        ("**", ["refs/heads/a/b"], ["refs/tags/a"]),
        ("HEAD", ["refs/heads/trunk"], ["refs/heads/HEAD", "refs/heads/main"]),
    ],
)
def test_which_refs_a_pattern_means(pattern: str, yes: list[str], no: list[str]) -> None:
    for name in yes:
        assert protection.is_protected([pattern], name, "trunk")
    for name in no:
        assert not protection.is_protected([pattern], name, "trunk")


@pytest.mark.parametrize(
    ("ref", "may_be"),
    [
        ("main", True), ("heads/main", True), ("refs/heads/main", True), ("HEAD", True), ("v1", True),
        ("tags/v1", True), ("trunk", False), ("tags/main", False), ("refs/tags/main", False),
        ("refs/heads/v1", False), (COMMIT, False),
    ],
)  # fmt: skip
def test_what_a_person_writes_may_be_protected(ref: str, may_be: bool) -> None:
    """A short name may be a branch's or a tag's: which one it is, the checkout finds out."""
    assert protection.may_be_protected(["main", "tags/v*"], ref, "") is may_be


def test_head_is_protected_if_what_it_stands_for_is() -> None:
    assert not protection.may_be_protected(["main"], "HEAD", "trunk")
    assert protection.may_be_protected(["main"], "HEAD", "main")
    assert protection.may_be_protected(["HEAD"], "main", "main")
    assert not protection.may_be_protected(["HEAD"], "main", "")


@pytest.mark.parametrize(
    "pattern", ["", " ", "-x", "a b", "a..b", "/a", "a/", "~", "a:b", "a?", "[a]", "x" * 201, "a\\b", "a\nb", "@{x}"]
)
def test_no_pattern(pattern: str) -> None:
    with pytest.raises(BadValue, match="pattern"):
        protection.check([pattern])


def test_how_many_patterns() -> None:
    assert protection.check(["main", "*", "main", "tags/v*", "**", "HEAD"]) == ["main", "*", "tags/v*", "**", "HEAD"]
    with pytest.raises(BadValue, match="at most"):
        protection.check([f"b{number}" for number in range(protection.MAX_PATTERNS + 1)])


@given(st.from_regex(names.REF, fullmatch=True).filter(lambda name: len(name) <= protection.MAX_PATTERN))
def test_each_ref_is_a_pattern_of_itself(ref: str) -> None:
    assert protection.check([ref]) == [ref]
    assert protection.may_be_protected([ref], ref, "")
    (full,) = protection.globs([ref], "trunk")
    assert protection.is_protected([ref], full, "trunk")


@pytest.mark.parametrize(
    ("ref", "publish", "may_publish", "live", "why"),
    [
        ("main", True, True, False, ""),
        ("main", False, True, False, "asked not to publish"),
        ("main", True, False, False, "hasn't the scope publish"),
        ("dev", True, True, False, "dev isn't the protected ref (main) of shop"),
        ("dev", True, True, True, "dev isn't the protected ref (main) of shop"),
        (COMMIT, True, True, False, "isn't the protected ref"),
        (COMMIT, True, True, True, ""),
        (COMMIT.upper(), True, True, True, ""),
        (COMMIT[:12], True, True, True, "isn't the protected ref"),
        (COMMIT, True, False, True, "hasn't the scope publish"),
    ],
)
def test_which_builds_are_previews(ref: str, publish: bool, may_publish: bool, live: bool, why: str) -> None:
    said = protection.why_preview(
        project="shop", ref=ref, patterns=["main"], head="", publish=publish, may_publish=may_publish, live=live
    )
    assert why in said
    assert bool(why) == bool(said)
