"""
``python -m twistedipc.publish.ask``: a process of the apiserver's that speaks with a target's registry, see
`publish.asking`. The token and a one-time password are on its standard input alone. It dies with the apiserver.
"""

from __future__ import annotations

import os
import signal
import sys

import msgspec

from twistedipc.attempts.processes import die_with_parent
from twistedipc.builds.names import BadValue
from twistedipc.publish.asking import Answered, CantAnswer, Question
from twistedipc.publish.targets.registry import TARGETS

#: The most bytes of a question.
MAX_QUESTION = 4 << 20

#: Seconds for all of it, after which the process ends by a signal.
DEADLINE = 120


def answer(question: Question) -> Answered:
    """Ask the registry."""
    try:
        settings = TARGETS.read([question.settings])[0]
        return TARGETS.of(settings).ask(settings, question)
    except (BadValue, CantAnswer, OSError) as error:
        return Answered(reason=str(error))


def main() -> int:
    """Answer one question. Return the exit code."""
    die_with_parent(sys.stdout.fileno())
    signal.alarm(DEADLINE)
    question = msgspec.json.decode(sys.stdin.buffer.read(MAX_QUESTION), type=Question)
    os.environ.update(question.environment)
    sys.stdout.buffer.write(msgspec.json.encode(answer(question)) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
