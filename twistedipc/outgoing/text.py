"""What is said of a build, in sentences. Pure."""

from __future__ import annotations

import re
from typing import Final

from twistedipc.builds.names import shown
from twistedipc.builds.states import Phase
from twistedipc.outgoing.told import At, Told

#: The most characters of a commit status' description: GitHub's limit.
MAX_DESCRIPTION: Final = 140

#: The most characters of a reason.
MAX_REASON: Final = 1000

_SAID: Final[dict[Phase, str]] = {
    Phase.QUEUED: "waits in the queue",
    Phase.RUNNING: "runs",
    Phase.WAITING: "waits for an approval",
    Phase.SUCCEEDED: "succeeded",
    Phase.FAILED: "failed",
    Phase.CANCELLED: "was cancelled",
    Phase.TIMED_OUT: "took too long",
    Phase.LOST: "was lost",
}


def took(told: Told) -> str:
    """Return how long it took: "in 1 min 5 s"; "" if that isn't known."""
    if not told.started or told.ended < told.started:
        return ""
    seconds = round((told.ended - told.started) / 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (seconds, "s")]
    return "in " + (" ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s")


def became(told: Told) -> str:
    """Return what became of it: "failed in 5 s"."""
    if told.event == "live":
        return "is live"
    if told.event == "fixed":
        return f"succeeded again {took(told)}".strip()
    ended = told.phase in (Phase.SUCCEEDED, Phase.FAILED, Phase.TIMED_OUT)
    return f"{_SAID[told.phase]} {took(told) if ended else ''}".strip()


def headline(told: Told) -> str:
    """Return the one sentence: "shop: build 17 of main failed in 5 s"."""
    return f"{told.project}: build {told.build} of {line(told.ref)} {became(told)}"


def description(told: Told, at: At) -> str:
    """Return what a commit's status says: first the address of what it has released, if there is one."""
    said = f"Build {told.build} {became(told)}"
    if at.site and told.phase is Phase.SUCCEEDED:
        said = f"{at.site} – {said}"
    return shown(said, MAX_DESCRIPTION)


def reason(told: Told) -> str:
    """Return why it is so, cut, and without what isn't to be seen."""
    return shown(told.reason, MAX_REASON, lines=True)


def line(text: str) -> str:
    """Return a stranger's text as one line."""
    return shown(" ".join(text.split()), 200)


def fenced(text: str) -> str:
    """Return text as a block of Markdown in which nothing has a meaning: no mention, no link, no reference."""
    longest = max((len(found) for found in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def markdown(told: Told, at: At) -> str:
    """Return the comment of a pull request, without its mark: first the address of what was released."""
    parts = []
    if at.site:
        parts.append(f"**{at.site}**")
    parts.append(f"[Build {told.build}]({at.build}) of `{told.project}` {became(told)}."
                 + (f" Commit {told.commit[:12]}." if told.commit else ""))  # fmt: skip
    if told.reason:
        parts.append(fenced(reason(told)))
    return "\n\n".join(parts)
