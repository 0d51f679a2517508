"""Where builds come from: what is kept of a host's words, and how it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.storage_fixtures import add_build, add_project, database
from twistedipc.builds.origin import MAX_TEXT, Origin, sentence, shown_text, shown_url
from twistedipc.storage import builds

PULL = Origin(
    kind="github",
    event="pull_request",
    delivery="72d3162e-cc78-11e3-81ab-4c9367dc0958",
    number=7,
    commit="c" * 40,
    branch="fix",
    base="main",
    title="Fix the cart",
    sender="ann",
    url="https://github.example/acme/shop/pull/7",
    fork=True,
)


def test_a_build_keeps_where_it_came_from(tmp_path: Path) -> None:
    with database(tmp_path) as ledger:
        add_project(ledger)
        made, asked = add_build(ledger, origin=PULL), add_build(ledger)
        assert builds.get(ledger, made.id) == made
        assert (made.origin, asked.origin) == (PULL, None)


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        (PULL, "pull request 7 from a fork by ann"),
        (Origin(kind="gitlab", event="pull_request", number=8, sender="bob"), "pull request 8 by bob"),
        (Origin(kind="plain", event="push", branch="main"), "push to main"),
        (Origin(kind="poll", event="tag", branch="v1"), "tag v1"),
        (Origin(kind="schedule", event="schedule", title="30 2 * * *"), "schedule 30 2 * * *"),
    ],
)
def test_it_is_said_in_a_few_words(origin: Origin, said: str) -> None:
    assert sentence(origin) == said


def test_texts_are_one_line_within_bounds() -> None:
    assert shown_text("  Fix the cart\n\nIt was broken.") == "Fix the cart"
    assert shown_text("a\u202eb\x1b[2J") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}[2J"
    assert len(shown_text("x" * 5000)) == MAX_TEXT


def test_only_addresses_that_can_be_a_link_are_kept() -> None:
    assert (
        shown_url("https://git.example:3000/acme/shop/pulls/7?a=b#c")
        == "https://git.example:3000/acme/shop/pulls/7?a=b#c"
    )
    for bad in (
        "javascript:alert(1)", "https://ann:word@git.example/x", "//git.example/x", "https://", "http://[", "a" * 3000,
        "https://git.example/a b", "https://git.example/\u202e",
    ):  # fmt: skip
        assert shown_url(bad) == ""
