"""
Domains: host names of projects, beside those that the platform gives. ``web.api``; ``routes`` has these functions.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from twistedipc.builds.domains import domain, readable
from twistedipc.builds.names import BadValue
from twistedipc.storage import domains
from twistedipc.storage.errors import NotPossible
from twistedipc.storage.rows import DomainRow
from twistedipc.web.access.auth import forbidden, may
from twistedipc.web.api.call import Call, Reply, moment
from twistedipc.web.api.context import WebContext
from twistedipc.web.api.schemas import Domain, Domains, NewDomain
from twistedipc.web.http.problems import not_found


async def list_all(call: Call[None, None]) -> Reply[Domains]:
    """List the project's own domains, the main one first."""
    rows = await call.context.ledger.read(domains.list_all, call.project.name)
    return Reply(body=Domains(domains=[_domain(call.context, row) for row in rows]))


async def put(call: Call[None, NewDomain]) -> Reply[Domain]:
    """
    Give the project a domain, or change how it uses one: at once its live release is served there. The first is its
    main domain. A domain belongs to one project. Those that the operator hasn't allowed are for admins of the platform
    to give.
    """
    context, project, body = call.context, call.project.name, call.body
    name = domain(str(call.path["domain"]))
    why_not = context.domains.why_not_served(name)
    if why_not:
        raise BadValue(f"{name} {why_not}")
    open_to_caller = call.token.allowance.allows_everywhere("admin") or context.may_add_domain(name)

    def change(connection: Connection) -> Sequence[DomainRow]:
        owner = domains.owner(connection, name)
        if owner is not None and owner.project != project:
            of = f"project {owner.project}" if may(call.token, "read", owner.project) else "another project"
            raise NotPossible(f"{name} is a domain of {of}: it has to be removed there first")
        if owner is None and not open_to_caller:
            raise forbidden(
                f"{name} isn't among the domains that the operator lets projects have (domains.allowed in the "
                "configuration): an admin of the platform may add it"
            )
        domains.put(connection, project, name, main=body.main, redirect=body.redirect, now=context.now())
        rows = domains.list_all(connection, project)
        row = next(row for row in rows if row.name == name)
        call.audit(connection, "domain.set", project, {"domain": name, "use": _use(row)})
        return rows

    rows = await context.ledger.write(change)
    context.domains.changed(project, rows)
    return Reply(body=next(_domain(context, row) for row in rows if row.name == name))


async def remove(call: Call[None, None]) -> Reply[None]:
    """Take a domain from the project: at once nothing is served there, and any project can get it."""
    context, project = call.context, call.project.name
    name = domain(str(call.path["domain"]))

    def change(connection: Connection) -> Sequence[DomainRow] | None:
        if not domains.remove(connection, project, name):
            return None
        call.audit(connection, "domain.delete", project, {"domain": name})
        return domains.list_all(connection, project)

    rows = await context.ledger.write(change)
    if rows is None:
        raise not_found(f"project {project} has no domain {name}")
    context.domains.changed(project, rows)
    return Reply(body=None)


def _domain(context: WebContext, row: DomainRow) -> Domain:
    return Domain(
        name=row.name,
        readable=readable(row.name),
        url=context.domains.address_of(row.name),
        main=row.main,
        redirect=row.redirect,
        reason=context.domains.why_not_served(row.name),
        certificate_ends=context.certificate_ends(row.name),
        created=moment(row.created),
    )


def _use(row: DomainRow) -> str:
    return "main" if row.main else "redirect" if row.redirect else "served"
