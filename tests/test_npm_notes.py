"""What a changelog says of a version, and what a commit is tagged with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.publish.targets.npm.notes import MAX_NOTES, git_tag, notes_of

CHANGESETS = "# @acme/ui\n\n## 1.1.0\n\n### Minor Changes\n\n- abc: More\n\n## 1.0.0\n\n### Major Changes\n\n- First\n"
KEEP = "# Changelog\r\n\r\n## [Unreleased]\r\n## [1.1.0] - 2026-01-02\r\n### Added\r\n- More\r\n\r\n## [1.0.0]\n- First"
CONVENTIONAL = (
    "## [1.1.0](https://git.example/compare/v1.0.0...v1.1.0) (2026-01-02)\n\n### Features\n\n* more\n\n"
    "### [1.0.1](https://git.example/compare/v1.0.0...v1.0.1)\n\n* fix\n"
)


def test_how_changelogs_are_written() -> None:
    assert notes_of(CHANGESETS, "1.1.0") == "### Minor Changes\n\n- abc: More"
    assert notes_of(CHANGESETS, "1.0.0") == "### Major Changes\n\n- First"
    assert notes_of(KEEP, "1.1.0") == "### Added\n- More"
    assert notes_of(KEEP, "1.0.0") == "- First"
    assert notes_of(CONVENTIONAL, "1.0.1") == "* fix"
    assert notes_of("# v1.0.0\n\n```sh\n# not a heading\n```\n\n# v0.9.0\n", "1.0.0") == "```sh\n# not a heading\n```"


@pytest.mark.parametrize("version", ["1.1", "1.1.0-beta.1", "11.1.0", "1.1.00", "2.0.0", ".*"])
def test_a_version_that_isnt_named(version: str) -> None:
    assert notes_of(CHANGESETS, version) == ""


def test_a_prerelease_is_another_version() -> None:
    changelog = "## 1.1.0-beta.1\n\n- soon\n\n## 1.1.0\n\n- now\n"
    assert notes_of(changelog, "1.1.0") == "- now"
    assert notes_of(changelog, "1.1.0-beta.1") == "- soon"


@given(st.text(alphabet="# v1.0\n-`a", max_size=200))
def test_any_text_is_a_changelog(text: str) -> None:
    assert len(notes_of(text + "\n## 1.0.0\n" + text * 100, "1.0.0")) <= MAX_NOTES


def test_tags() -> None:
    assert git_tag("@acme/ui", "1.1.0", several=True) == "@acme/ui@1.1.0"
    assert git_tag("@acme/ui", "1.1.0", several=False) == "v1.1.0"
