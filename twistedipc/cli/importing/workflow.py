"""
A GitHub workflow that only builds -> settings. Pure. https://docs.github.com/actions/reference/workflows-and-actions
has the keys.

Of all jobs of all workflows one is taken: the one that hands a folder to a host of static sites, or else the first that
builds. Its commands in their order are the build, less what the platform does itself (checkout, Node, installing,
caches) and less tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from twistedipc.cli.importing.commands import kind_of
from twistedipc.cli.importing.imported import Imported, quoted
from twistedipc.cli.importing.positions import Value, read_yaml

FOLDER = ".github/workflows"

#: Actions that hand a folder to a host: the input that names it, and the folder if it isn't there.
_HANDS_OVER = {
    "actions/upload-pages-artifact": ("path", "_site"),
    "peaceiris/actions-gh-pages": ("publish_dir", "public"),
    "jamesives/github-pages-deploy-action": ("folder", ""),
    "cloudflare/pages-action": ("directory", ""),
    "crazy-max/ghaction-github-pages": ("build_dir", "public"),
    "nwtgck/actions-netlify": ("publish-dir", ""),
}

#: Actions of which the platform does the same by itself, or that are of no use in it.
_NEEDLESS = frozenset(
    """
    actions/configure-pages actions/deploy-pages actions/cache actions/cache/restore actions/cache/save
    actions/upload-artifact step-security/harden-runner
    """.split()
)

#: Actions that set a package manager up: the manager, and the input that has its version.
_MANAGERS = {"pnpm/action-setup": ("pnpm", "version"), "oven-sh/setup-bun": ("bun", "bun-version")}

#: What can't be joined by "&&".
_SCRIPT = re.compile(
    r"\\$|<<|^\s*(?:if|for|while|case|function|fi|done|esac|then|else|do|\}|\{)\b|^\s*[})]", re.MULTILINE
)

_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


@dataclass(frozen=True)
class Job:
    """A job of a workflow, and what it is in."""

    file: str
    name: str
    workflow: Value
    body: Value

    @property
    def steps(self) -> list[Value]:
        """Its steps."""
        return self.body.get("steps").entries

    @property
    def rank(self) -> int:
        """2 if it hands a site over, 1 if it builds, 0 if it does neither."""
        if any(_action(step) in _HANDS_OVER for step in self.steps):
            return 2
        return int(any(re.search(r"\bbuild\b|\bgenerate\b", step.get("run").text) for step in self.steps))


def read_workflows(files: dict[str, bytes], into: Imported) -> None:
    """Read workflows, each by its path. Raises `Unreadable`."""
    jobs = [job for file, data in sorted(files.items()) for job in _jobs(file, data)]
    taken = max(jobs, key=lambda job: job.rank, default=None)
    if taken is None or not taken.rank:
        for file in sorted(files):
            into.leave(file, 0, "builds nothing that could be released, so nothing of it is carried over")
        return
    for job in jobs:
        if job is not taken and not all(_is_needless(step) for step in job.steps):
            into.leave(
                job.file, job.body.line, f"the job {quoted(job.name)} isn't carried over: one job makes the site"
            )
    _Reader(taken, into).read()


def _jobs(file: str, data: bytes) -> Iterator[Job]:
    workflow = read_yaml(data)
    for name, body in workflow.get("jobs").items:
        yield Job(file, name, workflow, body)


def _action(step: Value) -> str:
    return step.get("uses").text.partition("@")[0].lower()


def _is_needless(step: Value) -> bool:
    return _action(step) in _NEEDLESS


class _Reader:
    """Reads the job that is taken."""

    def __init__(self, job: Job, into: Imported) -> None:
        self._job = job
        self._into = into
        self._build: list[str] = []
        self._build_line = 0
        self._folders = [self._folder(step) for step in job.steps if step.get("run").data]

    def read(self) -> None:
        """Carry over what can be, in the order of the file."""
        job = self._job
        root = self._folders[0] if self._folders and len(set(self._folders)) == 1 else ""
        if root:
            self._into.set("root", root, job.file, job.body.line)
        for part in (job.workflow, job.body):
            self._variables(part.get("env"))
        for key in ("services", "container"):
            value = job.body.get(key)
            if value.data is not None:
                self._leave(value.line, f"{key} of the job aren't carried over: a build has the builder's machine")
        for step in job.steps:
            self._step(step, root)
        if self._build:
            self._into.set("build", _joined(self._build), job.file, self._build_line)

    def _leave(self, line: int, text: str) -> None:
        self._into.leave(self._job.file, line, text)

    def _step(self, step: Value, root: str) -> None:
        if step.get("if").data is not None and not _is_needless(step):
            self._leave(
                step.get("if").line, f"the condition of a step isn't carried over: {quoted(step.get('if').text)}"
            )
        self._variables(step.get("env"))
        if step.get("run").data is not None:
            self._run(step, root)
        elif step.get("uses").data is not None:
            self._use(step, root)

    def _run(self, step: Value, root: str) -> None:
        run = step.get("run")
        text = run.text
        expressions = _EXPRESSION.findall(text)
        if expressions:
            self._leave(run.line, f"{quoted(text)} isn't carried over: there is no {quoted(expressions[0])} here")
            return
        lines = [text] if _SCRIPT.search(text) else [line.strip() for line in text.split("\n")]
        for line in lines:
            if line and not line.startswith("#"):
                self._command(line, run.line, "" if root else self._folder(step))

    def _command(self, command: str, line: int, folder: str) -> None:
        match kind_of(command):
            case "needless":
                pass
            case "install":
                self._into.set("install", command, self._job.file, line)
            case "check":
                self._leave(
                    line, f"{quoted(command)} isn't carried over: add it to `build` if a release is to wait for it"
                )
            case "deploy":
                self._leave(line, f"{quoted(command)} isn't carried over: what is built is released by the platform")
            case "build":
                self._build_line = self._build_line or line
                self._build.append(f"(cd {folder} && {command})" if folder else command)

    def _use(self, step: Value, root: str) -> None:
        action, given, line = _action(step), step.get("with"), step.get("uses").line
        if action == "actions/checkout":
            self._checkout(given)
        elif action == "actions/setup-node":
            self._node(given)
        elif action in _MANAGERS:
            manager, key = _MANAGERS[action]
            if given.get(key).text not in ("", "latest"):
                self._into.set("manager", f"{manager}@{given.get(key).text}", self._job.file, given.get(key).line)
        elif action in _HANDS_OVER:
            key, default = _HANDS_OVER[action]
            path = given.get(key).text or default
            if path:
                at = given.get(key).line if given.get(key).data is not None else line
                self._into.set("output", _below(_relative(path), root), self._job.file, at)
        elif action not in _NEEDLESS:
            self._leave(
                line, f"the action {quoted(action)} isn't carried over: run the program that it runs in `build`"
            )

    def _checkout(self, given: Value) -> None:
        for key in ("repository", "ref", "token", "ssh-key", "path"):
            if given.get(key).data is not None:
                self._leave(
                    given.get(key).line, f"{key} of the checkout isn't carried over: a project has one repository"
                )

    def _node(self, given: Value) -> None:
        version = given.get("node-version")
        wanted = version.text
        named = re.fullmatch(r"\$\{\{\s*matrix\.([\w-]+)\s*\}\}", wanted)
        if named is not None:
            choices = [each.text for each in self._job.body.get("strategy").get("matrix").get(named[1]).entries]
            if not choices:
                self._leave(version.line, f"the version of Node isn't carried over: {quoted(wanted)} isn't known")
                return
            wanted = choices[-1]
            if len(choices) > 1:
                self._leave(
                    version.line, f"of the versions of Node {', '.join(choices)[:80]}, the last is carried over"
                )
        if wanted and not wanted.startswith("${{"):
            self._into.set("node", wanted.removeprefix("v"), self._job.file, version.line)
        elif wanted:
            self._leave(version.line, f"the version of Node isn't carried over: {quoted(wanted)} isn't known here")
        if given.get("registry-url").data is not None:
            self._leave(
                given.get("registry-url").line,
                "the registry isn't carried over: name it for the project (project registry add), or as its npm target",
            )

    def _variables(self, env: Value) -> None:
        for name, value in env.items:
            expression = _EXPRESSION.search(value.text)
            if expression is None:
                self._into.set_variable(name, value.text, self._job.file, value.line)
            elif expression[1].startswith("secrets."):
                self._leave(
                    value.line, f"{quoted(name)} is a secret: give it to the project as one (project secret set)"
                )
            else:
                self._leave(value.line, f"{quoted(name)} isn't carried over: there is no {quoted(expression[1])} here")

    def _folder(self, step: Value) -> str:
        """The folder that a step's command runs in, relative to the top; "" for the top itself."""
        for part in (step, self._job.body.get("defaults").get("run"), self._job.workflow.get("defaults").get("run")):
            folder = part.get("working-directory").text
            if folder:
                return _relative(folder).removeprefix(".")
        return ""


def _relative(path: str) -> str:
    return path.replace("${{ github.workspace }}/", "").removeprefix("./").strip("/") or "."


def _below(path: str, root: str) -> str:
    """Return a path in the repository relative to the project's root, if it is below it."""
    return path.removeprefix(f"{root}/") if root and path.startswith(f"{root}/") else path


def _joined(commands: list[str]) -> str:
    """Return commands as one that ends with the first that fails."""
    if any("\n" in command for command in commands):
        return "set -e\n" + "\n".join(commands)
    return " && ".join(commands)
