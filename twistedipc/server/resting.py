"""
Which builders are not asked for a while, because they declined an offer or didn't answer it. Used by ``builders``,
which notes what each builder answers, by ``dispatch``, which asks before each offer, and by ``waiting``.

A builder whose disk is full or whose program is broken has all its slots free: it would be offered everything, again
and again, while a builder that works is idle. So it rests, for a pause that grows with each bad answer, until a good
one or until it is started again. The attempt rests too, for that builder alone and twice as long: what one builder can
never take must not keep it from what is behind in the queue. While there is no other builder, the attempt is only put
behind the others, pauses stay short, and a builder that didn't answer is asked again at once.

All of it is in memory. An apiserver that starts asks every builder again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twistedipc.ipc import PeerInfo

#: Seconds of the first pause of a builder that declined, and of one that didn't answer (which has cost the attempt the
#: time until the offer expired).
DECLINED_PAUSE = 2.0
SILENT_PAUSE = 10.0

#: The longest pause, in seconds; and the longest while no other builder could take what it doesn't.
LONGEST_PAUSE = 120.0
LONGEST_PAUSE_ALONE = 10.0

#: How many builders, and pairs of builder and attempt, are remembered. The oldest are forgotten first.
MAX_REMEMBERED = 1000

_K = TypeVar("_K")


@dataclass
class Trouble:
    """What a builder answered last, if that was bad."""

    answer: str  # a sentence without its subject: "declined it: the disk is full"
    count: int = 0  # bad answers in a row
    until: float = 0.0  # on the clock: when it may be asked again
    incarnation: str = ""  # of the builder: another one was started since, and may be well
    aside: bool = False  # of an attempt: it is only put aside, while there are others


class Resting:
    """
    :param wake: called when a pause is over.
    """

    def __init__(self, clock: IReactorTime, wake: Callable[[], None]) -> None:
        self._clock = clock
        self._wake = wake
        self._builders: dict[str, Trouble] = {}
        self._pairs: dict[tuple[str, str], Trouble] = {}  # (builder, attempt)
        self._timer: IDelayedCall | None = None

    def declined(self, builder: PeerInfo, attempt: str, reason: str, *, alone: bool) -> str:
        """
        The builder declined the attempt. ``alone``: there is no other builder that could take it. Return what happened,
        in a sentence.
        """
        return self._failed(builder, attempt, f"declined it: {reason}", DECLINED_PAUSE, alone)

    def silent(self, builder: PeerInfo, attempt: str, seconds: float, *, alone: bool) -> str:
        """The builder didn't answer the offer within ``seconds``; otherwise as `declined`."""
        answer = f"didn't answer the offer within {seconds:.0f} s"
        return self._failed(builder, attempt, answer, SILENT_PAUSE, alone, at_once=alone)

    def left(self, builder: PeerInfo, attempt: str, *, alone: bool) -> str:
        """
        The builder's link was lost before it answered; otherwise as `declined`. A builder that died of the offer would
        die again, so a new incarnation alone doesn't end its pause.
        """
        answer = self._failed(builder, attempt, "left before it answered the offer", DECLINED_PAUSE, alone)
        self._builders[builder.name].incarnation = ""
        return answer

    def took(self, builder: str, attempt: str) -> None:
        """The builder accepted the attempt: all is well with it."""
        self._builders.pop(builder, None)
        self.forget_attempt(attempt)

    def came(self, builder: str, incarnation: str) -> None:
        """The builder has linked. If it was started again, what was wrong with it may be mended."""
        trouble = self._builders.get(builder)
        if trouble is None or not trouble.incarnation or trouble.incarnation == incarnation:
            return
        del self._builders[builder]
        for pair in [pair for pair in self._pairs if pair[0] == builder]:
            del self._pairs[pair]

    def forget_attempt(self, attempt: str) -> None:
        """Forget an attempt that isn't queued any more."""
        for pair in [pair for pair in self._pairs if pair[1] == attempt]:
            del self._pairs[pair]

    def trouble(self, builder: str, attempt: str = "") -> Trouble | None:
        """
        Return what was wrong the last time with this builder, or with this attempt on it; None if the last answer was
        good, or there was none yet. The builder rests until `Trouble.until`.
        """
        now = self._clock.seconds()
        pair = self._pairs.get((builder, attempt))
        if pair is not None and pair.until > now:
            return pair
        return self._builders.get(builder, pair)

    def rests(self, builder: str, attempt: str = "") -> bool:
        """Return whether the builder is not to be asked now: at all, or for this attempt."""
        trouble = self.trouble(builder, attempt)
        return trouble is not None and trouble.until > self._clock.seconds()

    @property
    def attempts(self) -> int:
        """The most attempts for which a builder with a free slot may not be asked."""
        return len(self._pairs)

    def stop(self) -> None:
        """Stop the timer: `wake` isn't called any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def put_aside(self, builder: str, attempt: str) -> bool:
        """Return whether the builder may be asked for this attempt all the same, if there is no other to ask for."""
        pair = self._pairs.get((builder, attempt))
        return pair is not None and pair.aside and not self.rests(builder)

    def _failed(
        self, builder: PeerInfo, attempt: str, answer: str, first: float, alone: bool, *, at_once: bool = False
    ) -> str:
        longest = LONGEST_PAUSE_ALONE if alone else LONGEST_PAUSE
        now = self._clock.seconds()
        trouble = _remembered(self._builders, builder.name)
        trouble.answer, trouble.incarnation = answer, builder.incarnation
        if trouble.until <= now:  # else it is one of several that were offered before the pause
            trouble.count += 1
            trouble.until = now if at_once else now + _pause(first, trouble.count, longest)
        pair = _remembered(self._pairs, (builder.name, attempt))
        pair.answer, pair.aside = answer, alone
        pair.count += 1
        pair.until = now + 2 * _pause(first, pair.count, longest)
        self._arm()
        return f"builder {builder.name} {answer}"

    def _arm(self) -> None:
        """Wake when the first pause is over."""
        self.stop()
        now = self._clock.seconds()
        due = [each.until for each in (*self._builders.values(), *self._pairs.values()) if each.until > now]
        if due:
            self._timer = self._clock.callLater(min(due) - now, self._over)

    def _over(self) -> None:
        self._timer = None
        self._arm()
        self._wake()


def _pause(first: float, count: int, longest: float) -> float:
    return min(first * 2.0 ** min(count - 1, 16), longest)


def _remembered(troubles: dict[_K, Trouble], key: _K) -> Trouble:
    """Return the trouble of this key, made if there is none, as the newest one."""
    trouble = troubles.pop(key, None) or Trouble(answer="")
    troubles[key] = trouble
    while len(troubles) > MAX_REMEMBERED:
        del troubles[next(iter(troubles))]
    return trouble
