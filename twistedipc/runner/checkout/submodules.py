"""
The submodules of a working copy: where they are, and from where they come. Used by ``working_copy``.

What ``.gitmodules`` says is the repository's: addresses are held to the rules for a project's own, and none is in a
local folder. Nothing else of it is used: no name, no command.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from twistedipc.builds import names
from twistedipc.runner.checkout.git import CheckoutFailed, Git

#: How deep submodules may lie in submodules, and how many there may be in all.
MAX_DEPTH = 6
MAX_SUBMODULES = 200

_GITLINK = "160000"
_KEYS = ("path", "url", "update")


class Submodule(msgspec.Struct, frozen=True, kw_only=True):
    """One submodule."""

    path: str  # in the working copy
    repository: str
    commit: str


def submodules(git: Git, work: Path, repository: str) -> list[Submodule]:
    """
    Return the submodules of a working copy that were made from this repository. Raises `CheckoutFailed`.
    """
    listed = git.ask("-C", str(work), "ls-files", "--stage", "-z") or ""
    links = {}
    for entry in listed.split("\0"):
        about, _, path = entry.partition("\t")
        if about.startswith(_GITLINK):
            links[path] = about.split(" ")[1]
    if not links:
        return []
    addresses = _addresses(git, work)
    found = []
    for path, commit in sorted(links.items()):
        if path not in addresses:
            print(f"The submodule {path} isn't in .gitmodules: it is left empty.", flush=True)
            continue
        address = addresses[path]
        if address is not None:
            found.append(Submodule(path=path, repository=_checked(path, address, repository), commit=commit))
    return found


def resolve(base: str, address: str) -> str:
    """Return a submodule's address, which may be relative to the repository's own, as git reads it."""
    if not address.startswith(("./", "../")):
        return address
    base, separator = base.rstrip("/"), "/"
    while True:
        if address.startswith("../"):
            address = address.removeprefix("../")
            cut = max(base.rfind("/"), base.rfind(":"))
            base, separator = (base[:cut], base[cut]) if cut >= 0 else ("", "/")
        elif address.startswith("./"):
            address = address.removeprefix("./")
        else:
            return f"{base}{separator}{address}".rstrip("/")


def _checked(path: str, address: str, repository: str) -> str:
    resolved = resolve(repository, address)
    try:
        if resolved.startswith(("/", "file:")):
            raise names.BadValue("it is in a local folder")
        names.repository(resolved)
        if resolved != address and names.host(resolved) != names.host(repository):
            raise names.BadValue(f"it leads out of {names.host(repository) or repository}")
    except names.BadValue as error:
        raise CheckoutFailed(
            f"the submodule {path} can't be checked out, since its address {address[:200]!r} isn't allowed: {error}. "
            "Nothing of it was run. Without submodules the project is built by "
            "`twistedipc project set NAME --no-submodules`"
        ) from error
    return resolved


def _addresses(git: Git, work: Path) -> dict[str, str | None]:
    """Return the addresses in .gitmodules by path; None for one that isn't to be checked out."""
    sections: dict[str, dict[str, str]] = {}
    # The committed file: one in the working copy might be a link.
    listed = git.ask("-C", str(work), "config", "--blob", "HEAD:.gitmodules", "-z", "--list") or ""
    for entry in listed.split("\0"):
        name, _, value = entry.partition("\n")
        section, _, key = name.rpartition(".")
        if section.startswith("submodule.") and key in _KEYS:
            sections.setdefault(section, {})[key] = value
    return {
        about["path"].rstrip("/"): None if about.get("update") == "none" else about["url"]
        for about in sections.values()
        if about.get("path") and about.get("url")
    }
