"""
The configuration files of both services, as types. Top layer; read by the taps, and by the command where it works on
an apiserver's own files (``twistedipc token create --config``).

TOML in, frozen structs out, checked: an unknown key, a wrong type or an impossible value raises `ConfigError`, whose
text names the file and the key::

    /etc/twistedipc/apiserver.toml: link.dial: expected a list of strings, got a string

Four rules hold for every key. A relative path, also inside a ``unix:`` endpoint, is relative to the folder of the file
that it stands in. An empty string is the same as a missing key. Seconds are numbers. Sizes are numbers of bytes, or
strings such as "1.5 GiB".

`docs/configuration.md` is this module for people.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import socket
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from twistedipc.builds import names
from twistedipc.builds.attempt import ResourceLimits
from twistedipc.builds.domains import is_among, pattern
from twistedipc.builds.host_rules import rule as host_rule
from twistedipc.builds.places import is_named
from twistedipc.builds.retention import COUNTS, FOREVER, Rules, parse_count, parse_days
from twistedipc.builds.retention import check as check_rules
from twistedipc.builds.roles import Role
from twistedipc.isolation.limits import defaults
from twistedipc.publish.targets.static.releases import ASSETS_DAYS
from twistedipc.s3.bucket import Place as S3Place
from twistedipc.server.fanout.rounds import DEFAULT_SHARE
from twistedipc.taps.mail_server import PORTS, MailServer, Security
from twistedipc.toolchains.packages import TOOLS
from twistedipc.toolchains.versions import Range
from twistedipc.web.access.oidc import Group, Settings, SignInFailed, check_address
from twistedipc.web.http.clients import Proxies
from twistedipc.web.http.hosts import LOOPBACK, Hosts, address_of, host_of

if TYPE_CHECKING:
    from sqlalchemy import URL

#: PATH of the steps where the configuration gives none, after the folder in which Node was found.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: The longest path that the address of a UNIX socket can hold (``sun_path``, without its final NUL).
MAX_SOCKET_PATH = 107

#: Where releases are by default: at their names below localhost, and by path on an address that the API hasn't.
SPARE = "127.0.0.2"
RELEASES_LISTEN = ("tcp:8081:interface=127.0.0.1", f"tcp:8081:interface={SPARE}")

Positive = Annotated[float, Meta(gt=0, le=86400)]


class Size:
    """
    A number of bytes; in a file also a string with a unit. Not a subclass of `int`, which would be taken for one
    everywhere and which the encoder of JSON refuses: code that wants the number takes ``bytes``.
    """

    def __init__(self, bytes: int) -> None:
        self.bytes = bytes


class ConfigError(Exception):
    """A configuration file can't be used. ``str()`` of it names the file, the key and what is wrong."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of all tables: a key that isn't known is an error, not a surprise later."""


class LinkTLS(Section, frozen=True, kw_only=True):
    """Files in PEM for links by ``tls:``. With an authority, the peer's certificate must be signed by it."""

    certificate: Path | None = None
    private_key: Path | None = None
    authority: Path | None = None


class _Link(Section, frozen=True, kw_only=True):
    listen: list[str] = []
    dial: list[str] = []
    key: Path | None = None  # the file with the shared key, or with a builder's own
    tls: LinkTLS = LinkTLS()


class FirstBuilder(Section, frozen=True, kw_only=True):
    """``[link.first_builder]``: the builder that was set up with this apiserver, which takes its key once."""

    name: str
    key: Path


class ApiserverLink(_Link, frozen=True, kw_only=True):
    """``[link]`` of an apiserver: how it and its builders find one another."""

    name: str = ""  # for its builders; "": on SQLite "apiserver", on PostgreSQL its name among several
    first_builder: FirstBuilder | None = None
    lost_after: Positive = 600.0  # seconds that a builder may be away before its attempts are given up as lost


class BuilderLink(_Link, frozen=True, kw_only=True):
    """``[link]`` of a builder: how it and its apiservers find one another."""


class HTTP(Section, frozen=True, kw_only=True):
    """``[http]``: the API, the WebSocket and the page."""

    listen: str = "tcp:8080:interface=127.0.0.1"  # a Twisted server endpoint
    allowed_origins: list[str] = []  # of pages elsewhere that may use the API with a browser's cookie or ticket
    public_url: str = ""  # as browsers and builders reach it; see `ApiserverConfig.api_url`
    local_repositories: bool = False  # whether a project's repository may be a folder on the builder's machine
    internal_repositories: list[str] = []  # hosts of repositories that may be at a machine's own address
    secure_cookies: bool = False  # whether cookies are for https only: true where browsers reach it by nothing else
    hosts: list[str] = []  # names by which the API is reached beside that of `public_url`
    allow_plain_http: bool = False  # whether this and the releases may be reached from other machines without TLS
    trusted_proxies: list[str] = []  # addresses and networks whose Forwarded and X-Forwarded-… are believed; "unix"


class Releases(Section, frozen=True, kw_only=True):
    """``[releases]``: the site on which what was built is served, an origin apart from the API's."""

    # Server endpoints.
    listen: str | list[str] = msgspec.field(default_factory=lambda: list(RELEASES_LISTEN))
    domain: str = "localhost"  # a project's release is at PROJECT.DOMAIN
    public_url: str = ""  # with {project} in it, or without: then the project is the path's first segment
    assets_days: Annotated[int, Meta(ge=0, le=3650)] = ASSETS_DAYS  # that a release's assets stay after it
    redirect_to_https: bool = False  # whether requests by http lead to https, where it listens at both
    acme_webroot: Path | None = None  # where an ACME client puts what its authority asks for by http

    @property
    def endpoints(self) -> list[str]:
        """Where it listens."""
        return [self.listen] if isinstance(self.listen, str) else self.listen

    @property
    def best_first(self) -> list[str]:
        """The same, those with TLS before those without."""
        return sorted(self.endpoints, key=lambda endpoint: not endpoint.startswith(("ssl:", "tls:")))


class CertificateFiles(Section, frozen=True, kw_only=True):
    """``[[certificates]]``: a certificate for endpoints ``tls:PORT``, as files in PEM."""

    chain: Path  # the certificate itself first
    key: Path


class OwnDomains(Section, frozen=True, kw_only=True):
    """``[domains]``: host names that projects have beside those that the platform gives them."""

    allowed: list[str] = []  # which the admins of projects may add; admins of the platform may add any

    def may_add(self, name: str) -> bool:
        """Return whether an admin of a project may give it this domain."""
        return is_among(name, map(pattern, self.allowed))


class OIDCGroup(Section, frozen=True, kw_only=True):
    """``[sign_in.oidc.groups.NAME]``: what the members of a group may do."""

    admin: bool = False  # they may do everything
    projects: dict[str, Role] = {}


class OIDC(Section, frozen=True, kw_only=True):
    """``[sign_in.oidc]``: a provider of OpenID Connect that signs people in."""

    issuer: str
    client_id: str
    client_secret_file: Path | None = None  # with the secret alone; none: a public client
    name: str = ""  # on the page's button
    scopes: list[str] = msgspec.field(default_factory=lambda: ["email", "profile"])  # beside openid
    groups_claim: str = "groups"  # of the ID token
    groups: dict[str, OIDCGroup] = {}
    allow_new: bool = False  # whether accounts are made for people whom nobody has invited


class SignIn(Section, frozen=True, kw_only=True):
    """``[sign_in]``: how people sign in to the page, beside by a token."""

    oidc: OIDC | None = None


class Mail(Section, frozen=True, kw_only=True):
    """``[mail]``: the server by which news of projects are sent by mail."""

    server: str  # the host
    sender: str  # the address from which it comes
    port: Annotated[int, Meta(ge=0, le=65535)] = 0  # 0: the usual one for `security`
    security: Security = "starttls"
    user: str = ""  # with which it is signed in; "": it isn't
    password_file: Path | None = None  # with the password alone


class Viewers(Section, frozen=True, kw_only=True):
    """``[viewers]``: the viewers of live logs."""

    share: Annotated[float, Meta(gt=0, le=1)] = DEFAULT_SHARE  # of the reactor's time that telling them may take


class Logs(Section, frozen=True, kw_only=True):
    """``[logs]``: the stored logs of builds."""

    archive: Literal["database", "files", "s3"] = "database"  # where they are kept once they are sealed
    move: bool = False  # whether those that were sealed before are moved there, too
    # Of the time, for sealing: `server.sealing.DEFAULT_SHARE`, which builders, who read this too, can't import.
    share: Annotated[float, Meta(gt=0, le=1)] = 0.1


class S3(Section, frozen=True, kw_only=True):
    """``[stores.s3]``: a bucket of S3, or of what answers as it does."""

    bucket: str
    endpoint: str = ""  # the server's address; "": Amazon's
    region: str = ""
    prefix: str = ""  # with which the names of all objects begin
    access_key: str = ""  # "": as boto3 finds it, in the environment or by the machine's role
    secret_key_file: Path | None = None  # with the secret alone


class Stores(Section, frozen=True, kw_only=True):
    """``[stores]``: where what is large can be kept beside the data folder."""

    s3: S3 | None = None


class Audit(Section, frozen=True, kw_only=True):
    """``[audit]``: the record of who did what."""

    file: Path | None = None  # to which it is copied as lines of JSON


class Retention(Section, frozen=True, kw_only=True):
    """``[retention]``: how long what builds leave is kept, unless their project says something else. None: for ever."""

    logs: str | int | None = None  # times, such as "90 days" or "2 years"; an integer is days
    artifacts: str | int | None = None
    unpublished: str | int | None = None  # archives of builds that publish nothing
    previews: str | int | None = None  # of branches to which nothing new comes
    releases: str | int | None = None  # how many
    builds: str | int | None = None
    most_builds: str | int | None = None  # how many, of each project
    messages: str | int | None = None
    caches: str | int | None = None  # on builders, which have limits of their own beside it
    audit: str | int | None = None
    newest: Annotated[int, Meta(ge=1)] = 10
    last_success: bool = True

    def rules(self) -> Rules:
        """Return the rules. Raises `names.BadValue`, which names the key."""
        said: dict[str, Any] = {"newest": self.newest, "last_success": self.last_success}
        for key in sorted({field.name for field in msgspec.structs.fields(type(self))} - said.keys()):
            value = getattr(self, key)
            try:
                found = FOREVER if value is None else parse_count(value) if key in COUNTS else parse_days(value)
            except names.BadValue as error:
                raise names.BadValue(f"{key}: {error}") from error
            said[key] = None if found == FOREVER else found
        return check_rules(Rules(**said), least_newest=1)


class Database(Section, frozen=True, kw_only=True):
    """``[database]``: where the ledger is."""

    url: str = ""  # as SQLAlchemy has it; see `ApiserverConfig.database_url`


class Cluster(Section, frozen=True, kw_only=True):
    """``[cluster]``: several apiservers on one ledger."""

    bell: str = ""  # by what they wake one another: valkey://HOST; "": by the database
    name: str = ""  # of this apiserver among those of its database; "": made once, and kept in `data`
    shared: Path | None = None  # what all apiservers of a database have in common; None: `data`


class ApiserverConfig(Section, frozen=True, kw_only=True):
    """All of ``apiserver.toml``; paths are absolute, endpoints complete."""

    data: Path
    http: HTTP = HTTP()
    releases: Releases = Releases()
    domains: OwnDomains = OwnDomains()
    certificates: list[CertificateFiles] = []
    link: ApiserverLink = ApiserverLink()
    audit: Audit = Audit()
    viewers: Viewers = Viewers()
    logs: Logs = Logs()
    stores: Stores = Stores()
    database: Database = Database()
    cluster: Cluster = Cluster()
    retention: Retention | None = None  # None: all is kept
    sign_in: SignIn = SignIn()
    mail: Mail | None = None

    def mail_server(self) -> MailServer | None:
        """Return by what mail is sent, with its password. Raises `ConfigError`."""
        mail = self.mail
        if mail is None:
            return None
        password = "" if mail.password_file is None else _secret_in(mail.password_file, "mail.password_file")
        if mail.user and not password:
            raise ConfigError("mail.user: needs mail.password_file, with the password")
        return MailServer(
            host=mail.server,
            port=mail.port or PORTS[mail.security],
            security=mail.security,
            user=mail.user,
            password=password,
            sender=mail.sender,
        )

    def s3(self) -> S3Place | None:
        """Return the bucket that is configured, with its secret. Raises `ConfigError`."""
        s3 = self.stores.s3
        if s3 is None:
            return None
        if find_spec("boto3") is None:
            raise ConfigError("stores.s3: needs boto3: pip install 'twistedipc[s3]'")
        file = s3.secret_key_file
        return S3Place(
            bucket=s3.bucket,
            endpoint=s3.endpoint,
            region=s3.region,
            prefix=f"{s3.prefix}/" if s3.prefix else "",
            access_key=s3.access_key,
            secret_key="" if file is None else _secret_in(file, "stores.s3.secret_key_file"),
        )

    def provider(self) -> Settings | None:
        """Return what is set of a provider that signs people in, with its secret. Raises `ConfigError`."""
        oidc = self.sign_in.oidc
        if oidc is None:
            return None
        if find_spec("jwt") is None:
            raise ConfigError("sign_in.oidc: needs PyJWT: pip install 'twistedipc[oidc]'")
        file = oidc.client_secret_file
        secret = "" if file is None else _secret_in(file, "sign_in.oidc.client_secret_file")
        return Settings(
            issuer=oidc.issuer,
            client_id=oidc.client_id,
            client_secret=secret,
            name=oidc.name,
            scopes=tuple(oidc.scopes),
            groups_claim=oidc.groups_claim,
            groups={name: Group(admin=each.admin, projects=each.projects) for name, each in oidc.groups.items()},
            allow_new=oidc.allow_new,
        )

    @property
    def database_url(self) -> URL:
        """The ledger's address: the one configured, else SQLite in the data folder."""
        from sqlalchemy import URL, make_url  # not above, since builders read this module too, and have no database

        if self.database.url:
            return make_url(self.database.url)
        # Made from its parts: in the text of an address, a path's "%" and "?" would mean something.
        return URL.create("sqlite", database=str(self.data / "ledger.sqlite"))

    @property
    def rules(self) -> Rules:
        """How long what builds leave is kept, where their project doesn't say so."""
        return Rules() if self.retention is None else self.retention.rules()

    @property
    def files(self) -> Path:
        """The folder of what all apiservers of a database have in common: artifacts, releases, sealed logs, keys."""
        return self.cluster.shared or self.data

    @property
    def artifacts(self) -> Path:
        """The folder of what was uploaded by builders."""
        return self.files / "artifacts"

    @property
    def log_archive(self) -> Path:
        """The folder of sealed logs that aren't in the database."""
        return self.files / "logs"

    @property
    def secret_key(self) -> Path:
        """The file with the key by which the projects' secrets are sealed."""
        return self.files / "secret.key"

    @property
    def signing_key(self) -> Path:
        """The file with the key by which provenance is signed; the public half is beside it, in signing.pub."""
        return self.files / "signing.key"

    @property
    def id_token_key(self) -> Path:
        """The file with the key by which ID tokens are signed. It is made when one is needed first."""
        return self.files / "id-tokens.key"

    @property
    def api_url(self) -> str:
        """The API's address without a final slash, as browsers and builders reach it."""
        return self.http.public_url or _derived_url(self.http.listen)

    def check_doors(self) -> None:
        """
        Check that http without TLS is for this machine only, unless the operator has said otherwise. Raises
        `ConfigError`. Only who listens asks this.
        """
        endpoints = [("http.listen", self.http.listen)]
        if not self.releases.redirect_to_https:  # else nothing is answered there but the way to https
            endpoints += [("releases.listen", at) for at in self.releases.endpoints]
        for key, listen in endpoints:
            if not self.http.allow_plain_http and _is_plain_beyond_loopback(listen):
                raise ConfigError(
                    f"{key}: {listen} is http without TLS, and reached from other machines: whoever is between can "
                    "read tokens and use them. Listen on 127.0.0.1 behind a proxy with TLS, or on ssl:, or, in a "
                    "network that you trust, say http.allow_plain_http = true"
                )

    @property
    def tls_endpoints(self) -> list[str]:
        """Where browsers are answered with one of `certificates`."""
        return [endpoint for endpoint in (self.http.listen, *self.releases.endpoints) if is_tls(endpoint)]

    @property
    def https_port(self) -> int | None:
        """Return the port to which requests for releases by http are led; None: they are answered."""
        return (urlsplit(self.release_urls("project")[0]).port or 443) if self.releases.redirect_to_https else None

    def elsewhere(self, repository: str) -> bool:
        """Return whether this repository may be at no address of the apiserver's and the builders' machines."""
        return not (self.http.local_repositories or is_named(repository, self.http.internal_repositories))

    def release_urls(self, project: str) -> list[str]:
        """
        The addresses of a project's live release that the platform gives it, each with a final slash, the best first.
        """
        given = self.releases.public_url
        templates = [given if "{project}" in given else f"{given}/{{project}}"] if given else self._derived_releases()
        return [template.replace("{project}", project) + "/" for template in templates]

    def _derived_releases(self) -> list[str]:
        """The templates of the addresses that follow from where the releases' site listens."""
        domain, hosts = self.releases.domain, self.hosts
        names_first, by_path = [], []
        for endpoint in self.releases.best_first:
            scheme, host, port = _address(endpoint)
            suffix = _port_suffix(scheme, port)
            # Browsers take all names below localhost for 127.0.0.1 or ::1, whatever else the machine is called.
            if f".{domain}".endswith(".localhost") and interface_of(endpoint) not in ("", *LOOPBACK):
                if hosts.has_paths(host):
                    by_path.append(f"{scheme}://{host}{suffix}/{{project}}")
            else:
                names_first.append(f"{scheme}://{{project}}.{domain}{suffix}")
                if f".{domain}".endswith(".localhost") and not interface_of(endpoint) and hosts.has_paths(SPARE):
                    by_path.append(f"{scheme}://{SPARE}{suffix}/{{project}}")
        if not names_first and not by_path:
            scheme, _, port = _address(self.releases.best_first[0])
            names_first.append(f"{scheme}://{{project}}.{domain}{_port_suffix(scheme, port)}")
        return list(dict.fromkeys(names_first[:1] + by_path))

    @property
    def hosts(self) -> Hosts:
        """The hosts of the API and those of the releases."""
        public, listening = self.http.public_url, interface_of(self.http.listen)
        api = [
            urlsplit(self.api_url).netloc,
            socket.gethostname() if not listening else _bracketed(listening),
            *map(_bracketed, self.http.hosts),
        ]
        releases = urlsplit(self.releases.public_url).netloc
        by_path = [releases] if releases and "{project}" not in releases else []
        if listening:
            # Else the API is reached at all addresses of the machine.
            by_path += [_bracketed(host) for host in map(interface_of, self.releases.endpoints) if host]
        return Hosts(
            api=api,
            domain=self.releases.domain,
            template=releases,
            by_path=by_path,
            only_known=not public and listening in LOOPBACK,
        )


def _secret_in(file: Path, key: str) -> str:
    """Return the secret that is alone in a file. Raises `ConfigError`. ``key``: which names the file."""
    try:
        secret = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key}: {file} can't be read: {error}") from error
    if not secret:
        raise ConfigError(f"{key}: {file} is empty")
    return secret


class Limits(Section, frozen=True, kw_only=True):
    """
    ``[limits]``: the most that a builder grants an attempt, in seconds, whatever its project says; what an attempt may
    use at a time (0 is no limit); and what its builds leave of the disk.
    """

    timeout: Positive = 3600.0  # for the whole attempt
    idle_timeout: Positive = 900.0  # without any output or message
    grace: Positive = 10.0  # between SIGTERM and SIGKILL
    upload: Positive = 600.0  # for an upload whose address doesn't answer as the apiserver does
    mirrors: Positive = 90.0  # days for which a repository's mirror stays that no build uses
    reserve: Size | None = None  # left free on the disk; None is 1 GiB, or a twentieth of a small file system
    processes: Annotated[int, Meta(ge=0, le=1 << 22)] = defaults.PROCESSES  # and threads
    memory: Size | None = None  # None is `defaults.memory`
    disk: Size = Size(defaults.DISK)  # of the attempt's folder
    open_files: Annotated[int, Meta(ge=0, le=1 << 30)] = defaults.OPEN_FILES
    cpus: Annotated[float, Meta(ge=0, le=4096)] = 0.0

    def resources(self, slots: int) -> ResourceLimits:
        """What an attempt may use, of those that may run at once."""
        memory = defaults.memory(slots, defaults.machine_memory()) if self.memory is None else self.memory.bytes
        return ResourceLimits(
            processes=self.processes,
            memory=memory,
            disk=self.disk.bytes,
            open_files=self.open_files,
            cpus=self.cpus,
        )


class Caches(Section, frozen=True, kw_only=True):
    """``[caches]``: what builds keep for the next builds of their project."""

    keep: bool = True  # false: nothing is kept
    project: Size = Size(2 << 30)  # the most for one project
    total: Size = Size(20 << 30)  # the most for all
    days: Positive = 14.0  # what hasn't been used for so long goes


class Toolchains(Section, frozen=True, kw_only=True):
    """``[toolchains]``: how the builder brings Node and package managers to its builds."""

    registry: str = ""  # the package registry's address; "" is the one that npm is set up for
    node: str = ""  # the Node of projects that ask for none: a version or a range; "" is the one on PATH
    forbid: list[str] = []  # what no build gets: a tool, and after "@" a range of its versions
    offline: bool = False  # whether nothing is fetched: only PATH and the store count
    publint: bool = True  # whether it is fetched too, and looks at the packages that builds publish


class Isolation(Section, frozen=True, kw_only=True):
    """``[isolation]``: what keeps builds from reaching more than their own. ``isolation = "none"`` is its ``kind``."""

    kind: Literal["auto", "bubblewrap", "landlock", "none"] = "auto"  # auto: the best that works; none: nothing
    readable: list[Path] = []  # what builds can read beside the system's programs and libraries
    allow: list[str] = []  # hosts that every build may reach: see `host_rules`


class BuilderConfig(Section, frozen=True, kw_only=True):
    """All of ``builder.toml``; paths are absolute, endpoints complete."""

    data: Path
    name: str = ""  # never empty once it is read: the host's name, where none is given
    slots: Annotated[int, Meta(ge=1, le=256)] = 2  # attempts at a time
    path: str = ""  # PATH of the steps; see `steps_path`
    apiserver_url: str = ""  # where archives are uploaded to; "" is where the apiserver says
    allow_plain_http: bool = False  # whether they are uploaded by http beyond this machine
    link: BuilderLink = BuilderLink()
    environment: dict[str, str] = {}  # the operator's values for all steps
    toolchains: Toolchains = Toolchains()
    limits: Limits = Limits()
    caches: Caches = Caches()
    isolation: Isolation = Isolation()

    @property
    def steps_path(self) -> str:
        """PATH of the steps: the one configured, else the folder of this process's Node and the system's folders."""
        if self.path:
            return self.path
        node = shutil.which("node")
        folders = DEFAULT_PATH.split(":")
        if node is not None and (folder := os.path.dirname(os.path.abspath(node))) not in folders:
            folders.insert(0, folder)
        return ":".join(folders)


def load_apiserver(path: Path) -> ApiserverConfig:
    """Read and check ``apiserver.toml``. Raises `ConfigError`."""
    source = _Source(path)
    config = source.convert(ApiserverConfig)
    with source:
        source.key = "http.public_url"
        _check_url(config.http.public_url)
        if not config.http.public_url:
            _derived_url(config.http.listen)
        source.key = "http.allowed_origins"
        for origin in config.http.allowed_origins:
            _check_origin(origin)
        source.key = "http.hosts"
        for host in config.http.hosts:
            _check_host(host)
        source.key = "database.url"
        _check_database(config.database.url)
        source.key = "cluster.bell"
        _check_bell(config.cluster.bell)
        source.key = "http.trusted_proxies"
        Proxies(config.http.trusted_proxies)
        source.key = "releases.domain"
        _check_domain(config.releases.domain)
        source.key = "releases.public_url"
        _check_url(config.releases.public_url.replace("{project}", "project"))
        if not config.releases.public_url:
            for listen in config.releases.endpoints:
                _address(listen)
        source.key = "domains.allowed"
        for text in config.domains.allowed:
            pattern(text)
        _check_nodes(source, config)
        source.key = "sign_in.oidc"
        if config.sign_in.oidc is not None:
            _check_oidc(config.sign_in.oidc)
        source.key = "mail"
        if config.mail is not None:
            _check_mail(config.mail)
        source.key = "retention"
        if config.retention is not None:
            config.retention.rules()
        source.key = "http.listen"
        http = msgspec.structs.replace(
            config.http, listen=source.endpoint(config.http.listen), public_url=config.http.public_url.rstrip("/")
        )
        source.key = "releases.listen"
        if not config.releases.endpoints:
            raise ValueError("needs at least one endpoint")
        releases = msgspec.structs.replace(
            config.releases,
            listen=[source.endpoint(listen) for listen in config.releases.endpoints],
            public_url=config.releases.public_url.rstrip("/"),
        )
        stores = _checked_stores(config, source)
    link = source.link(config.link)
    config = msgspec.structs.replace(config, http=http, releases=releases, link=link, stores=stores)
    with source:
        source.key = "releases.public_url"
        _check_apart(config)
        _check_tls(config, source)
    return config


def _check_tls(config: ApiserverConfig, source: _Source) -> None:
    """Check that there are certificates exactly where they are needed, and https where requests are led to it."""
    source.key = "certificates"
    if config.tls_endpoints and not config.certificates:
        raise ValueError(f"one is needed, with chain and key, to listen on {config.tls_endpoints[0]}")
    source.key = "releases.redirect_to_https"
    if config.releases.redirect_to_https:
        first = config.releases.best_first[0]
        if not first.startswith(("ssl:", "tls:")):
            raise ValueError("releases.listen has no endpoint such as tls:443; what a proxy gets, the proxy redirects")
        if not config.release_urls("project")[0].startswith("https:"):
            raise ValueError("releases.public_url isn't an https address")


def _check_oidc(oidc: OIDC) -> None:
    try:
        check_address(oidc.issuer, "issuer")
    except SignInFailed as error:
        raise ValueError(str(error)) from error
    if urlsplit(oidc.issuer).query:
        raise ValueError("issuer: can't have a query")
    for group in oidc.groups.values():
        for project in group.projects:
            names.project(project)


def _checked_stores(config: ApiserverConfig, source: _Source) -> Stores:
    """Return where large things can be, checked. Raises ValueError."""
    source.key = "logs.archive"
    s3 = config.stores.s3
    if s3 is None:
        if config.logs.archive == "s3":
            raise ValueError("needs stores.s3, with the bucket")
        return config.stores
    source.key = "stores.s3"
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", s3.bucket):
        raise ValueError(f"bucket: {s3.bucket!r} can't be a bucket's name")
    _check_url(s3.endpoint)
    if (s3.secret_key_file is None) != (not s3.access_key):
        raise ValueError("access_key and secret_key_file need one another")
    prefix = s3.prefix.strip("/")
    if not re.fullmatch(r"[A-Za-z0-9._/-]{0,200}", prefix):
        raise ValueError("prefix: has only letters, digits, dots, hyphens, underscores and slashes")
    return Stores(s3=msgspec.structs.replace(s3, prefix=prefix, endpoint=s3.endpoint.rstrip("/")))


def _check_mail(mail: Mail) -> None:
    names.email(mail.sender)
    if not mail.sender.isascii():
        raise ValueError("sender: has only ASCII")
    _check_host(mail.server)
    if mail.user and mail.security == "none":
        raise ValueError("user: its password would be sent without TLS; set security to starttls or tls")


def load_builder(path: Path) -> BuilderConfig:
    """Read and check ``builder.toml``. Raises `ConfigError`."""
    source = _Source(path)
    config = source.convert(BuilderConfig)
    with source:
        source.key = "name"
        name = config.name or socket.gethostname()
        names.node(name)
        source.key = "apiserver_url"
        _check_url(config.apiserver_url)
        for variable, value in config.environment.items():
            source.key = f"environment.{variable}"
            if not variable or "=" in variable or "\0" in variable + value:
                raise ValueError("a variable's name can't be empty or hold =, and neither it nor its value a NUL")
        source.key = "toolchains.registry"
        _check_url(config.toolchains.registry)
        source.key = "toolchains.node"
        Range(config.toolchains.node)
        source.key = "toolchains.forbid"
        for rule in config.toolchains.forbid:
            _check_rule(rule)
        source.key = "isolation.allow"
        for text in config.isolation.allow:
            host_rule(text)
        source.key = "isolation.readable"
        for readable in config.isolation.readable:
            _check_readable(readable, config)
    link = source.link(config.link)
    return msgspec.structs.replace(config, name=name, apiserver_url=config.apiserver_url.rstrip("/"), link=link)


_S = TypeVar("_S", bound=Section)
_L = TypeVar("_L", ApiserverLink, BuilderLink)


class _Source:
    """
    One file while it is read. As a context, it turns a `ValueError` into a `ConfigError` about ``key``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.key = ""
        self.folder = Path(os.path.abspath(path)).parent

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, ValueError):
            raise self.error(self.key, str(error)) from error

    def error(self, key: str, sentence: str) -> ConfigError:
        return ConfigError(": ".join(part for part in (str(self.path), key, sentence) if part))

    def convert(self, kind: type[_S]) -> _S:
        """Return the file as a ``kind``, its paths made absolute."""
        try:
            table = tomllib.loads(
                self.path.read_bytes().decode("utf-8-sig")
            )  # some editors put a byte order mark first
        except OSError as error:
            raise self.error("", f"can't be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise self.error("", f"isn't TOML: {error}") from error
        for short, key in _SHORT.items():
            if isinstance(table.get(short), str):
                table[short] = {key: table[short]}
        try:
            return msgspec.convert(_without_empty(table), kind, dec_hook=self._decode)
        except msgspec.ValidationError as error:
            raise self._translated(str(error), kind) from error

    def _decode(self, kind: type, value: object) -> object:
        if kind is Size:
            return _size(value)
        if kind is not Path:
            raise NotImplementedError(kind)
        if not isinstance(value, str) or "\0" in value:
            raise ValueError("expected a path")
        return self.folder / os.path.expanduser(value)

    def _translated(self, text: str, kind: type[Section]) -> ConfigError:
        """msgspec's "Expected `array`, got `str` - at `$.link.dial`" in the words of a configuration file."""
        sentence, _, place = text.partition(" - at ")
        key = re.sub(r"\[[^]]*\]", "", place.strip("`").removeprefix("$").removeprefix("."))
        in_list = place.rstrip("`").endswith("]") and key not in ("environment", "certificates")
        if match := re.match(r"Object contains unknown field `(.*)`", sentence):
            unknown = match[1]
            known = _keys(kind, key)
            close = difflib.get_close_matches(unknown, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"the keys here are {', '.join(known)}"
            return self.error(_joined(key, unknown), f"there is no such key; {hint}")
        if match := re.match(r"Object missing required field `(.*)`", sentence):
            return self.error(_joined(key, match[1]), "is missing")
        if match := re.match(r"Expected `(.*?)(?: \| null)?`, got `(.*)`", sentence):
            wanted = "a list of strings" if in_list else _TYPES.get(match[1], match[1])
            got = _TYPES.get(match[2], match[2])
            if in_list:
                got = f"{got} in it"
            return self.error(key, f"expected {wanted}, got {got if got != _TYPES['array'] else 'a list'}")
        if match := re.match(r"Invalid enum value '(.*)'", sentence):
            return self.error(key, f"there is no {match[1]}: see docs/configuration.md for what it can be")
        if match := re.match(r"Expected `(.*?)`( [<>]=? .*)", sentence):
            return self.error(key, f"expected {_TYPES.get(match[1], match[1])}{match[2]}")
        return self.error(key, sentence)

    def link(self, link: _L) -> _L:
        """``[link]`` checked, with the paths in its endpoints made absolute."""
        with self:
            self.key = "link.listen"
            listen = [text if text in _BARE else self.link_endpoint(text) for text in link.listen]
            self.key = "link.dial"
            dial = [text if text in _BARE else self.link_endpoint(text) for text in link.dial]
            self.key = "link"
            if not listen and not dial:
                raise ValueError("needs at least one endpoint in listen or in dial")
            self.key = "link.key"
            # What is handed over may be a UNIX socket, or come from the parent itself: that shows when it is there.
            unprotected = [text for text in listen + dial if not text.startswith(("unix:", *INHERITED))]
            if link.key is None and unprotected and isinstance(link, BuilderLink):
                raise ValueError(f"is needed, since {unprotected[0]} isn't a UNIX socket")
            self.key = "link.tls"
            tls = link.tls
            if (tls.certificate is None) != (tls.private_key is None):
                raise ValueError("certificate and private_key need one another")
            self.key = "link.tls.certificate"
            if tls.certificate is None and any(text.startswith("tls:") for text in listen):
                raise ValueError("is needed to listen on tls:")
        return msgspec.structs.replace(link, listen=listen, dial=dial)

    def link_endpoint(self, text: str) -> str:
        """An endpoint of a link, as `endpoint` takes it and as ``ipc.endpoints`` does: that escapes nothing."""
        escaped = self.endpoint(text)
        return re.sub(r"\\(.)", r"\1", escaped) if escaped.startswith("unix:") else escaped

    def endpoint(self, text: str) -> str:
        """An endpoint as Twisted takes it, the path of a ``unix:`` one made absolute."""
        kind, separator, rest = text.partition(":")
        if not separator or not rest:
            raise ValueError(f"{text!r} isn't an endpoint such as tcp:8080 or unix:link.sock")
        if kind != "unix":
            return text
        # A colon ends the path unless a backslash is before it; what follows are the endpoint's options.
        match = re.match(r"(?:address=)?((?:\\.|[^:\\])+)((?::.*)?)\Z", rest)
        if match is None:
            raise ValueError(f"{text!r} names no socket")
        plain = os.path.normpath(self.folder / os.path.expanduser(re.sub(r"\\(.)", r"\1", match[1])))
        if len(os.fsencode(plain)) > MAX_SOCKET_PATH:
            raise ValueError(f"the path of a UNIX socket has at most {MAX_SOCKET_PATH} bytes; {plain} has more")
        return "unix:" + re.sub(r"([\\:])", r"\\\1", plain) + match[2]


#: Endpoints of links that the service inherits from the process that starts it, and those that take no argument.
INHERITED = ("fd:", "stdio:", "systemd:")
_BARE = ("stdio:", "systemd:")

#: Tables that can be given as one value -> the key that this is.
_SHORT = {"isolation": "kind"}

_UNITS = {"": 1, "B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4}
_UNITS |= {"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}


def _size(value: object) -> Size:
    """Return a size that a file gives. Raises `ValueError`."""
    match = (
        re.match(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([A-Za-z]*)\Z", str(value)) if type(value) in (int, str) else None
    )
    unit = _UNITS.get(match[2].upper()) if match is not None else None
    if match is None or unit is None:
        raise ValueError('expected a size such as "1.5 GiB", or a number of bytes')
    return Size(int(float(match[1]) * unit))


#: msgspec's words for types, and those of a configuration file
_TYPES = {
    "str": "a string",
    "array": "a list of strings",
    "str | array": "a string or a list of strings",
    "object": "a table",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "path": "a path",
}


def _without_empty(table: dict[str, Any]) -> dict[str, Any]:
    """The table without keys that are empty strings; in ``[environment]`` an empty value is a value."""
    return {
        key: _without_empty(value)
        if isinstance(value, dict) and key != "environment"
        else [_without_empty(each) if isinstance(each, dict) else each for each in value]
        if isinstance(value, list)
        else value
        for key, value in table.items()
        if value != ""
    }


def _keys(kind: type[Section], place: str) -> list[str]:
    """The names of the keys in the table ``place`` ("link.tls") of a ``kind``."""
    for part in filter(None, place.split(".")):
        field = next(field for field in msgspec.structs.fields(kind) if field.name == part)
        # A table that may be missing, or one of several that have names of their own.
        within = [each for each in get_args(field.type) if isinstance(each, type) and issubclass(each, Section)]
        kind = within[0] if within else field.type
    return [field.name for field in msgspec.structs.fields(kind)]


def _joined(table: str, key: str) -> str:
    return f"{table}.{key}" if table else key


def _address(listen: str) -> tuple[str, str, int]:
    """Scheme, host and port that a server endpoint stands for. Raises `ValueError` where it doesn't tell."""
    match = re.match(r"(tcp|ssl|tls):(?:port=)?([0-9]{1,5})(?::.*)?\Z", listen)
    if match is None or not 0 < int(match[2]) < 65536:
        raise ValueError(f"is needed, since an address can't be told from {listen!r}")
    host = interface_of(listen) or socket.gethostname()
    return ("http" if match[1] == "tcp" else "https"), _bracketed(host), int(match[2])


def is_tls(listen: str) -> bool:
    """Return whether a server endpoint has its certificate from ``[[certificates]]``: ``tls:443``."""
    return re.match(r"tls:(?:port=)?[0-9]", listen) is not None


def interface_of(listen: str) -> str:
    """The interface that a server endpoint is bound to; "" if that is all of them, or it isn't told."""
    kind, *arguments = re.split(r"(?<!\\):", listen)
    named = [argument.removeprefix("interface=") for argument in arguments if argument.startswith("interface=")]
    if not named and kind == "tcp" and "=" not in "".join(arguments[1:2]):
        named = arguments[1:2]  # tcp:PORT:INTERFACE
    host = re.sub(r"\\(.)", r"\1", named[0]) if named else ""
    return "" if host in ("0.0.0.0", "::") else host


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _port_suffix(scheme: str, port: int) -> str:
    return "" if (scheme, port) in (("http", 80), ("https", 443)) else f":{port}"


def _derived_url(listen: str) -> str:
    scheme, host, port = _address(listen)
    return f"{scheme}://{host}{_port_suffix(scheme, port)}"


def _check_url(url: str) -> None:
    """Check that the value is "" or the absolute address of a site."""
    if not url:
        return
    parts = urlsplit(url)
    # `port` raises ValueError where it isn't a number.
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError(f"{url!r} isn't an address such as https://builds.example.org")
    if parts.query or parts.fragment or parts.username is not None or not url.isprintable() or " " in url:
        raise ValueError(f"{url!r} may only have a scheme, a host, a port and a path")


def _check_host(host: str) -> None:
    """Check that the value is the name of a host, without a scheme or a port."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", host) and address_of(host) is None:
        raise ValueError(f"{host!r} isn't the name of a host such as builds.example.org, without a scheme and a port")


def _is_plain_beyond_loopback(listen: str) -> bool:
    """Return whether a server endpoint is one without TLS that other machines reach."""
    interface = interface_of(listen)
    address = address_of(interface)
    near = interface == "localhost" or (address is not None and address.is_loopback)
    return listen.partition(":")[0] in ("tcp", "tcp4", "tcp6") and not near


def _check_apart(config: ApiserverConfig) -> None:
    """Check that releases below a path have a host that isn't the API's."""
    url = config.releases.public_url
    netloc = urlsplit(url).netloc
    if url and "{project}" not in netloc and not config.hosts.has_paths(netloc):
        raise ValueError(
            f"its host, {host_of(netloc)}, is the API's: a browser keeps one set of cookies for all ports of a "
            "host, so a release's script could touch the API's sessions. Give the releases a host of their own"
        )


def _check_database(url: str) -> None:
    """An empty string, or an address of a kind of database that the ledger works with."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    if not url:
        return
    try:
        kind = make_url(url).get_backend_name()
    except (ArgumentError, ValueError) as error:
        # Not repeated here: it may hold a password.
        raise ValueError("it isn't an address such as postgresql+psycopg://user@host/database") from error
    if kind not in ("postgresql", "sqlite"):
        raise ValueError(f"the ledger works with postgresql and sqlite, not with {kind}")


#: The schemes of a Valkey's or a Redis' address; those with "s" by TLS.
VALKEY_SCHEMES = ("valkey", "valkeys", "redis", "rediss")


def _check_nodes(source: _Source, config: ApiserverConfig) -> None:
    """The names by which builders and other apiservers know this one, and its first builder's."""
    first = config.link.first_builder
    for source.key, name in (
        ("link.name", config.link.name or None),
        ("cluster.name", config.cluster.name or None),
        ("link.first_builder.name", None if first is None else first.name),
    ):
        if name is not None:
            names.node(name)


def _check_bell(address: str) -> None:
    """An empty string, or the address of a Valkey or a Redis."""
    if not address:
        return
    parts = urlsplit(address)
    if (
        parts.scheme not in VALKEY_SCHEMES
        or not parts.hostname
        or parts.path.strip("/")
        or parts.query
        or parts.fragment
    ):
        # Not repeated here: it may hold a password.
        raise ValueError("it isn't an address such as valkey://:PASSWORD@HOST:6379, or valkeys:// for TLS")
    if find_spec("txredisapi") is None:
        raise ValueError("needs txredisapi: pip install 'twistedipc[valkey]'")


def _check_origin(origin: str) -> None:
    _check_url(origin)
    if not origin or urlsplit(origin).path:
        raise ValueError(f"{origin!r} isn't an origin such as https://builds.example.org (nothing after the host)")


def _check_rule(rule: str) -> None:
    tool, at, versions = rule.partition("@")
    if tool not in TOOLS or (at and not versions):
        raise ValueError(f'{rule!r} is no tool with a range of versions, such as "node@<20" or "yarn"')
    Range(versions)


def _check_readable(path: Path, config: BuilderConfig) -> None:
    """Check that builds aren't given what is the builder's own."""
    path, data = Path(os.path.realpath(path)), Path(os.path.realpath(config.data))
    if path.is_relative_to(data) or path == Path("/"):
        raise ValueError(f"{path} is the whole machine, or lies in the builder's data folder")


def _check_domain(domain: str) -> None:
    if not re.match(r"[a-z0-9](?:[a-z0-9.-]{0,180}[a-z0-9])?\Z", domain):
        raise ValueError(f"{domain!r} isn't a domain such as releases.example.org, in small letters")
