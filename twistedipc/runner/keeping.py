"""
What an attempt takes over from earlier builds of its project, and leaves to later ones. Used by ``course``.

Restored before the first step of the build. Saved after a success, and only by a build that may go live: what a pull
request's build has written reaches no other build.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from twistedipc.builds.attempt import Spec
from twistedipc.builds.caches import Cache, caches_of
from twistedipc.builds.plan import Plan
from twistedipc.builds.recognition.recognised import PlannedStep
from twistedipc.caches import moving
from twistedipc.caches.store import ProjectCaches
from twistedipc.runner.attempt_log import AttemptLog
from twistedipc.runner.modules import Modules, state_of, tools_own


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
        self._modules: Modules | None = None
        self._installed = ""  # what node_modules were like when they had been installed; "": they weren't, by us
        self._tools_own: frozenset[str] = frozenset()  # what was in them then that the install hadn't made

    def restore(self, plan: Plan, modules: Modules | None) -> bool:
        """
        Put into the attempt's folder what there is of a plan's caches. Return whether ``modules`` are there whole, so
        that they needn't be installed.
        """
        if not self._spec.caches:
            return False
        self._modules = modules
        folders, key = (modules.installed.folders, modules.key) if modules is not None else ([], "")
        self._caches = caches_of(plan.roots, plan.caches, modules=folders, key=key)
        try:
            kept = ProjectCaches(Path(self._spec.caches), self._now)
            kept.set_rule(self._spec.caches_kept)
            restored = kept.restore(self._caches, self._folder)
        except OSError as error:
            self._log.note("warning", f"what earlier builds kept can't be used: {error.strerror}")
            return False
        if restored:
            names = ", ".join(one.cache.name for one in restored)
            self._log.note("info", f"From earlier builds: {names}")
        return any(one.cache.key and one.whole for one in restored)

    def installed(self, step: PlannedStep) -> None:
        """Note that a step has succeeded: if it installs, what is there now can be kept."""
        if self._modules is not None and step == self._modules.install:
            work = self._folder / "work"
            self._installed = state_of(work, self._modules.installed)
            self._tools_own = tools_own(work, self._modules.installed)

    def save(self) -> None:
        """Keep what this attempt has made of its caches. No process of the build is alive, and none of it is needed."""
        if not self._caches:
            return
        try:
            caches = ProjectCaches(Path(self._spec.caches), self._now, refused=self._refused)
            # What tools keep in node_modules first: it is moved out of them then.
            caches.save([cache for cache in self._caches if not cache.key], self._folder)
            if self._modules is not None and self._as_installed():
                self._set_aside(tools_own(self._folder / "work", self._modules.installed) - self._tools_own)
                caches.save([cache for cache in self._caches if cache.key], self._folder)
        except OSError as error:
            self._log.note("warning", f"nothing is kept for later builds: {error.strerror}")

    def _set_aside(self, paths: Iterable[str]) -> None:
        """Move parts of the working copy to another folder of the attempt, with which they go."""
        aside = self._folder / "aside"
        aside.mkdir(exist_ok=True)
        for number, path in enumerate(paths):
            moving.set_aside(self._folder / "work", path, aside / str(number))

    def _refused(self, why: str) -> None:
        self._log.note("warning", f"for later builds {why}")

    def _as_installed(self) -> bool:
        """Whether node_modules were installed here, and the build has left them as they were."""
        assert self._modules is not None
        now = state_of(self._folder / "work", self._modules.installed)
        return bool(self._installed) and self._installed == now
