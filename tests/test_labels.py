"""What previews are called in host names."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.builds import labels, names
from twistedipc.builds.names import BadValue


@pytest.mark.parametrize(
    ("ref", "label"),
    [
        ("main", "main"),
        ("refs/heads/main", "main"),
        ("heads/main", "main"),
        ("fix-menu", "fix-menu"),
        ("refs/pull/12/head", "pr-12"),
        ("refs/merge-requests/12/head", "pr-12"),
        ("HEAD", ""),
        ("0123456789abcdef0123456789abcdef01234567", ""),
    ],
)
def test_what_is_a_label_already_is_its_own(ref: str, label: str) -> None:
    assert labels.of_ref(ref, "shop") == label


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("feature/größe#1", "feature-grosse-1"),
        ("Feature", "feature"),
        ("a--b", "a-b"),
        ("-", ""),
        ("Łódź/æther", "lodz-aether"),
        ("日本語", ""),
        ("release/1.2", "release-1-2"),
        ("tags/v1.2", "v1-2"),
        ("build-17", "build-17"),
        ("pr-12", "pr-12"),
        ("xn", "xn"),
        ("fix-0123abcd", "fix-0123abcd"),
    ],
)
def test_all_other_names_get_a_hash(ref: str, words: str) -> None:
    label = labels.of_ref(ref, "shop")
    assert re.fullmatch(rf"{words}-[0-9a-f]{{8}}" if words else "[0-9a-f]{8}", label)
    assert labels.of_ref(ref, "shop") == label


def test_the_same_name_of_a_branch_and_of_a_tag_are_two() -> None:
    assert labels.of_ref("refs/tags/v1", "shop") != labels.of_ref("refs/heads/v1", "shop")


def test_it_fits_beside_its_project() -> None:
    assert len(labels.host_name(labels.of_ref("a" * 200, "shop"), "shop")) == 63
    assert labels.of_ref("main", "p" * 57) == "main"
    assert labels.of_ref("mains", "p" * 57) == ""  # no room for a hash
    assert labels.host_name(labels.of_build(12345), "p" * 55) == ""
    assert labels.host_name(labels.of_build(17), "shop") == "build-17--shop"


@given(st.text(min_size=1, max_size=80), st.text(min_size=1, max_size=80), st.from_regex(names.PROJECT, fullmatch=True))
def test_no_two_refs_have_one_label(one: str, other: str, project: str) -> None:
    refs = []
    for each in (one, other):
        try:
            refs.append(names.ref(each))
        except BadValue:
            return
    made = [labels.of_ref(each, project) for each in refs]
    for ref, label in zip(refs, made, strict=True):
        if not label:
            continue
        host = labels.host_name(label, project)
        assert len(host) <= 63
        assert re.fullmatch(names.PROJECT, host)
        assert labels.parse(host) == (label, project)
        assert labels.build_of(label) is None, ref
    same = names.full_ref(refs[0]) == names.full_ref(refs[1])
    assert not made[0] or made[0] != made[1] or same


@pytest.mark.parametrize("name", ["shop", "xn--shop", "-a--shop", "a---", "A--shop", "--shop", "a--", "a-b-c"])
def test_what_names_no_preview(name: str) -> None:
    assert labels.parse(name) is None


def test_a_project_may_have_the_separator_in_its_name() -> None:
    """Its previews are found; that the host names a project itself is looked at first."""
    assert labels.parse("main--a--b") == ("main", "a--b")


def test_a_builds_label() -> None:
    assert labels.build_of("build-17") == 17
    assert labels.build_of("build-017") is None
    assert labels.build_of("main") is None
