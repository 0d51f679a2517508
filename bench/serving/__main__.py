"""
``python -m bench.serving``: small files over 100 connections, in requests for a second of the server's processor time.

The servers serve the same 100 files of 2 kB from a folder, one process each. What other programs do meanwhile takes
time from them, but no processor time.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.common.processes import found, python
from bench.common.records import Bar, Question
from bench.common.runs import Asked, Candidate, Measured, command

OURS = "the releases' site"
TWISTED = "Twisted's static.File"
NGINX = "nginx"
CADDY = "Caddy"

CONNECTIONS = 100
FILES = 100
SIZE = 2048

_NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit; user root;
events {{ worker_connections 1024; }}
http {{
  include /etc/nginx/mime.types; access_log off; sendfile on; keepalive_requests 1000000; etag on;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{ listen 127.0.0.1:{port}; root {folder}/site; }}
}}
"""


def questions(options: Namespace) -> Iterator[Asked]:
    """The one that there is."""
    requests = 2_000 if options.quick else 20_000
    yield (
        Question(
            name="serving/small",
            title="Small files, 100 connections: requests for a second of the server's processor time",
            unit="requests/s",
            ours=OURS,
            bars={TWISTED: Bar(1.0)},
        ),
        [Candidate(name, partial(_measure, name, requests)) for name in (OURS, TWISTED, NGINX, CADDY)],
    )


def _measure(name: str, requests: int) -> Measured:
    with tempfile.TemporaryDirectory(prefix="twistedipc-bench-") as base:
        folder = Path(base)
        folder.chmod(0o755)
        (folder / "site").mkdir()
        for number in range(FILES):
            (folder / f"site/file-{number}.txt").write_bytes(os.urandom(SIZE // 2).hex().encode())
        with subprocess.Popen(_command(name, folder, port := _free_port()), stdout=subprocess.PIPE) as server:
            try:
                if name in (OURS, TWISTED):
                    assert server.stdout is not None
                    port = int(server.stdout.readline())
                asyncio.run(_load(port, CONNECTIONS * 2))  # what is read once, is read
                before, began = _processor_time(server.pid), time.monotonic()
                asyncio.run(_load(port, requests))
                wall, used = time.monotonic() - began, _processor_time(server.pid) - before
            finally:
                server.terminate()
    return Measured(
        requests / used, {"by the clock, requests/s": requests / wall, "µs of processor": 1e6 * used / requests}
    )


def _command(name: str, folder: Path, port: int) -> list[str]:
    if name == NGINX:
        (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, port=port))
        return [found("nginx", "Debian's nginx-light"), "-c", str(folder / "nginx.conf")]
    if name == CADDY:
        return [found("caddy", "Caddy"), "file-server", "--root", str(folder / "site"), "--listen", f"127.0.0.1:{port}"]
    return python("bench.serving.server", "ours" if name == OURS else "twisted", folder)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def _processor_time(pid: int) -> float:
    """Seconds that a process and its children have used."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ticks = 0
    for each in (pid, *children):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def _load(port: int, requests: int) -> None:
    """Ask for files, one after the other on each connection. Every answer must be whole."""
    each = requests // CONNECTIONS
    await asyncio.gather(*(_connection(port, number, each) for number in range(CONNECTIONS)))


async def _connection(port: int, number: int, requests: int) -> None:
    reader, writer = await _connected(port)
    for count in range(requests):
        path = f"/file-{(number + count) % FILES}.txt"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: shop.localhost\r\nAccept-Encoding: gzip\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 ") or f"content-length: {SIZE}\r\n".encode() not in head.lower():
            raise AssertionError(head)
        await reader.readexactly(SIZE)
    writer.close()


async def _connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    deadline = time.monotonic() + 20
    while True:
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    command("bench.serving", questions)
