"""
The publish step, started by the runner once publishing was permitted (see ``__main__``); its output is the log. It is
the only step of an attempt that has a target's secrets, in its environment.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from twistedipc.attempts.folder import out_of, package_file, read_packages, step_failed
from twistedipc.builds.attempt import Published, Spec
from twistedipc.builds.names import BadValue
from twistedipc.disk.files import read_file, write_file
from twistedipc.publish.record import MemoryRecord, PersonNeeded, Record, RecordLost
from twistedipc.publish.stored import MAX_START, Start, ToldRecord
from twistedipc.publish.targets.registry import TARGETS, find, offered
from twistedipc.publish.targets.target import CantDeliver, CantPrepare, Delivery

#: The descriptor by which a step that the apiserver has published is told where it is, and says its rows: its input.
CHANNEL = 0


class Told:
    """What the process that started the step tells it: nothing, on a builder."""

    def __init__(self, channel: BinaryIO | None) -> None:
        self._channel = channel
        self.start = Start()
        if channel is not None:
            self.start = msgspec.json.decode(channel.readline(MAX_START), type=Start)

    def record(self, packages: int, secrets: dict[str, str]) -> Record:
        """
        Return where the steps are written down: by the apiserver, which may renew the secrets meanwhile, or only in
        this process.
        """
        if self._channel is None:
            return MemoryRecord(packages)
        return ToldRecord(self.start, self._channel, secrets.update)

    @property
    def asks(self) -> bool:
        """Whether a person can be asked."""
        return self._channel is not None

    def needs(self, needed: PersonNeeded) -> None:
        """Say that a person is needed."""
        if self._channel is not None:
            ToldRecord(self.start, self._channel).needs(str(needed), needed.password)


def run(folder: Path, name: str, told: Told) -> Iterator[Published]:
    """
    Deliver what the target of this name has prepared, and yield what became of each package. Raises `CantDeliver`,
    `CantPrepare`, `PersonNeeded`, `RecordLost`, or OSError.
    """
    spec = read_file(folder / "spec.json", Spec)
    packages = read_packages(folder, name)
    if spec is None or not packages:
        raise CantDeliver(f"the attempt's folder has no spec.json or no {package_file(name)}")
    settings = find(offered(spec.targets, spec.publish), name)
    if settings is None:
        raise CantDeliver(f"the attempt isn't to be published to {name}")
    target = TARGETS.of(settings)
    needed = target.secrets_for(settings, [package.name for package in packages])
    secrets = {secret.name: os.environ.get(secret.variable, "") for secret in needed}
    for secret in needed:
        if not secrets[secret.name]:
            raise CantDeliver(f"the project has no {secret.name} ({secret.help})")
    delivery = Delivery(
        folder=folder,
        out=out_of(folder),
        packages=packages,
        secrets=secrets,
        record=told.record(len(packages), secrets),
        set_tag=told.start.set_tag or f"build-{spec.build}",
        otp=told.start.otp,
        asks=told.asks,
        what=told.start.what,
    )
    for published in target.deliver(settings, delivery):
        yield msgspec.structs.replace(published, target=name)


def main(folder: Path, name: str, *, told: bool = False) -> int:
    """
    Run the step. Return its exit code. What was published before it failed is written down.

    :param told: whether it is told by its input where it is, and says its rows there
    """
    done: list[Published] = []
    try:
        by = Told(cast(BinaryIO, _open_channel()) if told else None)
        for published in run(folder, name, by):
            done.append(published)
            write_file(out_of(folder) / "published.json", done)
            print(f"{published.name} {published.version}: {published.status}", flush=True)
    except PersonNeeded as needed:
        print(needed, flush=True)
        by.needs(needed)
    except (CantDeliver, CantPrepare, RecordLost, OSError, BadValue, msgspec.DecodeError) as error:
        return step_failed(out_of(folder), error)
    return 0


def _open_channel() -> io.BufferedRWPair:
    """Open the input, which is one end of a pair of sockets. What the step starts doesn't inherit it."""
    channel = os.dup(CHANNEL)  # not inherited
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, CHANNEL)
    os.close(nothing)
    return io.BufferedRWPair(
        open(channel, "rb", buffering=0, closefd=False), open(channel, "wb", buffering=0, closefd=False)
    )
