"""Projects and their secrets. ``web.api``; ``routes`` has these functions."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection

from twistedipc.builds import environments, names, protection, registries, secrets, variables
from twistedipc.builds.access import GIT_TOKEN
from twistedipc.builds.environments import PRODUCTION, Environment
from twistedipc.builds.registries import Registry
from twistedipc.builds.settings import BuildSettings, checked
from twistedipc.builds.states import STATES
from twistedipc.publish.targets.registry import TARGETS, ProjectTargets, name_of, to_flat, with_flat
from twistedipc.publish.targets.static.target import Static
from twistedipc.storage import overview, projects
from twistedipc.storage.errors import NotPossible
from twistedipc.storage.rows import ProjectRow, RunsOn
from twistedipc.web.access.auth import forbidden, may
from twistedipc.web.api import feeds, queues, repositories, retention, schemas
from twistedipc.web.api.call import Call, Reply, moment, moment_or_none
from twistedipc.web.api.context import WebContext
from twistedipc.web.api.queries import RemoveSecret, ShowOverview
from twistedipc.web.api.schemas import (
    BuildSecret,
    ListedProject,
    NeededSecret,
    NewestBuild,
    NewProject,
    NewSecret,
    OfContexts,
    Overview,
    Project,
    ProjectChange,
    Projects,
    Settings,
)
from twistedipc.web.http.problems import not_found


async def list_all(call: Call[None, None]) -> Reply[Projects]:
    """List all projects that the caller may see, with all that is set of each."""
    rows = await call.context.ledger.read(projects.list_all, call.token.allowance.projects_with("read"))
    return Reply(body=Projects(projects=[_project(call, row) for row in rows]))


async def show_overview(call: Call[ShowOverview, None]) -> Reply[Overview]:
    """
    List in short how all projects stand that the caller may see: where the release of each is, and its newest build.
    It is quick also where there are hundreds.
    """
    name = call.query.project
    one, visible = None if isinstance(name, UnsetType) else name, call.token.allowance.projects_with("read")
    rows = await call.context.ledger.read(overview.overview, Static.name, visible, one)
    url_of = call.context.release_url
    return Reply(
        body=Overview(
            projects=[
                ListedProject(
                    name=row.name,
                    repository=_address(row.repository, open_to_caller=may(call.token, "admin", row.name)),
                    release_url=url_of(row.name),
                    released=row.released,
                    newest=None if row.newest is None else _newest(row.newest),
                )
                for row in rows
            ]
        )
    )


def _address(repository: str, *, open_to_caller: bool) -> str:
    """A repository's address as this caller may see it: one from before queries were refused may have a token in it."""
    return repository if open_to_caller else re.split("[?#]", repository, maxsplit=1)[0]


def _newest(row: overview.Newest) -> NewestBuild:
    return NewestBuild(
        id=row.id,
        ref=row.ref,
        state=row.state,
        tone=STATES[row.state].tone,
        commit=row.commit,
        subject=row.subject,
        requested_by=row.requested_by,
        created=moment(row.created),
        ended=moment_or_none(row.ended),
    )


async def add(call: Call[None, NewProject]) -> Reply[Project]:
    """Add a project."""
    body, context = call.body, call.context
    names.new_project(body.name)
    targets = _targets(body, ())
    if targets is None:
        targets = TARGETS.default
    _check(context, body.repository, body.default_ref, targets, body.environment)
    await repositories.check_place(context, body.repository)
    approval = 0 if isinstance(body.approval, UnsetType) else body.approval
    _check_approval(approval, targets)
    settings = BuildSettings() if isinstance(body.settings, UnsetType) else _settings(body.settings)
    if not may(call.token, "admin", body.name):
        raise forbidden(f"you may not add a project named {body.name}: an admin of the platform may")

    def change(connection: Connection, now: int) -> ProjectRow:
        row = projects.create(
            connection,
            name=body.name,
            repository=body.repository,
            default_ref=body.default_ref,
            targets=targets,
            settings=settings,
            environment=dict(body.environment),
            timeout=body.timeout,
            idle_timeout=body.idle_timeout,
            on_lost="lost" if body.on_lost is UNSET else body.on_lost,
            protected=None if isinstance(body.protected, UnsetType) else protection.check(body.protected),
            approval=approval,
            now=now,
        )
        call.audit(connection, "project.create", row.name, _created(row), project=row.name)
        return row

    try:
        row = await context.ledger.write(change, context.now())
    finally:
        context.audience.changed(body.name)  # also if the answer to the commit was lost
    location = f"/api/v1/projects/{quote(row.name)}"
    notices = _notices(context, row) + _notices_of_variables(msgspec.structs.replace(row, environment={}), row)
    return Reply(body=_project(call, row, notices), headers={"Location": location})


async def show(call: Call[None, None]) -> Reply[Project]:
    """Show one project."""
    return Reply(body=_project(call, call.project))


async def change(call: Call[None, ProjectChange]) -> Reply[Project]:
    """
    Change what is given; what is left out stays. A secret is for the place to publish to (of npm the registry) and the
    repository that the project had when the secret was set: a change of either makes it void, which the answer's
    ``notices`` say. Deploy key, token and host keys are void once the repository has another host.
    """
    context, before = call.context, call.project
    changes = {name: value for name, value in msgspec.structs.asdict(call.body).items() if value is not UNSET}
    changes.pop("publish", None)
    changes.pop("confirm", None)
    some = changes.pop("variables", [])
    targets = _targets(call.body, before.targets)
    if targets is not None:
        changes["targets"] = targets
    changes |= _checked_each(call.body, before, context.now())
    after = msgspec.structs.replace(before, **changes)
    _check(context, after.repository, after.default_ref, after.targets, after.environment, before)
    registries.check(after.registries)
    await repositories.check_place(context, after.repository, before.repository)
    _check_approval(after.approval, after.targets)
    _check_secrets_left(before, after)
    await retention.check_left(call, changes.get("retention"))

    def change(connection: Connection, now: int) -> tuple[ProjectRow, ProjectRow] | None:
        old = projects.get(connection, before.name)
        if old is None:
            return None
        _check_secrets_left(old, after)
        if not isinstance(call.body.queue, UnsetType):  # what is left out of it stays as it is now
            changes["queue"] = queues.changed(old.queue, call.body.queue, now)
        row = projects.update(connection, before.name, changes | _variables(old, changes, some), now)
        if row is None:
            return None
        call.audit(connection, "project.change", row.name, _difference(old, row) | {"changed": ", ".join(changes)})
        for secret in _void(old, row):
            detail = {"secret": secret, "place": projects.place_name(old, secret), "repository": old.repository}
            call.audit(connection, "secret.void", row.name, detail)
        for secret in _void_of_builds(old, row):
            call.audit(connection, "secret.void", row.name, {"secret": secret, "repository": old.repository})
        if gone := repositories.void(old, row):
            detail = {"secret": gone, "repository": old.repository}
            call.audit(connection, "secret.void", row.name, detail)
        return old, row

    try:
        changed = await context.ledger.write(change, context.now())
    finally:
        context.audience.changed(before.name)  # also if the answer to the commit was lost
        context.dispatch.wake()
    if changed is None:
        raise not_found()
    old, row = changed
    notices = [
        f"the {secret} was for {projects.place_name(old, secret)} and the sources in {old.repository}, and is void: "
        f"set it again (twistedipc project secret set {row.name} {secret})"
        for secret in _void(old, row)
    ]
    notices += [
        f"the secret {secret} was for builds of {old.repository}, and is void: set it again "
        f"(twistedipc project secret set {row.name} {secret})"
        for secret in _void_of_builds(old, row)
    ]
    if gone := repositories.void(old, row):
        notices.append(
            f"erased, since the repository has another host now: {gone} for {names.host(old.repository)}. Make a new "
            f"key (twistedipc project key {row.name}) or set a token (twistedipc project secret {row.name} "
            f"{GIT_TOKEN}) if it is private"
        )
    notices += _notices(context, row) if targets is not None else []
    notices += _notices_of_variables(old, row) + (_notices_of_registries(row) if "registries" in changes else [])
    return Reply(body=_project(call, row, notices))


def _checked_each(body: ProjectChange, before: ProjectRow, now: int) -> dict[str, Any]:
    """Return those parts of a change that have a form of their own. Raises `BadValue`."""
    changes: dict[str, Any] = {}
    if not isinstance(body.settings, UnsetType):
        changes["settings"] = _settings(body.settings)
    if not isinstance(body.protected, UnsetType):
        changes["protected"] = protection.check(body.protected)
    if not isinstance(body.runs_on, UnsetType):
        changes["runs_on"] = _runs_on(body.runs_on)
    if not isinstance(body.queue, UnsetType):
        changes["queue"] = queues.changed(before.queue, body.queue, now)
    if not isinstance(body.retention, UnsetType):
        changes["retention"] = retention.own(body.retention)
    if not isinstance(body.environments, UnsetType):
        changes["environments"] = environments.check(
            [Environment(name=each.name, refs=each.refs, approval=each.approval) for each in body.environments]
        )
    return changes


def _check_secrets_left(old: ProjectRow, new: ProjectRow) -> None:
    """Raise `NotPossible` if an environment would go of which there are secrets: they aren't erased on the side."""
    gone = {each.name for each in old.environments} - {each.name for each in new.environments}
    for secret in old.build_secrets:
        if secret.builds in gone:
            raise NotPossible(
                f"the environment {secret.builds} has the secret {secret.name}: remove it first (twistedipc project "
                f"secret remove {old.name} {secret.name} --environment {secret.builds})"
            )


def _runs_on(said: schemas.RunsOn) -> RunsOn:
    """Return the builders that a request binds a project to. Raises `BadValue`."""
    return RunsOn(
        builders=sorted({names.node(name) for name in said.builders}),
        pools=sorted({names.pool(pool) for pool in said.pools}),
    )


def _check_approval(approval: int, targets: ProjectTargets) -> None:
    """Raise `BadValue` if a project asks for an approval that can't be had: what a builder publishes doesn't wait."""
    delivered = [name_of(settings) for settings in TARGETS.not_stored(targets)]
    if approval and delivered:
        raise names.BadValue(
            f"what a builder publishes can't wait for an approval: have the apiserver publish to "
            f"{', '.join(delivered)} (npm: publish_at = apiserver), or set approval to 0"
        )


def _variables(old: ProjectRow, changes: dict[str, Any], some: list[variables.Change]) -> dict[str, Any]:
    """What becomes of a project's variables. Raises `BadValue`, `NotPossible`."""
    known = [each.name for each in changes.get("environments", old.environments)]
    of_contexts = variables.with_environments(old.of_contexts, known)
    if not some:
        return {} if of_contexts == old.of_contexts else {"of_contexts": of_contexts}
    for each in some:
        if why := secrets.why_for_none(each.builds, known):
            raise NotPossible(why)
    environment, of_contexts = variables.changed(changes.get("environment", old.environment), of_contexts, some)
    given = {change.name: change.value for change in some if change.value is not None}
    variables.check(given)
    # Of those that stay only the number is checked, since the rules may have become stricter.
    for values in (environment, *_of_each(of_contexts).values()):
        if len(values) > variables.MAX_VARIABLES:
            raise names.BadValue(f"there can be at most {variables.MAX_VARIABLES} variables")
    return {"environment": environment, "of_contexts": of_contexts}


def _void(old: ProjectRow, new: ProjectRow) -> list[str]:
    """Return the secrets that a change has made void."""
    return [secret for secret in old.secrets if secret not in new.secrets]


def _void_of_builds(old: ProjectRow, new: ProjectRow) -> list[str]:
    """The same of those of the builds."""
    left = {secret.name for secret in new.build_secrets}
    return list(dict.fromkeys(secret.name for secret in old.build_secrets if secret.name not in left))


def _notices_of_variables(old: ProjectRow, row: ProjectRow) -> list[str]:
    """Warn of variables that are new and look like secrets: an admin can read them, and they are on builders' disks."""
    before, now = _all_variables(old), _all_variables(row)
    return [
        f"{name} looks like a secret, and a variable isn't kept secret: remove it (twistedipc project env unset "
        f"{row.name} {name}), and set it as a secret (twistedipc project secret set {row.name} {name})"
        for name in sorted({name for name, _value in now - before if variables.looks_secret(name)})
    ]


def _of_each(of_contexts: variables.OfContexts) -> dict[str, dict[str, str]]:
    """Return the variables that only some builds have, by which builds."""
    return {"production": of_contexts.production, "previews": of_contexts.previews, **of_contexts.environments}


def _all_variables(row: ProjectRow) -> set[tuple[str, str]]:
    """The names and values of all variables, whatever the builds."""
    return {pair for values in (row.environment, *_of_each(row.of_contexts).values()) for pair in values.items()}


def _notices_of_registries(row: ProjectRow) -> list[str]:
    """Return what an admin should know after setting the registries."""
    known = {secret.name: secret for secret in row.build_secrets}
    notices: list[str] = []
    for registry in row.registries:
        secret = known.get(registry.secret)
        if registry.secret and secret is None:
            how = f"twistedipc project secret set {row.name} {registry.secret} --steps install"
            notices.append(f"the token of {registry.address}, {registry.secret}, isn't set yet: {how}")
        elif secret is not None and secret.steps == "build":
            notices.append(f"{registry.secret}, the token of {registry.address}, isn't given to the step install")
        if registry.secret and names.open_road(registry.address):
            notices.append(f"{registry.address} isn't https: the token that is sent there can be read by others")
    return notices


def _notices(context: WebContext, row: ProjectRow) -> list[str]:
    """Return what an admin should know after setting the project's targets."""
    issuer = context.issuer.address
    notices = [notice for settings in row.targets for notice in TARGETS.of(settings).notices(settings)]
    for settings in TARGETS.active(row.targets):
        target = TARGETS.of(settings)
        why = TARGETS.why_no_word(settings, issuer)
        notices += [why] if why else []
        for secret in target.secrets_for(settings):
            if secret.audience and not why:
                notices.append(
                    f"{target.secret_place(settings, secret.name)} must trust this apiserver: issuer {issuer}, subject "
                    f"project:{row.name}:environment:{PRODUCTION}, audience {secret.audience}"
                )
            elif not secret.audience and secret not in target.secrets and secret.name not in row.secrets:
                how = f"twistedipc project secret set {row.name} {secret.name}"
                notices.append(f"{secret.name}, {secret.help}, isn't set yet: {how}")
    lacking = [TARGETS.of(settings).lacks(settings, context.publishing) for settings in TARGETS.stored(row.targets)]
    return notices + [f"the apiserver can't publish the packages of {row.name}: {each}" for each in lacking if each]


def _targets(body: NewProject | ProjectChange, before: ProjectTargets) -> ProjectTargets | None:
    """The targets that a request says, in either form; None if it says nothing of them."""
    if isinstance(body.targets, list):
        if body.publish is not UNSET:
            raise names.BadValue("`targets` and `publish` say the same: give one of them")
        return TARGETS.read_request(body.targets, before)
    return None if isinstance(body.publish, UnsetType) else with_flat(before, body.publish)


def _settings(said: Settings) -> BuildSettings:
    """Return the settings that a request says. Raises `names.BadValue`."""
    try:
        return checked(BuildSettings(**msgspec.structs.asdict(said)))
    except names.BadValue as error:
        raise names.BadValue(f"settings.{error}") from error


def _created(row: ProjectRow) -> dict[str, str]:
    """What the audit says of a new project. Of variables only the names."""
    detail = {name: value for name, value in _audited(row).items() if value not in ("", "—", "None", "[]")}
    if row.environment:
        detail["environment"] = ", ".join(sorted(row.environment))
    return detail


def _difference(old: ProjectRow, new: ProjectRow) -> dict[str, str]:
    """Return what was and what is, for the audit. Of variables only the names."""
    before, after = _audited(old), _audited(new)
    changed = {name: (before.get(name, "—"), after.get(name, "—")) for name in before | after}
    found = {name: f"{was} → {is_now}" for name, (was, is_now) in changed.items() if was != is_now}
    before_each, after_each = _of_each(old.of_contexts), _of_each(new.of_contexts)
    some = [
        (f"environment of {kind}", before_each.get(kind, {}), after_each.get(kind, {}))
        for kind in dict.fromkeys((*before_each, *after_each))
    ]
    for kind, was, is_now in (("environment", old.environment, new.environment), *some):
        found |= {
            f"{kind}.{name}": "set" if name in is_now else "removed"
            for name in sorted(was | is_now)
            if was.get(name) != is_now.get(name)
        }
    return found


def _audited(row: ProjectRow) -> dict[str, str]:
    targets = {
        f"targets.{target.name}.{field}": "—" for target in TARGETS for field in target.settings.__struct_fields__
    }
    for settings in row.targets:
        for field, value in msgspec.structs.asdict(settings).items():
            targets[f"targets.{name_of(settings)}.{field}"] = str(value)
    said = {f"settings.{name}": str(value) for name, value in msgspec.structs.asdict(row.settings).items()}
    said["registries"] = _registries(row.registries)
    said["protected"] = ", ".join(row.protected)
    pools = f"pools {' '.join(row.runs_on.pools)}"
    said["runs_on"] = " | ".join([*row.runs_on.builders, *([pools] if row.runs_on.pools else [])])
    said |= queues.audited(row.queue)
    said["approval"] = str(row.approval)
    said["environments"] = "; ".join(
        f"{each.name} from {' '.join(each.refs)}{' with approval' if each.approval else ''}"
        for each in row.environments
    )
    return (targets | said) | {
        name: str(getattr(row, name)) for name in ("repository", "default_ref", "timeout", "idle_timeout", "on_lost")
    }


def _registries(registries: list[Registry]) -> str:
    """For the audit."""
    said = (
        f"{each.address} for {', '.join(each.scopes) or 'all'} by {each.secret or 'no token'}" for each in registries
    )
    return "; ".join(said) or "—"


async def remove(call: Call[None, None]) -> Reply[None]:
    """Delete the project with its secrets and releases. Its builds must have ended."""
    context, name = call.context, call.project.name

    def delete(connection: Connection) -> bool:
        deleted = projects.delete(connection, name, context.now())
        if deleted:
            call.audit(connection, "project.delete", name, {})
        return deleted

    try:
        deleted = await context.releasing.delete_project(name, delete)
    finally:
        context.audience.changed(name)  # also if the answer to the commit was lost
    if not deleted:
        raise not_found()
    call.authentication.project_gone(name)
    context.domains.changed(name, ())
    return Reply(body=None)


async def clear_caches(call: Call[None, None]) -> Reply[None]:
    """
    Have the project's builds begin without what earlier ones have kept, on all builders, also on those that are away
    now. Builds that run go on with theirs, and keep nothing for later ones.
    """

    def change(connection: Connection, name: str) -> None:
        times = projects.clear_caches(connection, name)
        call.audit(connection, "caches.clear", name, {"times": str(times)})

    await call.context.ledger.write(change, call.project.name)
    return Reply(body=None)


async def set_secret(call: Call[None, NewSecret]) -> Reply[None]:
    """
    Set a secret. Its value is sealed, and never shown. A target's is given to the one step that needs it, and is for
    the place to publish to (of npm the registry) and the repository that the project has now. git_token is given to
    the checkout step, and is for the host that the repository has now. Any other is a variable
    of the builds' steps, of the repository that the project has now. One for some builds stands beside that of the same
    name for all, and comes first; one for all takes the place of those for some.
    """
    body, secret = call.body, str(call.path["secret"])
    if TARGETS.secret(secret) is not None:
        await _set_target_secret(call, body, secret)
    elif secret == GIT_TOKEN:
        await repositories.set_token(call)
    else:
        await _set_build_secret(call, body, secret)
    return Reply(body=None)


async def _set_target_secret(call: Call[None, NewSecret], body: NewSecret, secret: str) -> None:
    names.secret(body.value)
    if body.steps is not UNSET or body.builds is not UNSET:
        raise names.BadValue(f"{secret} is given to the step that publishes, and to no other")
    place = body.registry if isinstance(body.registry, str) else None

    def change(connection: Connection, name: str, sealed: bytes, now: int) -> None:
        projects.set_secret(connection, name, secret, sealed, now, place)
        call.audit(connection, "secret.set", name, {"secret": secret})

    context = call.context
    sealed = context.secret_box.seal(body.value)
    await context.ledger.write(change, call.project.name, sealed, context.now())


async def _set_build_secret(call: Call[None, NewSecret], body: NewSecret, secret: str) -> None:
    variables.secret_name(secret)
    secrets.value(body.value)
    if body.registry is not UNSET:
        raise names.BadValue(f"{secret} is for builds, and not bound to a registry")
    steps: secrets.Steps = "all" if body.steps is UNSET else body.steps
    builds: secrets.Builds = "all" if body.builds is UNSET else body.builds

    def change(connection: Connection, name: str, sealed: bytes, now: int) -> None:
        projects.set_build_secret(
            connection, name, secret, sealed, characters=len(body.value), steps=steps, builds=builds, now=now
        )
        call.audit(connection, "secret.set", name, {"secret": secret, "steps": steps, "builds": builds})

    context = call.context
    sealed = context.secret_box.seal(body.value)
    await context.ledger.write(change, call.project.name, sealed, context.now())


async def remove_secret(call: Call[RemoveSecret, None]) -> Reply[None]:
    """Erase a secret: all its values or, with ``builds``, the one for these."""
    secret = str(call.path["secret"])
    if secret == GIT_TOKEN:
        return await repositories.remove_token(call)
    builds = None if isinstance(call.query.builds, UnsetType) else call.query.builds

    def change(connection: Connection, name: str) -> bool:
        if TARGETS.secret(secret) is not None:
            deleted = projects.delete_secret(connection, name, secret)
        else:
            deleted = projects.delete_build_secret(connection, name, secret, builds)
        if deleted:
            call.audit(connection, "secret.delete", name, {"secret": secret} | ({"builds": builds} if builds else {}))
        return deleted

    if not await call.context.ledger.write(change, call.project.name):
        raise not_found(f"project {call.project.name} has no secret {secret}")
    return Reply(body=None)


def _check(
    context: WebContext,
    repository: str,
    default_ref: str,
    targets: ProjectTargets,
    environment: dict[str, str],
    before: ProjectRow | None = None,
) -> None:
    # A value that stays isn't checked again, since the rules may have become stricter.
    if before is None or repository != before.repository:
        names.repository(repository, local=context.local_repositories)
    names.ref(default_ref)
    variables.check(environment)
    TARGETS.check(targets)


def addresses(call: Call[Any, Any], row: ProjectRow) -> dict[str, str]:
    """Return where what the project publishes is found, by target."""
    found = {
        name_of(settings): TARGETS.of(settings).address(settings, row.name, call.context.release_url)
        for settings in TARGETS.active(row.targets)
    }
    return {name: address for name, address in found.items() if address}


def _needed(row: ProjectRow) -> list[NeededSecret]:
    """Return what is needed to publish to the project's targets."""
    return [
        NeededSecret(
            target=name_of(settings),
            name=secret.name,
            help=secret.help,
            place=projects.place_name(row, secret.name) if not secret.audience else secret.audience,
            set=bool(secret.audience) or secret.name in row.secrets,
            audience=secret.audience,
        )
        for settings in row.targets
        for secret in TARGETS.of(settings).secrets_for(settings)
    ]


def _project(call: Call[Any, Any], row: ProjectRow, notices: list[str] | None = None) -> Project:
    """Return the project as this caller may see it."""
    open_to_caller = may(call.token, "admin", row.name)

    def shown(values: dict[str, str]) -> dict[str, str | None]:
        return {name: value if open_to_caller else None for name, value in values.items()}

    badge, atom = feeds.addresses(call.context, row)
    return Project(
        name=row.name,
        repository=_address(row.repository, open_to_caller=open_to_caller),
        default_ref=row.default_ref,
        targets=TARGETS.write(row.targets),
        publish=to_flat(row.targets),
        settings=row.settings,
        environment=shown(row.environment),
        of_contexts=OfContexts(
            production=shown(row.of_contexts.production),
            previews=shown(row.of_contexts.previews),
            environments={name: shown(values) for name, values in row.of_contexts.environments.items()},
        ),
        registries=row.registries,
        runs_on=schemas.BoundTo(builders=row.runs_on.builders, pools=row.runs_on.pools),
        queue=queues.shown(row.queue),
        timeout=row.timeout,
        idle_timeout=row.idle_timeout,
        on_lost=row.on_lost,
        protected=row.protected,
        approval=row.approval,
        environments=row.environments,
        secrets=row.secrets,
        needs=_needed(row),
        build_secrets=[
            BuildSecret(name=each.name, steps=each.steps, builds=each.builds, updated=moment(each.updated))
            for each in row.build_secrets
        ],
        access=repositories.shown(row.access),
        head=row.head,
        retention=row.retention,
        kept=retention.kept(row, call.context.retention.rules),
        release_url=call.context.release_url(row.name),
        domains=[each.name for each in call.context.domains.of_project(row.name)],
        badge=badge,
        atom=atom,
        addresses=addresses(call, row),
        created=moment(row.created),
        updated=moment(row.updated),
        notices=notices or [],
    )
