"""
``python -m twistedipc.runner.from_store``: publishes packages that are stored on the apiserver, which starts this
process and tells it what (`publish.stored`). It does what a runner does for the step that publishes, and no more: a
step with the target's secrets, in a sandbox where one can be had on this machine, which sees the packages and nothing
of the apiserver's; its output, without secrets, is told as it comes.

It dies with the apiserver. What was half done then is begun again after the next start: the registry is asked first.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec
from msgspec.structs import replace

from twistedipc import publish
from twistedipc.attempts import processes
from twistedipc.attempts.folder import package_file, write_packages
from twistedipc.attempts.programs import own_command
from twistedipc.builds.attempt import Failure, Published, Spec
from twistedipc.builds.egress import Network
from twistedipc.builds.host_rules import of_address
from twistedipc.builds.isolation import NOT_ISOLATED, Isolation
from twistedipc.builds.logs import Lines, Notice, encoder
from twistedipc.builds.names import BadValue
from twistedipc.disk.files import remove_tree, write_file
from twistedipc.isolation.launching import launched
from twistedipc.isolation.probe import Wanted, probe
from twistedipc.publish.compare import COMPARED
from twistedipc.publish.compared import Compared, Remark
from twistedipc.publish.stored import (
    MAX_LINE,
    Delivered,
    Job,
    Needs,
    Row,
    Said,
    StepBegins,
    StepSaid,
    Written,
    lines_of,
    written,
)
from twistedipc.publish.targets.registry import TARGETS
from twistedipc.publish.targets.target import Settings, Target
from twistedipc.registries.npmrc import NoRegistry, read_npmrc
from twistedipc.runner.capture import BLOCK_BYTES, Capture
from twistedipc.runner.environment import Environment
from twistedipc.runner.findings import BadFinding, Findings
from twistedipc.runner.networking import NoNetwork
from twistedipc.runner.reaching import Reaching

#: Seconds for all of it: an upload is given up after half an hour.
DEADLINE = 2400.0

#: Seconds for a comparison with what is published.
COMPARING = 90.0

#: Seconds between SIGTERM and SIGKILL: tags that are being moved are moved to the end.
GRACE = 60.0

#: The most bytes of the job.
MAX_JOB = 64 << 20

#: The most bytes of output that are told; the rest is left out.
MAX_OUTPUT = 1 << 20

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class Telling:
    """What this process says: the log without secrets, and the end."""

    def __init__(self, output: BinaryIO, secrets: Iterable[str]) -> None:
        self._output = output
        self._capture = Capture(secrets)
        self._left = MAX_OUTPUT

    def hear(self, data: bytes) -> None:
        """Tell what the step has printed, as long as that isn't too much."""
        if self._left <= 0:
            return
        self._say(self._capture.feed(data[: self._left], _now(), 0))
        self._left -= len(data)
        if self._left <= 0:
            self._say(self._capture.end_output(_now(), 0))
            self.note("warning", f"the step has printed more than {MAX_OUTPUT} bytes: the rest is left out")

    def note(self, level: Literal["info", "warning", "error"], message: str) -> None:
        """Put a notice of the platform's own into the log."""
        self._say(self._capture.event(Notice(level, message), _now(), 0))

    def mask(self, secret: str) -> None:
        """Hide a secret from now on."""
        self._capture.mask([secret])

    def end(self, delivered: Delivered) -> None:
        """Say how it ended."""
        self._say(self._capture.end_output(_now(), 0))
        hide = self._capture.hide
        published = [
            replace(each, registry=hide(each.registry), notice=hide(each.notice)) for each in delivered.published
        ]
        compared = [
            replace(each, unknown=hide(each.unknown), remarks=[_hidden(remark, hide) for remark in each.remarks])
            for each in delivered.compared
        ]
        needs = delivered.needs
        if needs is not None:
            needs = replace(needs, reason=hide(needs.reason))
        reason = hide(delivered.reason)
        self._write(replace(delivered, published=published, compared=compared, reason=reason, needs=needs))

    def row(self, row: Row) -> None:
        """Ask for a row to be written down."""
        hide = self._capture.hide
        if isinstance(row, StepBegins):
            self._write(replace(row, detail=hide(row.detail)))
        else:
            self._write(replace(row, reason=hide(row.reason), facts=replace(row.facts, notice=hide(row.facts.notice))))

    def _say(self, batches: Iterable[Lines]) -> None:
        for batch in batches:
            self._write(batch)

    def _write(self, said: Said) -> None:
        self._output.write(encoder.encode(said) + b"\n")
        self._output.flush()


def _hidden(remark: Remark, hide: Callable[[str], str]) -> Remark:
    """Return a remark without secrets: what is in a package may be anything."""
    return replace(
        remark,
        text=hide(remark.text),
        name=hide(remark.name),
        before=None if remark.before is None else hide(remark.before),
        after=None if remark.after is None else hide(remark.after),
    )


def _now() -> int:
    return time.time_ns() // 1_000_000


class Publication:
    """One job."""

    def __init__(self, job: Job, telling: Telling, stopped: int, told: int) -> None:
        self._job = job
        self._folder = Path(job.folder)
        self._telling = telling
        self._stopped = stopped  # a descriptor that can be read once this process is told to end
        self._told = told  # one by which the apiserver answers, once for each row
        self._needs: Needs | None = None
        self._findings = Findings(self._folder)

    @property
    def _what(self) -> str:
        """The step that is run."""
        return "compare" if self._job.compare else "deliver"

    @property
    def _as_told(self) -> list[str]:
        return [] if self._job.compare else ["told"]

    def run(self) -> Delivered:
        """Publish, or compare. Return what came of it."""
        try:
            settings = TARGETS.read([self._job.settings])[0]
            return self._publish(settings, TARGETS.of(settings))
        except (BadValue, BadFinding, NoNetwork, OSError) as error:
            return Delivered(published=self._published(), reason=str(error))
        finally:
            remove_tree(self._folder)

    def _publish(self, settings: Settings, target: Target[Settings]) -> Delivered:
        job = self._job
        path = job.environment.get("PATH", os.defpath)
        if lacking := target.lacks(settings, job.environment):
            return Delivered(reason=f"the apiserver, which is to publish this, can't: {lacking}")
        self._lay_out()
        isolation = self._isolation()
        contacts = list(target.contacts(settings))
        spec = Spec(
            attempt=job.attempt,
            lease="",
            build=job.build,
            project=job.project,
            repository="",
            ref="",
            targets=[job.settings],
            path=path,
            environment=job.environment,
            mirror="",
            doorbell="",
            isolation=isolation,
            network=self._network(contacts) if isolation.kind != "none" else Network(),
        )
        write_file(self._folder / "spec.json", spec)
        reaching = Reaching(self._folder, spec, self._telling)
        environment = Environment(self._folder, spec).apart(
            home=self._findings.home, temporary=self._findings.temporary
        )
        needed = target.secrets_for(settings, [package.name for package in job.packages])
        environment |= {secret.variable: job.secrets.get(secret.name, "") for secret in needed}
        reach = reaching.deliver([package_file(target.name), "package"], target.delivers_to(settings))
        networking = reaching.networking
        try:
            networking.start()
            with networking.connected("publish", networking.deliver(contacts), reach) as connected:
                launch = launched(
                    isolation,
                    own_command(publish.__name__, self._what, str(self._folder), target.name, *self._as_told),
                    {**environment, **connected.environment},
                    str(self._folder),
                    connected.reach,
                )
                code, why = self._run(replace(launch, namespaces=connected.namespaces))
            failure = self._findings.read("failure.json", Failure)
            reason = why or (failure.reason if failure is not None else "")
            if code and not reason:
                reason = f"the step that publishes ended with exit code {code}"
            return Delivered(
                published=self._published(),
                compared=self._findings.read(COMPARED, list[Compared]) or [],
                reason=reason + networking.explained() if reason else "",
                needs=self._needs if not reason else None,
                interrupted=bool(why) or (code != 0 and failure is None),
            )
        finally:
            networking.end()
            processes.kill_descendants(GRACE)

    def _lay_out(self) -> None:
        """Make the folder in which the step works, with the packages in it."""
        job = self._job
        remove_tree(self._folder)
        (self._folder / "package").mkdir(mode=0o700, parents=True)
        self._findings.clear()
        for package, tarball in zip(job.packages, job.tarballs, strict=job.start.what == "publish"):
            shutil.copyfile(tarball, self._folder / package.file, follow_symlinks=False)
        write_packages(self._folder, job.target, job.packages)

    def _isolation(self) -> Isolation:
        """What isolates the step on this machine; it says so if nothing does."""
        job = self._job
        if ":" in job.folder:
            found = Isolation(refused=f"{job.folder} has a colon in its name")
        else:
            found = probe(
                Wanted(
                    path=job.environment.get("PATH", os.defpath),
                    environment=job.environment,
                    data=job.folder,
                    hidden=job.hidden,
                )
            )
        if not found.refused:
            return found
        self._telling.note("warning", f"the step isn't isolated from the apiserver's machine: {found.refused}")
        return NOT_ISOLATED

    def _network(self, contacts: Sequence[str]) -> Network:
        """What the step may reach beside what its target names: proxies, and the registry that npm is set up for."""
        environment = self._job.environment
        proxies = [value for name, value in environment.items() if name.upper() in _PROXIES]
        registries: list[str] = []
        if not contacts:
            path = environment.get("PATH", os.defpath)
            npm = shutil.which("npm", path=path)
            try:
                registries = read_npmrc(environment, userconfig="", registry="", npm=npm, path=path).registries
            except NoRegistry as error:
                self._telling.note("warning", str(error))
        return Network(operators=_rules(registries), proxies=_rules(proxies))

    def _run(self, launch: processes.Launch) -> tuple[int, str]:
        """Run the step. Return its exit code, and why it was ended; "" if it ended by itself."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        channel, given = socket.socketpair()
        try:
            try:
                child = processes.spawn(launch, output=writing, input=-1 if self._job.compare else given.fileno())
            finally:
                os.close(writing)
                given.close()
            channel.setblocking(False)
            why = self._watch(reading, child, Channel(channel, self._told, self._hear, self._telling.mask))
        finally:
            os.close(reading)
            channel.close()
        _pid, status = os.waitpid(child.pid, 0)
        processes.bury(child, GRACE)
        return processes.exit_code(status), why

    def _hear(self, said: StepSaid) -> bool:
        """Take what the step says. Return whether it waits for an answer."""
        if isinstance(said, Needs):
            self._needs = said
            return False
        self._telling.row(said)
        return True

    def _watch(self, reading: int, child: processes.Child, channel: Channel) -> str:
        """Tell what the step prints until it has ended. Return why it was ended; "" if it ended by itself."""
        deadline = COMPARING if self._job.compare else DEADLINE
        until = time.monotonic() + deadline
        why = ""
        waited = [reading, self._stopped]
        channel.send(msgspec.json.encode(self._job.start))
        while True:
            left = until - time.monotonic()
            ready, writable, _ = select.select([*waited, *channel.reads], channel.writes, [], max(0.0, left))
            if channel.turn(ready, writable):
                continue
            if reading in ready:
                data = os.read(reading, BLOCK_BYTES)
                if not data:
                    return why
                self._telling.hear(data)
            elif self._stopped in ready or not why:
                why = "it was cancelled" if self._stopped in ready else f"it took longer than {deadline:.0f} s"
                waited = [reading]
                until = time.monotonic() + GRACE
                processes.tell_to_end(child)
            else:
                processes.kill(child)
                until = time.monotonic() + GRACE

    def _published(self) -> list[Published]:
        try:
            return self._findings.read("published.json", list[Published]) or []
        except BadFinding:
            return []


class Channel:
    """
    What is said between the step and the apiserver, through this process: the step's rows, each answered before the
    next. A step that says what can't be understood isn't listened to any more.

    :param told: the descriptor by which the apiserver answers
    :param hear: takes what the step says; returns whether that is answered
    :param mask: takes a secret that the step is told
    """

    def __init__(
        self, step: socket.socket, told: int, hear: Callable[[StepSaid], bool], mask: Callable[[str], None]
    ) -> None:
        self._step = step
        self._told = told
        self._hear = hear
        self._mask = mask
        self._said = bytearray()
        self._answers = bytearray()
        self._to_step = bytearray()
        self._over = False  # nothing comes from the step
        self._deaf = False  # nothing comes from the apiserver

    @property
    def reads(self) -> list[int]:
        """The descriptors that are read."""
        return [*([] if self._over else [self._step.fileno()]), *([] if self._deaf else [self._told])]

    @property
    def writes(self) -> list[int]:
        """The descriptors that are written."""
        return [self._step.fileno()] if self._to_step and not self._over else []

    def send(self, line: bytes) -> None:
        """Tell the step something."""
        self._to_step += line + b"\n"

    def turn(self, reads: Sequence[int], writes: Sequence[int]) -> bool:
        """Read and write what can be. Return whether something was."""
        done = False
        if not self._over and self._step.fileno() in writes:
            self._write()
            done = True
        if not self._over and self._step.fileno() in reads:
            self._read_step()
            done = True
        if not self._deaf and self._told in reads:
            self._read_answers()
            done = True
        return done

    def _write(self) -> None:
        try:
            sent = self._step.send(self._to_step)
        except BlockingIOError:
            return
        except OSError:
            self._over = True
            return
        del self._to_step[:sent]

    def _read_step(self) -> None:
        try:
            data = self._step.recv(BLOCK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._said += data
        try:
            for line in lines_of(self._said, MAX_LINE):
                if self._hear(_steps.decode(line)) and self._deaf:
                    self.send(msgspec.json.encode(Written(why_not="the apiserver doesn't answer any more")))
        except (ValueError, msgspec.DecodeError) as error:
            self.send(msgspec.json.encode(Written(why_not=f"that can't be understood: {error}")))
            self._said.clear()
        if not data:
            self._over = True

    def _read_answers(self) -> None:
        data = os.read(self._told, BLOCK_BYTES)
        if not data:
            self._deaf = True
            self.send(msgspec.json.encode(Written(why_not="the apiserver doesn't answer any more")))
            return
        self._answers += data
        for line in lines_of(self._answers, MAX_LINE):
            for secret in written.decode(line).renewed.values():
                self._mask(secret)
            self.send(line)


_steps: msgspec.json.Decoder[StepSaid] = msgspec.json.Decoder(StepSaid)


def _read_job(told: int) -> bytes:
    """Read the job, the first line. The apiserver says nothing more before it is asked."""
    read = bytearray()
    while not read.endswith(b"\n") and len(read) <= MAX_JOB:
        data = os.read(told, BLOCK_BYTES)
        if not data:
            break
        read += data
    return bytes(read)


def _rules(addresses: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(each for address in addresses for each in of_address(address)))


def main() -> int:
    """Do the job. Return the exit code."""
    processes.die_with_parent(sys.stdout.fileno())
    processes.become_reaper()
    stopped, stops = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGTERM, lambda _number, _frame: os.write(stops, b"x") and None)
    told = os.dup(sys.stdin.fileno())  # what this process starts doesn't inherit it
    job = msgspec.json.decode(_read_job(told), type=Job)
    telling = Telling(sys.stdout.buffer, [*job.secrets.values(), *([job.start.otp] if job.start.otp else [])])
    telling.end(Publication(job, telling, stopped, told).run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
