"""
What the checkout shows to the repository's own host: a deploy key for ssh, or a token for https. Used by
``working_copy``.

They are in files (0600) that are removed when the step ends, and never in an environment, a configuration
that stays, or a command line. git and ssh themselves hold them to their host: git asks a helper of this host only, and
ssh has the key for this host only.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from twistedipc.builds import names
from twistedipc.builds.access import Access, ssh_place

#: The file in the folder in which the runner gives the step its `Access`.
ACCESS = "access.json"

#: What is made beside it.
_MADE = ("key", "known_hosts", "ssh_config", "answer")


class Credentials:
    """
    The credentials of one checkout, to be entered; none, if ``access`` is None. Raises OSError.

    :param folder: where the files are made
    :param repository: the one that is checked out, in whose address the host's name may have capitals
    """

    def __init__(self, folder: Path, access: Access | None, repository: str) -> None:
        self._folder = folder
        self._access = access
        self._repository = repository

    def __enter__(self) -> Credentials:
        access = self._access
        if access is not None:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if access.key:
                self._write("key", access.key)
                self._write("known_hosts", "".join(f"{line}\n" for line in access.known_hosts))
                self._write("ssh_config", self._ssh_config(access))
            if access.token:
                self._write("answer", f"username={access.username}\npassword={access.token}\n")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for name in _MADE:
            (self._folder / name).unlink(missing_ok=True)

    def are_for(self, repository: str) -> bool:
        """Return whether these are shown to the host of this repository."""
        return self._access is not None and names.host(repository) == self._access.host

    @property
    def access(self) -> Access | None:
        """What they are made of."""
        return self._access

    @property
    def environment(self) -> Mapping[str, str]:
        """What git's environment has because of them: no secret."""
        if self._access is None or not self._access.key:
            return {}
        return {"GIT_SSH_COMMAND": f"ssh -F {shlex.quote(str(self._folder / 'ssh_config'))}", "GIT_SSH_VARIANT": "ssh"}

    @property
    def settings(self) -> Sequence[str]:
        """git's settings because of them: no secret."""
        if self._access is None or not self._access.token:
            return ()
        host = self._access.host
        answer = shlex.quote(str(self._folder / "answer"))
        name = host.partition("://")[2].partition(":")[0]
        return (
            "credential.helper=",  # an operator's own would be asked first, and told of ours
            f'credential.{host}.helper=!f() {{ test "$1" = get && cat {answer}; }}; f',
            # A submodule of this host that is named by its address for ssh, which a token can't be used for.
            f"url.{host}/.insteadOf=git@{name}:",
            f"url.{host}/.insteadOf=ssh://git@{name}/",
        )

    def contacted(self) -> list[str]:
        """Return the lines of the host keys that were shown at the first contact; none if some were known before."""
        access = self._access
        if access is None or not access.key or access.known_hosts:
            return []
        try:
            lines = (self._folder / "known_hosts").read_text("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return []
        place = ssh_place(access.host)
        return [line for line in lines if line.split(" ")[0] == place]

    def _ssh_config(self, access: Access) -> str:
        name = access.host.removeprefix("ssh://")
        name = name.rpartition(":")[0] if ssh_place(access.host).startswith("[") else name
        name = name.strip("[]")
        written = re.search(re.escape(name), self._repository, re.IGNORECASE)
        if written is not None and written.group() != name:
            name = f"{name} {written.group()}"  # ssh compares names as they are written
        others = " ".join(f"!{each}" for each in name.split())
        # The first value of a setting counts. What isn't this host's has no key at all.
        return (
            f"Host {name}\n"
            f"  IdentityFile {_path(self._folder / 'key')}\n"
            f"Host * {others}\n"
            f"  IdentityFile none\n"
            f"Host *\n"
            f"  IdentitiesOnly yes\n"
            f"  IdentityAgent none\n"
            f"  BatchMode yes\n"
            f"  PreferredAuthentications publickey\n"
            f"  StrictHostKeyChecking {'yes' if access.known_hosts else 'accept-new'}\n"
            f"  UserKnownHostsFile {_path(self._folder / 'known_hosts')}\n"
            f"  GlobalKnownHostsFile /dev/null\n"
            f"  HashKnownHosts no\n"
            f"  UpdateHostKeys no\n"
            f"  CheckHostIP no\n"
            f"  ForwardAgent no\n"
            f"  ConnectTimeout 30\n"
            f"  ServerAliveInterval 30\n"
        )

    def _write(self, name: str, text: str) -> None:
        descriptor = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)


def _path(path: Path) -> str:
    """Return a path as ssh_config has it: in quotes, without its tokens."""
    return '"' + str(path).replace("%", "%%") + '"'
