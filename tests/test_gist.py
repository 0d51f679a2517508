"""The gist of a log: in whatever parts its records come, it is that of the whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twistedipc.builds.gist import Gist
from twistedipc.builds.logs import Annotation, Event, Group, Notice, Progress, StepEnded, StepStarted, Summary

EVENTS: list[Event] = [
    Progress(0),
    Progress(0.5, "half"),
    Annotation("error", "x"),
    Annotation("warning", "x"),
    Annotation("notice", "x"),
    Summary(""),
    Summary("**x**"),
    Group("x"),
    Notice("error", "the platform's own"),
    StepStarted(0, "x", ""),
    StepEnded(0, "failed", 1, 1),
]


def gist_of(events: list[Event]) -> Gist:
    gist = Gist()
    for event in events:
        gist.add(event)
    return gist


@given(parts=st.lists(st.lists(st.sampled_from(EVENTS), max_size=6), max_size=6))
def test_parts_make_the_whole(parts: list[list[Event]]) -> None:
    gist = Gist()
    for part in parts:
        gist.extend(gist_of(part))
    assert gist == gist_of([event for part in parts for event in part])


def test_what_it_says() -> None:
    assert gist_of(EVENTS) == Gist(progress=None, summary="**x**", errors=1, warnings=1, notices=1)
    assert gist_of(EVENTS[:2]) == Gist(progress=Progress(0.5, "half"))
    assert not gist_of(EVENTS[7:]).says_something
    assert all(gist_of([event]).says_something for event in EVENTS[:5])
