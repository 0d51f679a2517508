"""
What the platform says of a step that has ended: why it failed, and what it left out though it succeeded. Used by
``course``; the table is ``builds.explanations``.

It is told from the journal, where what the build hides is hidden already, and costs nothing while a step runs.
"""

from __future__ import annotations

from pathlib import Path

from twistedipc.attempts.journal_tail import last_lines
from twistedipc.builds.explanations import explain_failure, explain_warnings, last_output
from twistedipc.builds.logs import Annotation
from twistedipc.runner.attempt_log import AttemptLog


def explained(folder: Path, log: AttemptLog, first: int, exit_code: int | None) -> str:
    """
    Put an annotation into the log that says why a step failed whose output begins at record ``first``. Return the same
    as the rest of a sentence, for the attempt's reason; "" if it isn't known.
    """
    known = explain_failure(_output(folder, first), exit_code)
    if known is None:
        return ""
    log.event(Annotation("error", known.sentences))
    return f": {log.hide(known.cause)}. {log.hide(known.cure)}"


def warn(folder: Path, log: AttemptLog, first: int) -> None:
    """Put annotations into the log on what a step that succeeded has left out."""
    log.events([Annotation("warning", known.sentences) for known in explain_warnings(_output(folder, first))])


def _output(folder: Path, first: int) -> str:
    try:
        return last_output(last_lines(folder, first))
    except OSError:  # the build goes on without it
        return ""
