"""
The pack step, started by the runner (see ``__main__``); its output is the log.

In the step's folder ``out`` it makes archive.tar.gz, manifest.json and artifact.json of the output folder, if there is
one (``output`` finds it). Then each of the project's targets prepares what it is to deliver (`Target.prepare`). No
process of the build is alive meanwhile, and none of its scripts is run.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from twistedipc.attempts.folder import out_of, step_failed, write_packages
from twistedipc.builds.attempt import ArtifactFile, Checkout, PublicNames, Spec
from twistedipc.builds.lfs import is_pointer
from twistedipc.builds.names import BadValue
from twistedipc.builds.outputs import FALLBACK, NOT_FOUND
from twistedipc.builds.plan import Plan
from twistedipc.disk.files import read_file, write_file
from twistedipc.publish.archive import CantPack, Manifest, create
from twistedipc.publish.output import Commit, NoOutput, find_output
from twistedipc.publish.targets.registry import TARGETS, offered
from twistedipc.publish.targets.target import Built, CantPrepare

#: How many of the names that are left out are listed in the log.
SHOWN_HIDDEN = 10


def pack_output(folder: Path, name: str, commit: Commit, plan: Plan) -> tuple[ArtifactFile, Manifest]:
    """Make the archive of the output folder with this name. Raises `CantPack`."""
    out = out_of(folder)
    archive = out / "archive.tar.gz"
    output = folder / "work" / name
    hidden: list[str] = []
    left_out = _left_out(output, name, commit) if name == (plan.root or ".") else frozenset()
    spa = plan.is_single_page([page for page in (NOT_FOUND, FALLBACK) if (output / page).is_file()])
    pointers: list[str] = []
    manifest = create(
        output,
        archive,
        leave_out=frozenset({".git"}) | left_out,
        on_hidden=hidden.append,
        on_small=lambda path, content: pointers.append(path) if is_pointer(content) else None,
        spa=spa,
    )
    if left_out:
        print(f"Left out, since it isn't in the commit: {', '.join(left_out)}")
    if hidden:
        print(f"Left out, since names that begin with a dot aren't served: {_some_of(sorted(hidden))}")
    try:
        _check(name, manifest, pointers)
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
        plan = msgspec.structs.replace(plan, index="")  # it needn't be a site
    try:
        name = find_output(folder / "work", plan, commit)
        artifact, manifest = pack_output(folder, name, commit, plan)
    except CantPack as error:
        if required:
            raise
        if plan.output or not isinstance(error, NoOutput):
            print(f"No folder is packed: {error}")
        return None, []
    shown = "the repository itself" if name == "." else name
    print(f"Packed {shown}: {artifact.files} files, {artifact.unpacked} bytes")
    if manifest.spa is True:
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
    built = Built(folder=folder, out=out, spec=spec, plan=plan, artifact=artifact)
    for settings in targets:
        target = TARGETS.of(settings)
        prepared = target.prepare(settings, built)
        if prepared is not None:
            write_packages(out, target.name, prepared.packages)
            for package in prepared.packages:
                print(f"Packed {package.name} {package.version}: {package.integrity}")
                public.setdefault("the package", []).extend([package.name, package.version, package.tag])
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
