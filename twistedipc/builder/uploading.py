"""
The upload of one attempt's archive over all its tries: what went wrong, when to try again, and when to give up. Part of
``held``; used by ``publishing``.

What counts against the limit is the time during which the apiserver is linked but its upload address doesn't answer as
an apiserver does. Then that address is wrong, or a proxy is in the way, and a person must change that. The time while
an apiserver restarts, or answers that it can't store the archive now, doesn't count.
"""

from __future__ import annotations

from twistedipc.builder.offers import sendable
from twistedipc.builder.upload import UploadFailed, WrongArchive

#: Seconds until a broken-off upload is tried again, the first time; then twice as long each time, up to the second.
UPLOAD_INTERVAL = 2.0
LONGEST_INTERVAL = 30.0

#: How often an archive is uploaded that the apiserver then finds to be another than the announced one: it may have been
#: damaged on the way once, but not each time.
MAX_UPLOADS_REFUSED = 3

#: The most seconds that one try counts, with the wait before it, so that a stopped process doesn't count its own pause
#: in full.
MOST_OF_A_TRY = 120.0


class UploadState:
    """The tries of one upload. Times are seconds on the monotonic clock."""

    def __init__(self, limit: float) -> None:
        self.done = False
        self.under_way = False  # True during a try
        self.trouble = ""  # what went wrong the last time, for people
        self._limit = limit
        self._retry_at = 0.0
        self._counted = 0.0  # seconds in which it has failed for a reason that counts
        self._since: float | None = None  # when the last try ended, or the first began
        self._pause = UPLOAD_INTERVAL
        self._refused = 0  # how often all of the archive had arrived and wasn't what it should be
        self._offset = 0  # bytes that had arrived before the last try

    def due(self, now: float) -> bool:
        """Return whether it is time for a try."""
        return not self.under_way and now >= self._retry_at

    def begins(self, now: float) -> None:
        """Note that a try of the upload begins."""
        self.under_way = True
        if self._since is None:
            self._since = now
        self._retry_at = now + self._pause

    def arrived(self, offset: int) -> None:
        """Note how much had arrived before this try. If that is more than the last time, the upload is only slow."""
        if offset > self._offset:
            self._offset, self._counted, self._pause = offset, 0.0, UPLOAD_INTERVAL

    def failed(self, now: float, error: Exception) -> str:
        """Note that the try has failed; return why the upload is to be given up, or "" if it isn't."""
        self.trouble = sendable(str(error) or type(error).__name__)
        if isinstance(error, WrongArchive):
            self._refused += 1
            if self._refused >= MAX_UPLOADS_REFUSED:
                return self.trouble
        if not (isinstance(error, UploadFailed) and error.passes) and self._since is not None:
            self._counted += min(now - self._since, MOST_OF_A_TRY)
        self._since = now
        self._retry_at = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_INTERVAL)
        if self._counted >= self._limit:
            return f"{self.trouble}; it was tried for {max(1, round(self._counted / 60))} min"
        return ""

    def interrupted(self) -> None:
        """Note that the link is gone: the time until the next link doesn't count, and a try is due at once then."""
        self._since = None
        self._retry_at = 0.0
        self._pause = UPLOAD_INTERVAL
