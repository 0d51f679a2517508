"""
The whole course of one attempt: checkout, plan, the plan's steps, pack, publish, the result. Used by ``__main__``.

The first step that fails ends it; so do a cancellation and a deadline, in any of them. Whatever happens, no process
of the attempt is left when the result is written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from twistedipc import publish, toolchains
from twistedipc.attempts.folder import COMMIT, RELEASE, REMARKS, package_file, read_packages
from twistedipc.attempts.journal import Journal
from twistedipc.attempts.programs import own_command
from twistedipc.attempts.room import Room
from twistedipc.attempts.sha256 import measured
from twistedipc.builds.attempt import (
    ArtifactFile,
    Checkout,
    Failure,
    FoundCommit,
    Outcome,
    Package,
    Packed,
    PermitWanted,
    PublicNames,
    Published,
    Result,
    Spec,
    Tool,
)
from twistedipc.builds.caches import DOWNLOADS
from twistedipc.builds.egress import Egress
from twistedipc.builds.lint import LINTED, LINTER, Linted, bounded
from twistedipc.builds.logs import Annotation
from twistedipc.builds.names import BadValue
from twistedipc.builds.plan import Plan, make_plan
from twistedipc.builds.protection import listing
from twistedipc.builds.recognition.reading import BadPlan
from twistedipc.builds.recognition.recognised import Finding, PlannedStep, short, told
from twistedipc.builds.secrets import INSTALL, is_for_step
from twistedipc.builds.settings import PLAN_FILE
from twistedipc.builds.variables import looks_secret
from twistedipc.builds.versions import PUSH
from twistedipc.disk.files import PASSING_ERRORS, read_file, remove_tree, write_file
from twistedipc.isolation.network.attempt import Allowed
from twistedipc.isolation.reach import Reach
from twistedipc.isolation.steps import CHANNEL
from twistedipc.publish.targets.registry import TARGETS, ProjectTargets, name_of, offered
from twistedipc.publish.targets.target import Settings
from twistedipc.runner.aliases import without_colon
from twistedipc.runner.attempt_log import AttemptLog
from twistedipc.runner.capture import Capture
from twistedipc.runner.checking_out import CheckingOut
from twistedipc.runner.environment import Environment
from twistedipc.runner.findings import BadFinding, Findings
from twistedipc.runner.keeping import Keeping
from twistedipc.runner.modules import modules_of
from twistedipc.runner.networking import NoNetwork
from twistedipc.runner.node import install
from twistedipc.runner.ports import Orders, Outside
from twistedipc.runner.reaching import Reaching
from twistedipc.runner.registries import Configuration
from twistedipc.runner.secrets import ask
from twistedipc.runner.steps import GIVE_UP, Command, Steps, TimeLimits
from twistedipc.runner.tools import FOUND, WANTED, Tools, usable, wanted_by
from twistedipc.runner.versioning import Versions
from twistedipc.toolchains.problems import ToolProblem
from twistedipc.toolchains.wanted import Toolchain, Wanted
from twistedipc.trees.folder import FolderTree

#: How often a step of the platform is tried again because what it ran printed that a disk is full, though the
#: builder's disk has room.
MAX_SAID_NO_ROOM = 5

#: Bytes that must be free before a step of the platform is tried again.
_SOME_ROOM = 4 << 20

#: How many findings of what a project is are in the result; the log has all of them.
MAX_FINDINGS = 50


# What the pack step makes.
_PACKED = ("archive.tar.gz", "manifest.json", "artifact.json", "public-names.json")


#: What the log of an attempt says whose steps have no network namespace.
BY_PROXY = (
    "isolated by Landlock: steps reach the network by the proxy that HTTPS_PROXY and HTTP_PROXY name, and a program "
    "that asks no proxy reaches nothing"
)


class _End(Exception):
    """Ends the attempt here, without success."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome: Outcome = outcome
        self.reason = reason


def _tops(packages: Sequence[Package]) -> list[str]:
    """Return the files and folders, at the top of a folder, in which these packages are."""
    tops = {package.file.partition("/")[0] for package in packages}
    return sorted(top for top in tops if top not in ("", ".", ".."))


class _Found(msgspec.Struct):
    """What an attempt has found and made so far, for its result."""

    started: int  # milliseconds since the epoch
    said_no_room: int = 0  # how often a step of ours has said that the disk is full, and failed
    artifact: ArtifactFile | None = None
    published: list[Published] = []
    packed: list[Packed] = []
    recognised: list[Finding] = []
    tools: list[Tool] = []
    egress: Egress | None = None
    linted: Linted | None = None
    annotate: bool = True  # messages are to be found in the output of the build's steps


class Course:
    """The course of one attempt. It runs once."""

    def __init__(self, folder: Path, spec: Spec, control: Orders, ring: Callable[[], None], outside: Outside) -> None:
        self._folder = folder
        self._spec = spec
        self._control = control
        self._outside = outside
        self._environment = Environment(folder, spec)
        self._ring = ring  # tells the builder that there is something new in the folder
        self._journal = Journal(folder, ring, disk=outside.disk)
        self._log = AttemptLog(
            journal=self._journal,
            capture=Capture(),
            room=Room(folder, spec.reserve, clock=outside.clock, free=outside.free),
            now=outside.now,
            clock=outside.clock,
        )
        self._guard = outside.guard(folder, spec, outside.clock)
        self._keeping = Keeping(folder, spec, self._log, outside.now)
        self._steps = Steps(
            log=self._log,
            control=control,
            limits=TimeLimits(timeout=spec.timeout, idle_timeout=spec.idle_timeout, grace=spec.grace),
            guard=self._guard,
            outside=outside,
            isolation=spec.isolation,
        )
        self._reaching = Reaching(folder, spec, self._log)
        self._findings = Findings(folder)
        self._checkout = CheckingOut(folder, self._findings, outside.disk)
        self._found = _Found(started=outside.now())

    @property
    def _work(self) -> Path:
        """The working copy."""
        return self._folder / "work"

    def run(self) -> Result:
        """Go through all of it, and write the result. Raises `steps.NoRoom` if the disk takes none."""
        outcome: Outcome = "succeeded"
        reason = ""
        try:
            self._go()
        except _End as end:
            outcome, reason = end.outcome, end.reason
        except BadFinding as error:
            outcome, reason = "failed", str(error)
        finally:
            self._found.egress = self._reaching.networking.end()
            self._kill_all()
            self._control.forget_permit()
        if outcome == "succeeded" and self._spec.context == "production":
            self._keeping.save()
        self._steps.settle()
        result = self._result(outcome, reason)
        self._steps.persist(lambda: self._written(result))
        self._ring()
        return result

    def _go(self) -> None:
        self._reaching.networking.start()
        self._steps.persist(self._make_folders)
        if self._spec.isolation.kind == "none" and self._spec.isolation.said:
            self._log.note("warning", f"{self._spec.isolation.said}: its steps reach all that the builder's user can")
        if self._spec.isolation.kind == "landlock":
            self._log.note("info", BY_PROXY)
        self._ask_secrets()
        with self._checkout.given(self._steps.persist):
            self._check_out()
        if self._checkout.found is None:
            raise _End("failed", "the checkout found no commit")
        self._tell_commit(self._checkout.found)
        self._check_protected(self._checkout.found)
        self._check_led(self._checkout.found)
        self._reaching.found(self._checkout.found)
        self._environment.commit = self._checkout.found.commit
        plan = self._plan()
        self._obey(plan)
        self._say_what_needs_an_install_step(plan)
        self._reaching.networking.planned(plan)
        targets = self._targets()
        lints = any(TARGETS.of(settings).linted for settings in targets)
        self._environment.toolchain = self._prepare_tools(replace(wanted_by(plan.recognised), linter=lints))
        self._found.tools = self._environment.toolchain.tools
        environment = self._environment.of_build(plan)
        modules = modules_of(self._work, plan, environment, self._environment.said(plan), self._spec.registries)
        self._steps.persist(lambda: self._commands_installed(environment))
        there = self._keeping.restore(plan, modules)
        self._check_programs(plan, environment["PATH"])
        versions = Versions(self._folder, self._spec, self._log, self._write, self._steps.persist)
        for step in plan.steps:
            if step.name != INSTALL:
                self._settle(versions, targets, plan, environment)
            if modules is not None and there and step == modules.install:
                self._log.note("info", f"{step.run} isn't run: {modules.installed.lock} and all else are as they were")
                continue
            self._build_step(step, environment)
            self._keeping.installed(step)
        self._settle(versions, targets, plan, environment)
        for settings in targets:
            self._before_packing(settings, plan, environment)
        required = targets or self._spec.site
        if required or plan.output or any(os.path.isdir(self._work / o) for o in plan.outputs):
            # What is packed holds still: nothing that the build has left running can change it.
            self._kill_all()
            self._forget_packed(targets)
            self._control.forget_permit()  # what the build has asked for in our name
            self._pack(targets)
            self._found.artifact = read_file(self._folder / "artifact.json", ArtifactFile)
        for settings in TARGETS.delivered_by_runner(targets):
            self._deliver(settings, versions)

    def _tell_commit(self, found: Checkout) -> None:
        """Have those who watch know which commit is built. If the disk is full, only the result tells them."""
        told = FoundCommit(
            commit=found.commit,
            subject=self.hide(found.subject),
            author=self.hide(found.author),
            author_email=self.hide(found.author_email),
            resolved=found.resolved,
        )
        if self._try_write(self._folder / COMMIT, told):
            self._ring()

    def _check_protected(self, found: Checkout) -> None:
        """Raise `_End` if what is built is for the project's users, and its commit is on no protected ref."""
        spec = self._spec
        if spec.protected and spec.context == "production" and not found.protected:
            raise self._refused(
                f"commit {found.commit[:12]} isn't on {listing(spec.protected)} of {spec.project}, so it isn't "
                "published: merge it there, or build it with --no-publish"
            )

    def _check_led(self, found: Checkout) -> None:
        """Raise `_End` if its commit is on none of the refs that lead to the environment that it is built for."""
        spec = self._spec
        if spec.refs and not found.led:
            raise self._refused(
                f"commit {found.commit[:12]} isn't on a ref that leads to the environment {spec.environment_name} of "
                f"{spec.project} ({', '.join(spec.refs)}), so it isn't built for that: push it there, or build it with "
                "--no-publish"
            )

    def _check_out(self) -> None:
        """Run the checkout."""
        own = ["twistedipc.runner.checkout", str(self._folder)]
        reach = self._reaching.checkout(private=self._checkout.access is not None)
        network = self._reaching.networking.checkout()
        self._step("checkout", own=own, environment=self._environment.base(), reach=reach, network=network)

    def _pack(self, targets: ProjectTargets) -> None:
        """Pack what was built, and take what was packed."""
        own = [publish.__name__, "pack", str(self._folder)]
        linter = self._environment.toolchain.linter
        given = {} if linter is None else {LINTER: msgspec.json.encode(linter).decode()}
        try:
            self._step("pack", own=own, environment=self._apart() | given, reach=self._reaching.pack())
        finally:
            self._remark()
        self._kill_all()
        self._found.linted = self._linted()
        self._findings.keep(*_PACKED, *(package_file(name_of(settings)) for settings in targets))
        for settings in targets:
            packages = read_packages(self._folder, name_of(settings))
            self._findings.keep(*_tops(packages))
        self._check_names(targets)

    def _remark(self) -> None:
        """Put into the log what the step that has ended has to say of what it packed, whether it failed or not."""
        try:
            found = self._findings.read(REMARKS, list[Annotation])
        except BadFinding as error:
            self._log.note("warning", str(error))
        else:
            self._log.events((found or [])[:MAX_FINDINGS])

    def _linted(self) -> Linted | None:
        """Return what publint says of what was packed, without secrets. A file may have any text in it."""
        try:
            found = self._findings.read(LINTED, Linted)
        except BadFinding as error:
            return Linted(why=self.hide(str(error)))
        if found is None:
            return None
        packages = [
            replace(each, messages=[replace(message, text=self.hide(message.text)) for message in each.messages])
            for each in found.packages
        ]
        return bounded(replace(found, packages=packages))

    def _apart(self) -> dict[str, str]:
        return self._environment.apart(home=self._findings.home, temporary=self._findings.temporary)

    def _ask_secrets(self) -> None:
        """Ask for the secrets of the attempt, and hide them, before anything is printed that they could stand in."""
        spec = self._spec
        for name, value in (spec.environment | spec.variables | spec.parameters).items():
            if looks_secret(name, value):
                self._log.mask(value)
        if not spec.asks:
            return
        given = ask(self._folder, self._spec, self._steps, self._try_write, self._ring)
        self._check_stopped()
        assert given is not None  # or it was stopped
        if not given.granted:
            raise _End("failed", f"the project's secrets can't be given: {given.reason or 'no reason was given'}")
        for secret in given.steps:
            self._log.mask(secret.value)
        self._environment.secrets = given.steps
        self._checkout.access = given.checkout
        for value in self._checkout.secrets:
            self._log.mask(value)

    def _build_step(self, step: PlannedStep, of_build: Mapping[str, str]) -> None:
        """Run a step of the build, with the secrets that are for it; the one that installs, with the registries."""
        environment = self._environment.of_step(step.name, of_build)
        if step.name != INSTALL or not self._spec.registries:
            self._shell(step, environment)
            return
        given = {secret.name for secret in self._environment.secrets if is_for_step(secret.steps, INSTALL)}
        configuration = Configuration(self._folder / "home", self._spec.registries, given)
        self._steps.persist(lambda: self._wrote(configuration))
        try:
            environment = configuration.environment(environment)
            self._shell(step, environment)
        finally:
            configuration.remove()

    def _shell(self, step: PlannedStep, environment: Mapping[str, str]) -> None:
        reach, network = self._reaching.build(), self._reaching.networking.step(step)
        self._step(step.name, shell=step.run, environment=environment, place=step.folder, reach=reach, network=network)

    def _wrote(self, configuration: Configuration) -> bool:
        """Write the configuration of package managers. Return whether the disk had room for it."""
        try:
            others = configuration.write()
        except OSError as error:
            if error.errno not in PASSING_ERRORS:
                raise
            return False
        for name in others:
            self._log.note("warning", f"~/{name} is a step's own: it isn't set up for the project's registries")
        return True

    def _say_what_needs_an_install_step(self, plan: Plan) -> None:
        """Warn if something is for the step that installs, and no step has its name."""
        if any(step.name == INSTALL for step in plan.steps):
            return
        secrets = [secret.name for secret in self._environment.secrets if secret.steps == "install"]
        waiting = [*secrets, *(registry.address for registry in self._spec.registries)]
        if waiting and plan.steps:
            self._log.note(
                "warning",
                f"no step is named {INSTALL}, so none is given {', '.join(waiting)}: name the one that installs, for "
                f'example {{name = "{INSTALL}", run = "npm ci"}}',
            )

    def _prepare_tools(self, wanted: Wanted) -> Toolchain:
        """Return the Node and the manager of the build's steps, which are there then."""
        tools = Tools(self._folder, self._spec, wanted, now=self._outside.now)
        try:
            found = tools.ready()
        except ToolProblem as error:
            raise self._refused(str(error)) from error
        if found is not None:
            for line in found.said:
                self._log.note("info", line)
            for line in found.remarks:
                self._log.note("warning", line)
            return usable(found)
        self._steps.persist(lambda: self._try_write(self._folder / WANTED, tools.wanted))
        own = [toolchains.__name__, str(self._folder)]
        reach, network = self._reaching.toolchain(), self._reaching.networking.toolchain()
        self._step("toolchain", own=own, environment=self._environment.base(), reach=reach, network=network)
        found = self._findings.read(FOUND, Toolchain)
        if found is None:
            raise _End("failed", "the step toolchain prepared nothing")
        return usable(found)

    def _targets(self) -> ProjectTargets:
        """The targets to which what is built is to be published."""
        try:
            return TARGETS.active(offered(self._spec.targets, self._spec.publish))
        except BadValue as error:
            raise _End("failed", str(error)) from error

    def _settle(self, versions: Versions, targets: ProjectTargets, plan: Plan, environment: Mapping[str, str]) -> None:
        """Give the packages their versions, once: before the first step that may build something of them."""
        try:
            versions.settle(targets, plan, lambda step: self._make_versions(step, environment))
        except BadPlan as error:
            raise self._refused(str(error)) from error

    def _make_versions(self, step: PlannedStep, environment: Mapping[str, str]) -> None:
        """Run the project's own tool that makes versions, which is given no secret."""
        try:
            self._shell(step, environment)
        except _End as end:
            if end.outcome != "failed":
                raise
            what = "no versions were made, and nothing is published: the log has the tool's own words"
            raise _End("failed", f"{end.reason}: {what}") from end

    def _before_packing(self, settings: Settings, plan: Plan, environment: Mapping[str, str]) -> None:
        """Run what the target wants to be run before anything is packed, as steps of the build."""
        try:
            before = TARGETS.of(settings).before_packing(FolderTree(self._work), plan)
        except BadPlan as error:
            raise self._refused(str(error)) from error
        for step in before.steps:
            self._build_step(step, environment)
        if before.remark:
            self._log.note("info", before.remark)

    def _plan(self) -> Plan:
        try:
            plan = make_plan(FolderTree(self._work), self._spec.settings)
        except BadPlan as error:
            raise self._refused(str(error)) from error
        self._found.recognised = [short(each) for each in plan.recognised.findings[:MAX_FINDINGS]]
        for sentence in told(plan.recognised):
            self._log.note("info", sentence)
        for sentence in plan.recognised.advice:
            self._log.note("warning", sentence)
        if plan.no_site and self._spec.site:
            raise self._refused(plan.no_site)
        self._steps.persist(lambda: self._try_write(self._folder / "plan.json", plan))
        return plan

    def _refused(self, reason: str) -> _End:
        """The end of an attempt that can't be built as it is; the log says why."""
        self._log.note("error", reason)
        return _End("failed", reason)

    def _check_programs(self, plan: Plan, path: str) -> None:
        """Raise `_End` if the builder lacks a program that the build needs: the shell would only say "not found"."""
        for program in plan.recognised.needs:
            if not any(
                os.access(os.path.join(folder, program), os.X_OK) for folder in path.split(os.pathsep) if folder
            ):
                raise self._refused(
                    f"this builder has no {program} on its PATH, which the project needs: install it there, or set "
                    f"build.steps in {PLAN_FILE} to commands that do without it"
                )

    def _obey(self, plan: Plan) -> None:
        limits = self._steps.limits
        limits.timeout = min(limits.timeout, plan.timeout or limits.timeout)
        limits.idle_timeout = min(limits.idle_timeout, plan.idle_timeout or limits.idle_timeout)
        self._found.annotate = plan.annotate

    def _check_names(self, targets: ProjectTargets) -> None:
        """
        Raise `_End` if a name that would be public has a hidden value in it. The address of a file is public, and the
        apiserver, which doesn't know what is hidden, quotes names in its messages.
        """
        packed = read_file(self._folder / "public-names.json", PublicNames)
        for what, names in (packed.names if packed else {}).items():
            name = self._log.first_with_secret(names)
            if name is not None:
                self._forget_packed(targets)
                reason = (
                    f"{what} has a value in its name that the build hides, and the name would be public: "
                    f"{self.hide(name)}. Rename it, or don't hide that value"
                )
                self._log.note("error", reason)
                raise _End("failed", reason)

    def _push(self, settings: Settings, versions: Versions) -> None:
        """Push a commit with the versions that were made, once, if the project wants that."""
        if not versions.changed or self._spec.context != "production":
            return
        author = TARGETS.of(settings).release_author(settings)
        if not author:
            how = f"`twistedipc project set {self._spec.project} --push-versions true` has one pushed"
            self._log.note("info", f"no commit has the new versions: {how}")
            return
        release = versions.release(author)
        versions.changed = {}
        self._write(self._folder / RELEASE, release)
        own = ["twistedipc.runner.checkout.pushing", str(self._folder)]
        reach = self._reaching.push(private=self._checkout.access is not None)
        network = self._reaching.networking.checkout()
        with self._checkout.credentials(self._steps.persist):
            self._step(PUSH, own=own, environment=self._apart(), reach=reach, network=network)

    def _deliver(self, settings: Settings, versions: Versions) -> None:
        """Ask for the permit to publish what was prepared for a target, all of it, and have it delivered."""
        target = TARGETS.of(settings)
        packages = read_packages(self._folder, target.name)
        if not packages:
            raise _End("failed", "the pack step made no package")
        self._control.forget_permit()
        wanted = PermitWanted(package=packages[0], also=packages[1:], target=target.name)
        self._steps.persist(lambda: self._try_write(self._folder / "permit.wanted", wanted))
        self._ring()
        permit = self._steps.wait_for_permit()
        self._check_stopped()
        assert permit is not None  # or it was stopped
        if not permit.granted:
            raise _End("failed", f"publishing wasn't permitted: {permit.reason or 'no reason was given'}")
        if permit.packages != len(packages):
            raise _End(
                "failed",
                f"publishing {len(packages)} packages wasn't permitted: the apiserver is of an older version, which "
                "permits one. Nothing was published: upgrade the apiserver, and build again",
            )
        self._push(settings, versions)
        if permit.store:
            self._leave_to_apiserver(target.name, packages)
            return
        secrets = target.secrets_of(permit)
        for value in secrets.values():
            self._log.mask(value)
        # Nothing of the project's own is in this environment: it is the only one with the target's secrets.
        needed = target.secrets_for(settings, [package.name for package in packages])
        environment = self._apart() | {secret.variable: secrets.get(secret.name, "") for secret in needed}
        own = [publish.__name__, "deliver", str(self._folder), target.name]
        reach = self._reaching.deliver([package_file(target.name), *_tops(packages)], target.delivers_to(settings))
        try:
            network = self._reaching.networking.deliver(target.contacts(settings))
            self._step("publish", own=own, environment=environment, reach=reach, network=network)
        finally:  # what was published before a failure stays so
            published = self._findings.read("published.json", list[Published]) or []
            self._found.published += published
            for each in published:
                if each.notice:
                    self._log.note("warning", each.notice)

    def _leave_to_apiserver(self, target: str, packages: Sequence[Package]) -> None:
        """Note what is to be uploaded: the apiserver publishes it."""
        for position, package in enumerate(packages):
            size, sha256 = measured(self._folder / package.file)
            self._found.packed.append(
                Packed(target=target, position=position, file=package.file, size=size, sha256=sha256)
            )
        what = f"{len(packages)} packages are" if len(packages) > 1 else f"{packages[0].name} is"
        self._log.note("info", f"{what} uploaded, and published by the apiserver")

    def _make_folders(self) -> bool:
        try:
            for name in ("home", "tmp", DOWNLOADS, CHANNEL):
                (self._folder / name).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            if error.errno not in PASSING_ERRORS:
                raise
            return False
        return True

    def _commands_installed(self, environment: dict[str, str]) -> bool:
        """Install our commands for the build. Return whether the disk had room for them."""
        try:
            folder = without_colon(self._folder)
            environment.update(install(folder / "bin", environment["PATH"]))
        except OSError as error:
            if error.errno not in PASSING_ERRORS:
                raise
            return False
        if folder != self._folder:
            # npm names this folder by its own path, which the colon cuts in two.
            environment["PATH"] = f"{folder / self._work.name / 'node_modules' / '.bin'}:{environment['PATH']}"
        return True

    def _forget_packed(self, targets: ProjectTargets) -> None:
        for settings in targets:
            name = name_of(settings)
            self._forget(package_file(name), *_tops(read_packages(self._folder, name)))
        self._forget(*_PACKED)

    def _forget(self, *names: str) -> None:
        for name in names:
            path = self._folder / name
            if path.is_dir() and not path.is_symlink():
                remove_tree(path)
            else:
                path.unlink(missing_ok=True)

    def _step(
        self,
        name: str,
        *,
        environment: Mapping[str, str],
        reach: Reach,
        network: Allowed | None = None,
        shell: str = "",
        place: str = "",
        own: Sequence[str] = (),
    ) -> None:
        """
        Run a step, a command line in a ``place`` of the working copy or one of our own (a module and its arguments),
        and raise `_End` unless it succeeds.
        """
        channel: Path | None = None
        if shell:
            argv, folder, channel = ["sh", "-c", shell], self._folder_of(place), self._folder / CHANNEL
        else:
            argv, folder = own_command(*own), self._folder
            self._steps.persist(lambda: self._cleared(name))
        first = self._journal.count + 1
        networking = self._reaching.networking
        try:
            with networking.connected(name, network, reach) as connected:
                result = self._steps.run(
                    Command(
                        name=name,
                        command=shell,
                        argv=argv,
                        environment={**environment, **connected.environment},
                        folder=folder,
                        channel=channel,
                        channel_seen=self._reaching.channel,
                        reach=connected.reach,
                        namespaces=connected.namespaces,
                        tops=self._tops if shell and self._found.annotate else None,
                    )
                )
        except NoNetwork as error:
            raise self._refused(str(error)) from error
        self._check_stopped()
        if why := networking.why_failed():
            raise self._refused(f"step {name} failed: {why}")
        if result.outcome != "succeeded" and own and self._had_no_room():
            # A build that fills the disk fails; but what we do for it ourselves waits, as the journal does.
            self._log.note("warning", f"the builder's disk was full: {name} is tried again when there is room")
            self._steps.wait_until(self._has_room)
            self._check_stopped()
            self._step(name, environment=environment, own=own, reach=reach, network=network)
        elif result.outcome != "succeeded":
            said = self._findings.read("failure.json", Failure) if own else None
            reason = said.reason if said else f"step {name} ended with exit code {result.exit_code}"
            if shell:  # those of ours explain themselves
                from twistedipc.runner.explaining import explained  # not above: the runner is to stay small till then

                reason += explained(self._folder, self._log, first, result.exit_code)
            reason += networking.explained()
            raise _End("failed", reason)
        elif shell:
            from twistedipc.runner.explaining import warn  # as above

            warn(self._folder, self._log, first)

    def _cleared(self, name: str) -> bool:
        """Make the folders in which a step of our own begins. Return whether the disk had room for them."""
        try:
            self._findings.clear()
            if name == "checkout":
                remove_tree(self._work)  # of a try for which the disk had no room
                self._work.mkdir()
        except OSError as error:
            if error.errno not in PASSING_ERRORS:
                raise
            return False
        return True

    @property
    def _tops(self) -> list[str]:
        """How paths in the working copy begin."""
        return [f"{top}/" for top in dict.fromkeys([os.path.realpath(self._work), str(self._work)])]

    def _folder_of(self, place: str) -> Path:
        """The folder in which a step runs, which one before it may have removed or replaced."""
        folder = self._work / place
        if place and not (os.path.isdir(folder) and folder.resolve().is_relative_to(self._work.resolve())):
            raise self._refused(f"there is no folder {place} in the repository any more")
        return folder

    def _had_no_room(self) -> bool:
        """Return whether a step of the platform may have failed since the disk was full, if only for a moment."""
        if self._log.short_of_room or not self._has_room():
            return True
        # The command's own words, maybe about another machine's disk: so it isn't tried for ever.
        self._found.said_no_room += self._steps.said_no_room
        return self._steps.said_no_room and self._found.said_no_room <= MAX_SAID_NO_ROOM

    def _check_stopped(self) -> None:
        if self._steps.stopped is not None:
            raise _End(self._steps.stopped.outcome, self._steps.stopped.reason)

    def _kill_all(self) -> None:
        spared = self._reaching.networking.processes
        killed, none_left = self._outside.processes.kill_descendants(GIVE_UP, spared)
        if killed:
            self._log.note("warning", f"processes that the build had left running were stopped: {len(killed)}")
        if not none_left:
            self._log.note("error", "a process of the build can't be killed: it hangs in the kernel")

    def hide(self, text: str) -> str:
        """A text that leaves the runner by another way than the log, without what is hidden there."""
        return self._log.hide(text)

    def _result(self, outcome: Outcome, reason: str) -> Result:
        checkout = self._checkout.found
        hide = self.hide
        return Result(
            outcome=outcome,
            reason=hide(reason),
            lines=self._journal.count,
            sha256=self._journal.hexdigest(),
            started=self._found.started,
            ended=max(self._outside.now(), self._found.started),
            commit=checkout.commit if checkout else "",
            resolved=checkout.resolved if checkout else 0,
            head=hide(checkout.head) if checkout else "",
            protected=hide(checkout.protected) if checkout and self._spec.protected else None,
            host_keys=self._checkout.host_keys,
            subject=hide(checkout.subject) if checkout else "",
            author=hide(checkout.author) if checkout else "",
            author_email=hide(checkout.author_email) if checkout else "",
            steps=[replace(step, name=hide(step.name), command=hide(step.command)) for step in self._steps.results],
            artifact=self._found.artifact,
            published=[
                replace(one, name=hide(one.name), version=hide(one.version), registry=hide(one.registry))
                for one in self._found.published
            ],
            packed=self._found.packed,
            recognised=[replace(each, value=hide(each.value), why=hide(each.why)) for each in self._found.recognised],
            tools=self._found.tools,
            used=self._guard.used(),
            egress=self._found.egress,
            linted=self._found.linted,
        )

    def _try_write(self, path: Path, value: msgspec.Struct) -> bool:
        """Call `write_file`. Return whether the disk had room for the file."""
        try:
            write_file(path, value, disk=self._outside.disk)
        except OSError as error:
            if error.errno not in PASSING_ERRORS:
                raise
            return False
        return True

    def _write(self, path: Path, value: msgspec.Struct) -> None:
        self._steps.persist(lambda: self._try_write(path, value))

    def _has_room(self) -> bool:
        """Return whether the disk has room for a step to begin with."""
        return self._outside.free(self._folder) >= _SOME_ROOM

    def _written(self, result: Result) -> bool:
        return self._journal.sync() and self._try_write(self._folder / "result.json", result)
