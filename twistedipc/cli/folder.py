"""
The git repository that a folder of this machine belongs to, as far as the command asks about it: where it is, where it
came from, what is checked out. Used by ``naming`` and ``up``.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from twistedipc.builds import toml
from twistedipc.builds.settings import PLAN_FILE
from twistedipc.cli.failures import ExitCode, Failure

#: Seconds that git may take for an answer: some of them read the whole working copy.
SECONDS = 60.0


@dataclass(frozen=True)
class Repository:
    """A repository with a working copy. All of its facts are asked of git when they are wanted."""

    top: Path

    @property
    def address(self) -> str:
        """The repository's address for a builder on this machine. A second working copy has none of its own."""
        if (self.top / ".git").is_dir():
            return self.top.as_uri()
        return (self.top / self._line("rev-parse", "--git-common-dir")).resolve().as_uri()

    @property
    def origin(self) -> str:
        """The address that it was cloned from; "" if there is none. `insteadOf` is applied, as git does for itself."""
        return self._line("remote", "get-url", "origin")

    @property
    def commit(self) -> str:
        """The commit that is checked out; "" if there is none yet."""
        return self._line("rev-parse", "--verify", "--quiet", "HEAD^{commit}")

    @property
    def branch(self) -> str:
        """The branch that is checked out; "" if it is a commit alone."""
        return self._line("symbolic-ref", "--quiet", "--short", "HEAD")

    @property
    def default_branch(self) -> str:
        """The branch that the repository's origin has as its own, or else the one that is checked out here."""
        named = self._line("symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD").partition("/")[2]
        # What nobody has checked out here yet can't be built from this folder.
        return named if named and self._line("rev-parse", "--verify", "--quiet", f"refs/heads/{named}") else self.branch

    @property
    def is_shallow(self) -> bool:
        """Whether it has only a part of its history."""
        return self._line("rev-parse", "--is-shallow-repository") == "true"

    def has(self, commit: str) -> bool:
        """Return whether it has this commit, with all that came before it."""
        return not self.is_shallow and bool(self._line("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"))

    def is_pushed(self) -> bool:
        """Return whether a branch of a remote has the commit that is checked out, as far as is known here."""
        return bool(self._line("branch", "--remotes", "--contains", "HEAD"))

    def changed(self) -> int:
        """Return how many files aren't as they are in the commit that is checked out."""
        return len(self._output("status", "--porcelain=v1", "-z", "--no-renames").split("\0")) - 1

    def _line(self, *arguments: str) -> str:
        return self._output(*arguments).strip()

    def _output(self, *arguments: str) -> str:
        return _git(self.top, *arguments).stdout


def repository_of(folder: Path) -> Repository | None:
    """Return the repository that a folder is in; None if it is in none that has a working copy."""
    done = _git(folder, "rev-parse", "--show-toplevel")
    top = done.stdout.removesuffix("\n")
    if done.returncode == 0 and top:
        return Repository(Path(top))
    if "dubious ownership" in done.stderr:
        raise Failure(
            ExitCode.USAGE,
            f"{folder} is another user's repository, which git doesn't trust: "
            f"git config --global --add safe.directory {folder}",
        )
    return None


def said_project(folder: Path, top: Path) -> str:
    """Return the project that a `.twistedipc.toml` names, of the folder or of one above it; "" if none does."""
    inside = [each for each in (folder, *folder.parents) if each == top or top in each.parents]
    for each in inside:
        try:
            named = toml.loads((each / PLAN_FILE).read_text("utf-8-sig")).get("project")
        except (OSError, ValueError):
            continue  # a file that can't be read is the build's to complain of
        if isinstance(named, str) and named:
            return named
    return ""


def same_repository(one: str, other: str) -> bool:
    """Return whether two addresses are of one repository: by https, by ssh, or with `.git` at its end."""
    return _place(one) == _place(other) != ""


def _place(address: str) -> str:
    """Return what the spellings of a repository's address have in common; "" if it is none."""
    if address.startswith("/"):
        return _local(address)
    if "://" not in address:
        place, _, path = address.partition(":")
        host = place.rpartition("@")[2]
    else:
        try:
            parts = urlsplit(address)
            port = parts.port
        except ValueError:
            return ""
        if parts.scheme == "file":
            return _local(unquote(parts.path))
        usual = {"https": 443, "http": 80, "ssh": 22, "git": 9418}.get(parts.scheme)
        host, path = parts.hostname or "", parts.path
        host += f":{port}" if port not in (None, usual) else ""
    path = path.strip("/").removesuffix(".git")
    return f"{host.lower()}/{path}" if host and path else ""


def _local(path: str) -> str:
    real = os.path.realpath(path)
    return os.path.dirname(real) if os.path.basename(real) == ".git" else real.removesuffix(".git")


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git in a folder. Raises `Failure` if it isn't installed, or doesn't answer."""
    # Messages are looked at; and nothing here changes the repository, not even its index.
    environment = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise Failure(ExitCode.USAGE, "git isn't installed: the command asks it about the folder") from error
    except subprocess.TimeoutExpired as error:
        raise Failure(ExitCode.USAGE, f"git doesn't answer about {folder} within {SECONDS:.0f} s") from error
