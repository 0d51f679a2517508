"""
`twistedipc up`, `down` and `status`: a platform of one's own, from the folder of a repository to its first release.

Both services and all their data are in one folder. They go on when the command has ended, and are found again by their
locks (`services.Detached`), so a second `up` uses what runs, and starts what doesn't. It does nothing that a person
couldn't do with the other commands.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import click
from msgspec import UNSET

from twistedipc.builds.counts import counted
from twistedipc.builds.names import HEAD
from twistedipc.builds.settings import PLAN_FILE
from twistedipc.cli.builds import ask_for_build, say_made, say_what_it_is, show_log
from twistedipc.cli.client import Client, path
from twistedipc.cli.contexts import Context, client_for, read_contexts, write_contexts
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.folder import Repository, repository_of, said_project, same_repository
from twistedipc.cli.local import (
    PORT,
    apiserver_toml,
    builder_toml,
    give_builder_key,
    isolation_here,
    leave_taken_ports,
    load_local,
    new_token,
    state_folder,
    wait_until_ready,
    write_local_setup,
)
from twistedipc.cli.naming import name_from
from twistedipc.cli.opening import can_open, open_signed_in, sign_in_file
from twistedipc.cli.output import color_option, note, print_fields, print_table, wants_colour
from twistedipc.cli.services import Detached
from twistedipc.cli.setup import node_path
from twistedipc.terminal.amounts import size
from twistedipc.web.api.schemas import (
    Build,
    Builders,
    Builds,
    Identity,
    NewBuild,
    NewProject,
    Project,
    Projects,
    Releases,
    Settings,
)

#: What the server of `up` is called among those that one is signed in to.
CONTEXT: Final = "local"

TOKEN_NAME: Final = "up"
TOKEN_DAYS: Final = 90

#: A token that ends sooner is replaced.
_RENEWED: Final = timedelta(days=7)

#: Variables without which builds would reach less of the network than the person who asks for them.
_ROADS: Final = (
    *(name for each in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY") for name in (each, each.lower())),
    *("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "GIT_SSL_CAINFO"),
)

#: Seconds in which another `up` or `down` must be through with the services.
_TURN: Final = 60.0

#: How many projects `status` asks about.
_LISTED: Final = 20

#: Seconds for adding up what is on the disk.
_COUNTING: Final = 3.0


data_option = click.option(
    "--data",
    envvar="TWISTEDIPC_DATA",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="The folder of both services and their data (TWISTEDIPC_DATA; else ~/.local/state/twistedipc).",
)


@click.command()
@click.argument(
    "folder", type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True), default=Path()
)
@click.option("--name", help="What the project is called (else as the folder).")
@click.option("--origin", is_flag=True, help="Build what is at the repository's origin, in place of this folder.")
@click.option("--open/--no-open", "opening", default=None, help="Open the page in a browser (else: the first time).")
@click.option("--port", type=click.IntRange(1, 65534), help="Of the API and the page, the first time (else 8080).")
@data_option
@color_option
@click.pass_context
def up(
    context: click.Context,
    folder: Path,
    name: str | None,
    origin: bool,
    opening: bool | None,
    port: int | None,
    data: Path | None,
    colour: bool | None,
) -> None:
    """Build and release the repository in FOLDER (this one, if none is named), on this machine.

    Both services are started if they don't run yet, and go on afterwards: `twistedipc down` stops them. The branch that
    is checked out is built, as it is committed. The other commands can talk to it: `twistedipc builds`.
    """
    repository = _repository(folder)
    source = _source(repository, origin=origin)
    if repository.changed():
        differ = counted(repository.changed(), "file differs", "files differ")
        note(f"note: what isn't committed isn't built, and {differ} from the commit")
    place = _place(data)
    with _alone(place):
        client = _running(place, port)
    _say_where(client.url)
    project, is_new = _project(client, repository, folder, source, name)
    branch = repository.branch
    answer = ask_for_build(client, project.name, NewBuild(ref=branch or repository.commit))
    made = answer.decode(Build)
    say_made(client, made)
    say_what_it_is(made)
    if opening if opening is not None else is_new:
        _open(client, place)
    context.exit(show_log(client, made.id, made.attempt, 0, live=True, colour=wants_colour(colour)))


@click.command()
@data_option
@click.option("--cancel", is_flag=True, help="Cancel the builds that run, too.")
def down(data: Path | None, cancel: bool) -> None:
    """Stop the services that `twistedipc up` has started. What was built stays."""
    place = _place(data)
    services = _services(place)
    if all(service.ended() for service in services):
        note(f"no services are running in {place}")
        return
    with _alone(place):
        going = _going(place)
        if going and cancel:
            client = _kept_client(place)
            for build in going:
                client.post(path("builds", build, "cancel"))
            _wait_for_end(place)
        for service in reversed(services):
            if service.stop():
                note(f"{service.name} is stopped")
        sign_in_file(place).unlink(missing_ok=True)
    if going and not cancel:
        one = len(going) == 1
        note(
            f"{counted(len(going), 'build')} ({', '.join(map(str, going))}) {'goes' if one else 'go'} on, and "
            f"the next `twistedipc up` takes the result{'' if one else 's'}; `twistedipc down --cancel` would have "
            f"ended {'it' if one else 'them'}"
        )
    note(f"what was built stays in {place}")


@click.command()
@data_option
@click.pass_context
def status(context: click.Context, data: Path | None) -> None:
    """Say what of the services of `twistedipc up` runs, and what is released there. Ends with 5 if they don't run."""
    place = _place(data)
    if not apiserver_toml(place).exists():
        note(f"nothing was ever started in {place}: `twistedipc up`, in the folder of a repository")
        context.exit(ExitCode.UNAVAILABLE)
    config = load_local(place)
    services = _services(place)
    fields: list[tuple[str, object]] = [
        (
            service.name,
            f"runs, process {service.pid}" if not service.ended() else f"doesn't run; its log: {service.log}",
        )
        for service in services
    ]
    running = not any(service.ended() for service in services)
    projects: list[Project] = []
    linked = False
    if not services[0].ended():
        fields.append(("page", config.api_url))
        try:
            client = _kept_client(place)
            builders = client.get(path("builders")).decode(Builders).builders
            linked = any(each.link is not None for each in builders)
            fields.append(("builders", ", ".join(_builder(each.name, each.link is not None) for each in builders)))
            fields.append(("going on", ", ".join(f"build {each}" for each in _going(place)) or "no build"))
            projects = client.get(path("projects")).decode(Projects).projects
        except Failure as error:
            running = False
            fields.append(("page", f"doesn't answer: {error.message}"))
    whole, used = _used(place)
    fields += [("on disk", f"{'' if whole else 'more than '}{size(used)} in {place}")]
    print_fields(fields)
    if projects:
        _show_projects(client, projects)
    if not running or not linked:
        note("`twistedipc up`, in the folder of a repository, starts what doesn't run")
        context.exit(ExitCode.UNAVAILABLE)


def _show_projects(client: Client, projects: list[Project]) -> None:
    click.echo()
    shown = [(each.name, _live(client, each.name)) for each in projects[:_LISTED]]
    print_table(("PROJECT", "LIVE AT"), shown, empty="")
    if len(projects) > _LISTED:
        note(f"and {len(projects) - _LISTED} more: `twistedipc project list`")


def _builder(name: str, linked: bool) -> str:
    return f"{name} ({'linked' if linked else 'not linked'})"


def _live(client: Client, project: str) -> str:
    """Return where a project's live release is, or where a preview is, or that there is none."""
    found = client.get(path("projects", project, "releases")).decode(Releases)
    if found.live:
        return found.url
    return found.previews[0].url if found.previews else "nothing yet"


# -- the folder ------------------------------------------------------------------------------------------------------


def _repository(folder: Path) -> Repository:
    """Return the repository of a folder from which something can be built. Raises `Failure`, which says what to do."""
    found = repository_of(folder)
    if found is None:
        raise Failure(
            ExitCode.USAGE,
            f"{folder} isn't in a git repository: builds are of commits. There: git init && git add . && git commit",
        )
    if not found.commit:
        raise Failure(ExitCode.USAGE, f"{found.top} has no commit yet: git add . && git commit, and try again")
    return found


def _source(repository: Repository, *, origin: bool) -> str:
    """Return the address from which the repository is built."""
    if not origin:
        if repository.is_shallow:
            raise Failure(
                ExitCode.USAGE,
                f"{repository.top} has only a part of its history, which can't be built from: git fetch --unshallow, "
                "or `twistedipc up --origin`",
            )
        return repository.address
    if not repository.origin:
        raise Failure(ExitCode.USAGE, f"{repository.top} has no origin: build the folder itself, without --origin")
    if not repository.is_pushed():
        note("note: this commit isn't pushed; what is built is what the origin has")
    return repository.origin


def _root(repository: Repository, folder: Path) -> str:
    """Return the folder of the project in its repository: the nearest one that says what it is."""
    for each in (folder, *folder.parents):
        if each == repository.top or repository.top not in each.parents:
            break
        if (each / "package.json").exists() or (each / PLAN_FILE).exists():
            return each.relative_to(repository.top).as_posix()
    return ""


def _project(
    client: Client, repository: Repository, folder: Path, source: str, name: str | None
) -> tuple[Project, bool]:
    """Return the project of a folder, and whether it was made just now."""
    root = _root(repository, folder)
    wanted = name or name_from(said_project(folder, repository.top) or Path(root).name or repository.top.name)
    wanted_ref = repository.default_branch or HEAD
    while True:
        known = client.get(path("projects")).decode(Projects).projects
        for each in known:
            if same_repository(each.repository, source) and each.settings.root == root and name in (None, each.name):
                return each, False
        taken = {each.name: each.repository for each in known}
        if name in taken:
            raise Failure(ExitCode.USAGE, f"the project {name} is of {taken[name]}: choose another --name")
        chosen = next(each for each in _names(wanted) if each not in taken)
        settings = Settings(root=root) if root else UNSET
        body = NewProject(name=chosen, repository=source, default_ref=wanted_ref, settings=settings)
        try:
            made = client.post(path("projects"), body).decode(Project)
        except Failure:
            # Another `up` may have added one of this name since: it is looked at again, as if it had been there before.
            if all(each.name != chosen for each in client.get(path("projects")).decode(Projects).projects):
                raise
            continue
        if chosen != wanted:
            note(f"the project is called {chosen}: {wanted} is {taken[wanted]}")
        note(f"project {made.name} is added: {made.repository}, whose own branch is {wanted_ref}")
        return made, True


def _names(wanted: str) -> Iterator[str]:
    """Yield the name that is wanted, and what a project is called where others have it."""
    yield wanted
    for number in itertools.count(2):
        yield f"{wanted}-{number}"


# -- the services ----------------------------------------------------------------------------------------------------


def _place(data: Path | None) -> Path:
    return Path(os.path.abspath(data)) if data is not None else state_folder()


def _services(place: Path) -> list[Detached]:
    return [
        Detached("apiserver", "apiserver", apiserver_toml(place)),
        Detached("builder", "buildipc", builder_toml(place)),
    ]


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Make the folder; while inside, no other `up` or `down` starts or stops its services. Raises `Failure`."""
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(place / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Failure(ExitCode.USAGE, f"{place} can't be used: {error.strerror}") from error
    try:
        deadline = time.monotonic() + _TURN
        said = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Failure(
                        ExitCode.UNAVAILABLE, f"another `twistedipc up` or `down` is busy in {place}, and doesn't end"
                    ) from None
            if not said:
                note("another `twistedipc up` or `down` is busy with the services: waiting for it")
                said = True
            time.sleep(0.1)
        yield
    finally:
        os.close(lock)


def _running(place: Path, port: int | None) -> Client:
    """Start what of the services doesn't run, and return a client that may do everything. Raises `Failure`."""
    services = _services(place)
    if not (apiserver_toml(place).exists() and builder_toml(place).exists()):
        _set_up(place, port)
    elif port is not None:
        raise click.UsageError(f"--port is for the first time: {apiserver_toml(place)} has the ports now")
    elif services[0].ended():
        for taken, other in leave_taken_ports(place):
            note(f"port {taken} is another program's by now: {other} is used in its place")
    if all(service.ended() for service in services):
        give_builder_key(place)
    config = load_local(place)
    try:
        started = [service.name for service in services if service.start()]
    except OSError as error:
        raise Failure(ExitCode.USAGE, f"{error.filename or place}: {error.strerror}") from error
    if started:
        note(f"starting {' and '.join(started)} in {place}")
    wait_until_ready(Client(config.api_url, ""), services)
    token = _kept_token(config.api_url) or _token(place, config.api_url)
    return Client(config.api_url, token)


def set_up_builder(place: Path) -> None:
    """Write the configuration in a folder where there is none yet, as the first `up` does. Raises `Failure`."""
    with _alone(place):
        if not builder_toml(place).exists():
            _set_up(place, None)


def _set_up(place: Path, port: int | None) -> None:
    steps_path = node_path(place / "node")
    isolation = isolation_here(place, steps_path or "")
    if isolation.refused:
        raise Failure(ExitCode.UNAVAILABLE, f"builds can't be isolated on this machine. {isolation.refused}")
    shared = {name: os.environ[name] for name in _ROADS if os.environ.get(name)}
    config = write_local_setup(place, port=port, builder="local", steps_path=steps_path or "", environment=shared)
    if port is None and not config.api_url.endswith(f":{PORT}"):
        note(f"port {PORT} is another program's: the page is at {config.api_url}")
    if shared:
        note(f"builds are given your {', '.join(shared)}: see [environment] in {builder_toml(place)}")
    if steps_path is None:
        note(
            "there is no Node of version 20 or newer on PATH: the builder fetches one for projects that need it "
            f"(`registry` under [toolchains] in {builder_toml(place)} says from where)"
        )


def _kept_token(url: str) -> str:
    """Return the token that is kept for this server, if it is good for some time; else ""."""
    kept = read_contexts()
    name = CONTEXT if CONTEXT in kept.contexts and kept.contexts[CONTEXT].is_of(url) else kept.of(url)
    if name is None:
        return ""
    token = kept.contexts[name].token
    try:
        identity = Client(url, token).get(path("identity")).decode(Identity)
    except Failure as error:
        if error.exit_code == ExitCode.NOT_ALLOWED:
            return ""
        raise
    soon = identity.expires is not None and identity.expires < datetime.now(UTC) + _RENEWED
    return "" if soon or "admin" not in identity.scopes else token


def _token(place: Path, url: str) -> str:
    """Make a token, and keep it for the other commands."""
    token = new_token(place, TOKEN_NAME, TOKEN_DAYS)
    kept = read_contexts()
    write_contexts(kept.with_one(CONTEXT, Context(url=url, token=token), use=kept.current in ("", CONTEXT)))
    return token


def _say_where(url: str) -> None:
    """Say so if the other commands talk to another server than the one that was just used."""
    kept = read_contexts()
    used, name = kept.in_use(), kept.of(url)
    if name is not None and (used is None or not used.is_of(url)):
        talk = f"talk to {kept.current}" if used is not None else "talk to none of those that are kept"
        note(f"the other commands {talk}; `twistedipc use {name}`, or --server {name}, has them talk to this one")


def _kept_client(place: Path) -> Client:
    return client_for(load_local(place).api_url, None)


def _going(place: Path) -> list[int]:
    """Return the builds that haven't ended, as far as the apiserver says so."""
    try:
        found = _kept_client(place).get(path("builds"), {"limit": 100}).decode(Builds).builds
    except Failure:
        return []
    return [build.id for build in found if build.ended is None]


def _wait_for_end(place: Path) -> None:
    """Wait until no build goes on, but not for ever."""
    deadline = time.monotonic() + 20.0
    while _going(place) and time.monotonic() < deadline:
        time.sleep(0.2)


def _open(client: Client, place: Path) -> None:
    if can_open():
        open_signed_in(client, sign_in_file(place))
    else:
        note(f"sign in to the page: {client.url}/#token={client.token}")


def _used(place: Path) -> tuple[bool, int]:
    """Return how much is in a folder, in bytes, and first whether that is all."""
    until = time.monotonic() + _COUNTING
    total, folders = 0, [str(place)]
    seen: set[tuple[int, int]] = set()
    while folders:
        if time.monotonic() > until:
            return False, total
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif (found.st_dev, found.st_ino) not in seen:
                        if found.st_nlink > 1:
                            seen.add((found.st_dev, found.st_ino))
                        total += found.st_blocks * 512
        except OSError:
            continue  # it has gone meanwhile
    return True, total
