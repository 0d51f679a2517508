"""
Publishing npm packages: the step that delivers them, see `Target.deliver`. It is the only step that has the registry's
token (``NODE_AUTH_TOKEN``).

npm publishes exactly the tarball that was packed, runs none of its scripts, and reads no setting of the repository's or
of the build's: it works in a folder of its own, with a home, a cache, a user configuration and a global configuration
of its own. (The global one lies beside Node, where a build may be able to write.) The token is bound to the registry
that the project names.

What the registry is asked, and what its answers mean, is in ``publishing``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from twistedipc.builds.attempt import Package, Published
from twistedipc.publish.targets.npm.answers import Ran
from twistedipc.publish.targets.npm.package import Tarball, check, integrity, read_tarball
from twistedipc.publish.targets.npm.publishing import PublishFailed, Publishing
from twistedipc.publish.targets.target import Delivery

#: Seconds after which one call of npm is given up.
DEADLINE = 600.0

_KEEP = 64 * 1024
_REGISTRY = re.compile(r"https?://[^\s\"'#?${}@]+\Z")


class Npm:
    """npm, set up for one registry and nothing else."""

    def __init__(self, home: Path, registry: str, scope: str) -> None:
        self._home = home
        self._settings: list[str] = []
        (home / "cache").mkdir()
        (home / "package.json").write_text("{}")  # here npm stops to look for a project's settings above
        self._userconfig = home / "npmrc"
        self._userconfig.touch(0o600)
        self._globalconfig = home / "global-npmrc"
        self._globalconfig.touch()
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
            f"--globalconfig={self._globalconfig}",
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


def registry_of(registry: str, scope: str, npm: Npm) -> str:
    """The registry that the token is for: the project's, or the one that npm is set up for here."""
    for setting in (f"{scope}:registry", "registry") if scope else ("registry",):
        if registry:
            break
        answer = npm.ask("config", "get", setting).output.strip()
        registry = answer if answer not in ("undefined", "null") else ""
    if not _REGISTRY.match(registry):
        raise PublishFailed(f"{registry[:200]!r} isn't the address of a registry")
    return registry.rstrip("/") + "/"


def _checked(folder: Path, package: Package) -> tuple[Path, Tarball]:
    """Return the tarball, which must be the one that was packed, and what is in it."""
    tarball = (folder / package.file).resolve()
    if not tarball.is_relative_to(folder.resolve()) or integrity(tarball) != package.integrity:
        raise PublishFailed("the package isn't the one that was packed")
    found = read_tarball(tarball)
    if (found.description.name, found.description.version) != (package.name, package.version):
        raise PublishFailed("the package isn't the one that was packed")
    return tarball, found


@dataclass(frozen=True)
class _Ready:
    """A package that the registry takes, as far as it can be asked."""

    package: Package
    registry: str
    publishing: Publishing


def deliver(registry: str, delivery: Delivery) -> Iterator[Published]:
    """
    Publish the attempt's packages to the registry, one after the other; "": the one that npm is set up for. None is
    published if the registry already says of one that it can't be. The token is in the environment. Raises
    `PublishFailed`, `BadPackage`, or OSError.
    """
    packages = delivery.packages
    with tempfile.TemporaryDirectory(prefix="publish-", dir=delivery.out) as home:
        for number, each in enumerate(_ready(delivery, registry, Path(home))):
            package = each.package
            as_tag = package.tag or "latest"
            print(f"Publishing {package.name} {package.version} to {each.registry} as {as_tag} …", flush=True)
            try:
                status = each.publishing.publish()
            except PublishFailed as error:
                if len(packages) == 1:
                    raise
                raise PublishFailed(f"{error} (package {number + 1} of {len(packages)})") from error
            yield Published(
                name=package.name,
                version=package.version,
                integrity=package.integrity,
                status=status,
                registry=each.registry,
                notice=each.publishing.notice,
            )


def _ready(delivery: Delivery, registry: str, home: Path) -> list[_Ready]:
    """Check all packages, here and by what the registry has. Raises `PublishFailed`, `BadPackage`, or OSError."""
    known: dict[str, tuple[str, Npm]] = {}  # scope -> its registry, and npm set up for that
    ready: list[_Ready] = []
    for package in delivery.packages:
        path, tarball = _checked(delivery.folder, package)
        scope = tarball.description.scope
        if scope not in known:
            asking = Npm(Path(tempfile.mkdtemp(dir=home)), "", "")
            found = registry_of(registry, scope, asking)
            known[scope] = (found, Npm(Path(tempfile.mkdtemp(dir=home)), found, scope))
        address, npm = known[scope]
        check(tarball, address)
        ready.append(_Ready(package, address, Publishing(npm, package, path, sleep=time.sleep)))
    for each in ready:
        each.publishing.look()
    return ready
