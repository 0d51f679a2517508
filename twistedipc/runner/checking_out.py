"""
The checkout step, as the runner sees it: what the step is given, and what it has found. Used by ``course``.

A deploy key or a token is on disk only while the step runs: in a folder of its own, which nobody else can read, and of
which no step has the name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from twistedipc.attempts.folder import CREDENTIALS
from twistedipc.builds.access import Access
from twistedipc.builds.attempt import Checkout, Contact
from twistedipc.disk.calls import DiskCalls
from twistedipc.disk.files import PASSING_ERRORS, remove_tree, write_file
from twistedipc.runner.findings import BadFinding, Findings

#: What the step has found; packing needs it too.
_FOUND = "checkout.json"


class CheckingOut:
    """The checkout step of one attempt."""

    def __init__(self, folder: Path, findings: Findings, disk: DiskCalls) -> None:
        self._folder = folder
        self._findings = findings
        self._disk = disk
        #: what the step is given; None: the repository is read without credentials
        self.access: Access | None = None
        #: what it has found, once it has
        self.found: Checkout | None = None
        #: the host keys that were seen for the first time, even if the step failed after that
        self.host_keys: list[str] = []

    @property
    def secrets(self) -> list[str]:
        """What must not be seen in its output."""
        return [] if self.access is None else [value for value in (self.access.token, self.access.key) if value]

    @contextmanager
    def given(self, persist: Callable[[Callable[[], bool]], None]) -> Iterator[None]:
        """
        Have what the step is given on disk. What it has found is read at the end.

        :param persist: calls a function that writes until the disk has had room
        """
        (self._folder / _FOUND).unlink(missing_ok=True)
        try:
            with self.credentials(persist):
                yield
        finally:
            self._read()

    @contextmanager
    def credentials(self, persist: Callable[[Callable[[], bool]], None]) -> Iterator[None]:
        """Have the credentials on disk, if there are some: for this step, or for the one that pushes."""
        credentials = self._folder / CREDENTIALS
        try:
            if self.access is not None:
                persist(lambda: self._write(credentials))
            yield
        finally:
            if credentials.exists():
                remove_tree(credentials)

    def _write(self, credentials: Path) -> bool:
        assert self.access is not None
        access = self.access
        if self.host_keys:  # which the checkout has seen: no other is trusted after that
            access = replace(access, known_hosts=self.host_keys)
        try:
            credentials.mkdir(mode=0o700, exist_ok=True)
            write_file(credentials / "access.json", access, mode=0o600, disk=self._disk)
        except OSError as error:
            if error.errno not in PASSING_ERRORS:
                raise
            return False
        return True

    def _read(self) -> None:
        try:
            contact = self._findings.read("contact.json", Contact)
        except BadFinding:
            contact = None
        self.host_keys = contact.host_keys if contact else []
        self.found = self._findings.read(_FOUND, Checkout)
        self._findings.keep(_FOUND)
