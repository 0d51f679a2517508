"""Expressions of schedules: what they mean, what is wrong with one, and when they are due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties import examples
from twistedipc.builds.cron import MAX_CRON, next_after, parse
from twistedipc.builds.names import BadValue

BERLIN = ZoneInfo("Europe/Berlin")


def due(expression: str, after: str, zone: ZoneInfo = BERLIN, number: int = 1) -> list[str]:
    """The next moments after another one, both in UTC."""
    cron, moment, found = parse(expression), datetime.fromisoformat(after).replace(tzinfo=UTC), []
    for _ in range(number):
        moment = next_after(cron, moment, zone)
        found.append(moment.strftime("%Y-%m-%d %H:%M"))
    return found


# -- what they mean --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("30 2 * * *", "2026-01-01 00:00", "2026-01-01 01:30"),  # in winter, Berlin is an hour before UTC
        ("30 2 * * *", "2026-07-01 00:00", "2026-07-01 00:30"),
        ("30 2 * * *", "2026-01-01 01:30", "2026-01-02 01:30"),  # after, and not at
        ("* * * * *", "2026-01-01 00:00:59", "2026-01-01 00:01"),
        ("*/15 * * * *", "2026-01-01 00:16", "2026-01-01 00:30"),
        ("5-10/5,50 9 * * *", "2026-01-01 08:05", "2026-01-01 08:10"),
        ("5-10/5,50 9 * * *", "2026-01-01 08:10", "2026-01-01 08:50"),
        ("0 9 * * mon-FRI", "2026-01-02 09:00", "2026-01-05 08:00"),  # a Friday, a Monday
        ("0 9 * * FRI-SUN", "2026-01-03 09:00", "2026-01-04 08:00"),
        ("0 9 * * 7", "2026-01-01 00:00", "2026-01-04 08:00"),
        ("0 9 * * 0", "2026-01-01 00:00", "2026-01-04 08:00"),
        ("0 9 * * */2", "2026-01-03 23:30", "2026-01-04 08:00"),
        ("0 0 1 jan,JUL *", "2026-01-01 00:00", "2026-06-30 22:00"),
        ("0 12 13 * FRI", "2026-01-09 12:00", "2026-01-13 11:00"),  # the 13th or a Friday
        ("0 12 */2 * FRI", "2026-01-03 12:00", "2026-01-09 11:00"),  # of every day but some: both
        ("0 12 31 * *", "2026-01-31 12:00", "2026-03-31 10:00"),
        ("0 12 29 2 *", "2096-02-29 12:00", "2104-02-29 11:00"),  # 2100 is no leap year
        ("@daily", "2026-01-01 00:00", "2026-01-01 23:00"),
        ("@Weekly", "2026-01-01 00:00", "2026-01-03 23:00"),
        ("@monthly", "2026-01-01 00:00", "2026-01-31 23:00"),
        ("@yearly", "2026-01-01 00:00", "2026-12-31 23:00"),
        ("@hourly", "2026-01-01 00:00", "2026-01-01 01:00"),
    ],
)
def test_the_next_time(expression: str, after: str, expected: str) -> None:
    assert due(expression, after) == [expected]


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "five fields .* has 0"),
        ("0 9 * *", "five fields .* has 4"),
        ("0 9 * * * *", "five fields .* has 6"),
        ("@reboot", "'@reboot' is none of @yearly"),
        ("60 9 * * *", "the minute can't be '60': it is \\*, or numbers from 0 to 59"),
        ("0 24 * * *", "the hour can't be '24'"),
        ("0 9 0 * *", "the day of the month can't be '0'"),
        ("0 9 L * *", "the day of the month can't be 'L'"),
        ("0 9 ? * *", "the day of the month can't be '\\?'"),
        ("0 9 * 13 *", "the month can't be '13'.* or from JAN to DEC"),
        ("0 9 * MON *", "the month can't be 'MON'"),
        ("0 9 * * 8", "the weekday can't be '8'"),
        ("0 9 * * FRI-MON", "its end is before its beginning"),
        ("0 9-8 * * *", "the hour can't be '9-8'"),
        ("0,,5 9 * * *", "the minute can't be ''"),
        ("-5 9 * * *", "the minute can't be ''"),
        ("*/0 9 * * *", "after / stands a number from 1"),
        ("*/x 9 * * *", "after / stands a number from 1"),
        ("*/ 9 * * *", "after / stands a number from 1"),
        ("5/10 9 * * *", "say 5-59/10"),
        ("٣ 9 * * *", "the minute can't be"),
        ("0 9 31 2 *", "there is no such day: the day of the month '31' is in no month of '2'"),
        ("0 9 30-31 feb *", "there is no such day"),
        ("0 9 31 4,6,9,11 *", "there is no such day"),
        ("*" * (MAX_CRON + 1), "at most"),
    ],
)
def test_what_is_wrong_is_said(expression: str, said: str) -> None:
    with pytest.raises(BadValue, match=said):
        parse(expression)


# -- clocks that are put forward and back ----------------------------------------------------------------------------


def test_a_time_that_is_left_out_is_due_once_right_after_it() -> None:
    # In the night to 29 March 2026, 2:00 is 3:00, which is 1:00 in UTC.
    assert due("30 2 * * *", "2026-03-28 00:00", number=3) == [
        "2026-03-28 01:30", "2026-03-29 01:00", "2026-03-30 00:30",
    ]  # fmt: skip
    assert due("*/20 2,3 * * *", "2026-03-29 00:30", number=4) == [
        "2026-03-29 01:00", "2026-03-29 01:20", "2026-03-29 01:40", "2026-03-30 00:00",
    ]  # fmt: skip


def test_a_time_that_is_there_twice_is_due_once() -> None:
    # In the night to 25 October 2026, 3:00 is 2:00 again, which is 1:00 in UTC.
    assert due("30 2 * * *", "2026-10-24 00:00", number=3) == [
        "2026-10-24 00:30", "2026-10-25 00:30", "2026-10-26 01:30",
    ]  # fmt: skip
    assert due("30 2 * * *", "2026-10-25 00:45") == ["2026-10-26 01:30"]
    assert due("30 2 * * *", "2026-10-25 01:10") == ["2026-10-26 01:30"]


def test_a_day_that_is_left_out_is_due_after_it() -> None:
    # Samoa had no 30 December 2011.
    assert due("0 9 30 12 *", "2011-12-29 00:00", ZoneInfo("Pacific/Apia")) == ["2011-12-30 10:00"]


# -- properties ------------------------------------------------------------------------------------------------------


@st.composite
def fields(draw: st.DrawFn, first: int, last: int) -> str:
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(first, last))
        end = draw(st.integers(begin, last))
        parts.append(draw(st.sampled_from(["*", f"{begin}", f"{begin}-{end}", f"{begin}-{end}/3", "*/7"])))
    return ",".join(parts)


EXPRESSIONS = st.tuples(fields(0, 59), fields(0, 23), fields(1, 28), fields(1, 12), fields(0, 6)).map(" ".join)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))


def named(text: str, first: int, last: int) -> set[int]:
    """The numbers that a field names, found by another way than the parser's."""
    found = set()
    for part in text.split(","):
        base, _, step = part.partition("/")
        begin, _, end = (f"{first}-{last}" if base == "*" else base).partition("-")
        found |= {
            each for each in range(int(begin), int(end or begin) + 1) if (each - int(begin)) % int(step or 1) == 0
        }
    return found


def fits(expression: str, wall: datetime) -> bool:
    minute, hour, day, month, weekday = expression.split()
    if wall.minute not in named(minute, 0, 59) or wall.hour not in named(hour, 0, 23):
        return False
    by_number, by_weekday = wall.day in named(day, 1, 31), wall.isoweekday() % 7 in named(weekday, 0, 6)
    both = day.startswith("*") or weekday.startswith("*")
    return wall.month in named(month, 1, 12) and (by_number and by_weekday if both else by_number or by_weekday)


@given(EXPRESSIONS, MOMENTS, ZONES)
@settings(max_examples=examples(40))
def test_the_next_time_is_after_now_and_fits_and_there_is_none_between(
    expression: str, moment: datetime, name: str
) -> None:
    zone = ZoneInfo(name)
    found = next_after(parse(expression), moment, zone)
    assert found > moment
    wall = found.astimezone(zone).replace(tzinfo=None)
    before = (found - timedelta(minutes=1)).astimezone(zone).replace(tzinfo=None)
    # It fits, or it is right after times that are left out, one of which fits.
    left_out = [before + timedelta(minutes=each) for each in range(1, int((wall - before) / timedelta(minutes=1)))]
    assert any(fits(expression, each) for each in [wall, *left_out])
    minute = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
    for _ in range(300):
        if minute >= found:
            return
        shown = minute.astimezone(zone)
        assert shown.fold or not fits(expression, shown.replace(tzinfo=None)), minute
        minute += timedelta(minutes=1)


@given(EXPRESSIONS, st.sampled_from(["2026-03-28", "2026-10-24", "2026-04-04", "2026-10-03"]), ZONES)
@settings(max_examples=examples(10))
def test_each_time_on_a_wall_is_due_once(expression: str, day: str, name: str) -> None:
    zone, moment = ZoneInfo(name), datetime.fromisoformat(day).replace(tzinfo=UTC)
    end, cron, seen = moment + timedelta(days=2), parse(expression), set()
    while (moment := next_after(cron, moment, zone)) < end:
        wall = moment.astimezone(zone).replace(tzinfo=None)
        assert wall not in seen
        seen.add(wall)


@given(st.text(max_size=60) | st.text("0123456789*/,-@ LMON", max_size=30))
@settings(max_examples=examples(200))
def test_any_text_is_taken_or_refused_with_a_sentence(text: str) -> None:
    try:
        cron = parse(text)
    except BadValue:
        return
    assert next_after(cron, datetime(2026, 1, 1, tzinfo=UTC), BERLIN).year < 2070
