"""
Steps in the network of an attempt, for tests: ``python network_steps.py`` reads what they are from its input, as JSON,
and writes what came of it. It runs as the user who starts it, and in whatever network that is in.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import msgspec

from twistedipc.isolation.network.attempt import Allowed, AttemptNetwork, Joined

#: What a step runs: it connects to each place, sends a line, and says what it got.
TRY = r"""
import json, socket, sys
found = []
for host, port, text in json.loads(sys.argv[1]):
    try:
        with socket.create_connection((host, port), timeout=10) as made:
            made.sendall(text.encode())
            made.shutdown(socket.SHUT_WR)
            got = b""
            while data := made.recv(65536):
                got += data
        found.append(got.decode("latin-1"))
    except OSError as error:
        found.append(f"{type(error).__name__}: {error}")
print(json.dumps(found))
"""


def sandbox(joined: Joined, command: list[str], resolv: str) -> str:
    """Run a command in a sandbox that is in the network, and return what it printed."""
    libc = ctypes.CDLL(None, use_errno=True)

    def join() -> None:
        for descriptor in joined.namespaces:
            if libc.setns(descriptor, 0):
                os._exit(99)

    argv = [
        *("bwrap", "--unshare-user", "--unshare-pid", "--disable-userns", "--cap-drop", "ALL", "--uid", "1000"),
        *("--gid", "1000", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/mnt"),
        *("--ro-bind", resolv, "/etc/resolv.conf", "--die-with-parent", "--chdir", "/mnt", "--", *command),
    ]
    environment = {"PATH": os.environ["PATH"], "HOME": "/mnt", **joined.environment}
    done = subprocess.run(
        argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=join, timeout=100, text=True
    )
    return done.stdout


def main() -> None:
    """Run the steps."""
    asked = json.load(sys.stdin)
    network = AttemptNetwork(asked["engine"], asked["program"], [tuple(each) for each in asked.get("ours", [])])
    with tempfile.NamedTemporaryFile() as resolv:
        resolv.write(b"nameserver 127.0.0.1\n")
        resolv.flush()
        os.chmod(resolv.name, 0o644)
        said = []
        for number, step in enumerate(asked["steps"]):
            began = time.monotonic()
            joined = network.join(f"step {number}", msgspec.convert(step["reach"], Allowed))
            took = time.monotonic() - began
            if "tries" in step:
                command = [sys.executable, "-I", "-S", "-c", TRY, json.dumps(step["tries"])]
                output = json.loads(sandbox(joined, command, resolv.name))
            else:
                output = sandbox(joined, step["command"], resolv.name)
            refused = [[each.host, each.port, each.why] for each in network.ended()]
            said.append({"output": output, "refused": refused, "took": took})
    egress = msgspec.to_builtins(network.report())
    process = network.process
    if asked.get("die"):
        json.dump({"steps": said, "egress": egress, "process": process}, sys.stdout)
        sys.stdout.flush()
        os.kill(os.getpid(), 9)
    network.close()
    os.waitpid(process, 0)
    json.dump({"steps": said, "egress": egress, "process": process}, sys.stdout)


if __name__ == "__main__":
    main()
