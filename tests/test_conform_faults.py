"""
Each case of ``twistedipc.conform`` can fail: an implementation without a fault passes all of them, and for each case
there is one with a single fault that it finds (``conform_wrong``).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conform_wrong import KEY, Apiserver, Builder, End, Plain, Several, Wrong
from twistedipc.conform.cases import Subject
from twistedipc.conform.meeting import About, Meeting
from twistedipc.conform.running import Outcome, all_cases, chosen, try_all

#: case → what is wrong with the end that it is tried on, and finds
LISTENS = {
    "1.1": "one frame a piece",
    "1.2": "whole pieces",
    "1.3": "no carriage returns",
    "1.4": "no unknown fields",
    "1.5": "shorter lines",
    "1.6": "longer lines",
    "1.7": "takes nothing",
    "1.8": "takes bytes",
    "1.9": "takes surrogates",
    "1.10": "takes NaN",
    "1.11": "takes controls",
    "1.12": "takes two objects",
    "1.13": "takes marks",
    "1.14": "takes everything",
    "1.15": "dies of nesting",
    "2.1": "same nonce",
    "2.2": "short heartbeat",
    "2.3": "takes no code",
    "2.4": "takes other keys",
    "2.5": "takes old codes",
    "2.6": "takes both labels",
    "2.7": "takes other names",
    "2.8": "any version",
    "2.9": "any role",
    "2.10": "role first",
    "2.11": "any frame first",
    "2.12": "anything first",
    "2.13": "longer lines",
    "2.14": "waits",
    "2.15": "names unknown keys",
    "2.31": "ends on features",
    "2.32": "short fingerprints",
    "2.33": "speaks before its turn",
    "2.34": "no later rows",
    "2.35": "any rows",
    "2.36": "rows without end",
    "2.37": "ready at once",
    "2.41": "services twice",
    "2.42": "services of any name",
    "2.43": "services unproven",
    "2.44": "services never",
    "3.1": "no pongs",
    "3.2": "no pings",
    "3.3": "immortal",
    "4.1": "answers errors",
    "4.2": "silent about calls",
    "4.3": "silent about messages",
    "4.4": "ends on bad requests",
    "4.5": "no late drops",
    "4.6": "any id",
    "4.7": "any answer",
    "4.8": "a second hello",
    "4.9": "no pong unasked",
    "4.10": "hears on",
    "4.11": "first key",
    "4.21": "no item credit",
    "4.22": "wrong count",
    "4.23": "goes on",
    "4.24": "items unasked",
    "4.25": "any credit",
    "4.26": "no limits",
    "5.1": "ends on streams",
    "5.2": "begins at 5",
    "5.3": "counts twice",
    "5.4": "forgets streams",
    "5.5": "takes holes",
    "5.6": "no close of refused ones",
}
DIALS = {
    "2.21": "same nonce",
    "2.22": "limits unasked",
    "2.23": "takes no code",
    "2.24": "takes both labels",
    "2.25": "any version",
    "2.26": "any role",
    "2.27": "any frame first",
    "2.28": "waits",
    "2.45": "services unproven",
    "2.46": "services of any name",
}
PLAIN = {
    "6.1": "speaks first",
    "6.2": "ids of numbers",
    "6.3": "ids of its own",
    "6.4": "ends on ids",
    "6.5": "answers pings",
    "6.6": "takes everything",
    "6.7": "silent about nesting",
    "6.8": "longer lines",
    "6.9": "one frame a piece",
    "6.10": "forgets at the end",
}
BUILDER = {
    "7.1": "slots of words",
    "7.2": "takes any target",
    "7.3": "ends on wrong fields",
    "7.4": "ends on unknown leases",
    "7.5": "another digest",
    "7.6": "starts twice",
    "7.7": "no credit",
    "7.8": "never resends",
    "7.9": "lists nothing",
    "7.10": "always succeeds",
    "7.11": "never stops",
}
APISERVER = {
    "8.1": "no credit",
    "8.2": "continues anything",
    "8.3": "syncs twice",
    "8.4": "silent about leases",
    "8.5": "other words for void",
    "8.6": "ends on wrong fields",
    "8.7": "two of a name",
    "8.8": "any token",
    "8.9": "takes holes",
    "8.10": "forgets parts",
}
#: More faults that a case finds.
MORE: list[tuple[Subject, bool, str, str]] = [
    ("link", True, "2.32", "short fingerprints"),
    ("link", True, "2.37", "ready at once"),
    ("link", False, "2.3", "no bye"),
    ("link", False, "2.9", "wrong codes"),
    ("link", False, "4.7", "stays"),
    ("link", False, "2.2", "one label"),
    ("link", False, "5.1", "no openings"),
    ("builder", True, "7.1", "says status first"),
    ("builder", True, "7.1", "says more before its orders"),
    ("builder", True, "7.5", "starts at once"),
    ("builder", True, "7.5", "holes"),
    ("builder", True, "7.5", "steps from 1"),
    ("builder", True, "7.5", "says the end again"),
    ("builder", True, "7.10", "never cancels"),
    ("apiserver", False, "8.9", "asks again and again"),
    ("apiserver", False, "8.10", "any offset"),
    ("apiserver", False, "8.10", "any content"),
    ("apiserver", False, "8.10", "any digest"),
    ("apiserver", False, "8.10", "breaks uploads off"),
]
TABLE: list[tuple[Subject, bool, str, str]] = [
    *(("link", False, number, fault) for number, fault in LISTENS.items()),
    *(("link", True, number, fault) for number, fault in DIALS.items()),
    *(("plain", False, number, fault) for number, fault in PLAIN.items()),
    *(("builder", True, number, fault) for number, fault in BUILDER.items()),
    *(("apiserver", False, number, fault) for number, fault in APISERVER.items()),
    *MORE,
]
#: What a builder and an apiserver don't have: replies in items, several services.
OF_SERVICES = {*(f"4.2{n}" for n in range(1, 7)), *(f"2.4{n}" for n in range(1, 5))}
KINDS: dict[Subject, type[End] | type[Plain]] = {
    "link": End,
    "plain": Plain,
    "builder": Builder,
    "apiserver": Apiserver,
}
ROLES = {"link": "tried-client", "plain": "client", "builder": "apiserver", "apiserver": "builder"}


@contextmanager
def end_with(subject: Subject, fault: str, *, dials: bool, soon: float) -> Iterator[Meeting]:
    """An end with a fault, and what meets it."""
    with tempfile.TemporaryDirectory(prefix="conform-") as folder:
        place = str(Path(folder) / "end.sock")
        options = {"stream": "lines", "item": '{"text": "x"}', "wait": "5"}
        if subject == "link":
            options |= {"items": '{"type": "rows"}', "large": '{"type": "large"}'}
        kind = KINDS[subject]
        if subject == "link" and (not fault or fault.startswith("services")):
            kind = Several
            options["service"] = "tried-server"
        key = None if subject == "plain" else KEY
        about = About(f"unix:{place}", dials, ROLES[subject], key=key, options=options, soon=soon)
        wrong = None if dials else Wrong(kind, place, fault, dials=False)
        meeting = Meeting(about)
        if wrong is None:
            wrong = Wrong(kind, place, fault, dials=True)
        try:
            yield meeting
        finally:
            meeting.end()
            wrong.end()


def tried(subject: Subject, fault: str, *numbers: str, dials: bool, soon: float, slow: bool) -> list[Outcome]:
    with end_with(subject, fault, dials=dials, soon=soon) as meeting:
        return try_all(meeting, chosen(subject, numbers), slow=slow)


def test_there_is_a_fault_for_each_case() -> None:
    assert {number for _, _, number, _ in TABLE} == {case.number for case in all_cases()}


@pytest.mark.parametrize(
    ("subject", "dials"),
    [("link", False), ("link", True), ("plain", False), ("builder", True), ("apiserver", False)],
)
def test_without_a_fault_all_is_passed(subject: Subject, dials: bool) -> None:
    """But for what waits for 10 seconds, and is tried below. Heartbeats are tried on links, which others are too."""
    most = 30 if subject == "link" else 0
    numbers = [case.number for case in chosen(subject) if case.seconds <= most and case.seconds != 14]
    outcomes = tried(subject, "", *numbers, dials=dials, soon=4.0, slow=True)
    assert [(each.case.number, each.why) for each in outcomes if each.verdict == "failed"] == []
    not_tried = {each.case.number for each in outcomes if each.verdict == "not tried"}
    other_end = {case.number for case in chosen(subject) if case.end == ("listens" if dials else "dials")}
    of_links = set() if subject == "link" else {case.number for case in all_cases() if case.number in OF_SERVICES}
    assert not_tried <= other_end | ({"2.15"} if dials else set()) | of_links


@pytest.mark.long  # a hundred, and each waits for what doesn't come: 12 at a time, for some 10 seconds
def test_each_fault_is_found() -> None:
    rows = [row for row in TABLE if row[2] not in ("2.14", "2.28")]

    def missed(row: tuple[Subject, bool, str, str]) -> str:
        subject, dials, number, fault = row
        (outcome,) = tried(subject, fault, number, dials=dials, soon=0.4, slow=True)
        return (
            "" if outcome.verdict == "failed" and outcome.why else f"{number} {fault}: {outcome.verdict} {outcome.why}"
        )

    with ThreadPoolExecutor(12) as threads:
        assert [each for each in threads.map(missed, rows) if each] == []


@pytest.mark.long  # 10 to 14 seconds: deadlines of the handshake
def test_the_cases_that_wait_for_a_deadline() -> None:
    def wrong(row: tuple[bool, str, str]) -> str:
        dials, number, fault = row
        (outcome,) = tried("link", fault, number, dials=dials, soon=5.0, slow=True)
        return "" if outcome.verdict == ("failed" if fault else "passed") else f"{row}: {outcome.verdict} {outcome.why}"

    rows = [(dials, number, fault) for dials, number in ((False, "2.14"), (True, "2.28")) for fault in ("", "waits")]
    with ThreadPoolExecutor(len(rows)) as threads:
        assert [each for each in threads.map(wrong, rows) if each] == []
