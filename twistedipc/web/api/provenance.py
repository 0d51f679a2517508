"""Where releases and packages come from, signed. ``web.api``; ``routes`` has these functions."""

from __future__ import annotations

from twistedipc.storage import provenance
from twistedipc.web.api.call import Call, Reply, moment
from twistedipc.web.api.schemas import SigningKey, Statement, Statements


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


async def show_key(call: Call[None, None]) -> Reply[SigningKey]:
    """Show the public key by which the apiserver signs. It is no secret."""
    key = call.context.public_key
    return Reply(body=SigningKey(keyid=key.keyid, pem=key.pem))
