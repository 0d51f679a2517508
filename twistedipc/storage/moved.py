"""
What a look at a repository has found moved, and what is made of it. Functions for `Ledger.write`; ``storage`` layer. On
top of ``polls`` and ``taking``.

A ref that is elsewhere than it was is taken as a message of the host would be, so that the same follows from it, by the
same rules: filters, what becomes of older builds, the end of a preview. The first look at a repository only notes
what is there.

**A hook and a look tell of one push once.** Where a ref is by the newest message is known (``hook_refs``). A look that
was begun after that message came has seen that, or what is newer; so what it has seen counts, unless it is the
same. Of a ref about which a message came since it was begun, it tells nothing: the next one does.

**A pull request is a stranger's**, since a list of refs doesn't tell whose it is: it waits for a member's leave. Only
if a branch of the repository has, or had at the last look, the very same commit, it is that branch's, and nothing
follows, but that an older commit of it doesn't wait for leave any more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Literal

import msgspec
from sqlalchemy import Connection, func, select

from twistedipc.builds import protection
from twistedipc.builds.counts import counted
from twistedipc.builds.hooks.events import HookEvent, event, pushed
from twistedipc.builds.hooks.kinds import LABELS
from twistedipc.builds.names import BadValue
from twistedipc.builds.remotes import DescribedCommit, RefList, checked, pull_number
from twistedipc.builds.states import AttemptState
from twistedipc.storage import builds, polls, projects, taking
from twistedipc.storage.errors import NotPossible
from twistedipc.storage.rows import PollRow, PollScope, ProjectRow
from twistedipc.storage.tables import builds as builds_table
from twistedipc.storage.tables import hook_refs
from twistedipc.storage.taking import Taken

#: How many refs that have moved are taken after one look; the next one follows soon then.
MOST = 200

#: How many builds a look makes at most, and all looks of an hour: a history that was rewritten, or a builder that lies,
#: moves thousands. The rest waits, what goes live first.
MOST_BUILDS = 50
MOST_BUILDS_AN_HOUR = 200

HOUR = 3_600_000

#: How many names are looked up at a time.
_AT_A_TIME = 500

#: Among so many of a project's newest builds those are counted that looks have made.
_NEWEST = 2000


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A ref that is elsewhere than it was."""

    ref: str
    before: str  # "": it is new
    commit: str  # "": it is gone
    builds: bool = False  # it would build, if nothing in its commit says otherwise


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What is still to be taken of what a look has seen."""

    changes: list[Change] = []
    first: bool = False  # it was the first look, and all was only noted
    whole: bool = True  # nothing is left for the next look
    # So many refs wait since there are too many builds, for the next look at its usual time: branches and tags, and
    # pull requests.
    waiting: tuple[int, int] = (0, 0)
    refused: str = ""  # why it isn't believed


def settle(
    connection: Connection, poll: PollRow, repository: str, seen: RefList, scope: PollScope, asked: int
) -> Settled:
    """
    Write down what a look has seen, but for what has moved and isn't known from a message: that is returned.

    :param repository: that was looked at
    :param scope: which refs the look would have seen
    :param asked: when it was begun, in milliseconds since the epoch
    """
    try:
        checked(seen)  # here, since it takes its time with thousands
    except BadValue as error:
        return Settled(refused=f"a builder tells what can't be: {error}")
    about = projects.get(connection, poll.project)
    now = polls.get(connection, poll.project_id)
    if about is None or now is None or now.since != poll.since or about.repository != repository:
        return Settled(whole=False)  # it was turned off, or has another repository: what was seen is of no use
    there = {each.name: each.commit for each in seen.refs}
    if now.repository != repository:
        polls.begin(connection, now, repository, there)
        polls.set_scope(connection, now, scope)
        return Settled(first=True)
    known = polls.all_seen(connection, poll.project_id)
    # A look that was narrowed to the filters has seen that there are branches, even if it tells none of them.
    if not scope.narrowed and (missing := _missing(known, there)):
        return Settled(refused=missing)
    changes = _changes(known, there)
    told = _told(connection, poll.project_id, [each.ref for each in changes])
    own = frozenset(commit for refs in (known, there) for ref, commit in refs.items() if not pull_number(ref))
    by = _by_what_to_do(connection, changes, (now.scope, scope), told, asked, own)
    polls.note(connection, poll.project_id, {each.ref: each.commit for each in (*by["note"], *by["pass"])})
    polls.set_scope(connection, now, scope)
    head = scope.question.known_head
    _pass_over(connection, about, by["pass"], asked)
    taken = _chosen(connection, about, by["take"], told, head, asked)
    left = {each.ref for each in by["take"]} - {each.ref for each in taken}
    waiting = _counted(left) if len(taken) < MOST else (0, 0)
    return Settled(changes=taken, whole=not by["leave"] and not left, waiting=waiting)


def _pass_over(connection: Connection, about: ProjectRow, changes: list[Change], asked: int) -> None:
    for each in changes:
        reason = "the pull request has a commit of the repository's own now"
        taking.pass_over(connection, about, event_of(each, "", asked), reason, asked)


def _counted(refs: Collection[str]) -> tuple[int, int]:
    """Return how many of these are branches and tags, and how many pull requests."""
    pulls = sum(pull_number(ref) > 0 for ref in refs)
    return len(refs) - pulls, pulls


def _missing(known: Mapping[str, str], there: Mapping[str, str]) -> str:
    """Return why a list isn't believed that has no branch any more, whatever pull requests it has; "": it is."""
    had, has = (sum(not pull_number(ref) for ref in refs) for refs in (known, there))
    if has or not had:
        return ""
    # Most likely its host is at fault; and if not, a preview that stays for longer does less harm.
    refs = counted(had, "branch or tag", "branches and tags")
    return f"it lists no branch any more, and had {refs}: nothing is ended"


def _chosen(
    connection: Connection,
    about: ProjectRow,
    changes: list[Change],
    told: Mapping[str, _Told],
    head: str,
    asked: int,
) -> list[Change]:
    """Return what is taken after this look: what is gone, what may go live, all else, and pull requests, by name."""
    patterns = [about.default_ref, *about.protected, *(pattern for each in about.environments for pattern in each.refs)]

    def order(change: Change) -> tuple[bool, bool, bool]:
        is_pull = pull_number(change.ref) > 0  # strangers can open any number of them
        return change.commit != "", is_pull, not protection.may_be_protected(patterns, change.ref, head)

    room = min(MOST_BUILDS, MOST_BUILDS_AN_HOUR - _built(connection, about.id, asked - HOUR))
    taken: list[Change] = []
    for change in sorted(changes, key=order)[:MOST]:
        following = _following(change, told.get(change.ref))
        builds_it = taking.would_build(connection, about, event_of(following, head, asked))
        room -= builds_it
        if room < 0:
            break
        taken.append(msgspec.structs.replace(following, builds=builds_it))
    return taken


def _built(connection: Connection, project_id: int, since: int) -> int:
    """Return how many builds looks have made of late, among the newest of the project."""
    b = builds_table.c
    newest = select(b.created, b.requested_by, b.origin).where(b.project_id == project_id).order_by(b.id.desc())
    n = newest.limit(_NEWEST).subquery().c
    made = select(func.count()).where(n.created > since, n.requested_by == LABELS["poll"], n.origin.is_not(None))
    return connection.execute(made).scalar_one()


#: What becomes of a ref that has moved: it is only written down; that, and what waits of it is closed; it is left for
#: the next look; or all that follows.
_Do = Literal["note", "pass", "leave", "take"]


def _changes(known: Mapping[str, str], there: Mapping[str, str]) -> list[Change]:
    """Return what is elsewhere than it was, by name."""
    moved = {name: commit for name, commit in there.items() if known.get(name) != commit}
    moved |= {name: "" for name in known if name not in there}
    return [Change(ref=name, before=known.get(name, ""), commit=commit) for name, commit in sorted(moved.items())]


def _by_what_to_do(
    connection: Connection,
    changes: list[Change],
    scopes: tuple[PollScope, PollScope],
    told: Mapping[str, _Told],
    asked: int,
    own: frozenset[str],
) -> dict[_Do, list[Change]]:
    """``own``: the commits of branches and tags, now and before."""
    by: dict[_Do, list[Change]] = {"note": [], "pass": [], "leave": [], "take": []}
    for each in changes:
        of_branch = pull_number(each.ref) > 0 and each.commit in own
        newest = told.get(each.ref)
        do: _Do = "note"
        if not of_branch or newest is not None:
            do = _what_to_do(connection, each, scopes, newest, asked)
        by["pass" if of_branch and do == "take" else do].append(each)
    return by


def _what_to_do(
    connection: Connection, change: Change, scopes: tuple[PollScope, PollScope], told: _Told | None, asked: int
) -> _Do:
    """``scopes``: which refs were looked for the last time, and now. ``told``: what a message says of this one."""
    before, now = scopes
    if (not change.before and not before.has(change.ref)) or (not change.commit and not now.has(change.ref)):
        return "note"  # nobody looked for it before, or looks for it any more
    if told is None:
        return "take"
    if told.at >= asked:
        return "leave"
    return "note" if told.is_of(connection, change.commit) else "take"


def _following(change: Change, told: _Told | None) -> Change:
    """Return a change as one that follows on what the newest message has told."""
    if told is None or told.gone or not told.commit:
        return change
    return msgspec.structs.replace(change, before=told.commit)


def take(
    connection: Connection, poll: PollRow, repository: str, change: Change, told: HookEvent, asked: int, now: int
) -> Taken:
    """
    Take a ref that has moved, and write down where it is. Raises `NotPossible` if something else is known of it
    meanwhile: the next look tells.
    """
    about = projects.get(connection, poll.project)
    poll_now = polls.get(connection, poll.project_id)
    if about is None or poll_now is None or poll_now.since != poll.since or about.repository != repository:
        raise NotPossible(f"{poll.project} isn't polled any more, or has another repository")
    newest = _told(connection, poll.project_id, [change.ref]).get(change.ref)
    if newest is not None and (newest.at >= asked or newest.is_of(connection, change.commit)):
        raise NotPossible(f"a message has told of {change.ref} meanwhile")
    polls.note(connection, poll.project_id, {change.ref: change.commit})
    return taking.take_seen(connection, about, told, now)


def event_of(change: Change, head: str, asked: int, described: DescribedCommit | None = None) -> HookEvent:
    """
    Return a change as a message of the host would tell it.

    :param head: the branch that the repository's HEAD stands for; "": it isn't known
    :param described: what is known of the commit
    """
    delivery = hashlib.sha256(f"{asked} {change.ref} {change.commit}".encode()).hexdigest()[:32]
    number = pull_number(change.ref)
    what = "gone" if not change.commit else "pull_request" if number else pushed(change.ref) or "other"
    return event(
        "poll",
        what,
        number=number,
        fork=number > 0,
        delivery=delivery,
        ref=change.ref,
        before=change.before,
        commit=change.commit,
        default_branch=head,
        title=described.subject if described is not None else "",
        skip=described is not None and described.skip,
        changed=[] if described is not None and described.touches is False else None,
    )


class _Told(msgspec.Struct, frozen=True):
    """Where a ref is by the newest message, and when that came."""

    commit: str  # "": it isn't known, or the ref is gone
    gone: bool
    build: int | None
    at: int

    def is_of(self, connection: Connection, commit: str) -> bool:
        """Return whether that is this commit; "": that the ref is gone."""
        if self.gone or not commit:
            return self.gone and not commit
        if self.commit or self.build is None:
            return self.commit == commit
        # A program told of the branch and of no commit: what hasn't begun yet finds this one, or a newer.
        row = builds.get(connection, self.build)
        return row is not None and (row.commit == commit or row.state is AttemptState.QUEUED)


def _told(connection: Connection, project_id: int, refs: list[str]) -> dict[str, _Told]:
    """Return where refs are by the newest messages."""
    found: dict[str, _Told] = {}
    r = hook_refs.c
    columns = select(r.lane, r.commit_id, r.gone, r.build_id, r.updated).where(r.project_id == project_id)
    for first in range(0, len(refs), _AT_A_TIME):
        for row in connection.execute(columns.where(r.lane.in_(refs[first : first + _AT_A_TIME]))):
            found[row.lane] = _Told(row.commit_id, row.gone, row.build_id, row.updated)
    return found
