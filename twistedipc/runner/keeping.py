"""
What an attempt takes over from earlier builds of its project, and leaves to later ones. Used by ``course``.

Restored before the first step of the build. Saved after a success, and only by a build that may go live: what a pull
request's build has written reaches no other build.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from twistedipc.builds.attempt import Spec
from twistedipc.builds.caches import Cache
from twistedipc.caches.store import ProjectCaches
from twistedipc.runner.attempt_log import AttemptLog


class Keeping:
    """
    The caches of one attempt.

    :param now: milliseconds since the epoch
    """

    def __init__(self, folder: Path, spec: Spec, log: AttemptLog, now: Callable[[], int]) -> None:
        self._folder = folder
        self._spec = spec
        self._log = log
        self._now = now
        self._caches: Sequence[Cache] = ()

    def restore(self, caches: Sequence[Cache]) -> bool:
        """
        Put what there is of these caches into the attempt's folder. Return whether those with a key, if there are any,
        are there whole.
        """
        if not self._spec.caches:
            return False
        self._caches = caches
        try:
            restored = ProjectCaches(Path(self._spec.caches), self._now).restore(caches, self._folder)
        except OSError as error:
            self._log.note("warning", f"what earlier builds kept can't be used: {error.strerror}")
            return False
        if restored:
            names = ", ".join(one.cache.name for one in restored)
            self._log.note("info", f"From earlier builds: {names}")
        keyed = {cache.name for cache in caches if cache.key}
        return bool(keyed) and keyed <= {one.cache.name for one in restored if one.whole}

    def save(self) -> None:
        """Keep what this attempt has made of its caches. No process of the build is alive, and none of it is needed."""
        if not self._caches:
            return
        try:
            ProjectCaches(Path(self._spec.caches), self._now).save(self._caches, self._folder)
        except OSError as error:
            self._log.note("warning", f"nothing is kept for later builds: {error.strerror}")
