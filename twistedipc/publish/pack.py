"""
The pack step, started by the runner (see ``__main__``); its output is the log.

In the step's folder ``out`` it makes archive.tar.gz, manifest.json and artifact.json of the output folder, if there is
one (``output`` finds it). Then each of the project's targets prepares what it is to deliver (`Target.prepare`). No
process of the build is alive meanwhile, and none of its scripts is run.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from twistedipc.attempts.folder import (
    LIVE_FILES,
    REMARKS,
    STORED,
    VERSIONS,
    out_of,
    step_failed,
    write_packages,
)
from twistedipc.builds.attempt import ArtifactFile, Checkout, LiveFiles, PublicNames, Spec
from twistedipc.builds.counts import counted
from twistedipc.builds.lfs import is_pointer
from twistedipc.builds.lint import LINTED, LINTER, Linter
from twistedipc.builds.logs import MAX_REMARK, Annotation
from twistedipc.builds.names import BadValue
from twistedipc.builds.outputs import FALLBACK, NOT_FOUND
from twistedipc.builds.plan import Plan
from twistedipc.builds.site.budgets import Budgets
from twistedipc.builds.site.rules import BadRules
from twistedipc.builds.versions import ChosenVersions
from twistedipc.disk.files import read_file, write_file
from twistedipc.publish.archive import CantPack, Manifest, create, files_in
from twistedipc.publish.budgets import OverBudget, Scale, complaint, summed, told
from twistedipc.publish.output import Commit, NoOutput, find_output
from twistedipc.publish.site.answers import Site
from twistedipc.publish.site.checking import check_site, leads_elsewhere
from twistedipc.publish.site.files import with_files
from twistedipc.publish.targets.registry import TARGETS, offered
from twistedipc.publish.targets.static.release import Entry, Index, Release
from twistedipc.publish.targets.target import Built, CantPrepare

#: A larger page isn't looked into.
MAX_PAGE = 256 << 10

#: How many of the names that are left out are listed in the log.
SHOWN_HIDDEN = 10


def pack_output(
    folder: Path, name: str, commit: Commit, plan: Plan, address: str = ""
) -> tuple[ArtifactFile, Manifest]:
    """
    Make the archive of the output folder with this name. Raises `CantPack`.

    :param address: where the site will be served, if it will and that is known
    """
    out = out_of(folder)
    archive = out / "archive.tar.gz"
    output = folder / "work" / name
    hidden: list[str] = []
    left_out = _left_out(output, name, commit) if name == (plan.root or ".") else frozenset()
    spa = plan.is_single_page([page for page in (NOT_FOUND, FALLBACK) if (output / page).is_file()])
    pointers: list[str] = []
    scale = Scale(plan.budgets)
    index: list[bytes] = []

    def look(path: str, descriptor: int, size: int) -> None:
        scale.weigh(path, descriptor, size)
        if path == plan.site.index and size <= MAX_PAGE:
            index.append(os.pread(descriptor, size, 0))

    try:
        serving, read = with_files(replace(plan.site, spa=spa), output)
    except BadRules as error:
        raise CantPack(str(error)) from error
    manifest = create(
        output,
        archive,
        leave_out=frozenset({".git"}) | left_out | read,
        on_hidden=hidden.append,
        on_small=lambda path, content: pointers.append(path) if is_pointer(content) else None,
        on_file=look,
        serving=serving,
        stored=_stored(folder),
    )
    if left_out:
        print(f"Left out, since it isn't in the commit: {', '.join(left_out)}")
    if hidden:
        print(f"Left out, since names that begin with a dot aren't served: {_some_of(sorted(hidden))}")
    release = Release(0, Index(files={file.path: Entry(file.sha256, file.size) for file in manifest.files}))
    try:
        _check(name, manifest, pointers)
        _check_rules(manifest, release, read)
        _check_site(folder, plan, scale, release, b"".join(index), address)
    except CantPack:
        archive.unlink()
        raise
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    artifact = ArtifactFile(size=size, sha256=digest, files=len(manifest.files), unpacked=manifest.size)
    write_file(out / "manifest.json", manifest)
    write_file(out / "artifact.json", artifact)
    return artifact, manifest


def _stored(folder: Path) -> frozenset[bytes]:
    """Return the contents that needn't be packed; none if that isn't known."""
    try:
        known = (folder / STORED).read_bytes()
    except FileNotFoundError:
        return frozenset()
    return frozenset(known[at : at + 8] for at in range(0, len(known), 8))


def _some_of(paths: list[str]) -> str:
    """These paths as text for the log: the first few, and how many more there are."""
    shown = [ascii(path)[1:-1] for path in paths[:SHOWN_HIDDEN]]
    more = len(paths) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _left_out(project: Path, name: str, commit: Commit) -> frozenset[str]:
    """The names at the top of the project's own folder that aren't packed: what was installed there."""
    return frozenset(each for each in ["node_modules"] if (project / each).exists()) - commit.children(name)


def _check(name: str, manifest: Manifest, pointers: Sequence[str]) -> None:
    """
    Raise `CantPack` if what was packed can't be what its authors want to release.

    :param pointers: the files that are pointers of Git LFS
    """
    shown = "the repository" if name == "." else f"the output folder {name}"
    if not manifest.files:
        raise CantPack(f"{shown} is empty")
    if not manifest.size:
        raise CantPack(f"{shown} has only empty files in it")
    if pointers:
        named = ", ".join(pointers[:3]) + (f" and {len(pointers) - 3} more" if len(pointers) > 3 else "")
        raise CantPack(
            f"{shown} has Git LFS pointers in the place of files: {named}. The checkout fetches what "
            ".gitattributes gives to Git LFS, unless lfs = false is set or .lfsconfig leaves it out"
        )


def _check_site(folder: Path, plan: Plan, scale: Scale, release: Release, page: bytes, address: str) -> None:
    """
    Leave remarks on the site's budgets, and on the links of the ``page`` at its top. Raise `OverBudget` if the site is
    over one, unless that is to be a warning.
    """
    over, fails = _over_budgets(folder, plan.budgets, scale, release), plan.budgets.action == "fail"
    lost = leads_elsewhere(page, plan.site.index, address)
    _remark(out_of(folder), [*((sentence, fails) for sentence in over), *([(lost, False)] if lost else [])])
    if over and fails:
        raise OverBudget(summed(over))


def _over_budgets(folder: Path, budgets: Budgets, scale: Scale, release: Release) -> list[str]:
    """Say in the log what the site has of its budgets. Return a sentence on each that it is over."""
    spent = scale.spent()
    for each in spent:
        print(told(each))
    over = [each for each in spent if each.over]
    live = read_file(folder / LIVE_FILES, LiveFiles) if over else None
    return [complaint(each, release, live) for each in over]


def _remark(out: Path, said: Sequence[tuple[str, bool]]) -> None:
    """Leave sentences for the runner, which puts them into the log as annotations; each with whether it is an error."""
    remarks = [Annotation("error" if is_error else "warning", text[:MAX_REMARK]) for text, is_error in said]
    if remarks:
        write_file(out / REMARKS, remarks)


def _check_rules(manifest: Manifest, release: Release, read: Collection[str]) -> None:
    """Say in the log which rules the site has. Raise `CantPack` if they can't be used together, with these files."""
    serving = manifest.served
    if serving.redirects or serving.headers or read:
        of = f", {' and '.join(sorted(read))} read" if read else ""
        print(f"Redirects: {len(serving.redirects)}; addresses with headers of their own: {len(serving.headers)}{of}")
    try:
        remarks = check_site(Site(serving), release)
    except BadRules as error:
        raise CantPack(str(error)) from error
    for remark in remarks:
        print(remark)


def pack_site(folder: Path, spec: Spec, plan: Plan, *, required: bool) -> tuple[ArtifactFile | None, list[str]]:
    """
    Pack the site that the build made, if there is one: its archive, and the paths of its files. Raises `CantPack` if
    there is none though it is ``required``: other projects may build what they like.
    """
    checkout = read_file(folder / "checkout.json", Checkout)
    if checkout is None:
        raise CantPack("the attempt's folder has no checkout.json")
    commit = Commit(checkout.mirror or spec.mirror, checkout.commit)
    if not required:
        plan = replace(plan, index="")  # it needn't be a site
    try:
        name = find_output(folder / "work", plan, commit)
        artifact, manifest = pack_output(folder, name, commit, plan, spec.url if required else "")
    except OverBudget:
        raise
    except CantPack as error:
        if required:
            raise
        if plan.output or not isinstance(error, NoOutput):
            print(f"No folder is packed: {error}")
        return None, []
    shown = "the repository itself" if name == "." else name
    new = files_in(manifest)
    print(f"Packed {shown}: {counted(artifact.files, 'file')}, {counted(artifact.unpacked, 'byte')}")
    if len(new) < len(manifest.files):
        of_them = f"{counted(len(new), 'file')} with {counted(sum(file.size for file in new), 'byte')}"
        print(f"Of these, {of_them} {'is' if len(new) == 1 else 'are'} new; the others are stored")
    if manifest.served.spa:
        print("A single-page application: addresses without a file are answered with its page (spa = false: with 404)")
    return artifact, [file.path for file in manifest.files]


def run(folder: Path) -> None:
    """Pack what is to be packed. Raises `CantPrepare`, or OSError of the disk."""
    spec = read_file(folder / "spec.json", Spec)
    plan = read_file(folder / "plan.json", Plan)
    if spec is None or plan is None:
        raise CantPack("the attempt's folder has no spec.json or no plan.json")
    targets = TARGETS.active(offered(spec.targets, spec.publish))
    artifact, files = pack_site(folder, spec, plan, required=spec.site or TARGETS.need_site(targets))
    public = {"a file of the site": files}
    out = out_of(folder)
    given = os.environ.get(LINTER)
    linter = None if given is None else msgspec.json.decode(given, type=Linter)
    versions = read_file(folder / VERSIONS, ChosenVersions)
    for settings in targets:
        target = TARGETS.of(settings)
        chosen = versions.targets.get(target.name, {}) if versions is not None else {}
        built = Built(folder=folder, out=out, spec=spec, plan=plan, artifact=artifact, chosen=chosen, linter=linter)
        prepared = target.prepare(settings, built)
        if prepared is not None:
            write_packages(out, target.name, prepared.packages)
            for package in prepared.packages:
                print(f"Packed {package.name} {package.version}: {package.integrity}")
                public.setdefault("the package", []).extend([package.name, package.version, package.tag])
            if prepared.linted is not None:
                write_file(out / LINTED, prepared.linted)
            for what, names in prepared.public.items():
                public.setdefault(what, []).extend(names)
    write_file(out / "public-names.json", PublicNames(names=public))


def main(folder: Path) -> int:
    """Run the step. Return its exit code."""
    try:
        run(folder)
    except (CantPrepare, OSError, BadValue, msgspec.DecodeError) as error:
        return step_failed(out_of(folder), error)
    return 0


if __name__ == "__main__":  # so a runner of version 0.1 starts it, which may live through an upgrade
    sys.exit(main(Path(sys.argv[1])))
