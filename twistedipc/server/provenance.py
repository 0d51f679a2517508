"""
What the apiserver signs about releases and packages, when a build has succeeded. Called by ``lifecycle``, in the
transaction that ends the attempt; ``builds.provenance`` has the form.

Everything in a statement is of the apiserver's own record, but for what only the builder can know: the tools of the
build, and what it has measured. Those are marked as the builder's word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec
from sqlalchemy import Connection

from twistedipc.builds import provenance as form
from twistedipc.builds.provenance import Resource, Subject
from twistedipc.builds.states import AttemptState
from twistedipc.builds.variables import looks_secret
from twistedipc.storage import builds, provenance, publications
from twistedipc.storage.rows import AttemptRow, BuildRow, ReleaseRow
from twistedipc.storage.signing import SigningKey

#: Stands for the value of a parameter whose name says that it is a secret.
HIDDEN = "(not shown)"


class Provenance:
    """Makes and keeps statements. ``url``: the apiserver's address, which names it; ``version``: of this program."""

    def __init__(self, key: SigningKey, url: str, version: str) -> None:
        self._key = key
        self._url = url
        self._version = version

    def record(self, connection: Connection, ended: AttemptRow, made: Sequence[ReleaseRow], now: int) -> None:
        """
        Keep a statement about each release and each package of an attempt that has ended just now. There is none of an
        attempt whose log isn't complete, and of one that was offered by a version that noted no repository. A package
        that was in the registry already has one if there is none about this content: an attempt before may have failed
        after it was published.
        """
        build = builds.get(connection, ended.build)
        repository = provenance.repository_of(connection, ended.name)
        if ended.state is not AttemptState.SUCCEEDED or not ended.complete or build is None or not repository:
            return
        decided = ended.decision if ended.decision is not None and ended.decision.approved else None
        approval = {} if decided is None else _approval(decided.who, decided.time)
        subjects = [
            (
                "release",
                Subject(name=f"{ended.project}/{each.target}/{each.id}", digest={"sha256": each.sha256}),
                approval,
            )
            for each in made
        ]
        of_each = {(each.target, each.name): each for each in publications.of_attempt(connection, ended.name)}
        for package in ended.published:
            digest = form.digest_of_integrity(package.integrity)
            name = form.package_name(package.target, package.name, package.version)
            if digest and (package.status == "published" or not _is_known(connection, name, digest)):
                row = of_each.get((package.target, package.name))
                own = _approval(row.approved_by, row.approved) if row is not None and row.approved_by else approval
                subjects.append(("package", Subject(name=name, digest=digest), own))
        for kind, subject, of_people in subjects:
            statement = form.Statement(
                type=form.STATEMENT,
                subject=[subject],
                predicateType=form.PREDICATE,
                predicate=self._predicate(build, ended, repository, of_people),
            )
            payload = msgspec.json.encode(statement)
            signature = self._key.sign(form.signed_bytes(payload))
            signed = form.envelope(payload, self._key.public.keyid, signature)
            provenance.add(connection, ended.name, kind, subject.name, signed, now)

    def _predicate(
        self, build: BuildRow, ended: AttemptRow, repository: str, approval: dict[str, str]
    ) -> form.Predicate:
        source = Resource(uri=_uri(repository, build.ref), digest={"gitCommit": ended.commit})
        tools = [
            Resource(
                name=f"{tool.name} {tool.version}", uri=tool.uri, digest=tool.digests, annotations={"by": "builder"}
            )
            for tool in ended.tools
        ]
        parameters = {name: HIDDEN if looks_secret(name) else value for name, value in sorted(build.parameters.items())}
        log = Resource(
            name="log",
            digest={"sha256": ended.sha256},
            annotations={"records": ended.lines or 0, "complete": ended.complete, "digest": "docs/protocol.md"},
        )
        return form.Predicate(
            buildDefinition=form.BuildDefinition(
                buildType=form.BUILD_TYPE,
                externalParameters={
                    "repository": repository,
                    "ref": build.ref,
                    "project": build.project,
                    "publish": build.publish,
                    "parameters": parameters,
                },
                internalParameters={
                    "requestedBy": build.requested_by,
                    "attempt": ended.name,
                    "environment": ended.environment or "",
                }
                | approval
                | _conditions(ended),
                resolvedDependencies=[source, *tools],
            ),
            runDetails=form.RunDetails(
                builder=form.Builder(id=f"{self._url}/builders/{ended.builder}", version={"twistedipc": self._version}),
                metadata=form.Metadata(
                    invocationId=f"{self._url}/#/builds/{ended.build}/{ended.number}",
                    startedOn=_moment(ended.started or ended.created),
                    finishedOn=_moment(ended.ended or ended.created),
                ),
                byproducts=[log],
            ),
        )


#: How many statements about one package are looked at.
_MOST = 100

#: What stays as it is in a URI, beside letters and digits.
_IN_URI = "/:@%~[]+,;=!$&'()*"


def _is_known(connection: Connection, name: str, digest: Mapping[str, str]) -> bool:
    """Return whether there is a statement about a package of this content."""
    for row in provenance.of_package(connection, name, _MOST):
        said = form.read_statement(form.payload_of(row.envelope))
        if any(each.name == name and each.digest == digest for each in said.subject):
            return True
    return False


def _approval(who: str, time: int | None) -> dict[str, str]:
    """Return who has approved it, and when."""
    return {"approvedBy": who} | ({} if time is None else {"approvedOn": _moment(time)})


def _conditions(ended: AttemptRow) -> dict[str, Any]:
    """Return what the builder says of how it was built: the hosts that its steps contacted."""
    return {} if ended.egress is None else {"egress": msgspec.to_builtins(ended.egress), "egressBy": "builder"}


def _uri(repository: str, ref: str) -> str:
    """Return a repository's address as SPDX and SLSA have it: a URI. What is behind a question mark may be a secret."""
    plain = repository.partition("?")[0]
    if plain.startswith("/"):
        plain = f"file://{plain}"
    elif "://" not in plain:
        host, _, path = plain.partition(":")
        plain = f"ssh://{host}/{path.lstrip('/')}"
    return f"git+{quote(plain, safe=_IN_URI)}@{ref}"


def _moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
