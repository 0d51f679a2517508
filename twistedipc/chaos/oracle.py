"""
The oracle: a build whose every line, and every remark on its channel, can be told in advance, and the count of what is
wrong with what a viewer got.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

# It prints in small bursts, as builds do, and says something after them; and notes its start in a file that nothing
# else writes.
_SCRIPT = """
import hashlib, json, os, socket, sys, time
seed, build, lines = os.environ["ORACLE_SEED"], os.environ["TWISTEDIPC_BUILD"], int(os.environ["ORACLE_LINES"])
with open(os.environ["ORACLE_STARTS"], "a") as starts:
    starts.write(os.environ["TWISTEDIPC_ATTEMPT"] + "\\n")
channel = socket.socket(socket.AF_UNIX)
channel.connect(os.environ["TWISTEDIPC_CHANNEL"])
def say(kind, **more):
    channel.sendall(json.dumps({"type": kind, **more}).encode() + b"\\n")
def value(what):
    return hashlib.sha256(f"{seed}:{build}:{what}".encode()).hexdigest()[:16]
every = int(os.environ["ORACLE_EVERY"])
for number in range(1, lines + 1):
    print("o", number, value(number))
    if number % 10 == 0:
        sys.stdout.flush()
        if number % every == 0:
            remark = number // every
            say("annotation", level="notice", message=f"a {remark} {value(f'a{remark}')}")
            say("progress", value=number / lines / 2)
        time.sleep(float(os.environ["ORACLE_PAUSE"]))
sys.stdout.flush()
say("progress", value=1)
say("summary", markdown=value("summary"))
"""

#: After how many lines, a multiple of ten, a remark is made; and how many remarks there are at most: a build has room
#: for 10,000.
_EVERY = 10
_MOST_REMARKS = 5000


def files() -> dict[str, str]:
    """The files of the oracle's repository."""
    run = json.dumps(f"{sys.executable} -I oracle.py")
    return {
        "oracle.py": _SCRIPT,
        ".twistedipc.toml": f'[build]\nsteps = [{{name = "oracle", run = {run}}}]\n',
    }


def every(lines: int) -> int:
    """After how many lines an oracle that prints so many makes a remark."""
    return max(_EVERY, -(-lines // _MOST_REMARKS // _EVERY) * _EVERY)


def value(seed: int, build: int, what: str) -> str:
    """Return the text of an oracle's line, remark or summary."""
    return hashlib.sha256(f"{seed}:{build}:{what}".encode()).hexdigest()[:16]


def parameters(seed: int, lines: int, pause: float, starts: Path) -> dict[str, str]:
    """The parameters of an oracle build."""
    return {
        "ORACLE_SEED": str(seed),
        "ORACLE_LINES": str(lines),
        "ORACLE_EVERY": str(every(lines)),
        "ORACLE_PAUSE": str(pause),
        "ORACLE_STARTS": str(starts),
    }


@dataclass(frozen=True)
class Damage:
    """
    What was done to an attempt's journal: there must be one gap, from a record of ``earliest`` to ``latest`` on (how
    much of what was destroyed the apiserver had already isn't known), to ``last``.
    """

    earliest: int
    latest: int
    last: int


@dataclass
class Wrong:
    """Counts of all that is wrong."""

    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    changed: int = 0
    unverified: int = 0  # logs whose end doesn't agree with what was seen
    unsaid: int = 0  # damages for which there is no gap

    def add(self, other: Wrong) -> None:
        """Add another's counts to these."""
        self.lost += other.lost
        self.duplicated += other.duplicated
        self.reordered += other.reordered
        self.changed += other.changed
        self.unverified += other.unverified
        self.unsaid += other.unsaid

    @property
    def total(self) -> int:
        """The sum of all counts."""
        return self.lost + self.duplicated + self.reordered + self.changed + self.unverified + self.unsaid


@dataclass
class LogCheck:
    """One viewer's view of one attempt's log, over all its connections, against what it must see."""

    seed: int
    build: int
    lines: int  # that the oracle prints
    damages: list[Damage] = field(default_factory=list)  # to its journal; they may become more while it is watched
    next: int = 1  # the number of the record that must come
    checked: int = 0  # oracle's lines
    remarks: int = 0  # that it has made, as records of the log
    summary: str = ""
    destroyed: int = 0  # records, by damages
    wrong: Wrong = field(default_factory=Wrong)
    end: dict[str, Any] | None = None
    _expected: int | None = 1  # the oracle's next line; None after a gap: whichever comes
    _remark: int | None = 1  # the number of its next remark, likewise
    _progress: float = 0.0
    _said: set[Damage] = field(default_factory=set)  # there was a gap
    _gaps: int = 0
    _digest: Any = field(default_factory=hashlib.sha256)

    def take(self, message: dict[str, Any]) -> None:
        """Check the next message of the stream, as JSON has it."""
        match message["type"]:
            case "lines":
                for number, record in enumerate(message["lines"], message["first"]):
                    self._take(number, record)
            case "gap":
                self._take_gap(message["from"], message["to"])
            case "end":
                self.end = message
                self._finish(message)

    def _take(self, number: int, record: str | dict[str, Any]) -> None:
        if number > self.next:
            self.wrong.lost += number - self.next
        elif number < self.next:
            self.wrong.duplicated += 1
            return
        self.next = number + 1
        text = record if isinstance(record, str) else msgspec.json.encode(record).decode()
        self._digest.update(text.encode() + b"\n")
        if not isinstance(record, str):
            self._hear(record)
        elif text.startswith("o "):
            self._check(text)

    def _take_gap(self, first: int, to: int) -> None:
        """One that must be there is one that hasn't come yet, from what must come now on."""
        found = next((d for d in self.damages if d.earliest <= first <= d.latest and d.last == to), None)
        if found is None or found in self._said or first != self.next:
            self.wrong.lost += max(0, to + 1 - self.next)
        else:
            # Also of what this has swallowed: a segment may go in which a line was spoilt that no builder has read.
            self._said.update(d for d in self.damages if d is found or (first <= d.earliest and d.last <= to))
            self.destroyed += to + 1 - first
        self.next = max(self.next, to + 1)
        self._gaps += 1
        self._expected = self._remark = None

    def _hear(self, record: dict[str, Any]) -> None:
        match record["type"]:
            case "annotation":
                self.remarks += 1
                self._check_remark(record["message"])
            case "progress":
                self._progress = record["value"]
            case "summary":
                self.summary = record["markdown"]

    def _check_remark(self, text: str) -> None:
        """Behind all lines that were printed before it was made."""
        _a, number, said = (text + "  ").split(" ")[:3]
        if not number.isdigit():
            self.wrong.changed += 1
            return
        before = int(number) * every(self.lines)
        if said != value(self.seed, self.build, f"a{number}"):
            self.wrong.changed += 1
        elif number != str(self._remark or number) or (self._expected is not None and self._expected <= before):
            self.wrong.reordered += 1
        self._remark = int(number) + 1

    def _check(self, text: str) -> None:
        self.checked += 1
        _o, number, said = (text + "  ").split(" ")[:3]
        if self._expected is not None and number != str(self._expected):
            self.wrong.reordered += 1
        elif said != value(self.seed, self.build, number):
            self.wrong.changed += 1
        if number.isdigit():
            self._expected = int(number) + 1
        elif self._expected is not None:
            self._expected += 1

    @property
    def damaged(self) -> bool:
        """True if the log has a gap: then its attempt fails at its end."""
        return self._gaps > 0

    def _finish(self, end: dict[str, Any]) -> None:
        whole = end["complete"] and end["sha256"] == self._digest.hexdigest()
        good = end["complete"] or end["state"] == "succeeded"
        if end["lines"] != self.next - 1 or (good if self._gaps else not whole):
            self.wrong.unverified += 1
        if end["state"] != "lost":  # else the damage may have been at the end, which is cut off with a runner's death
            self.wrong.unsaid += len(set(self.damages) - self._said)
        if end["state"] != ("failed" if self._gaps else "succeeded"):
            return
        if self._expected is not None:
            self.wrong.lost += max(0, self.lines + 1 - self._expected)
        if self._remark is not None:
            self.wrong.lost += max(0, self.lines // every(self.lines) + 1 - self._remark)
            # With a gap behind them these may be in it.
            self.wrong.lost += (self._progress != 1) + (self.summary == "")
        self.wrong.changed += self.summary not in ("", value(self.seed, self.build, "summary"))
