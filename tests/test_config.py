"""The configuration files: what they mean, and that each mistake in one names the file and the key."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import make_url
from twisted.python.usage import UsageError

from twistedipc.builds.attempt import ResourceLimits
from twistedipc.ipc.places.endpoints import parse_listened
from twistedipc.isolation.limits import defaults
from twistedipc.taps.builder import HANDOVER, Options
from twistedipc.taps.config import (
    DEFAULT_PATH,
    ApiserverConfig,
    BuilderConfig,
    ConfigError,
    LinkTLS,
    load_apiserver,
    load_builder,
)


def apiserver(folder: Path, text: str) -> ApiserverConfig:
    path = folder / "apiserver.toml"
    path.write_text(text)
    return load_apiserver(path)


def builder(folder: Path, text: str) -> BuilderConfig:
    path = folder / "builder.toml"
    path.write_text(text)
    return load_builder(path)


APISERVER = 'data = "data"\nlink.dial = ["unix:link.sock"]\n'
BUILDER = 'data = "data"\nname = "b1"\nlink.listen = ["unix:link.sock"]\n'


def test_the_smallest_apiserver(tmp_path: Path) -> None:
    config = apiserver(tmp_path, APISERVER)
    assert config.data == tmp_path / "data"
    assert config.http.listen == "tcp:8080:interface=127.0.0.1"
    assert config.api_url == "http://127.0.0.1:8080"
    assert config.release_urls("shop")[0] == "http://shop.localhost:8081/"
    assert config.database_url == make_url(f"sqlite:///{tmp_path}/data/ledger.sqlite")
    assert config.artifacts == tmp_path / "data/artifacts"
    assert config.secret_key == tmp_path / "data/secret.key"
    assert config.link.name == ""
    assert config.link.listen == []
    assert config.link.dial == [f"unix:{tmp_path}/link.sock"]
    assert config.link.key is None
    assert config.link.tls == LinkTLS()


@pytest.mark.parametrize("name", ["100%25", "50% off", "what?", "a#b", "größe", "a:b", "a b"])
def test_the_ledger_is_in_the_data_folder_whatever_that_is_called(tmp_path: Path, name: str) -> None:
    """In an address "%25" is a per cent sign: the service looked for its database in another folder."""
    config = apiserver(tmp_path, f'data = "{name}"\nlink.dial = ["unix:link.sock"]\n')
    assert config.database_url.database == str(tmp_path / name / "ledger.sqlite")


@pytest.mark.parametrize("name", ["a:b", "a\\b", "50% off", "a b"])
def test_the_links_socket_is_beside_the_file_whatever_the_folder_is_called(tmp_path: Path, name: str) -> None:
    """A colon was written as Twisted's endpoints want it, and the link took the backslash for a part of the path."""
    folder = tmp_path / name
    folder.mkdir()
    config = builder(folder, 'data = "d"\nlink.listen = ["unix:link.sock", "unix:x\\\\:y.sock:mode=0660"]\n')
    places = [parse_listened(text, has_key=False) for text in config.link.listen]
    assert [(place.path, place.mode) for place in places] == [
        (f"{folder}/link.sock", 0o600),
        (f"{folder}/x:y.sock", 0o660),
    ]


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("nonsense", "it isn't an address such as postgresql"),
        ("postgresql://host:port/x", "it isn't an address such as postgresql"),
        ("mysql://host/x", "the ledger works with postgresql and sqlite, not with mysql"),
    ],
)
def test_a_database_address_that_cant_be_used(tmp_path: Path, url: str, sentence: str) -> None:
    """The error comes when the file is read, and isn't a traceback at the start."""
    with pytest.raises(ConfigError, match=rf"database\.url: {sentence}"):
        apiserver(tmp_path, APISERVER + f'database.url = "{url}"\n')


@pytest.mark.parametrize("address", ["nonsense", "http://host", "valkey://", "valkey://host/3", "valkey://host?db=3"])
def test_a_bell_that_cant_be_used(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match=r"cluster\.bell: it isn't an address such as valkey://"):
        apiserver(tmp_path, APISERVER + f'cluster.bell = "{address}"\n')


def test_a_bells_address_may_hold_a_password(tmp_path: Path) -> None:
    address = "valkeys://ada:secret@valkey.internal:6380"
    assert apiserver(tmp_path, APISERVER + f'cluster.bell = "{address}"\n').cluster.bell == address
    with pytest.raises(ConfigError) as refused:
        apiserver(tmp_path, APISERVER + 'cluster.bell = "valkey://ada:secret@host/3"\n')
    assert "secret" not in str(refused.value)


def test_how_long_a_builder_waits_for_its_builds(tmp_path: Path) -> None:
    """It waits as long as a build may take and a little more, or as long as the option says; if it waits at all."""
    path = tmp_path / "builder.toml"
    path.write_text(f"{BUILDER}limits.timeout = 600\n")

    def seconds(*arguments: str) -> float | None:
        options = Options()
        options.parseOptions(["--config", str(path), *arguments])
        return options.seconds_to_wait

    assert seconds() is None
    assert seconds("--wait") == 600 + 10 + HANDOVER
    assert seconds("--wait", "--wait-at-most", "7.5") == 7.5
    with pytest.raises(UsageError, match="goes with --wait"):
        seconds("--wait-at-most", "7")
    for wrong in ("0", "-1", "inf", "nan", "soon", ""):
        with pytest.raises(UsageError, match="--wait-at-most takes a number of seconds, more than 0"):
            seconds("--wait", "--wait-at-most", wrong)


def test_the_smallest_builder(tmp_path: Path) -> None:
    config = builder(tmp_path, BUILDER)
    assert (config.name, config.slots, config.apiserver_url) == ("b1", 2, "")
    assert (config.limits.timeout, config.limits.idle_timeout, config.limits.grace) == (3600.0, 900.0, 10.0)
    limits = config.limits.resources(slots=2)
    assert (limits.processes, limits.open_files, limits.disk, limits.cpus) == (4096, 65_536, 20 << 30, 0.0)
    assert limits.memory == defaults.memory(2, defaults.machine_memory())
    assert config.environment == {}


def test_a_full_apiserver(tmp_path: Path) -> None:
    config = apiserver(
        tmp_path,
        """
        data = "/srv/twistedipc"
        [http]
        listen = "tcp:8443"
        allowed_origins = ["https://team.example.org"]
        public_url = "https://builds.example.org/"
        local_repositories = true
        secure_cookies = true
        [releases]
        listen = "tcp:8444"
        public_url = "https://{project}.pages.example.org"
        [link]
        name = "north"
        listen = ["tls:7000:interface=0.0.0.0"]
        key = "link.key"
        [link.tls]
        certificate = "tls/cert.pem"
        private_key = "tls/key.pem"
        authority = "/etc/ca.pem"
        [database]
        url = "postgresql+psycopg://ledger"
        """,
    )
    assert config.api_url == "https://builds.example.org"
    assert config.release_urls("shop")[0] == "https://shop.pages.example.org/"
    assert config.database_url == make_url("postgresql+psycopg://ledger")
    assert config.link.key == tmp_path / "link.key"
    assert config.link.tls.certificate == tmp_path / "tls/cert.pem"
    assert config.link.tls.authority == Path("/etc/ca.pem")
    assert config.link.listen == ["tls:7000:interface=0.0.0.0"]


def test_a_full_builder(tmp_path: Path) -> None:
    config = builder(
        tmp_path,
        BUILDER
        + """
        [environment]
        NODE_OPTIONS = "--max-old-space-size=4096"
        EMPTY = ""
        [limits]
        timeout = 60
        reserve = "1.5 GiB"
        processes = 500
        memory = "3 GiB"
        disk = 0
        open_files = 1000
        cpus = 1.5
        """,
    )
    # The operator's values aren't held to the rules for projects, and an empty one is a value.
    assert config.environment == {"NODE_OPTIONS": "--max-old-space-size=4096", "EMPTY": ""}
    assert config.limits.timeout == 60.0
    assert config.limits.reserve is not None
    assert config.limits.reserve.bytes == 3 << 29
    assert config.limits.resources(slots=7) == ResourceLimits(
        processes=500, memory=3 << 30, disk=0, open_files=1000, cpus=1.5
    )


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("4096", 4096), ("'4096'", 4096), ("'20 MB'", 20_000_000), ("'2mib'", 2 << 20), ("''", None)],
)
def test_sizes(tmp_path: Path, text: str, size: int | None) -> None:
    reserve = builder(tmp_path, f"{BUILDER}limits.reserve = {text}\n").limits.reserve
    assert (None if reserve is None else reserve.bytes) == size


def test_an_empty_string_is_a_missing_key(tmp_path: Path) -> None:
    config = apiserver(tmp_path, APISERVER + 'link.key = ""\nhttp.public_url = ""\nlink.tls.authority = ""\n')
    assert config.link.key is None
    assert config.link.tls.authority is None


def test_a_builder_is_named_after_its_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "pine.example.org")
    assert builder(tmp_path, BUILDER.replace('name = "b1"\n', "")).name == "pine.example.org"


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("tcp:80:interface=127.0.0.1", "http://127.0.0.1"),
        ("tcp:8080:interface=10.1.2.3", "http://10.1.2.3:8080"),
        ("tcp:port=8080:interface=localhost", "http://localhost:8080"),
        (r"tcp:8080:interface=\:\:1", "http://[::1]:8080"),
        ("tcp:8080", "http://pine:8080"),
        ("tcp:8080:interface=0.0.0.0", "http://pine:8080"),
        (r"tcp:8080:interface=\:\:", "http://pine:8080"),
        ("ssl:443:interface=10.1.2.3", "https://10.1.2.3"),
    ],
)
def test_the_address_told_from_where_it_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listen: str, expected: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "pine")
    assert apiserver(tmp_path, f"{APISERVER}http.listen = '{listen}'").api_url == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", "http://shop.localhost:8081/"),
        ("https://{project}.example.org", "https://shop.example.org/"),
        ("https://pages.example.org", "https://pages.example.org/shop/"),
        ("https://pages.example.org/", "https://pages.example.org/shop/"),
        ("https://pages.example.org/of/{project}/", "https://pages.example.org/of/shop/"),
    ],
)
def test_the_address_of_a_release(tmp_path: Path, url: str, expected: str) -> None:
    config = apiserver(tmp_path, f'{APISERVER}releases.public_url = "{url}"')
    assert config.release_urls("shop")[0] == expected
    host = urlsplit(expected).netloc
    assert config.hosts.project_of(host) == "shop" or config.hosts.has_paths(host), "nothing was served at it"


@pytest.mark.parametrize(
    ("releases", "expected"),
    [
        ("", ["http://shop.localhost:8081/", "http://127.0.0.2:8081/shop/"]),
        ('listen = "tcp:9000:interface=127.0.0.1"', ["http://shop.localhost:9000/"]),
        # Browsers take shop.localhost for 127.0.0.1, where no server would answer.
        ('listen = "tcp:9000:interface=127.0.0.2"', ["http://127.0.0.2:9000/shop/"]),
        ('listen = "tcp:9000:127.0.0.2"', ["http://127.0.0.2:9000/shop/"]),
        ('listen = ["tcp:9000:interface=127.0.0.2"]', ["http://127.0.0.2:9000/shop/"]),
        # It is there, too, and where names below localhost don't resolve it is the only address: so it is said.
        ('listen = "tcp:9000"', ["http://shop.localhost:9000/", "http://127.0.0.2:9000/shop/"]),
        ('listen = "tcp:9000"\ndomain = "pages.example.org"', ["http://shop.pages.example.org:9000/"]),
        (
            'listen = ["tcp:9001:interface=10.1.2.3", "tcp:9000:interface=127.0.0.1"]',
            ["http://shop.localhost:9000/", "http://10.1.2.3:9001/shop/"],
        ),
        (
            'listen = "tcp:9000:interface=127.0.0.2"\ndomain = "pages.example.org"',
            ["http://shop.pages.example.org:9000/"],
        ),
    ],
)
def test_the_addresses_of_a_release_told_from_where_it_listens(
    tmp_path: Path, releases: str, expected: list[str]
) -> None:
    config = apiserver(tmp_path, f"{APISERVER}[releases]\n{releases}")
    assert config.release_urls("shop") == expected
    assert config.release_urls("shop")[0] == expected[0]


_TLS = "[[certificates]]\nchain = 'c.pem'\nkey = 'c.key'\n"


def test_certificates_are_files_for_the_ports_with_tls(tmp_path: Path) -> None:
    text = f"""
        {APISERVER}
        [http]
        listen = "tls:8443"
        [releases]
        listen = ["tcp:80", "tls:443:interface=10.1.2.3"]
        redirect_to_https = true
        domain = "pages.example.org"
        acme_webroot = "www"
        {_TLS}
    """
    config = apiserver(tmp_path, text)
    assert [(each.chain, each.key) for each in config.certificates] == [(tmp_path / "c.pem", tmp_path / "c.key")]
    assert config.tls_endpoints == ["tls:8443", "tls:443:interface=10.1.2.3"]
    assert config.api_url.startswith("https://")
    assert config.api_url.endswith(":8443")
    assert config.release_urls("shop") == ["https://shop.pages.example.org/"], "which is better than the http before it"
    assert config.https_port == 443
    assert config.releases.acme_webroot == tmp_path / "www"
    config.check_doors()  # what comes by http is led to https


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("releases.listen = 'tls:443'", "certificates: one is needed, with chain and key, to listen on tls:443"),
        ("http.listen = 'tls:443:interface=127.0.0.1'", "certificates: one is needed, with chain and key"),
        (
            "[releases]\nredirect_to_https = true\n",
            "releases.redirect_to_https: releases.listen has no endpoint such as",
        ),
        (
            "[releases]\nlisten = ['tls:443']\nredirect_to_https = true\n"
            f"public_url = 'http://{{project}}.a.example'\n{_TLS}",
            "releases.redirect_to_https: releases.public_url isn't an https address",
        ),
        ("[[certificates]]\nchain = 'c.pem'\n", "certificates.key: is missing"),
        ("[[certificates]]\nchain = 'c.pem'\nkey = ''\n", "certificates.key: is missing"),
        ("[[certificates]]\nchain = 5\nkey = 'c'\n", "certificates.chain: expected a path"),
        (
            "[[certificates]]\nchain = 'c.pem'\nkey = 'c'\nkye = 'c'\n",
            "certificates.kye: there is no such key; did you mean key?",
        ),
        ("certificates = 'c.pem'\n", "certificates: expected"),
        ("domains.allowed = ['acme']", "domains.allowed: acme has one part only"),
        ("domains.allowed = ['*.*.example']", "domains.allowed: *.example has a *"),
        ("domains.allowed = 'acme.example'", "domains.allowed: expected a list of strings, got a string"),
        ("domains.alowed = []", "domains.alowed: there is no such key; did you mean allowed?"),
    ],
)
def test_what_is_wrong_with_certificates_and_domains_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        apiserver(tmp_path, f"{APISERVER}{text}")
    assert f"apiserver.toml: {said}" in str(caught.value)


def test_http_without_tls_is_for_this_machine_unless_the_operator_says_so(tmp_path: Path) -> None:
    """The link refuses the same; http was served to the whole network without a word."""
    for listen in (
        "tcp:8080",
        "tcp:8080:interface=0.0.0.0",
        "tcp:8080:interface=10.1.2.3",
        r"tcp6:8080:interface=\:\:",
    ):
        for key in ("http.listen", "releases.listen"):
            url = f"\n{key.partition('.')[0]}.public_url = 'https://x-{{project}}.example.org'".replace(
                "{project}", "y" if key == "http.listen" else "{project}"
            )
            given = f"{APISERVER}{key} = '{listen}'{url}"
            with pytest.raises(ConfigError, match=r"http\.allow_plain_http = true"):
                apiserver(tmp_path, given).check_doors()
            apiserver(tmp_path, f"{given}\nhttp.allow_plain_http = true").check_doors()
    for listen in ("tcp:8080:interface=127.0.0.1", r"tcp:8080:interface=\:\:1", "ssl:8443", "unix:/run/x.sock"):
        given = f"{APISERVER}http.listen = '{listen}'\nhttp.public_url = 'https://builds.example.org'"
        apiserver(tmp_path, given).check_doors()


def test_names_by_which_the_api_is_reached(tmp_path: Path) -> None:
    hosts = apiserver(tmp_path, f"{APISERVER}http.hosts = ['builds.lan', '::5']").hosts
    for host in ("builds.lan:8080", "BUILDS.lan", "[::5]:8080", "10.9.9.9", ""):
        assert hosts.is_api(host), host
    assert not hosts.is_api("other.lan")
    for wrong in ("https://builds.lan", "builds.lan:8080", "", "a b"):
        with pytest.raises(ConfigError, match=r"http\.hosts"):
            apiserver(tmp_path, f"{APISERVER}http.hosts = ['{wrong}']")


def test_repositories_at_a_machines_own_address(tmp_path: Path) -> None:
    config = apiserver(tmp_path, f"{APISERVER}http.internal_repositories = ['git.internal']")
    assert config.elsewhere("http://127.0.0.1/x.git")
    assert not config.elsewhere("http://git.internal:3000/x.git")
    assert not apiserver(tmp_path, f"{APISERVER}http.local_repositories = true").elsewhere("http://127.0.0.1/x.git")


def test_the_hosts_of_the_api_and_of_the_releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "pine")
    here = apiserver(tmp_path, APISERVER).hosts
    assert here.has_sessions("localhost:8080")
    assert not here.has_sessions("pine:8080"), "nobody reaches it by that name"
    everywhere = apiserver(
        tmp_path, APISERVER + "http.listen = 'tcp:8080'\nreleases.listen = 'tcp:8081:interface=10.1.2.3'"
    ).hosts
    for host in ("pine:8080", "10.1.2.3:8080", "builds.lan:8080"):
        assert everywhere.has_sessions(host), "the API listens there, and may be reached by any name"
        assert not everywhere.has_paths(host)
    apart = apiserver(
        tmp_path,
        APISERVER
        + "http.listen = 'tcp:8080:interface=10.1.2.3'\nhttp.public_url = 'https://builds.example.org'\n"
        + "releases.listen = 'tcp:8081:interface=10.1.2.4'\nreleases.public_url = 'https://pages.example.org'",
    ).hosts
    assert apart.has_paths("pages.example.org")
    assert apart.has_paths("10.1.2.4:8081")
    assert not apart.has_paths("10.1.2.3:8081")
    assert not apart.has_sessions("pages.example.org")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8081", "http://LOCALHOST/x/{project}", "https://builds.example.org:444"]
)
def test_releases_below_a_path_of_the_apis_host_are_refused(tmp_path: Path, url: str) -> None:
    """A release's script there could touch the API's cookies."""
    text = f"{APISERVER}http.public_url = 'https://builds.example.org'\nreleases.public_url = '{url}'"
    with pytest.raises(ConfigError, match=r"releases\.public_url: its host, .*, is the API's"):
        apiserver(tmp_path, text)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("unix:a/link.sock", "unix:{0}/a/link.sock"),
        ("unix:./../link.sock", "unix:{1}/link.sock"),
        ("unix:/run/link.sock", "unix:/run/link.sock"),
        ("unix:address=link.sock:mode=660", "unix:{0}/link.sock:mode=660"),
        (r"unix:a\:b", "unix:{0}/a:b"),
        ("tcp:127.0.0.1:7000", "tcp:127.0.0.1:7000"),
    ],
)
def test_paths_in_endpoints(tmp_path: Path, given: str, expected: str) -> None:
    config = apiserver(tmp_path, f"data = '.'\nlink.key = 'k'\nlink.dial = ['{given}']\n")
    assert config.link.dial == [expected.format(tmp_path, tmp_path.parent)]


@pytest.mark.parametrize("given", ["systemd:", "systemd:link", "fd:3", "fd:$LINK", "stdio:"])
def test_endpoints_that_are_handed_over_may_need_no_key(tmp_path: Path, given: str) -> None:
    """Whether they do shows when they are there."""
    config = builder(tmp_path, f"data = '.'\nname = 'b'\nlink.listen = ['{given}']\n")
    assert (config.link.listen, config.link.key) == ([given], None)


def test_paths_are_relative_to_the_file_and_not_to_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/apiserver.toml").write_text(APISERVER)
    monkeypatch.chdir(tmp_path)
    config = load_apiserver(Path("etc/apiserver.toml"))
    assert config.data == tmp_path / "etc/data"
    assert config.link.dial == [f"unix:{tmp_path}/etc/link.sock"]


def test_the_path_of_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = builder(tmp_path, 'path = "/opt/bin"\n' + BUILDER)
    assert config.steps_path == "/opt/bin"
    config = builder(tmp_path, BUILDER)
    monkeypatch.setenv("PATH", "")
    assert config.steps_path == DEFAULT_PATH
    node = tmp_path / "tools/node"
    node.parent.mkdir()
    node.write_text("")
    node.chmod(0o755)
    monkeypatch.setenv("PATH", str(node.parent))
    assert config.steps_path == f"{node.parent}:{DEFAULT_PATH}"


LONG = "x" * 120


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "data: is missing"),
        ('data = ""', "data: is missing"),
        ("data = 1", "data: expected a path"),
        ("data = [", "isn't TOML"),
        (APISERVER + "typo = 1", "typo: there is no such key; the keys here are data, http"),
        (APISERVER + "http.lisen = 'x'", "http.lisen: there is no such key; did you mean listen?"),
        (APISERVER + "link.tls.cert = 'x'", "link.tls.cert: there is no such key"),
        ("data = 'x'\nlink.dial = 'unix:x'", "link.dial: expected a list of strings, got a string"),
        ("data = 'x'\nlink.dial = [1]", "link.dial: expected a list of strings, got a whole number in it"),
        (APISERVER + "http = 1", "http: expected a table, got a whole number"),
        (APISERVER + "http.secure_cookies = 'yes'", "http.secure_cookies: expected true or false, got a string"),
        (APISERVER + "link.key = 1", "link.key: expected a path"),
        ("data = 'x'", "link: needs at least one endpoint in listen or in dial"),
        ("data = 'x'\nlink.dial = ['nonsense']", "link.dial: 'nonsense' isn't an endpoint"),
        ("data = 'x'\nlink.listen = ['unix:']", "link.listen: 'unix:' isn't an endpoint"),
        ("data = 'x'\nlink.listen = ['fd:']", "link.listen: 'fd:' isn't an endpoint"),
        (
            APISERVER + "http.public_url = 'http://x'\nhttp.listen = 'systemd:'",
            "http.listen: 'systemd:' isn't an endpoint",
        ),
        (f"data = 'x'\nlink.dial = ['unix:{LONG}']", "link.dial: the path of a UNIX socket has at most 107 bytes"),
        (
            "data = 'x'\n[link]\nlisten = ['tls:7000']\nkey = 'k'",
            "link.tls.certificate: is needed to listen on tls:",
        ),
        (APISERVER + "link.tls.certificate = 'c'", "link.tls: certificate and private_key need one another"),
        (APISERVER + "link.name = '../x'", "link.name: a node's name has"),
        (APISERVER + "cluster.name = 'the second'", "cluster.name: a node's name has"),
        (APISERVER + "http.public_url = 'builds'", "http.public_url: 'builds' isn't an address"),
        (APISERVER + "http.public_url = 'http://x:y'", "http.public_url: Port could not be cast"),
        (APISERVER + "http.public_url = 'http://a?b'", "http.public_url: 'http://a?b' may only have"),
        (APISERVER + "http.listen = 'tcp:0'", "http.public_url: is needed, since an address can't be told"),
        (APISERVER + "http.listen = 'unix:http.sock'", "http.public_url: is needed, since an address can't be told"),
        (APISERVER + "releases.listen = 'tcp:x'", "releases.public_url: is needed"),
        (APISERVER + "releases.listen = []", "releases.listen: needs at least one endpoint"),
        (APISERVER + "releases.listen = 5", "releases.listen: expected a string or a list of strings, got a whole"),
        (APISERVER + "releases.domain = 'A B'", "releases.domain: 'A B' isn't a domain"),
        (APISERVER + "http.allowed_origins = ['*']", "http.allowed_origins: '*' isn't an address"),
        (APISERVER + "http.allowed_origins = ['http://a/']", "http.allowed_origins: 'http://a/' isn't an origin"),
    ],
)
def test_mistakes_in_an_apiservers_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        apiserver(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/apiserver.toml: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slots = 0\n" + BUILDER, "slots: expected a whole number >= 1"),
        ("slots = 1.5\n" + BUILDER, "slots: expected a whole number, got a number"),
        (BUILDER.replace("b1", "../x"), "name: a node's name has"),
        (BUILDER + "limits.timeout = '1h'", "limits.timeout: expected a number, got a string"),
        *[
            (BUILDER + f"limits.reserve = {size}", "limits.reserve: expected a size such as")
            for size in ("-1", "'-1'", "true", "1.5", "'1 GiBi'", "'much'", "'1e9'", "'1 000'", "[]")
        ],
        (BUILDER + "limits.grace = 0", "limits.grace: expected a number > 0"),
        (BUILDER + "limits.processes = -1", "limits.processes: expected a whole number >= 0"),
        (BUILDER + "limits.memory = '2 cows'", "limits.memory: expected a size such as"),
        (BUILDER + "toolchains.registry = 'npm'", "toolchains.registry: 'npm' isn't an address"),
        (BUILDER + "toolchains.node = 'next'", 'toolchains.node: "next" is neither a version nor a range'),
        (BUILDER + "toolchains.forbid = 'node'", "toolchains.forbid: expected a list of strings"),
        (BUILDER + "toolchains.forbid = ['node@']", "toolchains.forbid: 'node@' is no tool with a range"),
        (BUILDER + "toolchains.forbid = ['deno']", "toolchains.forbid: 'deno' is no tool with a range"),
        (BUILDER + "toolchains.forbid = ['node@!']", 'toolchains.forbid: "!" is neither a version nor a range'),
        (BUILDER + "toolchains.offline = 1", "toolchains.offline: expected true or false"),
        (BUILDER + "environment.X = 1", "environment: expected a string, got a whole number"),
        (BUILDER + "environment.'A=B' = 'x'", "environment.A=B: a variable's name can't be empty"),
        ("data = 'x'\nlink.dial = ['tcp:127.0.0.1:70']", "link.key: is needed, since tcp:127.0.0.1:70"),
        ("apiserver_url = 'ftp://x'\n" + BUILDER, "apiserver_url: 'ftp://x' isn't an address"),
        (BUILDER + "link.name = 'x'", "link.name: there is no such key"),
    ],
)
def test_mistakes_in_a_builders_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        builder(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/builder.toml: {message}")


def test_a_file_that_an_editor_has_saved_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "plain.toml").write_text(BUILDER)
    (tmp_path / "marked.toml").write_text("\ufeff" + BUILDER, "utf-8")
    assert load_builder(tmp_path / "marked.toml") == load_builder(tmp_path / "plain.toml")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: can't be read: No such file or directory"):
        load_builder(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        load_builder(tmp_path)
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="isn't TOML"):
        load_builder(tmp_path / "b.toml")


def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert apiserver(tmp_path, APISERVER.replace('"data"', '"~/data"')).data == Path("/home/ann/data")
    assert os.path.isabs(apiserver(tmp_path, APISERVER).data)


S3 = """
[logs]
archive = "s3"
[stores.s3]
bucket = "some-logs"
endpoint = "https://s3.example/"
prefix = "/of/team-a/"
access_key = "AKIA"
secret_key_file = "secret"
"""
SMALLEST = 'data = "a"\n[link]\ndial = ["unix:s"]\n'


def test_where_logs_are_in_s3(tmp_path: Path) -> None:
    assert apiserver(tmp_path, SMALLEST).s3() is None
    config = apiserver(tmp_path, SMALLEST + S3)
    with pytest.raises(ConfigError, match=r"stores\.s3\.secret_key_file: .* can't be read"):
        config.s3()
    (tmp_path / "secret").write_text("s3cret\n")
    place = config.s3()
    assert place is not None
    assert str(place) == "s3://some-logs/of/team-a/ at https://s3.example"
    assert (place.access_key, place.secret_key) == ("AKIA", "s3cret")
    without = apiserver(tmp_path, SMALLEST + '[stores.s3]\nbucket = "some-logs"\n').s3()
    assert without is not None
    assert (str(without), without.access_key) == ("s3://some-logs/", "")


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        (S3.partition("[stores")[2], "]\n", "logs.archive: needs stores.s3, with the bucket"),
        ('bucket = "some-logs"', "", "stores.s3.bucket: is missing"),
        ("some-logs", "Some/Logs", "can't be a bucket's name"),
        ("https://s3.example/", "s3.example", "isn't an address such as"),
        ('access_key = "AKIA"', "", "access_key and secret_key_file need one another"),
        ("team-a", "team?a", "prefix: has only letters"),
        ("secret_key_file", "secret_key", "did you mean secret_key_file?"),
    ],
)
def test_what_can_not_be_s3(tmp_path: Path, before: str, after: str, sentence: str) -> None:
    text = SMALLEST + S3.replace(before, after).replace("[stores]\n", "")
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        apiserver(tmp_path, text)


OIDC = """
[sign_in.oidc]
issuer = "https://id.example"
client_id = "twistedipc"
client_secret_file = "secret"
"""


def test_who_signs_people_in(tmp_path: Path) -> None:
    smallest = 'data = "a"\n[link]\ndial = ["unix:s"]\n'
    assert apiserver(tmp_path, smallest).provider() is None
    config = apiserver(
        tmp_path, f'{smallest}{OIDC}[sign_in.oidc.groups."web team"]\nprojects = {{ shop = "publisher" }}\n'
    )
    with pytest.raises(ConfigError, match=r"client_secret_file: .* can't be read"):
        config.provider()
    (tmp_path / "secret").write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        config.provider()
    (tmp_path / "secret").write_text("s3cret\n")
    found = config.provider()
    assert found is not None
    assert (found.client_secret, found.groups["web team"].projects) == ("s3cret", {"shop": "publisher"})


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("https://id.example", "http://id.example", "no https address"),
        ("https://id.example", "https://id.example?x=1", "can't have a query"),
        ('"twistedipc"', '""', "client_id: is missing"),
        ("client_secret_file", "client_secret", "did you mean client_secret_file"),
        ("client_secret_file", "[sign_in.oidc.groups.a]\nadmins", "did you mean admin?"),
    ],
)
def test_what_can_not_sign_people_in(tmp_path: Path, before: str, after: str, sentence: str) -> None:
    text = 'data = "a"\n[link]\ndial = ["unix:s"]\n' + OIDC.replace(before, after)
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        apiserver(tmp_path, text)
