"""
Why a repository couldn't be fetched, or a commit not be pushed there, as a sentence with a cure, from what git and ssh
have printed. Pure; used by ``refs`` and ``pushing``.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from twistedipc.builds import names
from twistedipc.builds.access import Access, fingerprint, ssh_place
from twistedipc.builds.explanations import explain_failure, last_output

_SSH_REFUSES = re.compile(r"Permission denied \(|Too many authentication failures")
_KEY_CHANGED = re.compile(r"Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED|No matching host key")
_REFUSED = re.compile(
    r"Authentication failed for|HTTP Basic: Access denied|The requested URL returned error: 40[13]|Invalid username or"
)
_ASKS = re.compile(r"could not read (?:Username|Password)")
_NOT_THERE = re.compile(r"Repository not found|does not appear to be a git repository|not found|does not exist")
_BAD_OBJECT = re.compile(r"^error: object ([0-9a-f]{40,64}): (\w+: .*)", re.MULTILINE)
_PROTOCOL = re.compile(r"transport '([^']*)' not allowed")


def why_not_fetched(repository: str, said: str, access: Access | None, project: str) -> str:
    """
    Return the sentence.

    :param said: the end of what git has printed
    :param access: what the checkout was given for this repository; None: nothing
    """
    bad = _BAD_OBJECT.search(said)
    if bad is not None:
        return (
            f"{repository} can't be fetched: git finds its object {bad[1]} dangerous or malformed ({bad[2][:200]}). If "
            "it is known to do no harm, an operator can list its id in a file that git's setting fetch.fsck.skipList "
            "names (docs/repositories.md)"
        )
    for pattern, sentence in _SENTENCES:
        if pattern.search(said):
            more = sentence(repository, access, project)
            if more:
                return f"{repository} can't be fetched: {more}"
    known = explain_failure(last_output(said.split("\n")), None)  # whatever else can go wrong with a network
    return f"{repository} can't be fetched" + (f": {known.cause}. {known.cure}" if known is not None else "")


#: What hosts say to a deploy key or a token that may read and not write.
_READ_ONLY = re.compile(
    r"marked as read.only|does not have write access|not allowed to push|User permission denied for writing"
    r"|Permission to \S+ denied|denied to|Write access to repository not granted|read.?only|not granted|Unauthorized"
    r"|returned error: 40[13]|unable to push to unqualified|service not enabled|Access denied|insufficient permission",
    re.IGNORECASE,
)
_GUARDED = re.compile(
    r"protected branch|GH006|GH013|pre-receive hook declined|rule violations|update hook declined", re.I
)


def why_not_pushed(repository: str, said: str, access: Access | None, project: str) -> str:
    """
    Return why a commit couldn't be pushed: a clause, after a colon.

    :param said: the end of what git has printed
    :param access: what the step was given for this repository; None: nothing
    """
    host = ssh_place(names.host(repository)) or names.host(repository)
    if _GUARDED.search(said):
        return f"{host} takes no pushes to that branch from the project's credentials: a rule of the host guards it"
    if _READ_ONLY.search(said) or (access is None and _ASKS.search(said)):
        if access is not None and access.key:
            return (
                f"the project's deploy key may read {repository} and not write to it: allow it to write there, or have "
                f"versions published without a commit (`twistedipc project set {project} --push-versions false`)"
            )
        who = "its git_token may not write" if access is not None else "there are no credentials that may write"
        return (
            f"{who} to {repository}: set one that may (`twistedipc project secret set {project} git_token`), or have "
            f"versions published without a commit (`twistedipc project set {project} --push-versions false`)"
        )
    return why_not_fetched(repository, said, access, project).replace("can't be fetched", "takes no push", 1)


def _protocol(_repository: str, _access: Access | None, _project: str) -> str:
    return "this kind of address isn't allowed here"


def _host_key(repository: str, access: Access | None, project: str) -> str:
    host = names.host(repository)
    place = ssh_place(host) or host
    if access is not None and access.known_hosts:
        pinned = ", ".join(filter(None, map(fingerprint, access.known_hosts)))
        return (
            f"{place} has shown another host key than the one that is pinned ({pinned}). If the host has really "
            f"changed its key, forget the pinned one (`twistedipc project hosts {project} --forget`) or set the new "
            f"one (`ssh-keyscan HOST | twistedipc project hosts {project} --set`)"
        )
    return (
        f"the builder doesn't know the host key of {place}. A project with a deploy key of its own "
        f"(`twistedipc project key {project}`) pins it at the first contact"
    )


def _key_refused(repository: str, access: Access | None, project: str) -> str:
    host = ssh_place(names.host(repository)) or "the host"
    if access is not None and access.key:
        return (
            f"{host} doesn't accept the project's deploy key. Add its public half to the repository there "
            f"(`twistedipc project show {project}` shows it)"
        )
    return (
        f"{host} wants a key, and the project has none for it. Make one with `twistedipc project key {project}` and "
        "add its public half to the repository there"
    )


def _token_refused(repository: str, access: Access | None, project: str) -> str:
    if access is not None and access.token:
        return (
            f"{names.host(repository)} doesn't accept the project's git_token, or it may not read this repository. Set "
            f"another one with `twistedipc project secret {project} git_token`"
        )
    return _asks(repository, access, project)


def _asks(repository: str, access: Access | None, project: str) -> str:
    if access is not None and access.token:
        return _token_refused(repository, access, project)
    return (
        f"{names.host(repository)} wants a user and a token, and the project has none for it. If the repository is "
        f"private, set a token with `twistedipc project secret {project} git_token`, or use its address for ssh with a "
        f"deploy key (`twistedipc project key {project}`); if not, its address is wrong"
    )


def _not_there(_repository: str, access: Access | None, _project: str) -> str:
    if access is None:
        return ""
    return "the host says that there is no such repository, or the project's credentials may not read it"


_SENTENCES: tuple[tuple[re.Pattern[str], Callable[[str, Access | None, str], str]], ...] = (
    (_PROTOCOL, _protocol),
    (_KEY_CHANGED, _host_key),
    (_SSH_REFUSES, _key_refused),
    (_ASKS, _asks),
    (_REFUSED, _token_refused),
    (_NOT_THERE, _not_there),
)
