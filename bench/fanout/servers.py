"""The peers as processes on the server's core; see `peers` for what they are."""

from __future__ import annotations

import importlib.util
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from bench.common.processes import SERVER_CORE, Failed, Missing, Program, found, node, python
from bench.fanout.viewers import DEADLINE, Serving, compiled
from tests.ports import free_port

_PEERS = Path(__file__).with_name("peers")

#: Where Debian's package has it.
_NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")

_NGINX = """\
load_module {module};
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log stderr error;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  client_body_buffer_size 64k;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  nchan_shared_memory_size 1g;
  keepalive_requests 1000000000;
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location /view {{
      nchan_subscriber websocket;
      nchan_channel_id log;
      nchan_subscriber_first_message newest;
    }}
    location /feed {{
      nchan_publisher http;
      nchan_channel_id log;
      nchan_message_buffer_length 1000000;
      nchan_message_timeout 60s;
    }}
  }}
}}
"""


@contextmanager
def served(command: Callable[[int, int], Sequence[str]]) -> Iterator[Serving]:
    """A peer, by its command for two ports, once it is ready."""
    port, feed_port = free_port(), free_port()
    with Program(command(port, feed_port), core=SERVER_CORE) as program:
        program.said(DEADLINE)
        yield Serving(program=program, port=port, feed_port=feed_port)


def ws(form: str) -> AbstractContextManager[Serving]:
    """Node's ws; ``form`` is line or batch."""
    if not Path("bench/node_modules/ws").exists():
        raise Missing("ws isn't here: npm install --prefix bench")
    return served(lambda port, feed: node(_PEERS / "ws.js", port, feed, form))


def on(package: str, *form: str) -> AbstractContextManager[Serving]:
    """A peer in Python, on this package."""
    if importlib.util.find_spec(package) is None:
        raise Missing(f"{package} isn't here: pip install {package}")
    return served(lambda port, feed: python(f"bench.fanout.peers.on_{package}", port, feed, *form))


def limit() -> AbstractContextManager[Serving]:
    """The C program."""
    program = compiled(_PEERS / "limit.c")
    return served(lambda port, feed: [program, str(port), str(feed)])


@contextmanager
def nchan(posts: int) -> Iterator[Serving]:
    """nchan in nginx, with one worker; lines come by POST, of which so many may be unanswered."""
    if not _NCHAN.exists():
        raise Missing("nchan isn't here: apt-get install nginx-light libnginx-mod-nchan")
    nginx = found("nginx", "nginx-light")
    with tempfile.TemporaryDirectory() as name:
        port = free_port()
        config = Path(name) / "nginx.conf"
        config.write_text(_NGINX.format(module=_NCHAN, folder=name, port=port))
        with Program([nginx, "-c", str(config), "-p", name], core=SERVER_CORE) as program:
            _listens(port)
            yield Serving(
                program=program,
                port=port,
                feed_port=port,
                path="/view",
                feed_form="post",
                feed_path="/feed",
                posts=posts,
            )


def _listens(port: int) -> None:
    until = time.monotonic() + DEADLINE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > until:
                raise Failed(f"nothing listens at {port}") from None
            time.sleep(0.02)
        else:
            return
