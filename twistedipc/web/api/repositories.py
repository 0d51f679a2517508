"""
How a project's private repository is read: its deploy key, its token, the keys of its host. ``web.api``; ``routes`` has
these functions.
"""

from __future__ import annotations

import contextlib
from typing import Any

from sqlalchemy import Connection
from twisted.internet.defer import TimeoutError

from twistedipc.builds import access as rules
from twistedipc.builds import names
from twistedipc.builds.access import GIT_TOKEN
from twistedipc.builds.places import ALLOW, Place, place_of, problem_of
from twistedipc.storage import access, projects
from twistedipc.storage.errors import NotFound
from twistedipc.storage.rows import AccessRow, ProjectRow
from twistedipc.storage.secrets import make_deploy_key
from twistedipc.web.api.call import Call, Reply
from twistedipc.web.api.context import WebContext
from twistedipc.web.api.schemas import HostKey, KnownHosts, NewSecret, RepositoryAccess
from twistedipc.web.http.problems import not_found

#: Seconds for the name of a repository's host to be looked up.
LOOK_UP_SECONDS = 5


def shown(row: AccessRow | None) -> RepositoryAccess | None:
    """Return what people see of it: nothing that is secret."""
    if row is None:
        return None
    return RepositoryAccess(
        host=row.host,
        public_key=row.public_key,
        fingerprint=rules.fingerprint(row.public_key),
        token=row.token,
        host_keys=[HostKey(line=line, fingerprint=rules.fingerprint(line)) for line in row.known_hosts],
    )


async def check_place(context: WebContext, repository: str, before: str = "") -> None:
    """
    Refuse the address of a repository that leads to this machine or to a cloud's metadata service. Raises `BadValue`.
    A host that isn't known here may be known to the builders, which look again. One that was there ``before`` stays.
    """
    problem = "" if repository == before else await problem_at(context, repository)
    if problem:
        raise names.BadValue(f"the repository can't be {repository}: {problem}. {ALLOW}")


async def problem_at(context: WebContext, address: str) -> str:
    """Return why nothing may be fetched from, or sent to, what is at this address; "" if it may."""
    host, _ = place_of(address)
    if not host or not context.elsewhere(address):
        return ""
    places: list[Place] = []
    with contextlib.suppress(TimeoutError):
        places = await context.look_up(host).addTimeout(LOOK_UP_SECONDS, context.clock)
    return problem_of(host, places)


def void(old: ProjectRow, new: ProjectRow) -> str:
    """Return what a change of the repository has made void; "": nothing."""
    before = old.access
    if before is None or new.access is not None:
        return ""
    parts = [
        *(["deploy key"] if before.public_key else []),
        *([GIT_TOKEN] if before.token else []),
        *(["host keys"] if before.known_hosts else []),
    ]
    return " and ".join(parts)


async def make_key(call: Call[None, None]) -> Reply[RepositoryAccess]:
    """
    Make a deploy key for the project's repository, in the place of one that there is. The private half is sealed, and
    given to nothing but the checkout step; the public half is to be added to the repository at its host. It is for the
    host that the repository has now.
    """
    context, name = call.context, call.project.name
    rules.check_key(call.project.repository)
    private, public = make_deploy_key(f"twistedipc-{name}")
    sealed = context.secret_box.seal(private)

    def change(connection: Connection, now: int) -> ProjectRow:
        project = _existing(connection, name)
        rules.check_key(project.repository)
        access.set_key(connection, project.id, project.repository, sealed, public, now)
        detail = {"host": names.host(project.repository), "fingerprint": rules.fingerprint(public)}
        call.audit(connection, "deploy_key.make", name, detail)
        return _existing(connection, name)

    return _answer(await context.ledger.write(change, context.now()))


async def remove_key(call: Call[None, None]) -> Reply[None]:
    """Erase the project's deploy key. It stays at the host until it is removed there."""
    name = call.project.name

    def change(connection: Connection) -> bool:
        removed = access.remove_key(connection, _existing(connection, name).id)
        if removed:
            call.audit(connection, "deploy_key.delete", name, {})
        return removed

    if not await call.context.ledger.write(change):
        raise not_found(f"project {name} has no deploy key")
    return Reply(body=None)


async def set_known_hosts(call: Call[None, KnownHosts]) -> Reply[RepositoryAccess]:
    """
    Set the keys that the host of the project's repository may show: lines of a known_hosts file, or what
    ``ssh-keyscan`` prints. Without them, the key that it shows at the first contact is pinned.
    """
    context, name, lines = call.context, call.project.name, call.body.lines

    def change(connection: Connection, now: int) -> ProjectRow:
        project = _existing(connection, name)
        found = rules.known_hosts(lines, names.host(project.repository))
        access.set_known_hosts(connection, project.id, project.repository, found, now)
        call.audit(connection, "known_hosts.set", name, {"keys": "; ".join(found)})
        return _existing(connection, name)

    return _answer(await context.ledger.write(change, context.now()))


async def forget_known_hosts(call: Call[None, None]) -> Reply[None]:
    """Forget the keys of the host: the next one that it shows is pinned."""
    context, name = call.context, call.project.name

    def change(connection: Connection, now: int) -> bool:
        project = _existing(connection, name)
        if project.access is None or not project.access.known_hosts:
            return False
        detail = {"keys": "; ".join(project.access.known_hosts)}
        access.set_known_hosts(connection, project.id, project.repository, [], now)
        call.audit(connection, "known_hosts.forget", name, detail)
        return True

    if not await context.ledger.write(change, context.now()):
        raise not_found(f"project {name} has no known host")
    return Reply(body=None)


async def set_token(call: Call[None, NewSecret]) -> None:
    """Set the secret `GIT_TOKEN`, for the host that the project's repository has now."""
    context, name, body = call.context, call.project.name, call.body
    names.secret(body.value)
    if not (body.registry is body.steps is body.builds):
        raise names.BadValue(f"{GIT_TOKEN} is given to the checkout, and to no other step")
    sealed = context.secret_box.seal(body.value)

    def change(connection: Connection, now: int) -> None:
        project = _existing(connection, name)
        rules.check_token(project.repository)
        access.set_token(connection, project.id, project.repository, sealed, now)
        call.audit(connection, "secret.set", name, {"secret": GIT_TOKEN, "host": names.host(project.repository)})

    await context.ledger.write(change, context.now())


async def remove_token(call: Call[Any, None]) -> Reply[None]:
    """Erase the secret `GIT_TOKEN`."""
    name = call.project.name

    def change(connection: Connection) -> bool:
        removed = access.remove_token(connection, _existing(connection, name).id)
        if removed:
            call.audit(connection, "secret.delete", name, {"secret": GIT_TOKEN})
        return removed

    if not await call.context.ledger.write(change):
        raise not_found(f"project {name} has no secret {GIT_TOKEN}")
    return Reply(body=None)


def _existing(connection: Connection, name: str) -> ProjectRow:
    project = projects.get(connection, name)
    if project is None:
        raise NotFound(f"there is no project {name}")
    return project


def _answer(row: ProjectRow) -> Reply[RepositoryAccess]:
    said = shown(row.access)
    assert said is not None
    return Reply(body=said)
