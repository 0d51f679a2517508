"""
Whether what an install puts into ``node_modules`` depends on nothing but files that can be named: then it can be kept,
and put back in place of the next install.

Only npm's: pnpm's and Yarn's own installs are quick where their store is, and what they put there has absolute paths.
A package's own install script may read the project, and write elsewhere: Prisma's makes a client of the schema that is
there, Puppeteer's and Cypress' put a browser into the home. So only packages that are known to keep to themselves may
have one.
"""

from __future__ import annotations

import msgspec

from twistedipc.builds.recognition import workspaces
from twistedipc.builds.recognition.managers import NPM
from twistedipc.builds.recognition.reading import BadPlan, PackageJson, in_folder, read_package
from twistedipc.builds.recognition.recognised import Recognised
from twistedipc.builds.recognition.tree import Tree

#: The scripts of a package that npm runs when it installs in it, in its order
#: (https://docs.npmjs.com/cli/using-npm/scripts#life-cycle-operation-order).
LIFECYCLE = ("preinstall", "install", "postinstall", "prepublish", "preprepare", "prepare", "postprepare")

#: Packages whose install scripts depend on nothing but the package, the machine and the environment, and whose builds
#: need nothing that they write elsewhere. "@SCOPE/" stands for all of its packages.
KEEP_TO_THEMSELVES = frozenset(
    """
    @angular/cli @apollo/protobufjs @biomejs/biome @esbuild/ @fortawesome/ @napi-rs/ @nestjs/core @parcel/watcher
    @scarf/scarf @sentry/cli @swc/core @tailwindcss/oxide
    bcrypt better-sqlite3 bufferutil canvas cbor-extract core-js core-js-bundle core-js-pure cpu-features cwebp-bin
    dtrace-provider ejs electron es5-ext esbuild esbuild-wasm fibers fsevents gatsby gatsby-cli gatsby-telemetry
    gifsicle husky iltorb jpegtran-bin lefthook lightningcss lmdb mozjpeg msgpackr-extract node-sass nx optipng-bin
    pngquant-bin protobufjs re2 sass-embedded sharp simple-git-hooks sqlite3 styled-components unrs-resolver
    utf-8-validate vue-demi workerd yorkie
    """.split()
)

#: Commands of those scripts that only set up hooks of git, which a build doesn't need.
HOOKS_ONLY = frozenset(
    {
        "husky",
        "husky install",
        "husky || true",
        "husky install || true",
        "is-ci || husky",
        "is-ci || husky install",
        "lefthook install",
        "simple-git-hooks",
        "npx simple-git-hooks",
    }
)


class _Locked(msgspec.Struct):
    """A package in npm's lock file."""

    has_script: bool = msgspec.field(default=False, name="hasInstallScript")
    name: str = ""  # if its folder has another


class _Lock(msgspec.Struct):
    """npm's lock file, in its second or third form: the first doesn't say which packages have scripts."""

    packages: dict[str, _Locked]


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """What an install makes. Paths are relative to the repository's top."""

    folders: list[str]  # the folders node_modules that there may be, the outer ones first
    files: list[str]  # on which they depend; some may not be there
    lock: str  # the lock file


def installed(tree: Tree, recognised: Recognised) -> Installed | None:
    """Return what the project's install makes; None if it may do more, or depend on more, than can be told."""
    manager, install = recognised.manager, recognised.install
    if manager is None or not manager.lock or install is None or install.run != NPM.frozen:
        return None
    top = install.folder
    packages = _packages(tree, top)
    if packages is None or any(_does_more(tree, folder, each, top=top) for folder, each in packages.items()):
        return None
    return Installed(
        folders=[in_folder(folder, "node_modules") for folder in packages],
        files=[manager.lock, in_folder(top, ".npmrc"), *(package.path for package in packages.values())],
        lock=manager.lock,
    )


def keep_to_themselves(lock: bytes) -> bool:
    """Return whether no package of npm's lock file has a script that may depend on, or do, more than can be told."""
    try:
        packages = msgspec.json.decode(lock, type=_Lock).packages
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    for folder, package in packages.items():
        name = package.name or folder.rpartition("node_modules/")[2]
        known = not KEEP_TO_THEMSELVES.isdisjoint((name, f"{name.partition('/')[0]}/"))
        # What isn't in a folder node_modules is the repository's own: `installed` looks at that.
        if package.has_script and "node_modules/" in folder and not known:
            return False
    return True


def _packages(tree: Tree, top: str) -> dict[str, PackageJson] | None:
    """The package at the top and those of its workspace, by folder; None if the top's can't be read."""
    try:
        package = read_package(tree, top)
    except BadPlan:
        return None
    if package is None:
        return None
    workspace = workspaces.find(tree, top)
    members = workspaces.members(tree, workspace) if workspace is not None and workspace.top == top else []
    return {top: package, **{member.folder: member.package for member in members}}


def _does_more(tree: Tree, folder: str, package: PackageJson, *, top: str) -> bool:
    """Whether npm does something in this package, or in another folder of the repository, when it installs."""
    if "binding.gyp" in tree.names(folder):
        return True  # npm builds it
    if folder != top and (package.get("bin") or package.get("directories")):
        return True  # npm makes its programs executable where they are
    if any(_is_folder(package.version_of(name)) for name in package.dependencies):
        return True  # the same of a folder that is linked
    return any(package.scripts.get(script, "husky").strip() not in HOOKS_ONLY for script in LIFECYCLE)


def _is_folder(version: str) -> bool:
    return version.startswith(("file:", "link:", ".", "/", "~/")) and not version.endswith((".tgz", ".tar.gz", ".tar"))
