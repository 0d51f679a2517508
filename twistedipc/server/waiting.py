"""
Why a build waits, in a sentence. Used by ``dispatch`` when a person asks. It changes nothing, and reads nothing
but what is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import assert_never

from twisted.internet.interfaces import IReactorTime

from twistedipc.builds.counts import counted
from twistedipc.builds.needs import BUILDER, EITHER, POOL, lacked
from twistedipc.builds.states import STATES, Waits
from twistedipc.publish.targets.registry import FEATURE, STORED
from twistedipc.server.away import Away
from twistedipc.server.boundaries import Waiting
from twistedipc.server.linked import Link, LinkedBuilders
from twistedipc.server.resting import Resting
from twistedipc.storage.rows import AttemptRow, OfferRow, Place

#: How many builders are named at most.
NAMED = 3

#: Of how many attempts it is remembered what they need.
MAX_NEEDS = 1000

#: No builder has a key of its own, as far as it is known.
NOBODY_KNOWN: Mapping[str, frozenset[str]] = MappingProxyType({})


class Reasons:
    """
    :param now: milliseconds since the epoch
    :param known: returns what each builder that has a key of its own has by the apiserver's record, by its name
    """

    def __init__(
        self,
        clock: IReactorTime,
        now: Callable[[], int],
        linked: LinkedBuilders,
        trouble: Resting,
        away: Away,
        known: Callable[[], Mapping[str, frozenset[str]]],
    ) -> None:
        self._clock = clock
        self._now = now
        self._linked = linked
        self._trouble = trouble
        self._away = away
        self._known = known
        # What a builder must be able to do for an attempt of the queue, where not every builder can: by attempt.
        self._needs: dict[str, frozenset[str]] = {}

    def note_needs(self, looked_at: Sequence[OfferRow]) -> None:
        """Take note of what these attempts need, which the dispatch has looked at."""
        self._needs |= {queued.name: queued.needs for queued in looked_at if queued.needs}
        while len(self._needs) > MAX_NEEDS:
            del self._needs[next(iter(self._needs))]  # the one that was looked at first

    def of(self, row: AttemptRow, place: Place | None) -> Waiting | None:
        """Why this attempt doesn't go on now; None if it does, or has ended. ``place``: where it is in the queue."""
        match STATES[row.state].waits:
            case Waits.FOR_BUILDER:
                return self._queued(row, place or Place())
            case Waits.FOR_ANSWER:
                return Waiting(code="offered", text=f"builder {row.builder} is being asked to take it")
            case Waits.FOR_LINK:
                return self._disconnected(row)
            case Waits.FOR_UPLOAD:
                return Waiting(code="upload", text=row.reason) if row.reason else None
            case Waits.FOR_APPROVAL:
                who = f"another person than {row.requested_by} is to approve it"
                text = f"{row.reason or who} (`twistedipc approve {row.build}`)"
                return Waiting(code="approval", text=text)
            case None:
                return None
            case never:
                assert_never(never)

    def _queued(self, row: AttemptRow, place: Place) -> Waiting:
        code, text = self._why_queued(row, place)
        position = place.before + 1
        return Waiting(code=code, text=f"{text}; position {position} in the queue of {row.project}", position=position)

    def _why_queued(self, row: AttemptRow, place: Place) -> tuple[str, str]:
        attempt, project, rules = row.name, row.project, place.rules
        if rules.paused is not None:
            return "paused", f"the queue of {project} is paused (twistedipc project resume {project})"
        if rules.at_once is not None and place.running >= rules.at_once:
            return "limit", f"as many builds of {project} run as may at once ({rules.at_once})"
        ready, needs = self._linked.ready(), self._needs.get(attempt, frozenset()) | frozenset(place.needs)
        links = [link for link in ready if not link.draining and not lacked(link.features, needs)]
        if not links:
            code, text = why_none(ready, needs, self._known())
            if code != "unsatisfiable" and self._linked.elsewhere:
                return "slots", f"{_named(self._linked.elsewhere)}, linked at another apiserver, may take it"
            return code, text
        return self._why_not_taken(links, attempt)

    def _why_not_taken(self, links: Sequence[Link], attempt: str) -> tuple[str, str]:
        """Return why none of the builders that could take an attempt has it."""
        rests = self._trouble.rests
        resting = [link for link in links if rests(link.peer.info.name) or rests(link.peer.info.name, attempt)]
        others = [link for link in links if link not in resting]
        if any(link.free_slots for link in others):
            code, texts = "next", ["a builder has a free slot"]
        elif others:
            slots = sum(link.slots for link in others)
            all_slots = f"all {slots} slots of {counted(len(others), 'builder')} are taken"
            code, texts = "slots", ["the only slot of the only builder is taken" if slots == 1 else all_slots]
        else:
            code, texts = "resting", []
        return code, "; ".join([*texts, *(self._resting(link.peer.info.name, attempt) for link in resting[:NAMED])])

    def _resting(self, builder: str, attempt: str) -> str:
        resting = self._trouble
        # What the builder itself rests for is over first, and counts alone where there is no other builder.
        trouble = resting.trouble(builder) if resting.rests(builder) else resting.trouble(builder, attempt)
        assert trouble is not None, "it rests"
        left = max(1.0, trouble.until - self._clock.seconds())
        return f"builder {builder} {trouble.answer}; it is asked again in {_time(left)}"

    def _disconnected(self, row: AttemptRow) -> Waiting:
        since = self._away.since(row.builder)
        if since is None and self._linked.link_of(row.builder) is None and not row.reason:
            where = "is back at another apiserver" if row.builder in self._linked.elsewhere else "is away"
            return Waiting(code="syncing", text=f"builder {row.builder} {where}")
        if since is None:
            return Waiting(
                code="syncing", text=row.reason or f"builder {row.builder} is back, and hasn't said yet how far it is"
            )
        left, now = self._away.left(row.builder), self._now()
        until = now + round(1000 * left)
        clock = datetime.fromtimestamp(until / 1000, UTC).strftime("%H:%M")
        return Waiting(
            code="away",
            text=f"builder {row.builder} has been away for {_time((now - since) / 1000)}; the attempt is lost at "
            f"{clock} UTC (in {_time(left)}) unless the builder comes back",
            until=until,
        )


def why_none(
    ready: Sequence[Link], needs: frozenset[str], known: Mapping[str, frozenset[str]] = NOBODY_KNOWN
) -> tuple[str, str]:
    """
    Return why none of the builders that are linked takes an attempt that has these needs: a code, a sentence.

    :param known: what each builder that has a key of its own has by the apiserver's record, by its name
    """
    bound = {need for need in needs if need.startswith((BUILDER, POOL))}
    fit = sorted(name for name, features in known.items() if not lacked(features, bound))
    if bound and known and not fit:
        return "unsatisfiable", f"{_no_builder(bound)}: {_cure(bound)}"
    if not ready:
        return "no_builder", "no builder is linked: start one (twistd buildipc)"
    links = [link for link in ready if not link.draining]
    if not links:
        return "draining", f"{_named(_names(ready))} takes nothing new, and no other builder is linked"
    chosen = [link for link in links if not lacked(link.features, bound)]
    if not chosen:
        drained = [link.peer.info.name for link in ready if not lacked(link.features, bound)]
        if drained:
            return "draining", f"{_named(drained)} takes nothing new, and {_no_builder(bound, 'no other builder')}"
        if fit:
            names, pools = _bound_to(bound)
            if not pools:
                return "no_builder", f"the project is bound to builder {' or '.join(names)}, and none is linked"
            return "no_builder", f"{_named(fit)} isn't linked, and {_no_builder(bound, 'no other builder')}"
        return "no_builder", f"{_no_builder(bound)} and is linked by a key of its own: {_cure(bound)}"
    missing = frozenset().union(*(lacked(link.features, needs) for link in chosen))
    return "no_builder", f"{_named(_names(chosen))} can't {_lacking(missing)}, which the project needs: update it"


def _no_builder(bound: Collection[str], subject: str = "no builder") -> str:
    """Return that there is none to which a project is bound: ``bound`` says to which."""
    names, pools = _bound_to(bound)
    has = f"has the {'pools' if len(pools) > 1 else 'pool'} {' and '.join(pools)}"
    said = [*([f"is {' or '.join(names)}"] if names else []), *([has] if pools else [])]
    return f"{subject} {' or '.join(said)}"


def _cure(bound: Collection[str]) -> str:
    names, pools = _bound_to(bound)
    name = names[0] if names else "NAME"
    return f"twistedipc builder add {name}{''.join(f' --pool {pool}' for pool in pools)} makes one"


def _bound_to(bound: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the builders, and the pools, to which a project is bound."""
    each = sorted({feature for need in bound for feature in need.split(EITHER)})
    return (
        [feature.removeprefix(BUILDER) for feature in each if feature.startswith(BUILDER)],
        [feature.removeprefix(POOL) for feature in each if feature.startswith(POOL)],
    )


def _lacking(features: frozenset[str]) -> str:
    """What a builder can't do that has none of these features."""
    targets = sorted(feature.removeprefix(FEATURE) for feature in features if feature.startswith(FEATURE))
    lacking = ["be given secrets"] if "secrets" in features else []
    lacking += ["read settings of builds"] if "settings" in features else []
    lacking += ["keep what a stranger's build writes from other builds"] if "strangers" in features else []
    lacking += ["keep a build from the network"] if "network" in features else []
    lacking += ["tell which refs are protected"] if "protected" in features else []
    lacking += ["ask repositories' hosts (polling)"] if "remotes" in features else []
    lacking += ["upload packages that the apiserver publishes"] if STORED in features else []
    lacking += ["publish by an ID token"] if "id-tokens" in features else []
    lacking += ["publish to the registries of scopes"] if "scopes" in features else []
    return " or ".join([*lacking, *([f"publish to {', '.join(targets)}"] if targets else [])])


def _names(links: Sequence[Link]) -> list[str]:
    return [link.peer.info.name for link in links]


def _named(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"builder {names[0]}"
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"each of the builders {', '.join(names[:NAMED])}{more}"


def _time(seconds: float) -> str:
    """To the second below a minute, to the minute above."""
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h {whole % 3600 // 60} min"
