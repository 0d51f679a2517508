"""What the builder asks a package registry, and npm's configuration for that, over real sockets."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import package_registry
from tests.package_registry import PackageRegistry, integrity, put_on_path
from twistedipc.registries.npmrc import NoRegistry, Npmrc, read_npmrc
from twistedipc.toolchains import registry as module
from twistedipc.toolchains.problems import BadIntegrity, NoPackage, RegistryError
from twistedipc.toolchains.registry import Registry
from twistedipc.toolchains.store import Release


@pytest.fixture
def registry() -> Iterator[PackageRegistry]:
    with package_registry.running() as registry:
        registry.add("npm", "10.1.0", package_registry.manager("npm", "10.1.0", engines=">=18"))
        yield registry


class Client(Registry):
    """A client that waits for nothing."""

    def __init__(
        self, url: str, settings: dict[str, str] | None = None, environment: dict[str, str] | None = None
    ) -> None:
        self.pauses: list[float] = []
        npmrc = Npmrc({"registry": url, **(settings or {})})
        super().__init__(npmrc, environment or {}, now=lambda: 5, sleep=self.pauses.append)


def test_versions_and_an_archive(registry: PackageRegistry, tmp_path: Path) -> None:
    client = Client(registry.url.rstrip("/"))
    index = client.look_up("npm")
    assert (index.package, index.registry, index.asked) == ("npm", registry.url, 5)
    assert index.tags == {"latest": "10.1.0"}
    release = index.releases["10.1.0"]
    assert release.node == ">=18"
    assert "application/vnd.npm.install-v1+json" in registry.headers[-1]["accept"]
    client.download("npm", "10.1.0", release, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == registry.packages["npm"]["10.1.0"]


def test_the_name_of_a_scoped_package_is_one_segment(registry: PackageRegistry) -> None:
    with pytest.raises(NoPackage, match="has no @acme/ui"):
        Client(registry.url).look_up("@acme/ui")
    assert registry.asked == ["/@acme/ui"]


@pytest.mark.parametrize("fault", [500, 503, 429, b"<html>", b"", {"Content-Length": "99999"}])
def test_what_may_pass_is_tried_again(registry: PackageRegistry, fault: object) -> None:
    registry.faults["/npm"] = [fault, fault]
    client = Client(registry.url)
    assert "10.1.0" in client.look_up("npm").releases
    assert client.pauses == [1.0, 4.0]
    registry.faults["/npm"] = [fault] * 3
    with pytest.raises(RegistryError, match="npm can't be had from http"):
        client.look_up("npm")


def test_a_registry_says_when_to_come_again(registry: PackageRegistry) -> None:
    registry.faults["/npm"] = [{"status": 429, "Retry-After": "7"}, {"status": 429, "Retry-After": "99999"}]
    client = Client(registry.url)
    client.look_up("npm")
    assert client.pauses == [7.0, module.SILENCE]


@pytest.mark.parametrize("fault", [400, 401, 403, 404, {"status": 302, "Location": "file:///etc/passwd"}])
def test_what_will_not_pass_is_not_tried_again(registry: PackageRegistry, fault: object) -> None:
    registry.faults["/npm"] = [fault]
    client = Client(registry.url)
    with pytest.raises(RegistryError):
        client.look_up("npm")
    assert client.pauses == []


def test_nobody_answers() -> None:
    client = Client("http://127.0.0.1:1/")
    with pytest.raises(RegistryError, match="Connection refused"):
        client.look_up("npm")
    assert len(client.pauses) == 2


def test_an_answer_has_a_bound(registry: PackageRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "MAX_INDEX", 100)
    with pytest.raises(RegistryError, match="more than 100 bytes"):
        Client(registry.url).look_up("npm")


def test_an_answer_has_a_deadline(registry: PackageRegistry) -> None:
    times = iter([0.0, 1000.0] * 3)
    client = Registry(
        Npmrc({"registry": registry.url}), {}, now=lambda: 0, sleep=lambda _: None, clock=lambda: next(times)
    )
    with pytest.raises(RegistryError, match="takes too long"):
        client.look_up("npm")


def test_what_is_not_what_was_announced_is_refused(registry: PackageRegistry, tmp_path: Path) -> None:
    client = Client(registry.url)
    release = client.look_up("npm").releases["10.1.0"]
    registry.packages["npm"]["10.1.0"] = package_registry.manager("npm", "10.1.0", engines="*")
    with pytest.raises(BadIntegrity, match="isn't what the registry announced"):
        client.download("npm", "10.1.0", release, tmp_path / "a")


def test_a_mirror_is_asked_before_the_address_that_it_announces(registry: PackageRegistry, tmp_path: Path) -> None:
    data = registry.packages["npm"]["10.1.0"]
    elsewhere = Release(tarball="http://127.0.0.1:1/npm/-/npm-10.1.0.tgz", integrity=integrity(data))
    Client(registry.url).download("npm", "10.1.0", elsewhere, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == data
    with package_registry.running() as mirror:
        there = Release(tarball=f"{registry.url}npm/-/npm-10.1.0.tgz", integrity=integrity(data))
        Client(mirror.url).download("npm", "10.1.0", there, tmp_path / "b")
        assert mirror.downloads() == ["/npm/-/npm-10.1.0.tgz"]
    assert (tmp_path / "b").read_bytes() == data
    with pytest.raises(RegistryError, match="isn't by http"):
        Client(registry.url).download("npm", "1.0.0", Release(tarball="file:///etc/passwd"), tmp_path / "c")


# -- credentials, proxies


def test_credentials_go_where_they_belong_and_nowhere_else(registry: PackageRegistry, tmp_path: Path) -> None:
    registry.token = "secret-token"
    host = registry.url.removeprefix("http:").rstrip("/")
    with pytest.raises(RegistryError, match="credentials"):
        Client(registry.url).look_up("npm")
    with package_registry.running() as other:
        data = other.add("npm", "10.1.0", registry.packages["npm"]["10.1.0"])
        registry.faults["/npm/-/npm-10.1.0.tgz"] = [{"status": 302, "Location": f"{other.url}npm/-/npm-10.1.0.tgz"}]
        client = Client(registry.url, {f"{host}/:_authToken": "secret-token"})
        release = client.look_up("npm").releases["10.1.0"]
        client.download("npm", "10.1.0", release, tmp_path / "a")
        assert (tmp_path / "a").read_bytes() == data
        assert "authorization" in registry.headers[-1]
        assert "authorization" not in other.headers[-1]


def test_kinds_of_credentials() -> None:
    basic = base64.b64encode(b"me:pass").decode()
    npmrc = Npmrc(
        {
            "//a.example/:_authToken": "t1",
            "//a.example/deep/:_authToken": "t2",
            "//b.example/npm/:_auth": basic,
            "//c.example:8080/:username": "me",
            "//c.example:8080/:_password": base64.b64encode(b"pass").decode(),
        }
    )
    assert npmrc.authorization("https://a.example/npm") == "Bearer t1"
    assert npmrc.authorization("https://a.example/deep/er/npm") == "Bearer t2"
    assert npmrc.authorization("https://b.example/npm/x") == f"Basic {basic}"
    assert npmrc.authorization("https://b.example/other") == ""
    assert npmrc.authorization("https://c.example:8080/x") == f"Basic {basic}"
    assert npmrc.authorization("https://c.example/x") == ""
    assert npmrc.authorization("https://evil.example/a.example/") == ""


def test_a_proxy_is_used_but_for_the_hosts_that_need_none(registry: PackageRegistry) -> None:
    proxied = {"HTTP_PROXY": registry.url, "NO_PROXY": "localhost,.internal"}
    # The registry plays the proxy: it is asked for the whole address.
    assert "10.1.0" in Client("http://registry.example/", environment=proxied).look_up("npm").releases
    with pytest.raises(RegistryError):
        Client("http://registry.internal/", environment=proxied).look_up("npm")
    assert "10.1.0" in Client("http://registry.internal/", {"proxy": registry.url}).look_up("npm").releases
    # npm's own setting comes first.
    with pytest.raises(RegistryError):
        Client("http://registry.example/", {"noproxy": "registry.example"}, proxied).look_up("npm")


def test_certificates_that_cannot_be_read_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"certificates in .*missing\.pem can't be read"):
        Client("https://127.0.0.1/", environment={"NODE_EXTRA_CA_CERTS": str(tmp_path / "missing.pem")})


# -- npm's configuration


def test_variables_come_before_the_operators_npmrc(tmp_path: Path) -> None:
    rc = tmp_path / "npmrc"
    rc.write_text(
        "; a comment\nregistry = https://rc.example\n//rc.example/:_authToken=${TOKEN}\n//x.example/:_authToken=${NO}\n"
        'cafile="/a b.pem"\nstrict-ssl=false\n[section]\n'
    )
    read = {"userconfig": str(rc), "registry": "", "npm": None, "path": ""}
    found = read_npmrc({"TOKEN": "t"}, **read)  # type: ignore[arg-type]
    assert found.registry == "https://rc.example/"
    assert found.authorization("https://rc.example/npm") == "Bearer t"
    assert (found.cafile, found.strict_ssl) == ("/a b.pem", False)
    variables = {"NPM_CONFIG_REGISTRY": "https://env.example/", "npm_config_//env.example/:_authToken": "e"}
    found = read_npmrc(variables, **read)  # type: ignore[arg-type]
    assert found.registry == "https://env.example/"
    assert found.authorization("https://env.example/npm") == "Bearer e"
    found = read_npmrc(variables, **{**read, "registry": "https://toml.example"})  # type: ignore[arg-type]
    assert found.registry == "https://toml.example/"
    other = tmp_path / "other"
    other.write_text("registry=https://other.example")
    found = read_npmrc({"npm_config_userconfig": str(other)}, **read)  # type: ignore[arg-type]
    assert found.registry == "https://other.example/"


def test_npm_says_which_registry_it_takes(tmp_path: Path) -> None:
    answer = json.dumps({"registry": "https://default.example/", "globalconfig": str(tmp_path / "global")})
    put_on_path(tmp_path, "npm", f"echo '{answer}'")
    (tmp_path / "global").write_text("//default.example/:_authToken=g")
    npm = str(tmp_path / "npm")
    found = read_npmrc({}, userconfig="", registry="", npm=npm, path="/usr/bin:/bin")
    assert found.registry == "https://default.example/"
    assert found.authorization("https://default.example/npm") == "Bearer g"


@pytest.mark.parametrize("script", ["exit 1", "echo nothing", "echo '{}'"])
def test_without_a_registry_there_is_a_sentence(tmp_path: Path, script: str) -> None:
    put_on_path(tmp_path, "npm", script)
    for npm in (None, str(tmp_path / "npm")):
        with pytest.raises(NoRegistry, match=r"set registry under \[toolchains\] in builder.toml"):
            read_npmrc({"npm_config_globalconfig": "/dev/null"}, userconfig="", registry="", npm=npm, path="")
    with pytest.raises(NoRegistry, match="no address by http"):
        read_npmrc({}, userconfig="", registry="ftp://x/", npm=None, path="")
