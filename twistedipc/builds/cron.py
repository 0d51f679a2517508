"""
When a schedule is due: expressions as cron has them, and the next moment that one means. Pure.

An expression has five fields: minute, hour, day of the month, month, weekday. Its times are those of clocks in a time
zone.
Where clocks are put forward, the times that are left out are due at once after it. Where they are put back, a time that
is there twice is due the first time only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo

import msgspec

from twistedipc.builds.names import BadValue, shown

#: The most characters of an expression.
MAX_CRON = 200

#: For how many years it is looked. 29 February may be 8 years away; on one of some weekdays, 40.
_YEARS = 41

#: A day of the week is a number from 0 (Sunday) on; 7 is Sunday too.
_DAY_NAMES = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MONTH_NAMES = tuple(name.upper() for name in ("", *"jan feb mar apr may jun jul aug sep oct nov dec".split()))

_SHORT = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_NUMBER = re.compile(r"[0-9]{1,4}\Z")


class _Field(msgspec.Struct, frozen=True):
    """One of the five."""

    label: str
    first: int
    last: int
    names: tuple[str, ...] = ()  # of the numbers from 0 on


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTH_NAMES),
    _Field("weekday", 0, 7, _DAY_NAMES),
)


class Cron(msgspec.Struct, frozen=True, kw_only=True):
    """What an expression means. Numbers are in order."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]  # 0: Sunday
    either: bool  # both kinds of day are restricted, and one that fits is enough


def parse(text: str) -> Cron:
    """Return what an expression means. Raises `BadValue`, with the field that is wrong."""
    if len(text) > MAX_CRON:
        raise BadValue(f"a schedule's expression has at most {MAX_CRON} characters")
    said = text.strip()
    if said.startswith("@"):
        if said.lower() not in _SHORT:
            raise BadValue(f"{shown(said, 40)!r} is none of {', '.join(_SHORT)}")
        said = _SHORT[said.lower()]
    parts = said.split()
    if len(parts) != len(_FIELDS):
        labels = ", ".join(field.label for field in _FIELDS)
        raise BadValue(f"an expression has five fields ({labels}), and {shown(text, 60)!r} has {len(parts)}")
    minutes, hours, days, months, weekdays = (_numbers(field, part) for field, part in zip(_FIELDS, parts, strict=True))
    either = not parts[2].startswith("*") and not parts[4].startswith("*")
    # 2000 is a leap year.
    if not either and not any(days[0] <= _length(2000, month) for month in months):
        raise BadValue(f"there is no such day: the day of the month {parts[2]!r} is in no month of {parts[3]!r}")
    return Cron(
        minutes=minutes,
        hours=hours,
        days=days,
        months=months,
        weekdays=tuple(sorted({day % 7 for day in weekdays})),
        either=either,
    )


def next_after(cron: Cron, moment: datetime, zone: tzinfo) -> datetime:
    """
    Return the first moment after another one that an expression means.

    :param moment: with a time zone, whichever
    :param zone: of the times in the expression
    :return: in UTC
    """
    start = moment.astimezone(UTC)
    wall = start.astimezone(zone).replace(tzinfo=None)
    for found in _walls(cron, wall.replace(second=0, microsecond=0)):
        at = _moment(found, zone)
        if at > start:
            return at
    raise AssertionError(f"{cron} means no time, and was parsed")


# -- fields ----------------------------------------------------------------------------------------------------------


def _numbers(field: _Field, text: str) -> tuple[int, ...]:
    """Return the numbers that a field names, in order."""
    found: set[int] = set()
    for part in text.split(","):
        base, slash, step = part.partition("/")
        first, last = _range(field, base)
        if slash and "-" not in base and base != "*":
            raise _wrong(field, part, f"say {base}-{field.last}/{shown(step, 10)} if it is to begin at {base}")
        if slash and (not _NUMBER.match(step) or int(step) == 0):
            raise _wrong(field, part, "after / stands a number from 1 on")
        found.update(range(first, last + 1, int(step) if slash else 1))
    return tuple(sorted(found))


def _range(field: _Field, text: str) -> tuple[int, int]:
    if text == "*":
        return field.first, 6 if field.names is _DAY_NAMES else field.last
    one, dash, other = text.partition("-")
    first = _number(field, one)
    if not dash:
        return first, first
    last = _number(field, other)
    if last == 0 and field.names is _DAY_NAMES and first > 0:
        last = 7  # Sunday ends a week as well as it begins one
    if last < first:
        raise _wrong(field, text, "its end is before its beginning; name two ranges with a comma")
    return first, last


def _number(field: _Field, text: str) -> int:
    if field.names and text and text.upper() in field.names:
        return field.names.index(text.upper())
    names = f", or from {next(filter(None, field.names))} to {field.names[-1]}" if field.names else ""
    if not _NUMBER.match(text) or not field.first <= int(text) <= field.last:
        raise _wrong(field, text, f"it is *, or numbers from {field.first} to {field.last}{names}")
    return int(text)


def _wrong(field: _Field, text: str, why: str) -> BadValue:
    return BadValue(f"the {field.label} can't be {shown(text, 40)!r}: {why}")


# -- times -----------------------------------------------------------------------------------------------------------


def _walls(cron: Cron, start: datetime) -> Iterator[datetime]:
    """Yield the times that an expression means, as a clock on the wall shows them, after another such time."""
    for day in _days(cron, start.date()):
        for hour in cron.hours:
            if day == start.date() and hour < start.hour:
                continue
            for minute in cron.minutes:
                found = datetime.combine(day, time(hour, minute))
                if found > start:
                    yield found


def _days(cron: Cron, start: date) -> Iterator[date]:
    """Yield the days that an expression means, from one on."""
    for year in range(start.year, start.year + _YEARS):
        for month in cron.months:
            if (year, month) < (start.year, start.month):
                continue
            for number in range(1, _length(year, month) + 1):
                day = date(year, month, number)
                if day >= start and _is_day(cron, day):
                    yield day


def _length(year: int, month: int) -> int:
    """Return how many days a month has."""
    return (date(year + month // 12, month % 12 + 1, 1) - date(year, month, 1)).days


def _is_day(cron: Cron, day: date) -> bool:
    by_number = day.day in cron.days
    by_weekday = day.isoweekday() % 7 in cron.weekdays
    return by_number or by_weekday if cron.either else by_number and by_weekday


def _moment(wall: datetime, zone: tzinfo) -> datetime:
    """Return when a clock shows this time, first; where it never does, when it is put beyond it. In UTC."""
    at = wall.replace(tzinfo=zone).astimezone(UTC)
    if at.astimezone(zone).replace(tzinfo=None) == wall:
        return at
    # Clocks are put forward over it. By the later offset it is before that moment, by the earlier one it is after.
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    after = at
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) // 2
        middle = middle.replace(microsecond=0)
        if middle.astimezone(zone).replace(tzinfo=None) < wall:
            before = middle
        else:
            after = middle
    return after
