"""
How long what builds leave is kept: the rules, and what they decide of one build. Bottom layer, pure.

The apiserver has rules (``[retention]`` in its configuration), and a project may have its own in their place, rule by
rule (`Own`, `effective`). Where no rule says anything, everything is kept. `verdict` decides; it is given the `Facts`
of one build, and whether it is asked to show a plan or to act makes no difference to it.

**Nothing live is removed.** A build keeps all it has for as long as one of `Stays` holds of it, whatever the rules say.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from twistedipc.builds.counts import counted
from twistedipc.builds.names import BadValue

DAY: Final = 86_400_000  # milliseconds

#: What has no end, as people write it.
FOREVER: Final = "forever"

#: The most days of a rule, and the most builds or releases that one can name.
MAX_DAYS = 36_500
MAX_COUNT = 1_000_000

#: The fewest days for which the audit is kept, if it isn't for ever: what it records is looked for late.
MIN_AUDIT_DAYS = 30

#: A number of days, or for ever, as the API has it.
Days = int | Literal["forever"]


class Kind(StrEnum):
    """What the apiserver removes, in the order in which it does."""

    PREVIEWS = "previews"
    RELEASES = "releases"
    LOGS = "logs"
    ARTIFACTS = "artifacts"
    UNPUBLISHED = "unpublished"
    BUILDS = "builds"
    MESSAGES = "messages"
    AUDIT = "audit"


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """
    The rules of one project, or of all. Days count from the end of an attempt. None: for ever, and of a count: any.
    """

    logs: int | None = None  # days
    artifacts: int | None = None  # days: the archives of what was built
    unpublished: int | None = None  # days: the same of builds that publish nothing
    previews: int | None = None  # days: addresses of branches to which nothing new has come
    releases: int | None = None  # of each target and kind, beside what is live or previewed
    builds: int | None = None  # days: builds and attempts, with all that they have
    most_builds: int | None = None  # of a project; older ones go
    messages: int | None = None  # days: what hosts have told, and what was told to others
    caches: int | None = None  # days since a build last used them; builders remove them, beside limits of their own
    audit: int | None = None  # days; of all projects together
    newest: int = 10  # so many of a project's newest builds keep all they have
    last_success: bool = True  # so does the last build of each ref that succeeded

    @property
    def removes(self) -> bool:
        """Return whether there is a rule by which anything goes."""
        others = (self.most_builds, self.caches)
        return any(getattr(self, kind.value) is not None for kind in Kind) or others != (None, None)


class Own(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A project's own rules. What it doesn't say is as the apiserver's."""

    logs: Days | UnsetType = UNSET
    artifacts: Days | UnsetType = UNSET
    unpublished: Days | UnsetType = UNSET
    previews: Days | UnsetType = UNSET
    releases: Days | UnsetType = UNSET
    builds: Days | UnsetType = UNSET
    most_builds: Days | UnsetType = UNSET
    messages: Days | UnsetType = UNSET
    caches: Days | UnsetType = UNSET
    newest: int | UnsetType = UNSET
    last_success: bool | UnsetType = UNSET


#: Of rules, those that count something that isn't days.
COUNTS = frozenset({"releases", "most_builds", "newest"})

_S = TypeVar("_S", Rules, Own)


def check(rules: _S, *, least_newest: int = 0) -> _S:
    """
    Return the rules. Raises `BadValue`, whose sentence begins with the name of the rule that makes no sense.

    :param least_newest: the least that `Rules.newest` may be
    """
    for name in rules.__struct_fields__:
        value = getattr(rules, name)
        if type(value) is not int:
            continue
        if name == "newest":
            low = least_newest
        else:
            low = {"unpublished": 0, "audit": MIN_AUDIT_DAYS}.get(name, 1)
        most, unit = (MAX_COUNT, "") if name in COUNTS else (MAX_DAYS, " days")
        if not low <= value <= most:
            raise BadValue(f"{name}: it is {low} to {most}{unit}, or {FOREVER}, not {value}")
    for name in ("logs", "artifacts"):
        of_builds, of_part = rules.builds, getattr(rules, name)
        if type(of_builds) is int and type(of_part) is int and of_builds < of_part:
            raise BadValue(
                f"builds: a build goes after {counted(of_builds, 'day')} with all it has, so its {name} can't be kept "
                f"for {counted(of_part, 'day')}"
            )
    return rules


def effective(own: Own, default: Rules) -> Rules:
    """Return the rules of a project: its own, and for what it doesn't say the apiserver's."""
    said = {
        name: None if value == FOREVER else value
        for name in own.__struct_fields__
        if (value := getattr(own, name)) is not UNSET
    }
    return msgspec.structs.replace(default, **said)


_UNITS = {"d": 1, "day": 1, "w": 7, "week": 7, "month": 30, "y": 365, "year": 365}


def parse_days(text: str | int) -> Days:
    """Return the days that a person writes: 90, "90 days", "2 weeks", "6 months", "2 years" or "forever"."""
    if isinstance(text, str) and text.strip().lower() == FOREVER:
        return FOREVER
    match = re.fullmatch(r"([0-9]{1,6}) ?([a-z]*?)s?", str(text).strip().lower())
    unit = None if match is None else _UNITS.get(match[2] or "day")
    if match is None or unit is None:
        raise BadValue(f'expected a time such as "90 days", "2 years" or "{FOREVER}", not {str(text)[:40]!r}')
    return int(match[1]) * unit


def parse_count(text: str | int) -> Days:
    """Return a count that a person writes: 20, or "forever" for any number."""
    if isinstance(text, str) and text.strip().lower() == FOREVER:
        return FOREVER
    if not re.fullmatch(r"[0-9]{1,9}", str(text).strip()):
        raise BadValue(f'expected a number, or "{FOREVER}", not {str(text)[:40]!r}')
    return int(text)


def shown(days: int) -> str:
    """Return a number of days for people."""
    if days % 365 == 0 and days:
        number, unit = days // 365, "year"
    else:
        number, unit = days, "day"
    return counted(number, unit)


# -- what becomes of a build ------------------------------------------------------------------------------------------


class Stays(StrEnum):
    """What keeps something, for people. The first that holds is said."""

    GOES_ON = "its build goes on"
    LIVE = "its release is live"
    WAITS = "its release waits to go live"
    PREVIEW = "its release is a preview"
    PINNED = "it is pinned"
    TOLD = "others are still to be told of it"
    OF_REF = "it is the newest of a branch"
    OF_SCHEDULE = "it is the last of a schedule"
    LAST_SUCCESS = "it is the last success of its ref"
    NEWEST = "it is among the newest"
    PACKAGES = "it has published packages"
    RELEASE = "its release is kept"
    YOUNG = "it isn't old enough"
    NO_RULE = "no rule says that it goes"


#: What keeps all of a build. The others keep only some of it.
_PINS = (
    Stays.GOES_ON,
    Stays.LIVE,
    Stays.WAITS,
    Stays.PREVIEW,
    Stays.PINNED,
    Stays.TOLD,
    Stays.OF_REF,
    Stays.OF_SCHEDULE,
    Stays.LAST_SUCCESS,
    Stays.NEWEST,
)

#: Of those, what keeps an archive that nothing was published from, and that nobody can fetch.
_PINS_OF_UNPUBLISHED = (Stays.GOES_ON, Stays.LIVE, Stays.WAITS, Stays.PREVIEW, Stays.PINNED)


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one build."""

    build: int
    ended: int  # when its newest attempt ended, in milliseconds; when it was asked for, if it goes on
    stays: frozenset[Stays] = frozenset()  # those that hold, but for those of rules of time
    beyond_most: bool = False  # its project has `Rules.most_builds` newer ones


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one thing: ``rule`` is that by which it goes, else ``stays`` is what keeps it."""

    stays: Stays | None = None
    rule: str = ""  # "logs = 90 days"

    @property
    def goes(self) -> bool:
        """Return whether it is removed."""
        return self.stays is None


def verdict(kind: Kind, facts: Facts, rules: Rules, now: int) -> Verdict:
    """Return what becomes of what a build has of this kind: its logs, its archives, or all of it."""
    pins = _PINS_OF_UNPUBLISHED if kind is Kind.UNPUBLISHED else _PINS
    kept = next((each for each in pins if each in facts.stays), None)
    if kept is None and kind is Kind.BUILDS:
        kept = next((each for each in (Stays.PACKAGES, Stays.RELEASE) if each in facts.stays), None)
    if kept is not None:
        return Verdict(stays=kept)
    if facts.beyond_most and rules.most_builds is not None and kind is not Kind.UNPUBLISHED:
        return Verdict(rule=f"most_builds = {rules.most_builds}")
    days: int | None = getattr(rules, kind.value)
    if kind is not Kind.BUILDS and rules.builds is not None and (days is None or rules.builds < days):
        # What a build has goes with it, if it goes.
        whole = verdict(Kind.BUILDS, facts, rules, now)
        if whole.goes:
            return whole
    if days is None:
        return Verdict(stays=Stays.NO_RULE)
    if facts.ended > now - days * DAY:
        return Verdict(stays=Stays.YOUNG)
    return Verdict(rule=_rule(kind, rules))


def preview_verdict(updated: int, stays: Stays | None, preview_days: int | None, rules: Rules, now: int) -> Verdict:
    """
    Return what becomes of a branch's preview.

    :param updated: when its newest release came, in milliseconds
    :param stays: what keeps that release, whatever the rules say
    :param preview_days: what the project's target says; after that the address leads nowhere any more
    """
    if preview_days is not None and updated <= now - preview_days * DAY:
        return Verdict(rule=f"preview_days = {preview_days}")
    if rules.previews is None:
        return Verdict(stays=Stays.NO_RULE)
    if updated > now - rules.previews * DAY:
        return Verdict(stays=Stays.YOUNG)
    return Verdict(rule=_rule(Kind.PREVIEWS, rules)) if stays is None else Verdict(stays=stays)


def preview_ends(updated: int, stays: Stays | None, preview_days: int | None, rules: Rules) -> int | None:
    """Return from when on `preview_verdict` lets a preview go, if nothing changes; None: it never does."""
    days = [preview_days, rules.previews if stays is None else None]
    return min((updated + each * DAY for each in days if each is not None), default=None)


def oldest_kept(kind: Kind, rules: Rules, now: int) -> int | None:
    """Return the time from which on nothing is old enough to go; None: nothing ever is."""
    names = {kind.value} if kind is Kind.BUILDS else {kind.value, "builds"}
    days = [value for name in names if (value := getattr(rules, name)) is not None]
    return now - min(days) * DAY if days else None


def _rule(kind: Kind, rules: Rules) -> str:
    days: int | None = getattr(rules, kind.value)
    return "" if days is None else f"{kind.value} = {shown(days)}"


# -- plans and runs ----------------------------------------------------------------------------------------------------


class PlanLine(msgspec.Struct, frozen=True, kw_only=True):
    """What would go of one kind in one project, and what keeps the rest of what is old enough to be looked at."""

    project: str  # "": of all, or of projects that were deleted
    kind: Kind
    count: int
    size: int  # bytes; 0 where that isn't known before
    rules: list[str]  # those by which it goes: "logs = 90 days"
    stays: dict[str, int]  # why -> how many
    whole: bool  # False: there is more, and only so many were looked at
    nothing_left: bool = False  # even the newest goes


class OnBuilders(msgspec.Struct, frozen=True, kw_only=True):
    """What builders remove by themselves, so that nobody else knows how much of it there is: caches."""

    projects: dict[str, int]  # those that have a rule -> days since a build last used what is kept
    unaware: list[str]  # builders that are linked and don't know such rules, but limits of their own


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What would go now."""

    lines: list[PlanLine]
    caches: OnBuilders
    removes: bool  # there is a rule by which anything goes
    whole: bool = True  # False: it took too long, and not all projects were looked at


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """What not even the newest would be left of."""

    of: list[tuple[str, Kind]]  # project ("": of all) and kind
    whole: bool = True  # False: it took too long, and not all projects were looked at


class Freed(msgspec.Struct, kw_only=True):
    """What a run has removed of one kind."""

    count: int = 0
    size: int = 0  # bytes


class Run(msgspec.Struct, kw_only=True):
    """One time of removing what isn't kept any more: what it has done so far, or did."""

    by: str
    began: int  # milliseconds since the epoch
    projects: frozenset[str] | None = None  # of these alone; None: of all, and what is of none
    ended: int | None = None  # None: it goes on
    freed: dict[Kind, Freed] = {}
    files: Freed = msgspec.field(default_factory=Freed)  # of archives, on the disk
    given_back: int = 0  # bytes of the database's file
    problem: str = ""  # why it ended early, or couldn't do all

    def is_of(self, projects: frozenset[str] | None) -> bool:
        """Return whether it is of these projects alone. None: of whatever there is."""
        return projects is None or (self.projects is not None and self.projects <= projects)

    def note(self, kind: Kind, count: int, size: int) -> None:
        """Add what was removed."""
        if count or size:
            freed = self.freed.setdefault(kind, Freed())
            freed.count += count
            freed.size += size

    @property
    def did_anything(self) -> bool:
        """Return whether anything was removed."""
        return bool(self.freed or self.files.count)
