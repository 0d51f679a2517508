"""Whole attempts whose steps are in networks of their own: what they reach, what they are refused, what is told."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.test_isolation_attempts import attempt
from tests.test_isolation_bubblewrap import needs_bubblewrap
from tests.test_isolation_network import own_address, serving
from twistedipc.builds.egress import Network
from twistedipc.builds.registries import Registry
from twistedipc.builds.settings import BuildSettings

pytestmark = needs_bubblewrap


def connect(*places: tuple[str, int]) -> str:
    """A command that connects to each of these places, and says which answers."""
    program = (
        "import socket,sys\n"
        "for place in sys.argv[1:]:\n"
        "  host, _, port = place.rpartition(':')\n"
        "  try:\n"
        "    with socket.create_connection((host, int(port)), timeout=10) as made:\n"
        "      made.sendall(b'x'); made.shutdown(1); print(place, made.recv(99).decode())\n"
        "  except OSError as error: print(place, type(error).__name__)\n"
    )
    words = " ".join(f"{host}:{port}" for host, port in places)
    return f'{sys.executable} -I -S -c "{program}" {words}'


def test_a_step_is_refused_this_machine_and_the_log_says_what_to_set(tmp_path: Path) -> None:
    own = own_address()
    with serving("0.0.0.0") as port, serving("127.0.0.1") as allowed:
        one = attempt(
            tmp_path,
            connect(("127.0.0.1", allowed), ("127.0.0.1", port), (own, port)),
            network=Network(operators=[f"127.0.0.1:{allowed}"]),
            settings=BuildSettings(network="registries"),
        )
        result = one.run()
    assert result.outcome == "succeeded", (result.reason, one.output())
    assert [line.split()[1:] for line in one.output(1)] == [
        ["you", "said", "x"],
        ["ConnectionRefusedError"],
        ["ConnectionRefusedError"],
    ]
    assert result.egress is not None
    assert [(each.host, each.port, bool(each.why)) for each in result.egress.contacts] == [
        ("127.0.0.1", allowed, False),
        (own, port, True),
    ]


def test_a_step_without_a_network_reaches_nothing_even_if_it_is_allowed(tmp_path: Path) -> None:
    with serving("127.0.0.1") as allowed:
        one = attempt(
            tmp_path,
            connect(("127.0.0.1", allowed)),
            network=Network(operators=[f"127.0.0.1:{allowed}"]),
            settings=BuildSettings(network="none"),
        )
        result = one.run()
    assert result.outcome == "succeeded", (result.reason, one.output())
    assert one.output(1)[0].endswith("ConnectionRefusedError")


def test_a_host_that_the_last_green_build_did_not_use_fails_the_step(tmp_path: Path) -> None:
    with serving("127.0.0.1") as port:
        one = attempt(
            tmp_path,
            connect(("127.0.0.1", port)) + " || true",
            network=Network(used=["registry.example.org"]),
            settings=BuildSettings(network="registries", egress="ask"),
            registries=[Registry(address=f"http://127.0.0.1:{port}/")],
        )
        result = one.run()
    assert result.outcome == "failed"
    new = f"127.0.0.1:{port}"
    assert f"it contacted {new}, and the last build that succeeded didn't use it" in result.reason
    assert 'twistedipc project set demo --host "127.0.0.1"' in result.reason


ASK = """
import os, socket, sys
proxy = os.environ.get("HTTPS_PROXY", "").rpartition("/")[2].split(":")
if proxy == [""]:
    sys.exit("no proxy")
made = socket.create_connection(proxy, timeout=10)
made.sendall(b"CONNECT tracker.example.org:443 HTTP/1.1" + bytes([13, 10, 13, 10]))
print(made.recv(4096).decode().splitlines()[-1])
sys.exit(3)
"""


def test_a_step_may_ask_for_less_and_the_log_says_what_it_was_refused(tmp_path: Path) -> None:
    command = f"{sys.executable} -I -S ask.py"
    alone = f'{{name = "alone", run = "{command} || true", network = "none"}}'
    file = f'[build]\nsteps = [{alone}, "{command}"]\n'
    files = {".twistedipc.toml": file, "ask.py": ASK}
    one = attempt(tmp_path, files=files, settings=BuildSettings(network="registries"))
    result = one.run()
    refused = "the network refused tracker.example.org:443: it isn't one of the hosts"
    assert result.outcome == "failed"
    assert result.reason.count(refused) == 1
    assert one.output(1) == ["no proxy"]
    assert one.output(2)[0].startswith(refused)
    (noted,) = [note for note in one.notices() if refused in note]
    assert noted.endswith('If its builds need it: twistedipc project set demo --host "tracker.example.org"')
