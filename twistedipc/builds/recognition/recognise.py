"""
What a project is: its framework, its package manager, its commands, its output, and why. Every part of it that the
project's settings say is theirs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from twistedipc.builds.outputs import GENERATORS, INDEX, OUTPUTS
from twistedipc.builds.recognition import managers, nodes, sites, workspaces
from twistedipc.builds.recognition.frameworks import BY_NAME, FRAMEWORKS, Framework, possible
from twistedipc.builds.recognition.managers import Choice, Manager
from twistedipc.builds.recognition.paths import joined, parents
from twistedipc.builds.recognition.reading import (
    BadPlan,
    PackageJson,
    Text,
    in_folder,
    read_package,
)
from twistedipc.builds.recognition.recognised import Finding, Kind, PlannedStep, Recognised
from twistedipc.builds.recognition.tree import Tree
from twistedipc.builds.recognition.workspaces import Member
from twistedipc.builds.settings import PLAN_FILE, BuildSettings

#: Folders that may hold a site without any build, beside `OUTPUTS`.
_PLAIN = ("docs", "site", "www", "html")

#: Folders whose applications are seldom what a repository is there for.
_ASIDE = re.compile(
    r"(?i)(?:^|[/_-])(?:examples?|demos?|playgrounds?|fixtures|templates?|tests?|e2e|benchmarks?)(?:$|[/_-])"
)

_MOST_SHOWN = 5

#: What a package has that others use, and an application hasn't.
_OF_A_LIBRARY = ("main", "module", "exports", "types", "bin")


def recognise(tree: Tree, settings: BuildSettings, said_in: Mapping[str, str] = MappingProxyType({})) -> Recognised:
    """
    Return what a project is.

    :param settings: what the project says, checked by `settings.checked`
    :param said_in: the files of the repository that say those of the settings that a file says
    :raises BadPlan: if what says it can't be read, or the root isn't there
    """
    if settings.root and not tree.names(settings.root):
        raise BadPlan(f"root: there is no folder {settings.root} in the repository, or it is empty")
    if settings.framework and settings.framework not in BY_NAME:
        raise BadPlan(f"framework: {settings.framework} isn't one of {', '.join(sorted(BY_NAME))}")
    return _Recognition(tree, settings, said_in).done()


class _Recognition:
    """The course of one recognition."""

    def __init__(self, tree: Tree, settings: BuildSettings, said_in: Mapping[str, str]) -> None:
        self._tree = tree
        self._settings = settings
        self._said_in = said_in
        self._root = settings.root
        self._findings: list[Finding] = []
        self._advice: list[str] = []
        self._package = read_package(tree, self._root)
        self._workspace = workspaces.find(tree, self._root)
        self._members: list[Member] = []
        self._choice = Choice()
        self._framework: Framework | None = None
        self._script = ""  # the name of the script that builds
        self._refusal = ""

    def done(self) -> Recognised:
        """Recognise everything."""
        if self._root:
            self._find_set("root", self._root)
        if self._workspace is not None:
            self._findings.append(self._workspace.where)
            self._members = workspaces.members(self._tree, self._workspace)
        self._recognise_framework()
        self._look_for_the_only_app()
        folders = self._folders()
        packages = self._packages(folders)
        above = [self._root, *parents(self._root)]
        node, finding, advice = nodes.choose(self._tree, above, packages, self._set("node", self._settings.node))
        self._advice += [advice] if advice else []
        installs = bool(packages) or bool(self._settings.manager)
        if installs:
            self._choice = managers.choose(self._tree, folders, packages, self._set("manager", self._settings.manager))
            self._findings += self._choice.findings
            self._advice += self._choice.advice
            self._refusal = self._refusal or self._choice.refusal
        if finding is not None:
            self._findings.append(finding)
        install = self._install(packages)
        build = self._build()
        kind, no_site = self._kind(build)
        outputs = self._outputs(build)
        return Recognised(
            root=self._root,
            framework=self._framework.name if self._framework is not None else "",
            kind=kind,
            manager=self._choice.wanted if installs else None,
            node=node,
            install=install,
            build=build,
            outputs=outputs,
            spa=self._is_single_page(),
            needs=_programs([*([install] if install is not None else []), *build]),
            findings=self._findings,
            refusal=self._refusal,
            no_site=no_site,
            advice=self._advice,
        )

    def _find(self, what: str, value: str, why: str, file: str = "", line: int = 0) -> None:
        self._findings.append(Finding(what=what, value=value, why=why, file=file, line=line))

    def _find_set(self, key: str, value: str) -> None:
        self._findings.append(_setting(self._said_in, key, value))

    def _set(self, key: str, value: str) -> Finding | None:
        return _setting(self._said_in, key, value) if value else None

    # -- what it is

    def _recognise_framework(self) -> None:
        if self._settings.framework:
            self._framework = BY_NAME[self._settings.framework]
            self._find_set("framework", self._framework.name)
            return
        found = _framework_of(self._tree, self._root, self._package)
        if found is None and self._package is not None and self._workspace is not None:
            found = _runs_one_of(self._package, read_package(self._tree, self._workspace.top))
        if found is not None:
            self._framework, finding = found
            self._findings.append(finding)

    def _look_for_the_only_app(self) -> None:
        """
        If the project is the top of a workspace, and no application of its own: make the application that its script
        builds, or the only one among the members, the project, or say that there are several.
        """
        top = self._workspace is not None and self._workspace.top == self._root
        own = self._package is not None and _is_app(self._tree, self._root, self._package)
        if not top or own or self._settings.root or self._settings.build is not None or self._settings.packages:
            return
        apps = self._apps()
        commands = self._package.commands("build") if self._package is not None else ""
        named = [app for app in apps if workspaces.is_named(app[0], self._root, commands)]
        if len(named) != 1 and len(apps) > 1:
            self._several([member.folder for member, _, _ in apps])
        elif apps:
            member, self._framework, finding = (named or apps)[0]
            why = "the workspace's script build builds it" if named else "it has the workspace's only application"
            self._root, self._package = member.folder, member.package
            self._find("root", member.folder, why)
            self._findings = [each for each in self._findings if each.what != "framework"] + [finding]

    def _apps(self) -> list[tuple[Member, Framework, Finding]]:
        """The applications among the members of a workspace whose top is the project."""
        apps: list[tuple[Member, Framework, Finding]] = []
        for member in self._members:
            found = _app_of(self._tree, member, self._package) if member.folder != self._root else None
            if found is not None and found[0].name != "storybook":
                apps.append((member, *found))
        return apps

    def _several(self, folders: list[str]) -> None:
        sentence = f"the workspace has several applications, {_shown(folders)}: {_choose(folders)}"
        if self._package is not None and "build" in self._package.scripts:
            self._advice.append(f"{sentence[:1].upper()}{sentence[1:]}.")
        else:
            self._refusal = sentence

    def _kind(self, build: list[PlannedStep]) -> tuple[Kind, str]:
        """What the build makes, and why it is certain that it is no site."""
        if self._framework is None:
            if self._package is None and not build:
                return ("plain" if INDEX in self._tree.names(self._root) else "unknown"), ""
            return ("unknown", "") if build else ("package", self._no_site_of_a_package())
        if self._settings.build is not None:
            return "static", ""
        script = self._package.commands(self._script) if self._package is not None else ""
        server = sites.server_of(self._framework, self._config(), script, self._has)
        if server is None:
            return "static", ""
        self._findings += [server.where] if server.where is not None else []
        if server.certain and not self._settings.output:
            return "server", server.sentence
        self._advice.append(f"{server.sentence}.")
        return "server", ""

    def _no_site_of_a_package(self) -> str:
        """The sentence for a package that builds nothing, above applications that aren't of its workspace; or ""."""
        made = {INDEX, *OUTPUTS} & set(self._tree.names(self._root))
        if made or self._settings.output or self._settings.build is not None:
            return ""
        below = _apps_below(self._tree, self._root)
        return f"package.json builds nothing, and {below}" if below else ""

    def _config(self) -> Text | None:
        """The framework's configuration."""
        return sites.read_config(self._tree, self._root, self._framework, self._has) if self._framework else None

    def _has(self, name: str) -> bool:
        return _has(self._tree, self._root, name)

    def _is_single_page(self) -> bool:
        if self._settings.spa is not None:
            return self._settings.spa
        if self._framework is None:
            return False
        if not self._framework.spa_when:
            return self._framework.spa
        config = self._config()
        return config is not None and config.find(self._framework.spa_when) is not None

    # -- how it is built

    def _folders(self) -> list[str]:
        """The project's folder and those above it up to where it is installed, the nearest first."""
        top = self._install_root()
        above = [each for each in parents(self._root) if not top or each == top or each.startswith(f"{top}/")]
        return [self._root, *above]

    def _install_root(self) -> str:
        if self._workspace is not None:
            return self._workspace.top
        if self._package is None and self._framework is None and not self._has(INDEX):
            for folder in parents(self._root):
                if "package.json" in self._tree.names(folder):
                    return folder
        return self._root

    def _packages(self, folders: list[str]) -> list[PackageJson]:
        found = [self._package] if self._package is not None else []
        for folder in folders[1:]:
            package = read_package(self._tree, folder)
            if package is not None:
                found.append(package)
        return found

    def _install(self, packages: list[PackageJson]) -> PlannedStep | None:
        manager, locked = self._choice.manager, bool(self._choice.wanted.lock)
        folder = self._install_root() if packages else self._root
        if self._settings.install is not None:
            run = self._settings.install
            self._find_set("install", run)
        elif packages:
            run = manager.frozen if locked else manager.install
            self._find("install", run, f"{manager.name}'s command" + ("" if locked else ", without a lock file"))
        elif self._framework is not None and self._framework.name == "jekyll" and self._has("Gemfile"):
            run = "bundle install"
            self._find("install", run, "the file", in_folder(self._root, "Gemfile"))
        else:
            return None
        return PlannedStep(name="install", run=run, folder=folder) if run.strip() else None

    def _build(self) -> list[PlannedStep]:
        manager = self._choice.manager
        if self._settings.build is not None:
            self._find_set("build", self._settings.build)
            build = self._settings.build
            return [PlannedStep(name="build", run=build, folder=self._root)] if build.strip() else []
        by_tool = self._by_the_workspace(manager)
        if by_tool is not None:
            return by_tool
        own = self._own_command(manager)
        if own is None:
            return self._build_of_packages(manager)
        before: list[PlannedStep] = []
        if self._workspace is not None and self._root != self._workspace.top:
            before = workspaces.builds_before(self._members, self._root, manager)
            for command in before:
                self._find("build", command.run, "the project depends on it", in_folder(command.folder, "package.json"))
        return [*before, own]

    def _build_of_packages(self, manager: Manager) -> list[PlannedStep]:
        """The commands that build the packages that the project publishes, where it has no command for all of them."""
        workspace = self._workspace
        if workspace is None or not self._settings.packages:
            return []
        found = workspaces.tool_of(self._tree, workspace) if workspace.top == self._root else None
        if found is not None:
            tool, where = found
            self._findings.append(where)
            run = f"{manager.execute} {tool.all}"
            self._find("build", run, f"{tool.name} builds all packages", where.file)
            return [PlannedStep(name="build", run=run, folder=self._root)]
        folders = workspaces.folders_of(self._tree, self._root, self._settings.packages)
        steps = workspaces.builds(self._members, folders, manager)
        for step in steps:
            self._find("build", step.run, "the script build of a package", in_folder(step.folder, "package.json"))
        return steps

    def _by_the_workspace(self, manager: Manager) -> list[PlannedStep] | None:
        """The command of the workspace's own tool that builds the project and what it needs, if there is one."""
        workspace = self._workspace
        if workspace is None or self._root == workspace.top:
            return None
        top = read_package(self._tree, workspace.top)
        found = workspaces.tool_of(self._tree, workspace)
        member = next((each for each in self._members if each.folder == self._root), None)
        all_of_it = member is not None and top is not None and workspaces.builds_all(top, member, workspace)
        if not self._settings.root and top is not None and all_of_it:
            run = f"{manager.run} build"
            self._script = "build"
            self._find("build", run, "the workspace's script build", top.path, top.line("scripts", "build"))
            return [PlannedStep(name="build", run=run, folder=workspace.top)]
        if found is None or member is None or "build" not in member.package.scripts:
            return None
        tool, where = found
        command = workspaces.built_by(tool, member, manager, workspace.top)
        if command is None:
            return None
        self._script = "build"
        self._findings.append(where)
        self._find("build", command.run, f"{tool.name} builds it, and what it needs", where.file)
        return [command]

    def _own_command(self, manager: Manager) -> PlannedStep | None:
        """The command that builds the project itself."""
        package, framework = self._package, self._framework
        if package is not None:
            script = _script_of(package, framework)
            if script and not (framework is not None and _is_replaced(package, script, framework)):
                run, self._script = f"{manager.run} {script}", script
                self._find("build", run, f"the script {script}", package.path, package.line("scripts", script))
                return PlannedStep(name="build", run=run, folder=self._root)
            if script and framework is not None:
                replaced = package.scripts[script].strip()
                self._find(
                    "build",
                    framework.command,
                    f'in place of "{replaced}", which makes a server',
                    package.path,
                    package.line("scripts", script),
                )
                return PlannedStep(name="build", run=f"{manager.execute} {framework.command}", folder=self._root)
        if framework is None or not framework.command:
            return None
        if package is not None and not framework.needs and not _is_app(self._tree, self._root, package):
            return None  # a package that has it for its tests, say
        run = framework.command
        if framework.name == "jekyll" and self._has("Gemfile"):
            run = f"bundle exec {run}"
        elif package is not None and not framework.needs:
            run = f"{manager.execute} {run}"
        self._find("build", run, f"{framework.title}'s command")
        return PlannedStep(name="build", run=run, folder=self._root)

    # -- where the site is then

    def _outputs(self, build: list[PlannedStep]) -> list[str]:
        if self._settings.output:
            output = joined(self._root, self._settings.output)
            self._find_set("output", output or ".")
            return [] if output is None else [output or "."]
        found: list[str] = []
        of_framework: list[Finding] = []
        if self._framework is not None:
            of_framework = sites.outputs_of(
                self._tree, self._root, self._framework, self._config(), self._package, self._script
            )
        for finding in of_framework:
            where = joined(self._root, finding.value)
            if where is not None and where not in found and where != self._root:
                found.append(where)
                self._findings.append(
                    Finding(what="output", value=where, why=finding.why, file=finding.file, line=finding.line)
                )
        if self._framework is None and self._package is None and not build and INDEX in self._tree.names(self._root):
            self._refusal = self._refusal or _made_by_another(self._tree, self._root)
            return [self._root or "."]
        return found


def _setting(said_in: Mapping[str, str], key: str, value: str) -> Finding:
    """What a setting says, as a finding."""
    file = said_in.get(key, "")
    return Finding(what=key, value=value, why=f"build.{key}" if file else "the project's setting", file=file)


def nothing_to_build(tree: Tree, root: str) -> str:
    """Return the sentence for a project in whose folder nothing is recognised."""
    other = _made_by_another(tree, root)
    if other:
        return other
    below = _apps_below(tree, root)
    if below:
        return f"there is nothing to build in {root or 'the top of the repository'}, and {below}"
    needs = f"the repository needs a package.json, an {INDEX} at its top, or a {PLAN_FILE} with build.steps"
    plain = next((each for each in (*OUTPUTS, *_PLAIN) if _has(tree, root, f"{each}/{INDEX}")), None)
    if plain is not None:
        needs += f'. {plain} has an {INDEX}: to release that folder as it is, set output = "{plain}" under [build]'
    return f"there is nothing to build: {needs}"


def _apps_below(tree: Tree, root: str) -> str:
    """The part of a sentence that says which applications are below a folder, without any workspace; "" if none are."""
    folders = workspaces.below(tree, root, lambda folder, package: _is_app(tree, folder, package))
    if not folders:
        return ""
    what = "there is an application in" if len(folders) == 1 else "there are applications in"
    return f"{what} {_shown(folders)}: {_choose(folders)}"


def _shown(folders: list[str]) -> str:
    return ", ".join(_likely(folders)[:_MOST_SHOWN]) + (
        f" and {len(folders) - _MOST_SHOWN} more" if len(folders) > _MOST_SHOWN else ""
    )


def _choose(folders: list[str]) -> str:
    folder = _likely(folders)[0]
    if len(folders) == 1:
        return f"if this project is that one, say so by its root: twistedipc project set NAME --root {folder}"
    return f"say which one this project is by its root, for example twistedipc project set NAME --root {folder}"


def _likely(folders: list[str]) -> list[str]:
    """The folders of applications, those first that are most likely meant."""
    return sorted(folders, key=lambda folder: (_ASIDE.search(folder) is not None, folder.count("/"), folder))


def _programs(steps: list[PlannedStep]) -> list[str]:
    """The programs of package managers and frameworks that steps begin with."""
    known = {manager.name for manager in managers.MANAGERS} | {"bundle"}
    known |= {name for framework in FRAMEWORKS for name in framework.needs}
    return list(dict.fromkeys(word for step in steps for word in step.run.split()[:1] if word in known))


def _made_by_another(tree: Tree, root: str) -> str:
    """The sentence for a folder that isn't the site itself since another program makes one of its files; "" if none."""
    for generator in GENERATORS:
        if _has(tree, root, generator.file):
            return (
                f"{generator.file} says that {generator.name} makes this site, and nothing says how: set build.steps "
                f'in {PLAN_FILE}, for example {generator.example}, or output = "." to release the files as they are'
            )
    return ""


def _has(tree: Tree, folder: str, path: str) -> bool:
    where, _, name = in_folder(folder, path).rpartition("/")
    return name in tree.names(where)


def _framework_of(tree: Tree, folder: str, package: PackageJson | None) -> tuple[Framework, Finding] | None:
    """The framework of the project in a folder, and what says so."""
    found: list[tuple[Framework, Finding]] = []
    for framework in possible(package.dependencies if package is not None else ()):
        finding = _sign_of(tree, folder, package, framework)
        if finding is not None:
            found.append((framework, finding))
    if package is None:
        return found[0] if found else None
    for name in ("build", *package.scripts):
        script = package.commands(name) if name == "build" or "build" in name else ""
        for framework, finding in found:
            if script and framework.runs and re.search(framework.runs, script):
                return framework, finding
    return found[0] if found else None


def _sign_of(tree: Tree, folder: str, package: PackageJson | None, framework: Framework) -> Finding | None:
    if package is not None:
        uses = package.dependencies
        name = next((each for each in framework.packages if each in uses), None)
        if name is not None and (not framework.along or any(each in uses for each in framework.along)):
            line = package.line(uses[name], name)
            return Finding(
                what="framework", value=framework.name, why=f"{uses[name]} has {name}", file=package.path, line=line
            )
    if framework.alone:
        name = next((each for each in framework.config if _has(tree, folder, each)), None)
        beside = not framework.beside or any(_has(tree, folder, each) for each in framework.beside)
        taken = package is not None and bool(package.scripts.get("build"))
        if name is not None and beside and not taken:
            return Finding(what="framework", value=framework.name, why="its file", file=in_folder(folder, name))
    return None


def _is_app(tree: Tree, folder: str, package: PackageJson) -> bool:
    """
    Whether a package with a framework is an application of it, and not a library that has it for its tests or is
    bundled by it: a script builds with it, or there is an index.html or a configuration of a framework other than
    bundlers'.
    """
    found = _framework_of(tree, folder, package)
    if found is None:
        return False
    framework = found[0]
    bundler = framework.runs == BY_NAME["vite"].runs
    if INDEX in tree.names(folder):
        return True
    if bundler and any(package.get(field) for field in _OF_A_LIBRARY):
        return False
    if any(re.search(framework.runs, command) for command in package.scripts.values() if framework.runs):
        return True
    return not bundler and any(_has(tree, folder, name) for name in framework.config)


def _app_of(tree: Tree, member: Member, top: PackageJson | None) -> tuple[Framework, Finding] | None:
    """The framework of a member of a workspace, and what says so; None if it is no application."""
    found = _framework_of(tree, member.folder, member.package)
    if found is not None:
        return found if _is_app(tree, member.folder, member.package) else None
    found = _runs_one_of(member.package, top)
    return found if found is not None and INDEX in tree.names(member.folder) else None


def _runs_one_of(package: PackageJson, top: PackageJson | None) -> tuple[Framework, Finding] | None:
    """The framework that a member's script builds with, where its workspace's top depends on it for all members."""
    uses = top.dependencies if top is not None else {}
    commands = package.commands("build")
    for framework in possible(uses):
        name = next((each for each in framework.packages if each in uses), None)
        if top is not None and name is not None and framework.runs and re.search(framework.runs, commands):
            why, line = f"{uses[name]} has {name}", top.line(uses[name], name)
            return framework, Finding(what="framework", value=framework.name, why=why, file=top.path, line=line)
    return None


def _script_of(package: PackageJson, framework: Framework | None) -> str:
    """The name of the script that builds; "" if there is none."""
    scripts = package.scripts
    if framework is None or not framework.runs:
        return "build" if "build" in scripts else ""
    runs = framework.runs
    if "build" in scripts and re.search(runs, package.commands("build")):
        return "build"
    for name in framework.scripts:
        if name in scripts and re.search(runs, package.commands(name)):
            return name
    if "build" in scripts:
        return "build"
    return next((name for name in scripts if "build" in name and re.search(runs, package.commands(name))), "")


def _is_replaced(package: PackageJson, script: str, framework: Framework) -> bool:
    """Whether a script is what a scaffold writes, and makes a server where the framework's command makes a site."""
    return bool(framework.instead_of) and re.fullmatch(framework.instead_of, package.scripts[script]) is not None
