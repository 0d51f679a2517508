"""A real PgBouncer for tests, before a `tests.postgres.PostgreSQL`."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.postgres import DEADLINE, PostgreSQL


@contextlib.contextmanager
def running_pgbouncer(server: PostgreSQL, mode: str) -> Iterator[str]:
    """
    Return the address of the server's database through a pooler that runs meanwhile. ``mode``: when the server's
    connection is given to another client: after each ``session``, ``transaction`` or ``statement``. The test is skipped
    where there is no PgBouncer.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer isn't installed")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="pgbouncer-", dir="/tmp") as name:
        folder = Path(name)
        (folder / "users").write_text('"tests" ""\n')
        (folder / "pgbouncer.ini").write_text(
            f"""\
[databases]
* = host={server.folder}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = {mode}
"""
        )
        options: list[str] = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")  # it refuses to run as root
            for each in (folder, *folder.iterdir()):
                os.chown(each, user.pw_uid, user.pw_gid)
            options = ["-u", "postgres"]
        running = subprocess.Popen(
            [program, *options, folder / "pgbouncer.ini"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            end = time.monotonic() + DEADLINE
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                assert running.poll() is None, "PgBouncer has ended"
                assert time.monotonic() < end, "PgBouncer doesn't start"
                time.sleep(0.02)
            yield f"postgresql://tests@127.0.0.1:{port}/postgres"
        finally:
            running.terminate()
            running.wait(DEADLINE)
