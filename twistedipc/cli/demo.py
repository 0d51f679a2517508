"""
`twistedipc demo`: both services, a sample project, a build of it with its log live, and its release, on one machine;
then three packages that are published as one set, to a registry that lives as long as the demo.

Everything is in one folder, and running the demo again on the same folder continues with what is there. It does
nothing that a person couldn't do with the other commands.
"""

from __future__ import annotations

import fcntl
import http.client
import os
import secrets
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final
from urllib.parse import urlsplit

import click

from twistedipc.cli.builds import show_log
from twistedipc.cli.client import Client, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.local import (
    apiserver_toml,
    builder_toml,
    give_builder_key,
    isolation_here,
    load_local,
    new_token,
    wait_until_ready,
    write_local_setup,
)
from twistedipc.cli.output import color_option, note, wants_colour
from twistedipc.cli.registry import DemoRegistry, demo_registry
from twistedipc.cli.sample import NAME, PACKAGES, PACKAGES_NAME, make_samples
from twistedipc.cli.services import Service, check_alive
from twistedipc.cli.setup import node_path
from twistedipc.web.api.schemas import (
    Build,
    BuildDetail,
    Builds,
    NewBuild,
    NewProject,
    NewSecret,
    ProjectChange,
)

#: Seconds for builds to end when the demo does.
STOP_DEADLINE: Final = 10.0

TOKEN_NAME: Final = "demo"
TOKEN_DAYS: Final = 30


class Stopped(BaseException):
    """Ctrl-C or SIGTERM has ended the demo."""


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".demo"),
    show_default=True,
    help="The folder for everything.",
)
@click.option("--port", type=click.IntRange(1, 65534), help="Of the API and the page (else 8080, if it is free).")
@click.option("--once", is_flag=True, help="End after the build: with 0 only if it succeeded and all was verified.")
@color_option
@click.pass_context
def demo(context: click.Context, data: Path, port: int | None, once: bool, colour: bool | None) -> None:
    """Try the platform on this machine: start both services, build a sample project, release it.

    Both services run until Ctrl-C, unless --once is given.
    """
    folder = Path(os.path.abspath(data))
    up = False
    try:
        with ExitStack() as stack:
            stack.enter_context(_stoppable())
            stack.enter_context(_alone(folder))
            client, services = _start(folder, port, stack)
            code, releases = _build(client, folder, colour=wants_colour(colour))
            packages: list[str] = []
            if code is ExitCode.OK:
                registry = stack.enter_context(demo_registry(secrets.token_urlsafe()))
                code, packages = _publish(client, folder, registry, colour=wants_colour(colour))
            if code is ExitCode.OK and not once:
                up = True
                click.echo(f"\nthe page:    {client.url}/#token={client.token}\nthe release: {releases[0]}")
                for address in releases[1:]:
                    click.echo(f"             {address} (where names below localhost don't resolve)")
                click.echo(f"the packages: {', '.join(packages)}")
                note(f"the sample:  {folder / 'sample'} (commit a change there, then press Publish on its page)")
                note("\nCtrl-C stops both services; what was built stays in the folder.")
                while True:
                    check_alive(services)
                    time.sleep(0.5)
    except Stopped:
        note("\nstopped")
        # A demo that is up ends by being stopped.
        code = ExitCode.OK if up else ExitCode.INTERRUPTED
    context.exit(code)


@contextmanager
def _stoppable() -> Iterator[None]:
    """While inside, the first SIGINT or SIGTERM raises `Stopped`; later ones don't disturb the clean-up."""

    def stop(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise Stopped

    before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, action in before.items():
            signal.signal(each, action)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make the folder, and lock it for this demo."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder / "demo.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Failure(ExitCode.USAGE, f"{folder} can't be used: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Failure(ExitCode.USAGE, f"another demo is running in {folder}; --data names another") from error
        yield
    finally:
        os.close(descriptor)


def _start(folder: Path, port: int | None, stack: ExitStack) -> tuple[Client, list[Service]]:
    """Set up and start both services. Closing ``stack`` stops them."""
    path_of_steps = node_path(folder / "node")
    if path_of_steps is None:
        raise Failure(ExitCode.USAGE, "the sample needs Node 20 or newer: install it, or the extra twistedipc[node]")
    config = write_local_setup(
        folder, port=port, builder="demo", steps_path=path_of_steps, isolation=_isolation(folder, path_of_steps)
    )
    give_builder_key(folder)
    make_samples(folder)
    token = new_token(folder, TOKEN_NAME, TOKEN_DAYS)
    services: list[Service] = []

    def stop_services() -> None:
        for service in reversed(services):
            service.stop()

    stack.callback(stop_services)
    note(f"starting apiserver and builder in {folder}")
    services.append(Service("apiserver", "apiserver", apiserver_toml(folder), folder / "apiserver.log"))
    services.append(Service("builder", "buildipc", builder_toml(folder), folder / "builder.log"))
    client = Client(config.api_url, token)
    wait_until_ready(client, services)
    # Pushed after the services, so that it runs before they are stopped.
    stack.callback(_end_builds, client)
    return client, services


def _isolation(folder: Path, path: str) -> str:
    """Return what builder.toml says of isolation: the sample is built in any case, but nobody is to miss it."""
    found = isolation_here(folder, path)
    if not found.refused:
        return ""
    note(f"WARNING: THE SAMPLE IS BUILT WITHOUT ISOLATION. {found.refused}")
    return "none"


def _build(client: Client, folder: Path, *, colour: bool) -> tuple[ExitCode, list[str]]:
    """Build and release the sample with its log live, and fetch the release. Return how it went, and its addresses."""
    _add_project(client, NAME, (folder / "sample").as_uri(), {"type": "static"})
    made = client.post_once(path("projects", NAME, "builds"), NewBuild(), uuid.uuid4().hex).decode(Build)
    note(f"build {made.id} of {NAME}\n")
    code = show_log(client, made.id, made.attempt, 0, live=True, colour=colour)
    if code is not ExitCode.OK:
        return code, []
    url = client.get(path("builds", made.id)).decode(BuildDetail).release_url
    if url is None:
        raise Failure(ExitCode.NOT_SUCCEEDED, "the build succeeded, and made no release")
    _look_at_release(url)
    note(f"the release is served at {url}")
    others = [other for other in load_local(folder).release_urls(NAME) if other != url]
    return ExitCode.OK, [url, *filter(_answers, others)]


def _publish(client: Client, folder: Path, registry: DemoRegistry, *, colour: bool) -> tuple[ExitCode, list[str]]:
    """Publish the packages as one set, with the log live. Return how it went, and what the registry has then."""
    target = {"type": "npm", "registry": registry.url, "packages": ["@demo/*"]}
    _add_project(client, PACKAGES_NAME, (folder / PACKAGES_NAME).as_uri(), target)
    client.put(path("projects", PACKAGES_NAME, "secrets", "npm_token"), NewSecret(value=registry.token))
    made = client.post_once(path("projects", PACKAGES_NAME, "builds"), NewBuild(), uuid.uuid4().hex).decode(Build)
    note(f"\nbuild {made.id} of {PACKAGES_NAME}, which go to {registry.url}\n")
    code = show_log(client, made.id, made.attempt, 0, live=True, colour=colour)
    if code is not ExitCode.OK:
        return code, []
    tags = {name: (registry.tags_of(name) or {}).get("latest") for name in PACKAGES}
    if None in tags.values():
        raise Failure(ExitCode.NOT_SUCCEEDED, f"the build succeeded, and the registry lacks some packages: {tags}")
    found = [f"{name}@{version}" for name, version in tags.items()]
    note(f"the registry's latest: {', '.join(found)}")
    return ExitCode.OK, found


def _add_project(client: Client, name: str, repository: str, target: dict[str, Any]) -> None:
    try:
        client.get(path("projects", name))
    except Failure as error:
        if error.exit_code != ExitCode.NOT_FOUND:
            raise
        client.post(path("projects"), NewProject(name=name, repository=repository, targets=[target]))
    else:
        # The folder may have been moved since, and the registry has another port each time.
        client.patch(path("projects", name), ProjectChange(repository=repository, targets=[target]))


def _answers(url: str) -> bool:
    """Return whether something listens there: not every machine has 127.0.0.2."""
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=5).close()
    except OSError:
        return False
    return True


def _look_at_release(url: str) -> None:
    """
    Fetch the release's page as a browser would. Not every resolver knows that PROJECT.localhost is this machine, so
    the connection is made to this machine's own address.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=10)
    try:
        connection.request("GET", parts.path, headers={"Host": parts.netloc})
        response = connection.getresponse()
        body = response.read(1 << 20)
    except (OSError, http.client.HTTPException) as error:
        raise Failure(ExitCode.UNAVAILABLE, f"the release at {url} can't be fetched: {error}") from error
    finally:
        connection.close()
    if response.status != 200 or b"<title>hello</title>" not in body:
        raise Failure(ExitCode.UNAVAILABLE, f"the release at {url} isn't served: the answer is {response.status}")


def _end_builds(client: Client) -> None:
    """
    Cancel the builds that still run. A builder that stops leaves its builds running, for the next builder to find;
    after a demo nothing should be left.
    """
    deadline = time.monotonic() + STOP_DEADLINE
    asked: set[int] = set()
    try:
        while time.monotonic() < deadline:
            found = client.get(path("builds"), {"limit": 50}).decode(Builds).builds
            going = [build.id for build in found if build.ended is None]
            if not going:
                return
            for build_id in going:
                if build_id not in asked:
                    asked.add(build_id)
                    client.post(path("builds", build_id, "cancel"))
            time.sleep(0.2)
    except Failure as error:
        # The demo ends anyway; and the build may have ended by itself meanwhile.
        note(f"not all builds could be cancelled: {error.message}")
