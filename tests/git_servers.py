"""
Real servers of git repositories for tests: over ssh (sshd with a forced git-shell), and over http with basic auth
(git http-backend, and Git LFS in its basic form).
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.attempt_folder import until
from tests.ports import free_port

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")

needs_sshd = pytest.mark.skipif(SSHD is None or shutil.which("ssh") is None, reason="needs sshd and ssh (OpenSSH)")
needs_lfs = pytest.mark.skipif(shutil.which("git-lfs") is None, reason="needs git-lfs")


class SshServer:
    """An sshd on a port of 127.0.0.1, for one deploy key at a time, that only runs git-shell."""

    def __init__(self, folder: Path) -> None:
        assert SSHD is not None
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        self.port = free_port()
        self.authorized = folder / "authorized_keys"
        self.authorized.write_text("")
        self.new_host_key()

    def new_host_key(self) -> None:
        """Make the host's key, or another one."""
        key = self.folder / "host_key"
        for path in (key, key.with_suffix(".pub")):
            path.unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)

    @property
    def host_key(self) -> str:
        """Its public half: type and key."""
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    def address(self, repository: Path) -> str:
        """The address of a repository of this machine."""
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{repository}"

    def start(self) -> None:
        """Listen."""
        assert SSHD is not None
        config = self.folder / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host_key\nPidFile none\n"
            f"AuthorizedKeysFile {self.authorized}\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
            f"PasswordAuthentication no\nKbdInteractiveAuthentication no\nSetEnv GIT_CONFIG_COUNT=1 "
            f"GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=*\n"
            f'ForceCommand git-shell -c "$SSH_ORIGINAL_COMMAND"\n'
        )
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=log, stdin=subprocess.DEVNULL)
        log.close()
        until(self._listens, "sshd listens")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Accept connections, and say nothing, while the block runs."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Listen no more."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None


class HttpServer:
    """The repositories below a folder over http, for who knows user and token; large files too."""

    def __init__(self, folder: Path, *, user: str = "x-access-token", token: str = "the-token-of-this-server") -> None:
        self.folder = folder
        self.user, self.token = user, token
        self.asked: list[tuple[str, str]] = []  # the path of each request, and its Authorization
        self.large: dict[str, bytes] = {}  # of Git LFS, by their ids
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"server_of_git": self}))
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def put_large(self, data: bytes) -> str:
        """Have a large file. Return the pointer to it."""
        oid = hashlib.sha256(data).hexdigest()
        self.large[oid] = data
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n"

    def stop(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server_of_git: HttpServer
    protocol_version = "HTTP/1.0"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """Answer any request."""
        of_git = self.server_of_git
        authorization = self.headers.get("Authorization", "")
        of_git.asked.append((self.path, authorization))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        expected = base64.b64encode(f"{of_git.user}:{of_git.token}".encode()).decode()
        if "/open/" not in self.path and authorization != f"Basic {expected}":
            self._answer(401, b"", WWW_Authenticate='Basic realm="git"')
        elif self.path.endswith("/info/lfs/objects/batch"):
            self._batch(json.loads(body))
        elif "/lfs-object/" in self.path:
            self._answer(200, of_git.large[self.path.rpartition("/")[2]])
        else:
            self._backend(body)

    do_POST = do_GET

    def _batch(self, request: dict[str, list[dict[str, object]]]) -> None:
        of_git = self.server_of_git
        objects = []
        for each in request["objects"]:
            if each["oid"] in of_git.large:
                href = {"href": f"{of_git.url}/lfs-object/{each['oid']}"}
                objects.append({**each, "authenticated": False, "actions": {"download": href}})
            else:
                objects.append({**each, "error": {"code": 404, "message": "it isn't here"}})
        answer = json.dumps({"transfer": "basic", "objects": objects}).encode()
        self._answer(200, answer, Content_Type="application/vnd.git-lfs+json")

    def _backend(self, body: bytes) -> None:
        parts = urlsplit(self.path)
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.server_of_git.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "3",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "GIT_CONFIG_KEY_1": "uploadpack.allowFilter",
            "GIT_CONFIG_VALUE_1": "true",
            "GIT_CONFIG_KEY_2": "uploadpack.allowAnySHA1InWant",
            "GIT_CONFIG_VALUE_2": "true",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "HTTP_GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "git",
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        status, headers = 200, {}
        for line in head.decode("latin-1").split("\r\n"):
            name, _, value = line.partition(": ")
            if name.lower() == "status":
                status = int(value.split()[0])
            elif name:
                headers[name.replace("-", "_")] = value
        self._answer(status, content, **headers)
