"""
What a project's builds keep for the next ones: which folders, and what they depend on. Bottom layer, pure data.

Three kinds: what a package manager has downloaded (its own cache or store, which it checks by content), the
``node_modules`` that a lock file gives, and what build tools keep for themselves. The room ``caches`` restores and
saves them.

Paths are relative to the attempt's folder, in which the working copy is ``work``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

#: The folder in the attempt's folder in which package managers keep what they download.
DOWNLOADS = "caches"

# The same for those that link the files of node_modules to what they have downloaded: no such link leads from one mount
# to another, and in a sandbox the working copy is a mount of its own. Git leaves alone what it doesn't know there, and
# tools that look through a working copy leave that folder alone.
_LINKED = "work/.git/caches"


class Cache(msgspec.Struct, frozen=True):
    """
    Folders that are kept together. What was saved under one ``key`` is never restored under another; with a key, what
    is there already is good as it is, and isn't saved again.
    """

    name: str
    paths: tuple[str, ...]
    key: str = ""


class Downloads(msgspec.Struct, frozen=True):
    """Where in an attempt's folder a package manager keeps what it has downloaded, and the variables that say so."""

    path: str
    variables: tuple[str, ...]

    def environment(self, attempt: str) -> dict[str, str]:
        """Return the variables for an attempt's folder."""
        return dict.fromkeys(self.variables, f"{attempt}/{self.path}")


#: package manager -> its downloads. Sources: npm's and pnpm's documentation of ``cache`` and ``storeDir`` (pnpm reads
#: ``pnpm_config_*`` from version 11 on), Yarn's of ``cacheFolder`` (1) and ``globalFolder`` (4). Not Bun's: it has
#: links by their whole paths in it, which lead nowhere in another attempt.
DOWNLOADS_OF: Mapping[str, Downloads] = {
    "npm": Downloads(f"{DOWNLOADS}/npm", ("npm_config_cache",)),
    "pnpm": Downloads(f"{_LINKED}/pnpm", ("npm_config_store_dir", "pnpm_config_store_dir")),
    "yarn": Downloads(f"{DOWNLOADS}/yarn", ("YARN_CACHE_FOLDER", "YARN_GLOBAL_FOLDER")),
}

#: Folders in which build tools keep what they can use again, below a project's root. An inner one is named after those
#: that it is in.
TOOLS: tuple[str, ...] = (
    ".next/cache",  # Next.js
    ".turbo",  # Turborepo
    "node_modules/.cache",  # Babel's loader, Terser, Nuxt, Docusaurus, Turborepo 1, Nx 16, Storybook …
    "node_modules/.vite",  # Vite, Vitest
    "node_modules/.astro",  # Astro's images
    ".angular/cache",  # Angular CLI
    ".astro",  # Astro's content layer
    ".parcel-cache",  # Parcel
    ".nx/cache",  # Nx
    ".rsbuild-cache",
)


def caches_of(
    roots: Sequence[str], declared: Iterable[str] = (), *, modules: Sequence[str] = (), key: str = ""
) -> list[Cache]:
    """
    Return the caches of a project, the outer folders before those in them.

    :param roots: the project's root and its workspace's top, relative to the working copy; "" is the top itself
    :param declared: folders that the project names itself, relative to its root, which is the first of ``roots``
    :param modules: folders of ``node_modules``, relative to the working copy, which are as ``key`` says
    :param key: of `modules_key`; "" if they can't be kept
    """
    found = [Cache(manager, (one.path,)) for manager, one in DOWNLOADS_OF.items()]
    if key and modules:
        found.append(Cache("node_modules", tuple(f"work/{path}" for path in modules), key))
    tops = list(dict.fromkeys(roots)) or [""]
    found += [Cache(folder, tuple(_work(top, folder) for top in tops)) for folder in TOOLS]
    found += [Cache(f"declared {folder}", (_work(tops[0], folder),)) for folder in declared if folder not in TOOLS]
    return found


def modules_key(parts: Iterable[tuple[str, bytes]]) -> str:
    """Return the key of ``node_modules``: of all that an install depends on, each part with its name."""
    import hashlib  # not above: it loads OpenSSL, which the runner does without

    digest = hashlib.sha256()
    for name, content in parts:
        for value in (name.encode(), content):
            digest.update(len(value).to_bytes(8, "big"))
            digest.update(value)
    return digest.hexdigest()[:32]


def _work(top: str, folder: str) -> str:
    return "/".join(part for part in ("work", top, folder) if part)
