"""
The oracle: a build whose every line can be told in advance, and the count of what is wrong with what a viewer got.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

# It prints in small bursts, as builds do; and notes its start in a file that nothing else writes.
_SCRIPT = """
import hashlib, os, sys, time
seed, build, lines = os.environ["ORACLE_SEED"], os.environ["TWISTEDIPC_BUILD"], int(os.environ["ORACLE_LINES"])
with open(os.environ["ORACLE_STARTS"], "a") as starts:
    starts.write(os.environ["TWISTEDIPC_ATTEMPT"] + "\\n")
for number in range(1, lines + 1):
    print("o", number, hashlib.sha256(f"{seed}:{build}:{number}".encode()).hexdigest()[:16])
    if number % 10 == 0:
        sys.stdout.flush()
        time.sleep(float(os.environ["ORACLE_PAUSE"]))
"""


def files() -> dict[str, str]:
    """The files of the oracle's repository."""
    run = json.dumps(f"{sys.executable} -I oracle.py")
    return {
        "oracle.py": _SCRIPT,
        ".twistedipc.toml": f'[build]\nsteps = [{{name = "oracle", run = {run}}}]\n',
    }


def parameters(seed: int, lines: int, pause: float, starts: Path) -> dict[str, str]:
    """The parameters of an oracle build."""
    return {
        "ORACLE_SEED": str(seed),
        "ORACLE_LINES": str(lines),
        "ORACLE_PAUSE": str(pause),
        "ORACLE_STARTS": str(starts),
    }


@dataclass
class Wrong:
    """What is wrong, counted."""

    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    changed: int = 0
    unverified: int = 0  # logs whose end doesn't agree with what was seen

    def add(self, other: Wrong) -> None:
        """Sum up."""
        self.lost += other.lost
        self.duplicated += other.duplicated
        self.reordered += other.reordered
        self.changed += other.changed
        self.unverified += other.unverified

    @property
    def total(self) -> int:
        """All of it."""
        return self.lost + self.duplicated + self.reordered + self.changed + self.unverified


@dataclass
class LogCheck:
    """What one viewer has seen of one attempt's log, over all its connections, against what it must see."""

    seed: int
    build: int
    lines: int  # that the oracle prints
    next: int = 1  # the number of the record that must come
    checked: int = 0  # oracle's lines
    wrong: Wrong = field(default_factory=Wrong)
    end: dict[str, Any] | None = None
    _expected: int | None = 1  # the oracle's next line; None after a gap: whichever comes
    _digest: Any = field(default_factory=hashlib.sha256)

    def take(self, message: dict[str, Any]) -> None:
        """One message of the stream, as JSON has it."""
        match message["type"]:
            case "lines":
                for number, record in enumerate(message["lines"], message["first"]):
                    self._take(number, record)
            case "gap":
                self.wrong.lost += max(0, message["to"] + 1 - self.next)
                self.next = max(self.next, message["to"] + 1)
                self._expected = None
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
        if text.startswith("o ") and isinstance(record, str):
            self._check(text)

    def _check(self, text: str) -> None:
        self.checked += 1
        _o, number, value = (text + "  ").split(" ")[:3]
        if self._expected is not None and number != str(self._expected):
            self.wrong.reordered += 1
        elif value != hashlib.sha256(f"{self.seed}:{self.build}:{number}".encode()).hexdigest()[:16]:
            self.wrong.changed += 1
        if number.isdigit():
            self._expected = int(number) + 1
        elif self._expected is not None:
            self._expected += 1

    def _finish(self, end: dict[str, Any]) -> None:
        if end["lines"] != self.next - 1 or end["sha256"] != self._digest.hexdigest() or not end["complete"]:
            self.wrong.unverified += 1
        if end["state"] == "succeeded" and self._expected is not None:
            self.wrong.lost += max(0, self.lines + 1 - self._expected)
