"""
What each step of the attempt can see and use: the attempt's spec and what was found so far -> `Reach`. Used by
``course``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from twistedipc.attempts.mirrors import private_folder
from twistedipc.builds.attempt import Checkout, Spec
from twistedipc.isolation.reach import Reach
from twistedipc.isolation.steps import CHANNEL_INSIDE, Ground
from twistedipc.isolation.system import passwd, system
from twistedipc.runner.networking import Networking, Notes


class Reaching:
    """The reaches of one attempt's steps. Where steps aren't isolated, they are empty, and count for nothing."""

    def __init__(self, folder: Path, spec: Spec, log: Notes) -> None:
        self._spec = spec
        self.networking = Networking(spec, log)
        self._ground: Ground | None = None
        self._mirrors: list[str] = []
        isolation = spec.isolation
        if isolation.kind == "none":
            return
        self._ground = Ground(
            system=system(
                spec.environment.get("PATH", spec.path),
                spec.environment,
                home=str(folder / "home"),
                readable=isolation.readable,
            ),
            attempt=str(folder),
            hidden=[path for path in isolation.hidden if os.path.isdir(path)],
            hidden_files=[path for path in isolation.hidden if os.path.isfile(path)],
            toolchains=spec.tools.folder if spec.tools is not None else "",
        )

    def _folders(self, *, private: bool) -> list[str]:
        """Return the folders of the mirrors from which the attempt may take something."""
        mirrors = Path(self._spec.mirror).absolute().parent
        own = [str(private_folder(mirrors, self._spec.project))] if private else []
        return [str(mirrors), *own]

    @property
    def channel(self) -> str:
        """Where the steps of the build see the folder of their channel; "": where it is."""
        return CHANNEL_INSIDE if self._spec.isolation.kind == "bubblewrap" else ""

    def found(self, checkout: Checkout) -> None:
        """Note what the checkout has found."""
        mirrors = {checkout.mirror or self._spec.mirror, *checkout.mirrors}
        self._mirrors = sorted(mirror for mirror in mirrors if os.path.dirname(mirror) in self._folders(private=True))

    def checkout(self, *, private: bool) -> Reach:
        """Return the reach of the checkout. ``private``: it is given credentials."""
        if self._ground is None:
            return Reach()
        mirrors, repository = self._folders(private=private), self._spec.repository
        for folder in mirrors:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        if private:
            return self._ground.checkout(mirrors, repository=repository, private=True)
        home, keys = _of_user()
        reach = self._ground.checkout(mirrors, repository=repository, readable=keys)
        return replace(reach, files={**reach.files, "/etc/passwd": passwd(home)})

    def push(self, *, private: bool) -> Reach:
        """Return the reach of the step that pushes. ``private``: it is given credentials."""
        if self._ground is None:
            return Reach()
        if private:
            return self._ground.push(repository=self._spec.repository, private=True)
        home, keys = _of_user()
        reach = self._ground.push(repository=self._spec.repository, readable=keys)
        return replace(reach, files={**reach.files, "/etc/passwd": passwd(home)})

    def ask_remote(self, *, private: bool) -> Reach:
        """Return the reach of the process that asks a repository's host. ``private``: it is given credentials."""
        if self._ground is None:
            return Reach()
        if private:
            return self._ground.ask_remote(repository=self._spec.repository, private=True)
        home, keys = _of_user()
        reach = self._ground.ask_remote(repository=self._spec.repository, readable=keys)
        return replace(reach, files={**reach.files, "/etc/passwd": passwd(home)})

    def toolchain(self) -> Reach:
        """Return the reach of the step that fetches tools."""
        tools = self._spec.tools
        if self._ground is None or tools is None:
            return Reach()
        os.makedirs(tools.folder, exist_ok=True)
        return self._ground.toolchain(readable=[tools.userconfig] if tools.userconfig else [])

    def build(self) -> Reach:
        """Return the reach of a step of the build."""
        return self._ground.build(self._mirrors) if self._ground is not None else Reach()

    def pack(self) -> Reach:
        """Return the reach of the step that packs."""
        return self._ground.pack(self._mirrors) if self._ground is not None else Reach()

    def deliver(self, packed: Iterable[str], places: Iterable[str]) -> Reach:
        """
        Return the reach of a step that publishes.

        :param packed: what was packed for it: names in the attempt's folder
        :param places: folders of this machine to which the target delivers
        """
        return self._ground.deliver(packed, places) if self._ground is not None else Reach()


def _of_user() -> tuple[str, list[str]]:
    """
    Return the home of the builder's user, and where ssh looks for keys there. Where a project has no credentials, those
    of the builder's user count.
    """
    home = os.path.expanduser("~")
    return home, [f"{home}/.ssh", "/etc/ssh/ssh_config", "/etc/ssh/ssh_config.d", "/etc/ssh/ssh_known_hosts"]
