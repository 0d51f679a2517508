"""
The checkout of one attempt: the mirror is brought up to date under its lock, the ref is resolved to a full commit id,
the commit's objects are verified, and a working copy that borrows the mirror's objects is made of it; then the same
for each submodule, and the files of Git LFS. Used by ``__main__``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from twistedipc.attempts.addresses import look_up
from twistedipc.attempts.folder import CREDENTIALS, out_of
from twistedipc.attempts.mirrors import lock_mirror, mirror_name, private_folder, throw_away
from twistedipc.builds.access import Access
from twistedipc.builds.attempt import Checkout, Contact, Spec
from twistedipc.builds.names import MAX_EMAIL
from twistedipc.builds.places import ALLOW, place_of, problem_of
from twistedipc.builds.plan import settings_of
from twistedipc.builds.recognition.reading import BadPlan
from twistedipc.builds.settings import BuildSettings
from twistedipc.disk.files import read_file, write_file
from twistedipc.runner.checkout.credentials import ACCESS, Credentials
from twistedipc.runner.checkout.git import BadMirror, CheckoutFailed, Git, environment_of_git
from twistedipc.runner.checkout.lfs import fetch_large_files
from twistedipc.runner.checkout.protecting import protecting_ref
from twistedipc.runner.checkout.refs import Found, Source, fetch
from twistedipc.runner.checkout.submodules import MAX_DEPTH, MAX_SUBMODULES, submodules
from twistedipc.runner.checkout.verification import verify
from twistedipc.trees.folder import FolderTree


def check_out(folder: Path, now: Callable[[], int]) -> Checkout:
    """Make ``work`` in the attempt's folder. ``now`` is in milliseconds since the epoch. Raises `CheckoutFailed`."""
    spec = read_file(folder / "spec.json", Spec)
    if spec is None:
        raise CheckoutFailed("the attempt's folder has no spec.json")
    access = read_file(folder / CREDENTIALS / ACCESS, Access)
    work = folder / "work"
    with Credentials(folder / CREDENTIALS, access, spec.repository) as credentials:
        if access is not None and not credentials.are_for(spec.repository):
            raise CheckoutFailed(f"the project's credentials are for {access.host}, not for {spec.repository}")
        try:
            return _Checkout(spec, credentials, folder).make(work, now)
        finally:
            keys = credentials.contacted()
            if keys:
                write_file(out_of(folder) / "contact.json", Contact(host_keys=keys))


class _Checkout:
    """What is the same for the repository and all its submodules."""

    def __init__(self, spec: Spec, credentials: Credentials, folder: Path) -> None:
        self._spec = spec
        self._credentials = credentials
        self._folder = folder
        self._submodules = 0  # how many there were
        self._mirrors: list[str] = []  # those from which something was taken
        nothing = os.open(os.devnull, os.O_RDONLY)
        environment = {**environment_of_git(os.environ), **credentials.environment}
        #: for what needs no mirror to be locked: git never deletes an object that a ref has led to within two weeks
        self._git = Git(nothing, environment, credentials.settings)
        #: for what works on the content: it can't write into a mirror
        self._held = self._git.writing_below(folder)

    def make(self, work: Path, now: Callable[[], int]) -> Checkout:
        """Make the working copy, with all that belongs to it."""
        spec = self._spec
        found, resolved = self._clone(spec.repository, spec.commit or spec.ref, work, now, about=True)
        at = ("-C", str(work))
        described = self._held.ask(
            *at, "log", "-1", "--no-show-signature", "--encoding=UTF-8", "--format=%an%n%ae%n%s", found.commit
        )
        author, email, subject = [*(described or "").rstrip("\n").split("\n", 2), "", "", ""][:3]
        checkout = Checkout(
            commit=found.commit,
            subject=_cut(subject, 500),
            author=_cut(author, 200),
            author_email=_cut(email, MAX_EMAIL),
            mirror=str(found.mirror.folder),
            resolved=0 if spec.commit else resolved,
            head=found.head,
            protected=found.protected,
            led=found.led,
        )
        print(f"Commit {found.commit}: {checkout.subject}", flush=True)
        self._complete(work, spec.repository, found, self._settings(work), depth=0)
        return msgspec.structs.replace(checkout, mirrors=self._mirrors)

    def _clone(
        self, repository: str, wanted: str, work: Path, now: Callable[[], int], *, about: bool = False
    ) -> tuple[Found, int]:
        """
        Make a working copy of what is wanted. Return what was found, and when. ``about``: find out all that the
        apiserver wants to know of it.
        """
        head = about and self._spec.head
        # Where it has a network of its own, the gate looks: in there, every address is this machine's.
        if self._spec.elsewhere and self._spec.isolation.kind == "none":
            self._check_place(repository)
        private = self._credentials.are_for(repository)
        mirror = Path(self._spec.mirror).absolute()
        if private:
            mirror = private_folder(mirror.parent, self._spec.project) / mirror_name(repository)
        elif repository != self._spec.repository:
            mirror = mirror.with_name(mirror_name(repository))
        source = Source(
            repository=repository,
            folder=mirror,
            project=self._spec.project,
            access=self._credentials.access if private else None,
        )
        lock = lock_mirror(source.folder, _say_waiting)
        try:
            git = self._git.under(lock)
            # A commit that is known may have been pushed away since: what is protected is looked at as it is now.
            always = about and self._is_to_be_proven
            ref = self._spec.ref if about and self._spec.commit else ""
            found, resolved = _find(git, source, wanted, now, head=head, always=always, ref=ref)
            if about:
                found = self._proven(git, found)
            # In the working copy the setting is kept, so that the build's own use of git runs no hooks of a template.
            clone = ("clone", "--quiet", "--shared", "--no-checkout", "--template=", "-c", "core.hooksPath=/dev/null")
            if not self._held.under(lock).run(*clone, "--", str(found.mirror.folder), str(work)):
                raise CheckoutFailed("the working copy can't be made")
        finally:
            os.close(lock)
        self._mirrors.append(str(found.mirror.folder))
        at = ("-C", str(work))
        if not self._held.run(*at, "checkout", "--quiet", "--detach", found.commit, "--"):
            raise CheckoutFailed(f"commit {found.commit} can't be checked out")
        self._held.run(*at, "remote", "set-url", "origin", "--", repository)
        return found, resolved

    @property
    def _is_to_be_proven(self) -> bool:
        """Whether nothing is built without a ref from which the commit can be reached."""
        spec = self._spec
        return bool(spec.refs or (spec.protected and spec.context == "production"))

    def _proven(self, git: Git, found: Found) -> Found:
        """Return what was found, with the refs from which its commit can be reached: what the apiserver asks about."""
        spec = self._spec
        asked = "" if spec.commit else spec.ref
        protected = protecting_ref(git, found, asked, spec.protected) if spec.protected else ""
        led = protecting_ref(git, found, asked, spec.refs) if spec.refs else ""
        return msgspec.structs.replace(found, protected=protected, led=led)

    def _check_place(self, repository: str) -> None:
        """Refuse what is at this machine. The apiserver has looked too, but from elsewhere, and names change."""
        host, _ = place_of(repository)
        problem = problem_of(host, look_up(host)) if host else ""
        if problem:
            raise CheckoutFailed(f"{repository} isn't fetched: {problem}. {ALLOW}")

    def _settings(self, work: Path) -> BuildSettings:
        """Return the project's settings, with what the repository says itself."""
        try:
            return settings_of(FolderTree(work), self._spec.settings)
        except BadPlan:  # the runner says what is wrong
            return self._spec.settings

    def _complete(self, work: Path, repository: str, found: Found, settings: BuildSettings, *, depth: int) -> None:
        """Put submodules and large files into a working copy."""
        fetch_large_files(self._git, self._folder, work, found.mirror.folder, self._spec.project, wanted=settings.lfs)
        if not settings.submodules:
            return
        if self._spec.stranger and self._credentials.access is not None:
            # A stranger names them: with the project's credentials they could be any repository that these can read.
            print(
                "Submodules are left empty: this is a pull request from a fork, and the project is private.", flush=True
            )
            return
        for each in submodules(self._held, work, repository):
            self._submodules += 1
            if depth >= MAX_DEPTH or self._submodules > MAX_SUBMODULES:
                raise CheckoutFailed(
                    f"the submodule {each.path} lies in {MAX_DEPTH} others, or there are more than {MAX_SUBMODULES}: "
                    f"`twistedipc project set {self._spec.project} --no-submodules` builds without them"
                )
            print(f"Submodule {each.path}:", flush=True)
            _check_place(work, each.path)
            inside, _resolved = self._clone(each.repository, each.commit, work / each.path, lambda: 0)
            self._complete(work / each.path, each.repository, inside, settings, depth=depth + 1)


def _find(
    git: Git, source: Source, wanted: str, now: Callable[[], int], *, head: bool, always: bool, ref: str
) -> tuple[Found, int]:
    """
    Return what is wanted, in a mirror that is up to date and has been verified, and when it was looked for. A mirror
    that isn't what it should be is fetched again, once. The caller has the lock.
    """
    failure = ""
    for _try in range(2):
        # Taken while the mirror is locked: so the times of one builder are in the order in which the ref was read.
        resolved = now()
        try:
            found = fetch(git, source, wanted, head=head, always=always, ref=ref)
            verify(git, found.mirror.folder, found.commit, sha256=found.mirror.sha256)
        except BadMirror as error:
            failure = str(error)
            print(f"This builder's mirror of {source.repository} is bad: {failure}. It is thrown away.", flush=True)
            for mirror in source.mirrors:
                if os.path.lexists(mirror):
                    throw_away(mirror)
            continue
        return found, resolved
    raise CheckoutFailed(f"{source.repository} can't be checked out: what was fetched from it is bad, twice: {failure}")


def _check_place(work: Path, path: str) -> None:
    """Raise `CheckoutFailed` unless git has made the folder of a submodule, and no link leads there."""
    place = work
    for name in path.split("/"):
        place = place / name
        if place.is_symlink() or not place.is_dir():
            raise CheckoutFailed(f"the submodule {path} can't be checked out: there is no such folder in the commit")


def _say_waiting() -> None:
    print("Waiting: another build is fetching the same repository …", flush=True)


def _cut(text: str, size: int) -> str:
    """Return the text, or its beginning and "…": then the runner also hides a part of a value before that."""
    return text if len(text) <= size else text[: size - 1] + "…"
