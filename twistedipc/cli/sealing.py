"""`twistedipc secrets …`: the key by which an apiserver's secrets are sealed, on its own machine."""

from __future__ import annotations

import time
from pathlib import Path

import click

from twistedipc.builds.counts import counted
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.ledger import write_in_ledger
from twistedipc.cli.output import note
from twistedipc.storage.errors import LedgerTaken
from twistedipc.storage.guard import FolderLock, is_free
from twistedipc.storage.resealing import Resealed, reseal
from twistedipc.storage.secrets import SecretBox, SecretUnreadable
from twistedipc.taps.config import ApiserverConfig, ConfigError, load_apiserver

#: Seconds after which nothing is written any more that a running apiserver has sealed by the old key: longer than a
#: request may take.
IN_FLIGHT = 70


@click.group()
def secrets() -> None:
    """The key by which projects' secrets and builders' keys are sealed."""


@secrets.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="APISERVER.TOML",
    default=Path("apiserver.toml"),
    show_default=True,
    help="The apiserver's configuration.",
)
def rotate(config: Path) -> None:
    """Replace the key in secret.key: seal everything by a new one, then erase the old one.

    Run it on the apiserver's machine, as its user; the apiserver may be running. If it is interrupted, run it again.
    Backups from before can be opened with the old key alone: keep a copy of it as long as you keep them.
    """
    try:
        loaded = load_apiserver(config)
        box = SecretBox(loaded.secret_key)
        note("a new key was made" if box.begin_replacing() else "going on with what was begun before")
        done = write_in_ledger(loaded, reseal, box)
        _say(done)
        if _is_running(loaded):
            note(f"the apiserver is running: the old key stays for {IN_FLIGHT} s, for what is under way")
            time.sleep(IN_FLIGHT)
            done = write_in_ledger(loaded, reseal, box)
        box.end_replacing()
    except (ConfigError, SecretUnreadable) as error:
        raise Failure(ExitCode.USAGE, str(error)) from error
    note(f"done: {loaded.secret_key} holds the new key alone. Make a backup of it, apart from the database")
    if done.unreadable:
        raise Failure(
            ExitCode.NOT_SUCCEEDED, f"no key here opens {'; '.join(done.unreadable)}: set these secrets again"
        )


def _say(done: Resealed) -> None:
    already = f", {done.unchanged} {'was' if done.unchanged == 1 else 'were'} already" if done.unchanged else ""
    note(f"{counted(done.changed, 'secret is', 'secrets are')} sealed by it{already}")


def _is_running(config: ApiserverConfig) -> bool:
    """Return whether an apiserver works in the data folder now, or on the database."""
    lock = FolderLock(config.data, _NoPatience())
    try:
        lock.acquire()
    except LedgerTaken:
        return True
    lock.release()
    url = config.database_url
    return url.get_backend_name() != "sqlite" and not is_free(url)  # another may have the same key


class _NoPatience:
    """A clock by which all patience is over at once."""

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        """Return a time that jumps."""
        self._now += 1e6
        return self._now

    def sleep(self, seconds: float) -> None:
        """Wait for nothing."""
