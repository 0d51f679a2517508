"""
Draws docs/architecture.md: the rooms from the map that ``tests/test_layers.py`` holds, processes and ways from the
lists in this module, each place of which must exist.

    make pictures
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.test_layers import ALLOWED, ROOMS

PATH = Path(__file__).parent.parent / "docs" / "architecture.md"


@dataclass(frozen=True)
class Process:
    """A process: what a person calls it, where its program begins, and what it is there for."""

    name: str
    place: str  # "module:qualname" below twistedipc
    what: str


PROCESSES = (
    Process(
        "apiserver",
        "taps.apiserver:Options",
        "HTTP API, WebSockets, page, releases; has the database",
    ),
    Process("buildipc", "taps.builder:Options", "the builder: starts runners, forwards their journals, uploads"),
    Process("runner", "runner.__main__:main", "one attempt: owns its processes, writes its journal"),
    Process("checkout", "runner.checkout.__main__:main", "the first step: git, in a process of its own"),
    Process("remote", "runner.remote:main", "no attempt: has a repository's host asked, for polling"),
    Process("pack, deliver", "publish.__main__:main", "the last steps: what was built becomes what is published"),
    Process("twistedipc", "cli.main:main", "the command: a client of the API like any other"),
)

#: From, to, by what.
CONNECTIONS = (
    ("client", "apiserver", "HTTP, WebSocket"),
    ("command", "apiserver", "HTTP"),
    ("apiserver", "ledger", "SQL, in threads"),
    ("apiserver", "buildipc", "link: JSON lines"),
    ("buildipc", "apiserver", "uploads: HTTP"),
    ("buildipc", "runner", "spawn; files, a FIFO"),
    ("runner", "buildipc", "journal on disk, a doorbell"),
    ("runner", "steps", "processes of the build"),
)


@dataclass(frozen=True)
class Hop:
    """One place on a way: in which process, where, and what is done there."""

    process: str
    place: str  # "module:qualname" below twistedipc
    what: str


@dataclass(frozen=True)
class Way:
    """How something gets through the platform."""

    title: str
    about: str
    hops: tuple[Hop, ...]


@dataclass(frozen=True)
class Store:
    """Where something large is kept."""

    what: str
    place: str  # the interface
    where: str
    sweeper: str


STORES = (
    Store(
        "sealed logs",
        "storage.log_archive:Archive",
        "the database, a folder, S3",
        "server.filing:Filing.collect",
    ),
    Store(
        "what builders uploaded",
        "storage.artifacts:ArtifactStore",
        "a folder",
        "server.pruning:Pruning",
    ),
    Store(
        "static releases",
        "publish.targets.target:Releases",
        "a folder",
        "server.tidying:Tidying",
    ),
)

WAYS = (
    Way(
        "A log line",
        "The runner numbers it, and everything after that goes by its number: resent lines are trimmed, holes are "
        "refused, and a viewer goes on after the last that it has. Lines travel in batches, and no place works on a "
        "line by itself.",
        (
            Hop("step", "attempts.processes:spawn", "a process of the build writes into one pipe"),
            Hop("runner", "runner.steps:Steps.run", "reads the pipe while the process runs"),
            Hop("runner", "runner.interleaving:Interleaving.read", "puts messages of the build in their place"),
            Hop("runner", "runner.capture:Capture.feed", "cuts lines, hides secrets, numbers records"),
            Hop("runner", "attempts.journal:Journal.append", "appends the batch, with its checksum, to the disk"),
            Hop("runner", "runner.control:Ringer.ring", "rings the builder's doorbell"),
            Hop("buildipc", "builder.looking:Looking.rung", "looks at the attempt, with others that rang"),
            Hop("buildipc", "builder.forwarding:Forwarding.forward", "takes attempts in turn, within their credit"),
            Hop("buildipc", "builder.outgoing:OutgoingLog.read", "reads whole batches from the journal"),
            Hop("buildipc", "builder.link:ApiserverLink.send", "sends them over the link"),
            Hop("apiserver", "server.builder_link:BuilderLink.message_received", "receives them"),
            Hop("apiserver", "server.intake:LogIntake.take", "trims what it has, refuses holes, encodes once"),
            Hop("apiserver", "server.fanout.live:LiveLog.append", "keeps them as the log's tail"),
            Hop("apiserver", "server.fanout.commits:LogCommits.add", "commits them with other builds' records"),
            Hop("apiserver", "server.builder_link:BuilderLink.acknowledge", "acknowledges what is committed"),
            Hop("apiserver", "server.fanout.rounds:Rounds.changed", "wakes the viewers, in the next round"),
            Hop("apiserver", "server.fanout.cursor:LogCursor.take", "gives what comes next, from tail or ledger"),
            Hop("apiserver", "web.live.followers:Crowd.write_entries", "takes one run for all at the same place"),
            Hop("apiserver", "web.live.viewers:ViewerProtocol.write_frames", "writes it to each viewer's socket"),
        ),
    ),
    Way(
        "A cancel",
        "It is a durable wish first and a message second. The attempt is cancelled only when its processes are gone.",
        (
            Hop("apiserver", "web.api.builds:cancel", "a caller asks, and may"),
            Hop("apiserver", "server.lifecycle:Lifecycle.cancel_build", "decides by the state's row in the table"),
            Hop("apiserver", "storage.builds:request_cancel", "cancels what waits, or notes the wish"),
            Hop("apiserver", "server.builder_link:BuilderLink.cancel_attempt", "tells the builder, if it is linked"),
            Hop("buildipc", "builder.duties:Duties.received", "finds the attempt under this lease"),
            Hop("buildipc", "builder.looking:Looking.cancel", "notes the reason, looks at the attempt"),
            Hop("buildipc", "attempts.folder:AttemptFolder.cancel", "writes `cancel`, rings the runner's FIFO"),
            Hop("runner", "runner.control:Control.cancelled", "reads it, in the middle of any wait"),
            Hop("runner", "runner.stepclock:StepClock", "SIGTERM, the grace, SIGKILL"),
            Hop("runner", "attempts.processes:kill_descendants", "what has left the group dies too"),
            Hop("buildipc", "builder.held:HeldAttempt.final", "says how the attempt ended"),
            Hop("apiserver", "server.lifecycle:Lifecycle.finish", "the attempt is cancelled; all are told"),
        ),
    ),
    Way(
        "A build request",
        "A 201 means that the build is committed. A lease names each grant of an attempt to a builder, and an attempt "
        "starts at most once.",
        (
            Hop("apiserver", "web.api.resource:Api.answer", "who calls, may they, is it well formed"),
            Hop("apiserver", "web.api.builds:request", "checks what is asked for"),
            Hop("apiserver", "server.lifecycle:Lifecycle.request_build", "commits, announces, wakes the queue"),
            Hop("apiserver", "storage.builds:create", "the build, its first attempt, its key"),
            Hop("apiserver", "server.dispatch:QueueDispatch.wake", "looks for a builder with a free slot"),
            Hop("apiserver", "server.lifecycle:Lifecycle.offer", "queued becomes offered, with a new lease"),
            Hop("apiserver", "server.builder_link:BuilderLink.offer", "sends the offer"),
            Hop("buildipc", "builder.duties:Duties.received", "checks that it can take it"),
            Hop("buildipc", "attempts.folder:AttemptFolder.create", "writes down what is to be done, then accepts"),
            Hop("apiserver", "server.lifecycle:Lifecycle.accept", "offered becomes accepted; answers: go"),
            Hop("buildipc", "builder.looking:Looking.go", "marks the start on disk, then spawns"),
            Hop("buildipc", "builder.runners:RunnerProcesses.start", "a process with the folder's lock"),
            Hop("runner", "runner.course:Course.run", "checkout, the plan's steps, pack, deliver, the result"),
        ),
    ),
    Way(
        "A push that a hook tells of",
        "The answer comes after the commit of what follows. Messages may come in any order, and more than once.",
        (
            Hop("apiserver", "web.api.hooks:receive", "which kind of host sends it, and is it signed"),
            Hop("apiserver", "builds.hooks.kinds:read", "its payload becomes an event, the same for all hosts"),
            Hop("apiserver", "server.lifecycle:Lifecycle.take_message", "one transaction for all that follows"),
            Hop("apiserver", "storage.taking:take", "was it taken before, is it newer than what is known"),
            Hop("apiserver", "builds.hooks.deciding:decide", "filters, and whether a member must allow it"),
            Hop("apiserver", "storage.builds:create", "the build, in turn with others of its ref"),
            Hop("apiserver", "server.dispatch:QueueDispatch.wake", "as after a build request"),
        ),
    ),
    Way(
        "A push that polling sees",
        "What is known of a ref by hooks counts here too, so a push builds once, whichever tells of it first.",
        (
            Hop("apiserver", "server.polling:Polling.wake", "looks which repositories are due"),
            Hop("apiserver", "server.builder_link:BuilderLink.ask", "asks a builder that may build the project"),
            Hop("buildipc", "builder.remotes:Questions.answer", "starts a process, and waits so long for it"),
            Hop("remote", "runner.remote:answer", "credentials, walls and network of a checkout"),
            Hop("git", "runner.checkout.remote:ask", "lists the refs, or fetches the message of a commit"),
            Hop("apiserver", "storage.moved:settle", "what is elsewhere than it was, and isn't known"),
            Hop("apiserver", "storage.moved:take", "each with where it is now, in one transaction"),
            Hop("apiserver", "storage.taking:take_seen", "as what a hook tells of"),
        ),
    ),
    Way(
        "What others are told",
        "It is written down in the transaction of what happens, leased before it is told and ended after it. So after "
        "a crash it is told again.",
        (
            Hop("apiserver", "storage.attempts:change", "an attempt changes its state"),
            Hop("apiserver", "storage.outbox:note", "writes what is to be told, by the same transaction"),
            Hop("apiserver", "server.outbox.sender:Sender.wake", "looks what is to be told"),
            Hop("apiserver", "storage.outbox:lease", "takes the oldest of each subject that is due"),
            Hop("apiserver", "server.outbox.telling:Telling.tell", "opens what is sealed, holds the exchange"),
            Hop("apiserver", "outgoing.github:status", "one of the kinds: says what is asked, without a socket"),
            Hop("apiserver", "web.http.elsewhere:Elsewhere.connect", "connects, but not to this machine"),
            Hop("apiserver", "storage.outbox:note_told", "told; or `postpone`, or `give_up`"),
        ),
    ),
    Way(
        "A call",
        "Between any two programs that use the library; the platform's own links are made of the same.",
        (
            Hop("caller", "ipc.remote:Remote.call", "waits for a link, if there is none, until the deadline"),
            Hop("caller", "ipc.connections.link:JSONLineProtocol.call", "makes the Deferred of the reply"),
            Hop("caller", "ipc.wire.session:Session.call", "gives the call its number, encodes it"),
            Hop("caller", "ipc.connections.cork:Cork.add", "collects what is written in this turn"),
            Hop("callee", "ipc.connections.link:JSONLineProtocol.dataReceived", "bytes come"),
            Hop("callee", "ipc.wire.framing:LineSplitter.feed", "whole lines"),
            Hop("callee", "ipc.wire.session:Session.receive", "a step of the session's table: frames"),
            Hop("callee", "ipc.service:ServiceApplication.call_received", "the method marked `@handles`"),
            Hop("callee", "ipc.wire.session:Session.answer", "the reply, under the call's number"),
            Hop("caller", "ipc.wire.session:Session.receive", "finds the call that it answers"),
            Hop("caller", "ipc.connections.link:JSONLineProtocol", "fires the Deferred"),
        ),
    ),
)

_TEXT = """\
# Architecture

Drawn by `make pictures`: the rooms from the map that `tests/test_layers.py` holds, the ways from
places in the code that a test looks up. [states.md](states.md) has the states of attempts,
releases and sessions, [protocol.md](protocol.md) what is on the wire, and
[reliability.md](reliability.md) what is promised.

## Processes

```mermaid
{processes}
```

{process_table}

Each of them may be killed at any time. The journal on disk is the spool between runner and
builder, and the lock on an attempt's folder says whether its runner lives. So builds go on while
the builder is restarted, and the builder goes on where the one before it was.

## Several apiservers

On PostgreSQL apiservers share a database. Four tables say who does what, and nothing else does: no
lock of a connection, and no program's clock.

- `apiservers`: a name, with the incarnation that has it now. It lives until `ended` is set: by itself, by
  its successor, or by another one that was heard all the time itself, after 10 s of silence.
- `builder_links`: which incarnation answers for a builder, and an epoch, which is another for each link.
- `duties`: which incarnation does some work for all. It is taken when nobody that lives has it.
- `changes`: what a transaction has changed, in the order of the commits. It is written in the same
  transaction, while there are others to read it.

**Who may write.** Each transaction that writes first takes its turn (`storage/apiservers.py: pen`, a
lock that ends with the transaction), then looks whether its incarnation lives (`check`). So what a
transaction reads stays true until its commit, as the functions of the storage expect, and an
incarnation that was given up changes nothing more. What belongs to an incarnation (duties) needs no
other check of the ledger. What is written about a *builder*, by its link or by the apiserver that waits
for it, carries a tenure, builder and epoch (`storage/tenures.py: under`): a builder may move while its
old apiserver lives, and what that one has still to say changes nothing, whatever it is; the link is
closed. So an apiserver without a tenure gives no builder up.

```mermaid
stateDiagram-v2
    [*] --> linked: takes the row, epoch + 1
    linked --> away: the link is lost
    away --> linked: the builder links, here or elsewhere
    linked --> linked: the same process links elsewhere
    linked --> orphan: its apiserver is gone
    away --> orphan: its apiserver is gone
    orphan --> away: another adopts it, epoch + 1
    orphan --> linked: the builder links elsewhere
    away --> given_up: it stays away for link.lost_after
    given_up --> linked: the builder links, here or elsewhere
```

**What can fail.** An apiserver that stops anywhere loses what it hadn't committed; its builders link
elsewhere, or are adopted within some seconds, and wait there for `link.lost_after` by that apiserver's
own clock, which stands still while the process does. An answer that is lost after a commit leaves a row
of this apiserver that it doesn't know: two rounds later it adopts it. An apiserver that is paused finds
out at its next write. One that is cut off from the database while others are beside it can't find
out: when it couldn't say for 10 s, by its own clock, that it is there, it lets its builders go
(`storage/presence.py: cut_off`), so that they link where something can be stored. Until it is heard again
it takes none and gives none up. After a stop of the database nobody is given up before all had time to
say that they are there. A change that isn't heard is read a second after the last round, and what can't
be read then is read in the next one; the bell (`server/bell.py`) only makes it sooner. Rows of `changes`
that were forgotten before they were read leave a gap, and then all that is held in memory is read again.

**Files** are outside of this: no transaction holds a file. Releases are changed under a lock of the
shared folder. In the artifact store a file is set aside within the transaction that has looked that
nothing needs it (`storage/retention.py`). An apiserver that is suspended there for longer than the server
lets a transaction idle could set aside what another has stored since with the same content.

**What is held in memory** is read again when others have changed anything (`server/hearing.py`):
builders' keys and drains, tokens of what is held open, tickets and visits, domains, for whom releases
are. States of attempts are told as if they had been changed here. Logs that are written elsewhere are
read from the ledger once for all their viewers (`server/fanout/following.py`). Which release is live is
read from the disk, where each change is made under a lock of the shared folder
(`server/project_locks.py`), from the ledger as it is then.

## Rooms

An arrow means "may import". Arrows that follow from others aren't drawn. Nothing imports upwards,
also not for types alone. Each folder's `__init__.py` says what is in it.

```mermaid
{rooms}
```

`ipc/wire/` also has what two versions of a program need: `catalogue` says what each side of a link
takes, `schema` turns declared types into JSON Schema and fingerprints, and `compatible` compares two
dumped interfaces. `conform/` tries any implementation of a link against protocol.md, case by case,
with raw sockets and the command as its face; it may use all that is below it, and nothing uses it.

Inside a folder that has rooms of its own, the same holds:

{inner}

## Stores

The ledger says what there is, and what of it counts. What is large is in stores beside it, and each
promises the same. What a call has put is durable when it returns. Nothing counts until the ledger
names it, which it does afterwards. A kill in between leaves what nothing names, and a sweep removes
that later. A store that doesn't answer is waited for, and never taken for one that has lost things.

{stores}

`s3/` is the one client of S3. It tells an object that isn't there from an S3 that can't be used now,
ends what it asks in a bounded time, and is called in threads of its own. Readers of the ledger never
wait for it: they say what they need that isn't on this machine, it is fetched once for all who wait,
and they read again (`server/archived.py`). An object's name is made of its content's hash, so that two
apiservers that put the same log there at once don't write over one another's.

## Ways

Each line is a place: the process, the function, and what happens there. A message passes them
from top to bottom.

{ways}
"""


def page() -> str:
    """The page as it should be."""
    return _TEXT.format(
        processes=_processes(),
        process_table=_table(
            ("process", "begins in", "what it is for"),
            [(process.name, f"`{_shown(process.place)}`", process.what) for process in PROCESSES],
        ),
        rooms=_graph("flowchart TD", ALLOWED),
        inner="\n\n".join(
            f"`{part}/`\n\n```mermaid\n{_graph('flowchart TD', rooms)}\n```" for part, rooms in ROOMS.items()
        ),
        stores=_table(
            ("what", "its interface", "where it can be", "who sweeps it"),
            [(store.what, f"`{_shown(store.place)}`", store.where, f"`{_shown(store.sweeper)}`") for store in STORES],
        ),
        ways="\n\n".join(_way(way) for way in WAYS),
    )


def places() -> list[str]:
    """Every place that the page names."""
    stored = [place for store in STORES for place in (store.place, store.sweeper)]
    return [process.place for process in PROCESSES] + stored + [hop.place for way in WAYS for hop in way.hops]


def find(place: str) -> object:
    """What is at a place. Raises `ImportError` or `AttributeError` if there is nothing."""
    module, _, names = place.partition(":")
    found: object = importlib.import_module(f"twistedipc.{module}")
    for name in names.split("."):
        found = getattr(found, name)
    return found


def _processes() -> str:
    nodes = {
        "client": "browser, curl",
        "command": "twistedipc",
        "apiserver": "twistd apiserver",
        "ledger": "SQLite or PostgreSQL",
        "buildipc": "twistd buildipc",
        "runner": "runner, one per attempt",
        "steps": "steps: git, npm, pack, deliver",
    }
    lines = ["flowchart LR", *(f'    {name}["{text}"]' for name, text in nodes.items())]
    lines += [f'    {one} -- "{by}" --> {other}' for one, other, by in CONNECTIONS]
    return "\n".join(lines)


def _graph(head: str, allowed: Mapping[str, Iterable[str]]) -> str:
    reach: dict[str, set[str]] = {}

    def below(name: str) -> set[str]:
        if name not in reach:
            reach[name] = set(allowed[name]).union(*(below(other) for other in allowed[name]))
        return reach[name]

    lines = [head, *(f"    {name}" for name in allowed)]
    for name, others in allowed.items():
        implied = {far for near in others for far in below(near)}
        lines += [f"    {name} --> {other}" for other in sorted(set(others) - implied)]
    return "\n".join(lines)


def _way(way: Way) -> str:
    lines = ["flowchart TD"]
    process, number = "", 0
    for index, hop in enumerate(way.hops):
        if hop.process != process:
            if process:
                lines.append("    end")
            process, number = hop.process, number + 1
            lines.append(f"    subgraph p{number}[{process}]")
        lines.append(f'        h{index}["{hop.place.partition(":")[2]}"]')
    lines.append("    end")
    lines += [f"    h{index} --> h{index + 1}" for index in range(len(way.hops) - 1)]
    table = _table(
        ("process", "place", "what happens"),
        [(hop.process, f"`{_shown(hop.place)}`", hop.what) for hop in way.hops],
    )
    picture = "\n".join(lines)
    return f"### {way.title}\n\n{_wrapped(way.about)}\n\n```mermaid\n{picture}\n```\n\n{table}"


def _shown(place: str) -> str:
    module, _, name = place.partition(":")
    return f"{module.replace('.', '/')}.py: {name}"


def _wrapped(text: str, width: int = 98) -> str:
    return re.sub(rf"(.{{1,{width}}})(?: |$)", r"\1\n", text).rstrip("\n")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    PATH.write_text(page(), "utf-8")
