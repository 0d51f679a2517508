"""
The publish step: ``python -m twistedipc.publish.npm FOLDER``, started by the runner once publishing was permitted, and
the only step that has the registry's token (``NODE_AUTH_TOKEN``). Its output is the log.

npm publishes exactly the tarball that was packed, runs none of its scripts, and reads no setting of the repository's or
of the build's: it works in a folder of its own, with a home, a cache and a user configuration of its own. The token is
bound to the registry that the project names.

A version can be published once, ever. So the registry is asked first, and again after every error: the integrity of
what it has says whether the version is absent, this one ("already published"), or another (a conflict).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from twistedipc.builds.attempt import Package, Published, Spec, read_file, step_failed, write_file
from twistedipc.publish.package import BadPackage, Description, check, describe, integrity, older

#: Seconds between looks at the registry after an error: an upload may show only a little later.
BACKOFF = (1.0, 2.0, 4.0, 8.0)
#: How often the upload is tried at all.
TRIES = 3
#: Seconds after which one call of npm is given up.
DEADLINE = 600.0

_KEEP = 64 * 1024
_CODE = re.compile(r"npm (?:ERR!|error) code (\S+)")
_REGISTRY = re.compile(r"https?://[^\s\"'#?${}@]+\Z")

# What the registry said to an upload that will not be different next time.
_FINAL_CODES = frozenset({"E400", "E401", "E402", "E403", "E404", "E413", "E422", "ENEEDAUTH", "EOTP", "EPRIVATE"})


class PublishFailed(Exception):
    """The package isn't published. ``str()`` of it is a sentence for the project's authors."""


class Ran(msgspec.Struct, frozen=True):
    """How a call of npm went."""

    code: int
    output: str  # its standard output (of `Npm.ask`), or the end of all that it printed (of `Npm.show`)
    errors: str = ""

    @property
    def error(self) -> str:
        """npm's name of the error: "E404"; "" if it gave none."""
        match = _CODE.search(self.errors or self.output)
        return match[1] if match else ""


class Npm:
    """npm, set up for one registry and nothing else."""

    def __init__(self, home: Path, registry: str, scope: str) -> None:
        self._home = home
        self._settings: list[str] = []
        (home / "cache").mkdir()
        (home / "package.json").write_text("{}")  # here npm stops to look for a project's settings above
        self._userconfig = home / "npmrc"
        self._userconfig.touch(0o600)
        if registry:
            self._set_up(registry, scope)

    def _set_up(self, registry: str, scope: str) -> None:
        parts = urlsplit(registry)
        where = f"//{parts.netloc}{parts.path.rstrip('/')}/"
        lines = [f"registry={registry}", f"{where}:_authToken=${{NODE_AUTH_TOKEN}}"]
        self._settings = [f"--registry={registry}"]
        if scope:
            lines.append(f"{scope}:registry={registry}")
            self._settings.append(f"--{scope}:registry={registry}")
        self._userconfig.write_text("\n".join(lines) + "\n")

    def _call(self, arguments: Sequence[str]) -> list[str]:
        return [
            "npm",
            *arguments,
            f"--userconfig={self._userconfig}",
            f"--cache={self._home / 'cache'}",
            *self._settings,
        ]

    def ask(self, *arguments: str) -> Ran:
        """Call npm and keep what it says."""
        try:
            done = subprocess.run(
                self._call(arguments),
                cwd=self._home,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=DEADLINE,
                check=False,
            )
        except FileNotFoundError as error:
            raise PublishFailed("the builder has no npm on its PATH") from error
        except subprocess.TimeoutExpired:
            return Ran(1, "", "npm error code ETIMEDOUT")
        return Ran(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))

    def show(self, *arguments: str) -> Ran:
        """Call npm with what it says in the log; the end of that is kept."""
        with subprocess.Popen(
            self._call(arguments),
            cwd=self._home,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            kept = b""
            assert process.stdout is not None
            while data := os.read(process.stdout.fileno(), 64 * 1024):
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
                kept = (kept + data)[-_KEEP:]
        return Ran(process.returncode, kept.decode("utf-8", "replace"))

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "HOME": str(self._home), "TMPDIR": str(self._home), "FORCE_COLOR": "0"}


def registry_of(spec: Spec, scope: str, npm: Npm) -> str:
    """The registry that the token is for: the project's, or the one that npm is set up for here."""
    registry = spec.publish.registry
    for setting in (f"{scope}:registry", "registry") if scope else ("registry",):
        if registry:
            break
        answer = npm.ask("config", "get", setting).output.strip()
        registry = answer if answer not in ("undefined", "null") else ""
    if not _REGISTRY.match(registry):
        raise PublishFailed(f"{registry[:200]!r} isn't the address of a registry")
    return registry.rstrip("/") + "/"


def found_integrity(ran: Ran) -> str | None:
    """
    What `npm view NAME@VERSION dist.integrity --json` found: an integrity, or "" if there is no such version. None: it
    can't be known now.
    """
    if ran.code == 0:
        try:
            value = msgspec.json.decode(ran.output) if ran.output.strip() else ""
        except msgspec.DecodeError:  # (the output is a str: it can't be cut in a character)
            return None
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        return value if isinstance(value, str) else None
    return "" if ran.error == "E404" or '"E404"' in ran.output else None


class Publishing:
    """One package on its way into one registry."""

    def __init__(self, npm: Npm, package: Package, tarball: Path, *, sleep: Callable[[float], None]) -> None:
        self._npm = npm
        self._package = package
        self._tarball = tarball
        self._sleep = sleep
        self._name = f"{package.name}@{package.version}"

    def publish(self) -> Literal["published", "already-published"]:
        """Publish it, or find that it is. Raises `PublishFailed`."""
        there = self._look()
        if there is None:
            there = self._look_again("")
        if self._same(there):
            print(f"{self._name} is in the registry already, with the same content.", flush=True)
            return "already-published"
        self._check_latest()
        ran = Ran(1, "")
        for _ in range(TRIES):
            ran = self._upload()
            if ran.code == 0:
                return "published"
            print(f"npm failed ({ran.error or f'exit code {ran.code}'}): looking what the registry has …", flush=True)
            if self._same(self._look_again(ran.error)):
                print(f"{self._name} is in the registry, with the same content.", flush=True)
                return "published"
            if ran.error in _FINAL_CODES:
                break
        raise PublishFailed(f"{self._name} isn't published: {_explain(ran)}")

    def _upload(self) -> Ran:
        tag = [f"--tag={self._package.tag}"] if self._package.tag else []
        return self._npm.show("publish", str(self._tarball), "--ignore-scripts", *tag)

    def _look(self) -> str | None:
        return found_integrity(self._npm.ask("view", self._name, "dist.integrity", "--json", "--prefer-online"))

    def _look_again(self, error: str) -> str:
        """Look with backoff until something is there: its integrity; "" if nothing comes."""
        there: str | None = None
        for pause in BACKOFF:
            there = self._look()
            if there or (there == "" and error in ("E401", "ENEEDAUTH", "E402")):
                break
            self._sleep(pause)
        if there is None:
            raise PublishFailed(f"the registry can't be asked whether {self._name} is there: try again later")
        return there

    def _same(self, there: str | None) -> bool:
        if not there:
            return False
        if there != self._package.integrity:
            raise PublishFailed(
                f"conflict: the registry has {self._name} with another content ({there}); a version can't be used again"
            )
        return True

    def _check_latest(self) -> None:
        """Refuse what would silently become `latest` below the one that is."""
        if self._package.tag:
            return
        ran = self._npm.ask("view", self._package.name, "dist-tags.latest", "--json", "--prefer-online")
        latest = found_integrity(ran)
        if latest and older(self._package.version, latest):
            raise PublishFailed(
                f"{self._package.version} is older than {latest}, which is `latest` now: it needs a tag of its own"
                ' ("publishConfig": {"tag": "…"} in package.json)'
            )


def _explain(ran: Ran) -> str:
    match ran.error:
        case "E401" | "ENEEDAUTH":
            return "the registry doesn't take the project's token"
        case "E403":
            return "the registry forbids it (E403)"
        case "":
            return f"npm publish ended with exit code {ran.code}"
        case code:
            return f"the registry or npm says {code}"


def _checked(folder: Path, package: Package) -> tuple[Path, Description]:
    """The tarball: the same as was packed, and fit to be published."""
    tarball = (folder / package.file).resolve()
    if not tarball.is_relative_to(folder.resolve()) or integrity(tarball) != package.integrity:
        raise PublishFailed("the package isn't the one that was packed")
    description = describe(tarball)
    if (description.name, description.version) != (package.name, package.version):
        raise PublishFailed("the package isn't the one that was packed")
    return tarball, description


def run(folder: Path) -> Published:
    """Publish the attempt's package. Raises `PublishFailed`, `BadPackage`, or OSError."""
    spec = read_file(folder / "spec.json", Spec)
    package = read_file(folder / "package.json", Package)
    if spec is None or package is None:
        raise PublishFailed("the attempt's folder has no spec.json or no package.json")
    if not os.environ.get("NODE_AUTH_TOKEN"):
        raise PublishFailed("the project has no token for the registry (its secret npm_token)")
    tarball, description = _checked(folder, package)
    with tempfile.TemporaryDirectory(prefix="publish-", dir=folder) as asking:
        registry = registry_of(spec, description.scope, Npm(Path(asking), "", ""))
    check(description, registry)
    print(f"Publishing {package.name} {package.version} to {registry} as {package.tag or 'latest'} …", flush=True)
    with tempfile.TemporaryDirectory(prefix="publish-", dir=folder) as home:
        npm = Npm(Path(home), registry, description.scope)
        status = Publishing(npm, package, tarball, sleep=time.sleep).publish()
    return Published(
        name=package.name, version=package.version, integrity=package.integrity, status=status, registry=registry
    )


class _All(msgspec.Struct, array_like=True):
    """The file's form: a list of `Published`."""

    package: Published


def main(folder: Path) -> int:
    """The step: its exit code."""
    try:
        published = run(folder)
        write_file(folder / "published.json", _All(published))
    except (PublishFailed, BadPackage, OSError, msgspec.DecodeError) as error:
        return step_failed(folder, error)
    print(f"{published.name} {published.version}: {published.status}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
