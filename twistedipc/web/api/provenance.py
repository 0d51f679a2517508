"""
Where releases and packages come from, signed, and the keys by which what is signed is checked. ``web.api``; ``routes``
has these functions.
"""

from __future__ import annotations

from sqlalchemy import Connection

from twistedipc.builds.provenance import package_name
from twistedipc.storage import attempts, provenance
from twistedipc.storage.rows import AttemptRow, StatementRow
from twistedipc.web.api.call import Call, Reply, moment
from twistedipc.web.api.queries import ShowProvenance
from twistedipc.web.api.schemas import (
    IssuerKeys,
    OpenIDConfiguration,
    PackageProvenance,
    PackageStatement,
    SigningKey,
    Statement,
    Statements,
)
from twistedipc.web.http.problems import not_found

#: How many statements about one version of a package are shown.
MAX_STATEMENTS = 20


async def list_all(call: Call[None, None]) -> Reply[Statements]:
    """
    List what the apiserver has signed about the releases and packages of a build: in-toto statements with SLSA's
    provenance v1, each in a DSSE envelope.
    """
    rows = await call.context.ledger.read(provenance.of_build, call.build.id)
    return Reply(
        body=Statements(
            statements=[
                Statement(
                    attempt=row.attempt,
                    kind=row.kind,
                    name=row.name,
                    created=moment(row.created),
                    envelope=row.envelope,
                )
                for row in rows
            ]
        )
    )


async def of_package(call: Call[ShowProvenance, None]) -> Reply[PackageProvenance]:
    """
    Show what the apiserver has signed about one version of a package: of projects that the caller may read, at most 20
    statements. They say which build has made it, from which commit, on which builder, and who has approved it.
    """
    name, version, visible = call.query.package, call.query.version, call.token.allowance.projects_with("read")

    def look(connection: Connection) -> list[tuple[StatementRow, AttemptRow]]:
        purl = package_name(call.query.target, name, version)
        rows = provenance.of_package(connection, purl, MAX_STATEMENTS)
        found = [(row, attempts.get(connection, row.attempt)) for row in rows]
        return [(row, of) for row, of in found if of is not None and (visible is None or of.project in visible)]

    found = await call.context.ledger.read(look)
    statements = [each for row, of in found for each in _of_publication(row, of, name, version)]
    if not statements:
        raise not_found(f"there is no statement about {name}@{version}, or none that you may see")
    return Reply(body=PackageProvenance(name=name, version=version, statements=statements))


def _of_publication(row: StatementRow, of: AttemptRow, name: str, version: str) -> list[PackageStatement]:
    decided = of.decision
    return [
        PackageStatement(
            project=of.project,
            build=of.build,
            attempt=of.number,
            integrity=each.integrity,
            registry=each.registry,
            status=each.status,
            requested_by=of.requested_by,
            approved_by=decided.who if decided is not None and decided.approved else "",
            created=moment(row.created),
            envelope=row.envelope,
        )
        for each in of.published
        if (each.name, each.version) == (name, version)
    ]


async def show_key(call: Call[None, None]) -> Reply[SigningKey]:
    """Show the public key by which the apiserver signs. It is no secret."""
    key = call.context.public_key
    return Reply(body=SigningKey(keyid=key.keyid, pem=key.pem))


async def show_issuer(call: Call[None, None]) -> Reply[OpenIDConfiguration]:
    """Show how the ID tokens of this apiserver's attempts are checked (OpenID Connect Discovery 1.0)."""
    return Reply(body=OpenIDConfiguration(**call.context.issuer.configuration()))


async def show_issuer_keys(call: Call[None, None]) -> Reply[IssuerKeys]:
    """Show the public key by which ID tokens are signed (RFC 7517)."""
    context = call.context
    return Reply(body=IssuerKeys(**await context.in_thread(context.issuer.keys)))
