"""
One package on its way into one registry: what is asked, tried, tried again, and believed. Used by ``npm``, which is
the step; it speaks with the registry through `Npm` alone.

A version can be published once, ever. So the registry is asked first, and again after every error: the hash of what it
has says whether the version is absent, this one ("already published"), or another (a conflict).

A version is not all of a publication: people install by the dist-tag. So the tag is looked at afterwards, and set if
it isn't where it should be. It is never moved back from a newer version.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

from twistedipc.builds.attempt import Package
from twistedipc.publish.targets.npm.answers import Ran, Seen, compare, explain, read_tags, read_view
from twistedipc.publish.targets.npm.package import older
from twistedipc.publish.targets.target import CantDeliver

#: Seconds between looks at the registry after an error: an upload may show only a little later.
BACKOFF = (1.0, 2.0, 4.0, 8.0)
#: How often the upload is tried at all, and the setting of the tag.
TRIES = 3


class PublishFailed(CantDeliver):
    """The package isn't published. ``str()`` of it is a sentence for the project's authors."""


class CantAsk(PublishFailed):
    """Raised if it can't be found out now what the registry has; later it may."""


class Npm(Protocol):
    """npm, set up for one registry."""

    def ask(self, *arguments: str) -> Ran:
        """Call npm and keep what it says."""

    def show(self, *arguments: str) -> Ran:
        """Call npm with what it says in the log; the end of that is kept."""


class Publishing:
    """The publication of one package."""

    def __init__(self, npm: Npm, package: Package, tarball: Path, *, sleep: Callable[[float], None]) -> None:
        self._npm = npm
        self._package = package
        self._tarball = tarball
        self._sleep = sleep
        # A registry knows versions without their build metadata: by semver they are the same.
        self._version = package.version.partition("+")[0]
        self._name = f"{package.name}@{self._version}"
        self._tag = package.tag or "latest"
        self._found: Seen | None = None  # by `look`
        #: What people should know of the publication, once it is done; "" if all is as it should be.
        self.notice = ""

    def look(self) -> Seen:
        """Ask the registry whether the package can be published. Raises `PublishFailed` if it can't be."""
        seen = self._look() or self._look_again()
        if not self._is_there(seen):
            self._check_latest()
        self._found = seen
        return seen

    def publish(self) -> Literal["published", "already-published"]:
        """Publish the package, or find that it is published already. Raises `PublishFailed`."""
        seen = self._found or self.look()
        if self._is_there(seen):
            print(f"{self._name} is in the registry already, with the same content.", flush=True)
            self._settle_tag(seen)
            return "already-published"
        self._settle_tag(self._upload_until_there())
        return "published"

    # -- the version

    def _upload_until_there(self) -> Seen:
        """Upload the package. Return what the registry has then. Raises `PublishFailed`."""
        ran = Ran(1, "")
        for _ in range(TRIES):
            # Without --tag npm itself refuses to move `latest` below the highest version that there is.
            tag = [f"--tag={self._package.tag}"] if self._package.tag else []
            ran = self._npm.show("publish", str(self._tarball), "--ignore-scripts", *tag)
            if ran.code == 0:
                return self._taken()
            print(f"npm failed ({ran.error or f'exit code {ran.code}'}): looking what the registry has …", flush=True)
            seen = self._look_again() if ran.maybe_taken else self._look()
            if seen is not None and self._is_there(seen):
                print(f"{self._name} is in the registry, with the same content.", flush=True)
                return seen
            if not ran.passes:
                break
        raise PublishFailed(f"{self._name} isn't published: {explain(ran)}")

    def _look(self) -> Seen | None:
        """What the registry has; None if it can't be known now. Raises `PublishFailed` if it can't be known at all."""
        ran = self._npm.ask("view", self._name, "dist", "dist-tags", "time", "--json", "--prefer-online")
        seen = read_view(ran)
        if seen is None and ran.code != 0 and not ran.passes:
            raise PublishFailed(f"the registry can't be asked whether {self._name} is there: {explain(ran)}")
        return seen

    def _look_again(self) -> Seen:
        """Look with backoff until something is there; it may be that nothing comes."""
        seen: Seen | None = None
        for pause in BACKOFF:
            seen = self._look()
            if seen is not None and seen.dist is not None:
                break
            self._sleep(pause)
        if seen is None:
            raise CantAsk(f"the registry can't be asked whether {self._name} is there: try again later")
        return seen

    def _taken(self) -> Seen:
        """
        What the registry has of what it has just taken. Raises `PublishFailed` if that is another content, or if what
        it has can't be read at all: then it can't be installed either.
        """
        try:
            seen = self._look_again()
        except CantAsk as error:
            print(error, flush=True)
            return Seen()  # it may show only later
        if seen.dist is not None and compare(self._tarball, seen.dist) != "unknown":
            self._is_there(seen)
        return seen

    def _is_there(self, seen: Seen) -> bool:
        """Return whether the registry has this version, with this content. Raises `PublishFailed` if it has another."""
        if seen.dist is None:
            return False
        same = compare(self._tarball, seen.dist)
        if same == "same":
            return True
        given = (seen.dist.integrity or seen.dist.shasum or "no hash")[:200]
        if same == "different":
            raise PublishFailed(
                f"conflict: the registry has {self._name} with another content ({given}); a version can't be used again"
            )
        raise PublishFailed(
            f"the registry has {self._name}, but it can't be compared with what was packed: it gives {given}, and none "
            "of SHA-512, SHA-384, SHA-256 and SHA-1"
        )

    # -- the tag

    def _check_latest(self) -> None:
        """Refuse a version that would replace a newer one as `latest`."""
        tags = read_tags(self._npm.ask("view", self._package.name, "dist-tags", "--json", "--prefer-online"))
        now = tags.get(self._tag)
        if now:
            print(f"The tag {self._tag} is at {now} now.", flush=True)
        if self._tag == "latest" and now and older(self._version, now):
            raise PublishFailed(
                f"{self._version} is older than {now}, which is `latest` now: it needs a tag of its own"
                ' ("publishConfig": {"tag": "…"} in package.json)'
            )

    def _settle_tag(self, seen: Seen) -> None:
        """See that the tag leads to what was published, or say where it leads."""
        if seen.dist is None:
            self._note(f"the registry doesn't show {self._name} yet, so its tag {self._tag} wasn't looked at")
            return
        now = seen.tags.get(self._tag, "")
        if now == self._version:
            return
        if now and self._newer(now, seen):
            self._note(f"the tag {self._tag} stays at {now}, which is newer than {self._version}")
            return
        print(f"The tag {self._tag} is at {now or 'no version'}: setting it to {self._version} …", flush=True)
        ran = self._set_tag()
        if ran is not None:
            self._note(
                f"{self._name} is in the registry, but its tag {self._tag} is at {now or 'no version'} and can't be "
                f"set ({explain(ran)}): run `npm dist-tag add {self._name} {self._tag}`"
            )

    def _newer(self, now: str, seen: Seen) -> bool:
        """Return whether a version is newer than ours. Other tags' versions may be commits' names: so time counts."""
        if self._tag != "latest" and now in seen.times and self._version in seen.times:
            return seen.times[now] > seen.times[self._version]
        return older(self._version, now)

    def _set_tag(self) -> Ran | None:
        """Set the tag: None once the registry has it so, else how the last try went."""
        ran = Ran(1, "")
        for pause in BACKOFF[:TRIES]:
            ran = self._npm.ask("dist-tag", "add", self._name, self._tag)
            seen = read_view(self._npm.ask("view", self._name, "dist", "dist-tags", "--json", "--prefer-online"))
            if seen is not None and seen.tags.get(self._tag) == self._version:
                return None
            if ran.code != 0 and not ran.passes:
                break
            self._sleep(pause)
        return ran

    def _note(self, notice: str) -> None:
        self.notice = notice
        print(f"warning: {notice}", flush=True)
