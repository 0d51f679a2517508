"""
The programs that connect a namespace with the network of this machine: their command lines. Pure.

Each is given the process whose namespace it is to connect, and makes the interface `TAP` there. The namespace's own
routes say what may be sent to it (``holder``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

#: What gives a step of the mode ``open`` its network. "gate": connections go through the gate alone. "loopback": the
#: same without a namespace; the gate's proxy is at this machine's own loopback address, and asks for a password.
Engine = Literal["pasta", "slirp4netns", "gate", "loopback"]

TAP = "tap0"

#: The network between the namespace and its engine. It is for documentation (RFC 5737): nobody's on the internet.
LINK = "198.51.100.0/24"


def command(engine: Engine, program: str, pid: int) -> Sequence[str]:
    """Return the command line that connects the network namespace of a process."""
    if engine == "pasta":
        # By its defaults pasta forwards the ports that are open on either side, and the gateway's address is this
        # machine's loopback: all of that is turned off.
        nothing = ["--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none", "--no-map-gw"]
        link = ["--ns-ifname", TAP, "--address", "198.51.100.2", "--netmask", "24", "--gateway", "198.51.100.1"]
        return [
            program,
            "--foreground",
            "--quiet",
            "--ipv4-only",
            "--config-net",
            "--no-dhcp",
            *link,
            *nothing,
            str(pid),
        ]
    assert engine == "slirp4netns"
    return [program, "--configure", "--disable-host-loopback", "--disable-dns", "--cidr", LINK, str(pid), TAP]
