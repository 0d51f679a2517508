"""
What the apiserver believes of a builder's word about how an attempt ended: what fits its own record, and no more. Pure;
``storage.seen`` reads the record, and ``server.lifecycle`` writes down what is believed.

A builder runs strangers' programs, and may have become theirs. So its result is a claim, and each field of it is one of
three kinds:

- The apiserver has seen it itself: how many records the log has and their digest, the steps, what was uploaded, what
  was permitted. Its own record counts. A claim that contradicts it is a *doubt*.
- Only the builder can know it, and it fits what is known: the commit, its subject and author, why a step failed, times.
  It is cut to a form that can do no harm, and shown as the builder's word.
- It fits nothing: it isn't stored.

A field that `believe` doesn't name isn't stored. An attempt with a doubt never succeeds, nor does one whose log isn't
whole (`states.StateInfo.unproven`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from twistedipc.builds import names
from twistedipc.builds.access import MAX_KNOWN_HOSTS
from twistedipc.builds.attempt import ArtifactFile, FoundCommit, Outcome, Package, Published, Result, StepResult, Tool
from twistedipc.builds.counts import counted
from twistedipc.builds.egress import MAX_CONTACTS, Egress
from twistedipc.builds.lint import MAX_MESSAGE, Linted, bounded
from twistedipc.builds.names import BadValue, shown
from twistedipc.builds.recognition.recognised import MAX_TEXT, Finding
from twistedipc.builds.states import AttemptState, proven

#: Milliseconds by which a builder's clock may differ from the apiserver's. A time that differs by more is none of the
#: attempt's: the nearest that can be is stored in its place.
TOLERANCE = 5 * 60 * 1000

#: The most characters of what people are shown.
MAX_REASON = 4096
MAX_SUBJECT = 500
MAX_AUTHOR = 200
MAX_NOTICE = 1000

#: The most entries of a result's lists.
MAX_FINDINGS = 100
MAX_TOOLS = 100
MAX_DIGESTS = 10

#: How many doubts are told; one is enough.
MAX_DOUBTS = 20

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Permitted(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt was offered to publish to a target, and what it got a permit for."""

    target: str
    place: str  # where, as `publish.targets.target.Target.place` has it; "": wherever the builder is set up for
    packages: Sequence[Package]  # none: it got no permit
    places: Mapping[str, str] = {}  # by the package's name, where it isn't ``place``
    stored: bool = False  # the permit was to upload them: the apiserver publishes them
    missing: Sequence[str] = ()  # the names of those of them that haven't arrived


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the apiserver has seen of an attempt itself."""

    builder: str
    since: int  # when it was offered, in milliseconds since the epoch
    now: int  # likewise
    commit: str  # which it must have; "": it isn't known before
    asked_head: bool  # whether it was to tell what the repository's HEAD stands for
    lines: int  # how many records have come
    sha256: str  # of all of them; "" if some are missing
    steps: Sequence[StepResult]  # as its log tells them
    artifact: tuple[int, str] | None  # size and SHA-256 of what was uploaded for it, all of it
    permitted: Sequence[Permitted]


class Believed(msgspec.Struct, frozen=True, kw_only=True):
    """What is written down."""

    result: Result  # with nothing in it but what is believed
    complete: bool  # the log is whole, and what its runner wrote
    doubts: Sequence[str]  # what was said that isn't so, a sentence each


def believe(result: Result, seen: Seen) -> Believed:
    """Return what is believed of the result."""
    doubts: list[str] = []
    complete = bool(seen.sha256) and (result.sha256, result.lines) == (seen.sha256, seen.lines)
    commit = _commit(result, seen, doubts)
    artifact = _artifact(result, seen, doubts)
    published = _published(result, seen, doubts)
    if result.outcome == "succeeded":
        doubts += _undone(seen, published) if complete else ()
    claimed = AttemptState(result.outcome)
    outcome = proven(claimed, holds=complete and not doubts)
    reason = shown(result.reason, MAX_REASON, lines=True)
    if outcome is not claimed:
        reason = _contradicted(seen, doubts) if doubts else _not_whole(result, seen)
    started = within(result.started, seen.since, seen.now)
    believed = Result(
        outcome=msgspec.convert(outcome.value, Outcome),
        reason=reason,
        lines=seen.lines,
        sha256=seen.sha256,
        started=started,
        ended=max(started, within(result.ended, seen.since, seen.now)),
        commit=commit,
        head=_head(result, seen),
        protected=None if result.protected is None else _ref(result.protected) if commit else "",
        host_keys=result.host_keys[:MAX_KNOWN_HOSTS],
        subject=shown(result.subject, MAX_SUBJECT) if commit else "",
        author=shown(result.author, MAX_AUTHOR) if commit else "",
        author_email=_author_email(result, commit),
        steps=[] if complete else _steps(result, seen),
        artifact=artifact,
        published=published,
        recognised=[_finding(each) for each in result.recognised[:MAX_FINDINGS]],
        tools=[_tool(each) for each in result.tools[:MAX_TOOLS]],
        used=result.used,  # numbers, which the ledger bounds
        egress=None if result.egress is None else _egress(result.egress, seen),
        linted=None if result.linted is None else _linted(result.linted),
    )
    return Believed(result=believed, complete=complete, doubts=doubts[:MAX_DOUBTS])


def within(said: int, since: int, now: int) -> int:
    """Return a time that a builder says, or the nearest that it can be between two times by the apiserver's clock."""
    if since - TOLERANCE <= said <= now + TOLERANCE:
        return said
    return since if said < since else now


def must_be(ref: str, known: str) -> str:
    """
    Return the commit that an attempt must have; "" if it may have any.

    :param ref: what was asked for
    :param known: what an earlier attempt of the same build had found; "": nothing
    """
    full = ref.lower()
    return known or (full if _COMMIT.fullmatch(full) else "")


# -- the commit, and what comes from it -------------------------------------------------------------------------------


def _commit(result: Result, seen: Seen, doubts: list[str]) -> str:
    commit = result.commit
    if not commit:
        return ""
    if not _COMMIT.fullmatch(commit):
        doubts.append(f"it says that it has built commit {shown(commit, 80)!r}, which is none")
        return ""
    if not _is_of(commit, seen.commit):
        doubts.append(f"it says that it has built commit {commit}, and commit {seen.commit} was asked for")
        return ""
    return commit


def believe_commit(found: FoundCommit, must: str) -> FoundCommit | None:
    """
    Return what is believed of the commit that a builder says an attempt builds; None if it can't be that one, which its
    end makes a doubt. ``must`` is what `must_be` says.
    """
    commit = found.commit
    if not _COMMIT.fullmatch(commit) or not _is_of(commit, must):
        return None
    return FoundCommit(
        commit=commit,
        subject=shown(found.subject, MAX_SUBJECT),
        author=shown(found.author, MAX_AUTHOR),
        author_email=found.author_email if names.is_email(found.author_email) else "",
    )


def _is_of(commit: str, must: str) -> bool:
    """Return whether a commit is the one that it must be: forty digits may be the first of an id of SHA-256."""
    return commit.startswith(must)


def _head(result: Result, seen: Seen) -> str:
    """Return the branch that HEAD stands for, of an attempt that was to find it out."""
    return _ref(f"refs/heads/{result.head}").removeprefix("refs/heads/") if seen.asked_head and result.head else ""


def _ref(said: str) -> str:
    """Return a ref, or "" for what can't be one."""
    try:
        return names.ref(names.line(said)) if said else ""
    except BadValue:
        return ""


def _egress(egress: Egress, seen: Seen) -> Egress:
    """What was contacted is the builder's word."""
    contacts = [
        replace(
            each,
            host=shown(each.host, MAX_TEXT),
            step=shown(each.step, MAX_TEXT),
            address=shown(each.address, MAX_TEXT),
            why=shown(each.why, MAX_TEXT),
            first=within(each.first, seen.since, seen.now),
        )
        for each in egress.contacts[:MAX_CONTACTS]
    ]
    return replace(egress, contacts=contacts)


def _linted(linted: Linted) -> Linted:
    """What was found in packages is the builder's word, in a stranger's words."""
    packages = [
        replace(
            each,
            target=shown(each.target, MAX_TEXT),
            name=shown(each.name, MAX_TEXT),
            version=shown(each.version, MAX_TEXT),
            messages=[replace(message, text=shown(message.text, MAX_MESSAGE)) for message in each.messages],
            why=shown(each.why, MAX_TEXT),
        )
        for each in linted.packages[: names.MAX_PACKAGES]
    ]
    said = Linted(version=shown(linted.version, 100), packages=packages, why=shown(linted.why, MAX_TEXT))
    return bounded(said)


def _tool(tool: Tool) -> Tool:
    digests = list(tool.digests.items())[:MAX_DIGESTS]
    return Tool(
        name=shown(tool.name, 100),
        version=shown(tool.version, 100),
        uri=shown(tool.uri, MAX_TEXT),
        digests={shown(name, 20): shown(value, 200) for name, value in digests},
    )


def _author_email(result: Result, commit: str) -> str:
    return result.author_email if commit and names.is_email(result.author_email) else ""


def _finding(finding: Finding) -> Finding:
    return Finding(
        what=shown(finding.what, 100),
        value=shown(finding.value, MAX_TEXT),
        why=shown(finding.why, MAX_TEXT),
        file=shown(finding.file, MAX_TEXT),
        line=max(0, finding.line),
    )


# -- what it has made -------------------------------------------------------------------------------------------------


def _artifact(result: Result, seen: Seen, doubts: list[str]) -> ArtifactFile | None:
    """What was built is what was uploaded with the attempt's grant; what is in it, the archive itself tells."""
    artifact = result.artifact
    if artifact is None or (artifact.size, artifact.sha256) == seen.artifact:
        return artifact
    if result.outcome == "succeeded":
        doubts.append("what it says that it has built has not arrived")
    return None


def _published(result: Result, seen: Seen, doubts: list[str]) -> list[Published]:
    """Return the packages of the attempt's permits that it says it has published, once each, in the permits' order."""
    allowed = {
        (each.target, package.name, package.version, package.integrity): each
        for each in seen.permitted
        if not each.stored
        for package in each.packages
    }
    found: dict[tuple[str, str, str, str], Published] = {}
    for published in result.published:
        key = (published.target, published.name, published.version, published.integrity)
        permitted = allowed.get(key)
        place = "" if permitted is None else permitted.places.get(published.name, permitted.place)
        if permitted is None or (place and names.place(published.registry) != names.place(place)):
            what = shown(f"{published.name}@{published.version}", 200)
            where = f" to {shown(published.registry, 200)}" if permitted is not None else ""
            doubts.append(f"it says that it has published {what}{where}, for which it had no permit")
            if len(doubts) >= MAX_DOUBTS:
                break
            continue
        registry, notice = shown(published.registry, names.MAX_ADDRESS), shown(published.notice, MAX_NOTICE)
        found.setdefault(key, replace(published, registry=registry, notice=notice))
    return [found[key] for key in allowed if key in found]


def _undone(seen: Seen, published: Sequence[Published]) -> list[str]:
    """Return why an attempt with a whole log can't have succeeded: what it should have done and hasn't."""
    undone = [
        f"its log shows that step {shown(step.name, 100)} has not succeeded" for step in _unsuccessful(seen.steps)
    ]
    done = {(each.target, each.name) for each in published}
    for each in seen.permitted:
        missing = [package.name for package in each.packages if (each.target, package.name) not in done]
        if not each.packages:
            undone.append(f"it has asked for no permit to publish to {each.target}")
        elif each.stored:
            undone += [f"{', '.join(each.missing)[:MAX_NOTICE]} has not arrived"] if each.missing else []
        elif missing:
            undone.append(f"it has not published {', '.join(missing)[:MAX_NOTICE]} to {each.target}")
    return undone


def _unsuccessful(steps: Sequence[StepResult]) -> list[StepResult]:
    """The steps that haven't succeeded. One of the platform's own may have been run again, for want of room."""
    last_own = {step.name: step for step in steps if not step.command}
    return [
        step
        for step in steps
        if step.outcome != "succeeded" and (step.command or last_own[step.name] is step or step.outcome == "running")
    ]


def _steps(result: Result, seen: Seen) -> list[StepResult]:
    """Return the steps of which the log, which isn't whole, doesn't have the end."""
    ended = {step.index for step in seen.steps if step.outcome != "running"}
    return [
        replace(
            step,
            name=shown(step.name, MAX_TEXT),
            command=shown(step.command, MAX_REASON, lines=True),
            started=within(step.started, seen.since, seen.now),
            ended=within(step.ended, seen.since, seen.now),
        )
        for step in result.steps
        if step.index not in ended
    ]


# -- why it didn't succeed --------------------------------------------------------------------------------------------


def _contradicted(seen: Seen, doubts: Sequence[str]) -> str:
    more = f" (and {len(doubts) - 1} more)" if len(doubts) > 1 else ""
    return (
        f"builder {seen.builder} says that it has succeeded, and the record here contradicts that: {doubts[0]}{more}. "
        "Look at that builder before it builds again"
    )[:MAX_REASON]


def _not_whole(result: Result, seen: Seen) -> str:
    if result.lines < seen.lines:
        come = counted(seen.lines, "line has", "lines have")
        why = f"{come} come, and its builder has only {max(0, result.lines)} of them any more"
    elif not result.sha256 or not seen.sha256:
        why = "lines of it are missing"
    else:
        why = "it isn't what its runner wrote"
    return f"every step succeeded, but its log isn't whole, so it counts as failed: {why}. Build again"
