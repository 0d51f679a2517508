"""
How the upload of one attempt's archive fares, over all tries: what is wrong, when it is tried again, and when not any
more. Part of ``held``; asked and told by ``publishing``.

What counts against the limit is the time in which the apiserver is linked and its upload address all the same doesn't
answer as it does: then that address is wrong, or something before it stands in the way, and a person must change it. An
apiserver that restarts, or says itself that it can't now, costs nothing of it.
"""

from __future__ import annotations

from twistedipc.builder.offers import sendable
from twistedipc.builder.upload import UploadFailed, WrongArchive

#: Seconds until a broken-off upload is tried again, the first time; then twice as long each time, up to the second.
UPLOAD_INTERVAL = 2.0
LONGEST_INTERVAL = 30.0

#: How often an archive is uploaded whole that the apiserver then finds to be another than was announced: it may have
#: been changed on the way, but not for ever.
MAX_UPLOADS_REFUSED = 3

#: The most seconds that one try counts, with the pause before it: a process that was stopped is no judge of the time.
MOST_OF_A_TRY = 120.0


class UploadState:
    """Times are in seconds on the reactor's clock."""

    def __init__(self, limit: float) -> None:
        self.done = False
        self.under_way = False  # a try is
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
        """Note that a try begins."""
        self.under_way = True
        if self._since is None:
            self._since = now
        self._retry_at = now + self._pause

    def arrived(self, offset: int) -> None:
        """So much has arrived before this try. If that is more than before, it is only slow."""
        if offset > self._offset:
            self._offset, self._counted, self._pause = offset, 0.0, UPLOAD_INTERVAL

    def failed(self, now: float, error: Exception) -> str:
        """The try has failed. Why the upload is to be given up, or ""."""
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
        """The link is gone: what passes until there is another doesn't count, and the next one begins at once."""
        self._since = None
        self._retry_at = 0.0
        self._pause = UPLOAD_INTERVAL
