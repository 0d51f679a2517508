"""
The reach of each kind of step of an attempt. Pure; used by ``runner``.

What a step of the platform's own finds, it writes into a folder of its own (`OUT`), which is empty at its start and
which no other step sees; the runner takes it from there when the step's processes are gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from twistedipc.attempts.folder import CREDENTIALS, LIVE_FILES, OUT, RELEASE, STORED, VERSIONS
from twistedipc.isolation.reach import PLATFORM, Network, Reach

#: The folder in the attempt's folder that has the step's channel, and where the step finds that.
CHANNEL = "channel"
CHANNEL_INSIDE = f"{PLATFORM}/{CHANNEL}"

#: What the steps of the build can write to, in the attempt's folder.
_BUILDS = ("work", "home", "tmp", "caches")


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What the reaches of an attempt's steps have in common."""

    system: Reach  # what all steps see of the machine
    attempt: str  # the attempt's folder
    hidden: Sequence[str] = ()  # folders of the builder's own
    hidden_files: Sequence[str] = ()
    toolchains: str = ""  # the folder of the tools that the builder has fetched; "": there is none

    def checkout(
        self, mirrors: Iterable[str], *, repository: str, private: bool = False, readable: Iterable[str] = ()
    ) -> Reach:
        """
        Return the reach of the checkout.

        :param mirrors: the folders of the repositories' mirrors
        :param repository: its address
        :param private: whether it is given what the repository's host is shown
        :param readable: what it is given beside that, such as the files of the operator's ssh
        """
        local = repository.removeprefix("file://")
        return self._of(
            readable=[*([local] if local.startswith("/") else []), *readable],
            own=("spec.json",),
            writable=("work", "home", "tmp", *([CREDENTIALS] if private else []), OUT),
            others=mirrors,
            network="joined",
        )

    def push(self, *, repository: str, private: bool = False, readable: Iterable[str] = ()) -> Reach:
        """
        Return the reach of the step that pushes a commit. It sees nothing that the build could write to.

        :param repository: its address
        :param private: whether it is given what the repository's host is shown
        :param readable: what it is given beside that, such as the files of the operator's ssh
        """
        local = repository.removeprefix("file://")
        return self._of(
            readable=readable,
            own=("spec.json", "checkout.json", RELEASE),
            writable=(*([CREDENTIALS] if private else []), OUT),
            others=[local] if local.startswith("/") else [],
            network="joined",
        )

    def ask_remote(self, *, repository: str, private: bool = False, readable: Iterable[str] = ()) -> Reach:
        """Return the reach of the process that asks a repository's host without a checkout; see `push`."""
        local = repository.removeprefix("file://")
        return self._of(
            readable=[*([local] if local.startswith("/") else []), *readable],
            own=("question.json",),
            writable=(*([CREDENTIALS] if private else []), OUT),
            network="joined",
        )

    def toolchain(self, *, readable: Iterable[str] = ()) -> Reach:
        """Return the reach of the step that fetches tools. ``readable``: the operator's settings of npm."""
        return self._of(
            readable=readable,
            own=("spec.json", "tools-wanted.json"),
            writable=("home", "tmp", OUT),
            others=[self.toolchains],
            network="joined",
        )

    def build(self, mirrors: Iterable[str]) -> Reach:
        """Return the reach of a step of the build. ``mirrors``: those from which the working copy borrows."""
        return self._of(
            readable=[*self._tools, *(f"{mirror}/objects" for mirror in mirrors)],
            own=("bin",),
            writable=_BUILDS,
            elsewhere={CHANNEL_INSIDE: f"{self.attempt}/{CHANNEL}"},
            network="joined",
        )

    def pack(self, mirrors: Iterable[str]) -> Reach:
        """Return the reach of the step that packs what was built. ``mirrors``: those that have its commit."""
        return self._of(
            readable=[*self._tools, *mirrors],
            own=("spec.json", "plan.json", "checkout.json", VERSIONS, STORED, LIVE_FILES, "work", "tmp"),
            writable=(OUT,),
            network="none",
        )

    def deliver(self, packed: Iterable[str], places: Iterable[str] = ()) -> Reach:
        """
        Return the reach of a step that publishes.

        :param packed: what was packed for it: names in the attempt's folder
        :param places: folders of this machine to which the target delivers
        """
        return self._of(
            readable=self._tools,
            own=("spec.json", *packed),
            writable=(OUT,),
            others=places,
            network="joined",
        )

    @property
    def _tools(self) -> list[str]:
        # Not all of the store: a build that can open its locks for reading can hold them, and others would wait.
        return [f"{self.toolchains}/entries"] if self.toolchains else []

    def _of(
        self,
        *,
        readable: Iterable[str],
        own: Iterable[str],
        writable: Iterable[str],
        network: Network,
        others: Iterable[str] = (),
        elsewhere: Mapping[str, str] = {},
    ) -> Reach:
        """
        Return a reach.

        :param own: names in the attempt's folder that it reads
        :param writable: names in the attempt's folder to which it writes
        :param others: paths elsewhere to which it writes
        """
        return replace(
            self.system,
            readable=[*self.system.readable, *readable, *(f"{self.attempt}/{name}" for name in own)],
            writable=[*(f"{self.attempt}/{name}" for name in writable), *others],
            hidden=self.hidden,
            hidden_files=self.hidden_files,
            elsewhere={**self.system.elsewhere, **elsewhere},
            network=network,
        )
