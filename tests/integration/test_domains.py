"""Projects' own domains with both services as they are: by Host, by TLS with SNI, and with certificates that change."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import ssl
import urllib.error
from pathlib import Path

import pytest
import trustme

from tests.integration.platform import BARE, Platform, wait_for
from tests.ports import free_port

CONFIG = """
[domains]
allowed = ["*.acme.example"]
[[certificates]]
chain = "pages.pem"
key = "pages.key"
[[certificates]]
chain = "acme.pem"
key = "acme.key"
"""


class Site:
    """The releases of a platform by TLS, and an authority that browsers trust."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.trusting = ssl.create_default_context()
        self.authority.configure_trust(self.trusting)
        self.issue("pages", "*.pages.example")
        self.issue("acme", "acme.example", "www.acme.example")
        self.platform = Platform(folder, isolation=BARE)
        self.plain, self.port = self.platform.releases_port, free_port()
        config = folder / "apiserver.toml"
        releases = (
            f'listen = ["tcp:{self.plain}:interface=127.0.0.1", "tls:{self.port}:interface=127.0.0.1"]\n'
            'domain = "pages.example"\nredirect_to_https = true\n'
        )
        lines = config.read_text().splitlines()
        at = lines.index("[releases]")
        lines[at + 1] = releases
        config.write_text("\n".join(lines) + CONFIG)

    def issue(self, name: str, *hosts: str) -> None:
        """A new certificate, in place of the one before."""
        made = self.authority.issue_cert(*hosts)
        content = {"pem": b"".join(blob.bytes() for blob in made.cert_chain_pems), "key": made.private_key_pem.bytes()}
        for kind, data in content.items():
            new = self.folder / f"{name}.new"
            new.write_bytes(data)
            os.replace(new, self.folder / f"{name}.{kind}")

    def get(self, host: str, path: str = "/", *, sni: str = "") -> tuple[int, str, dict[str, str]]:
        """What a browser gets by https, which checks the certificate for the name that it asks for."""
        with self.connected(sni or host) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            response = http.client.HTTPResponse(connection)
            response.begin()
            return response.status, response.read().decode(), dict(response.getheaders())

    def connected(self, name: str) -> ssl.SSLSocket:
        """A connection, its certificate checked. Raises `ssl.SSLCertVerificationError`."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        try:
            return self.trusting.wrap_socket(connection, server_hostname=name)
        except BaseException:
            connection.close()
            raise

    def serial(self, name: str) -> object:
        """Which certificate is shown for a name."""
        with self.connected(name) as connection:
            return (connection.getpeercert() or {})["serialNumber"]


@pytest.mark.long
def test_a_project_is_served_at_its_domain_by_tls(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.platform as platform:
        settings = '[build]\ninstall = ""\nbuild = "sh make.sh"\noutput = "site"\n'
        script = "mkdir site\necho $URL > site/index.html\nhead -c 3000000 /dev/zero > site/large.bin\n"
        platform.add_project("shop", platform.repository({".twistedipc.toml": settings, "make.sh": script}))
        platform.succeed(platform.build("shop"))
        assert site.get("shop.pages.example")[:2] == (200, f"https://shop.pages.example:{site.port}\n")
        assert site.get("acme.example")[0] == 421

        said = platform.command("project", "domain", "add", "shop", "acme.example")
        assert f"https://acme.example:{site.port}/, its main domain" in said.stderr, said
        platform.command("project", "domain", "add", "shop", "www.acme.example", "--redirect")
        build = platform.build("shop")
        platform.succeed(build)
        assert platform.api("GET", f"/api/v1/builds/{build}")["release_url"] == f"https://acme.example:{site.port}/"
        status, page, headers = site.get("acme.example")
        assert (status, page) == (200, f"https://acme.example:{site.port}\n"), "what its build was told"
        assert headers["Strict-Transport-Security"] == "max-age=31536000"
        assert site.get("acme.example", "/large.bin")[1] == "\0" * 3_000_000
        status, _, headers = site.get("www.acme.example", "/a?b=c")
        assert (status, headers["Location"]) == (308, f"https://acme.example:{site.port}/a?b=c")
        shown = platform.api("GET", "/api/v1/projects/shop/domains")["domains"]
        assert [(each["name"], each["certificate_ends"] is not None) for each in shown] == [
            ("acme.example", True),
            ("www.acme.example", True),
        ]
        assert platform.api("GET", "/api/v1/projects/shop")["release_url"] == f"https://acme.example:{site.port}/"

        connection = http.client.HTTPConnection("127.0.0.1", site.plain, timeout=30)
        connection.request("GET", "/x?y", headers={"Host": "acme.example"})
        response = connection.getresponse()
        assert (response.status, response.getheader("Location")) == (308, f"https://acme.example:{site.port}/x?y")
        connection.close()

        for host in ("x.acme.example", "acme.example.evil.example", "acme.example@evil.example", "api.acme.example"):
            assert site.get(host, sni="acme.example")[0] == 421, host
        with pytest.raises(urllib.error.HTTPError, match="421"):
            platform_at(platform, "acme.example")

        before = site.serial("acme.example")
        site.issue("acme", "acme.example", "new.acme.example")
        os.kill(platform.apiserver.pid, signal.SIGHUP)
        wait_for("the new certificate", lambda: site.serial("acme.example") != before)
        platform.command("project", "domain", "add", "shop", "new.acme.example", "--main")
        assert site.get("new.acme.example")[0] == 200
        assert site.get("acme.example")[0] == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            site.connected("www.acme.example")

        before = site.serial("acme.example")
        (tmp_path / "acme.pem").write_text("broken")
        os.kill(platform.apiserver.pid, signal.SIGHUP)
        os.kill(platform.apiserver.pid, signal.SIGHUP)
        wait_for("it is said", lambda: "holds no certificate in PEM" in platform.apiserver.text(), 60)
        assert site.serial("acme.example") == before
        looked = platform.command("doctor", str(tmp_path / "apiserver.toml"))
        assert "acme.pem holds no certificate in PEM" in looked.stdout
        platform.command("project", "domain", "remove", "shop", "new.acme.example")
        assert site.get("new.acme.example", sni="acme.example")[0] == 421


def platform_at(platform: Platform, host: str) -> None:
    """The API, asked by this name."""
    import urllib.request

    request = urllib.request.Request(f"{platform.url}/api/v1/projects", headers={"Host": host})
    urllib.request.urlopen(request, timeout=30).close()
