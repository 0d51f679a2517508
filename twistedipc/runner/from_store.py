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
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec
from msgspec.structs import replace

from twistedipc import publish
from twistedipc.attempts import processes
from twistedipc.attempts.folder import package_file, write_packages
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
from twistedipc.publish.compared import Compared
from twistedipc.publish.stored import Delivered, Job
from twistedipc.publish.targets.registry import TARGETS
from twistedipc.publish.targets.target import Settings, Target
from twistedipc.runner.capture import BLOCK_BYTES, Capture
from twistedipc.runner.environment import Environment
from twistedipc.runner.findings import BadFinding, Findings
from twistedipc.runner.networking import NoNetwork
from twistedipc.runner.own import own_command
from twistedipc.runner.reaching import Reaching
from twistedipc.toolchains.npmrc import read_npmrc
from twistedipc.toolchains.problems import NoRegistry

#: Seconds for all of it: npm is given up after ten minutes, and tried three times.
DEADLINE = 2400.0

#: Seconds for a comparison with what is published.
COMPARING = 90.0

#: Seconds between SIGTERM and SIGKILL.
GRACE = 10.0

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
        self._write(replace(delivered, published=published, reason=hide(delivered.reason)))

    def _say(self, batches: Iterable[Lines]) -> None:
        for batch in batches:
            self._write(batch)

    def _write(self, said: Lines | Delivered) -> None:
        self._output.write(encoder.encode(said) + b"\n")
        self._output.flush()


def _now() -> int:
    return time.time_ns() // 1_000_000


class Publication:
    """One job."""

    def __init__(self, job: Job, telling: Telling, stopped: int) -> None:
        self._job = job
        self._folder = Path(job.folder)
        self._telling = telling
        self._stopped = stopped  # a descriptor that can be read once this process is told to end
        self._findings = Findings(self._folder)

    @property
    def _what(self) -> str:
        """The step that is run."""
        return "compare" if self._job.compare else "deliver"

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
        missing = [program for program in target.programs if shutil.which(program, path=path) is None]
        if missing:
            return Delivered(
                reason=f"there is no {' and no '.join(missing)} on the apiserver's PATH: install it there, or have the "
                "builder publish (--publish-at builder)"
            )
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
        environment |= {secret.variable: job.secrets.get(secret.name, "") for secret in target.secrets}
        reach = reaching.deliver([package_file(target.name), "package"], target.delivers_to(settings))
        networking = reaching.networking
        try:
            networking.start()
            with networking.connected("publish", networking.deliver(contacts), reach) as connected:
                launch = launched(
                    isolation,
                    own_command(publish.__name__, self._what, str(self._folder), target.name),
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
        for package, tarball in zip(job.packages, job.tarballs, strict=True):
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
        try:
            child = processes.spawn(launch, output=writing)
        finally:
            os.close(writing)
        try:
            why = self._watch(reading, child)
        finally:
            os.close(reading)
        _pid, status = os.waitpid(child.pid, 0)
        processes.bury(child, GRACE)
        return processes.exit_code(status), why

    def _watch(self, reading: int, child: processes.Child) -> str:
        """Tell what the step prints until it has ended. Return why it was ended; "" if it ended by itself."""
        deadline = COMPARING if self._job.compare else DEADLINE
        until = time.monotonic() + deadline
        why = ""
        waited = [reading, self._stopped]
        while True:
            left = until - time.monotonic()
            ready = select.select(waited, [], [], max(0.0, left))[0]
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


def _rules(addresses: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(each for address in addresses for each in of_address(address)))


def main() -> int:
    """Do the job. Return the exit code."""
    processes.die_with_parent()
    processes.become_reaper()
    stopped, stops = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGTERM, lambda _number, _frame: os.write(stops, b"x") and None)
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    telling = Telling(sys.stdout.buffer, job.secrets.values())
    telling.end(Publication(job, telling, stopped).run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
