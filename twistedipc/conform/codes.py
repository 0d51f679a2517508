"""The codes of the handshake (docs/protocol.md, "The handshake", "Named keys"). Pure; used by ``meeting``."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: A frame, as JSON has it.
Frame = Mapping[str, Any]

HELLO = "twistedipc link hello"
WELCOME = "twistedipc link welcome"

_KEY = re.compile(rb"(?:([A-Za-z0-9._-]{1,64}):)?([0-9a-fA-F]{64})\s*\Z")


@dataclass(frozen=True)
class Key:
    """The shared key, or, with an id, a named one."""

    secret: bytes
    id: str = ""


def read_key(path: Path) -> Key:
    """Return the key in a file. Raises OSError, ValueError."""
    found = _KEY.match(path.read_bytes())
    if found is None:
        raise ValueError(f"{path} holds no key: 64 hexadecimal digits, of a named key with its id and a colon before")
    return Key(bytes.fromhex(found[2].decode()), (found[1] or b"").decode())


def code(key: Key | None, label: str, fields: Sequence[str]) -> str:
    """Return the code over these fields; "" without a key."""
    if key is None:
        return ""
    mac = hmac.new(key.secret, digestmod=hashlib.sha256)
    for field in (label, *fields):
        data = field.encode()
        mac.update(len(data).to_bytes(4, "big") + data)
    return mac.hexdigest()


def of_service(challenge: Frame, service: str) -> dict[str, Any]:
    """Return the challenge as it is for a dialler that wants this service."""
    own = {name: value for name, value in challenge.items() if name not in ("role", "frame_limit", "keys", "features")}
    found = next((each for each in challenge.get("services", ()) if each["role"] == service), {"role": service})
    return {**own, **found}


def agreed(challenge: Frame, hello: Frame) -> list[str]:
    """Return the fields of both codes that follow their label."""
    services = []
    if "service" in hello:
        roles = [each["role"] for each in challenge.get("services", ())]
        services = [f"services {','.join(roles)} {hello['service']}"]
        challenge = of_service(challenge, hello["service"])
    fields = [",".join(map(str, challenge["versions"])), challenge["role"], challenge["name"], challenge["nonce"]]
    fields += [str(hello["version"]), hello["role"], hello["name"], hello["incarnation"], hello["nonce"]]
    if "frame_limit" in hello and "frame_limit" in challenge:
        fields += [str(challenge["frame_limit"]), str(hello["frame_limit"])]
    if "keys" in hello:
        fields.append("keys " + ",".join(each["id"] for each in hello["keys"]))
    if "features" in hello and "features" in challenge:
        fields.append(f"features {','.join(challenge['features'])} {','.join(hello['features'])}")
    return fields + services


def of_welcome(fields: Sequence[str], welcome: Frame) -> list[str]:
    """Return the fields of the code in a welcome."""
    mine = [*fields, str(welcome["incarnation"]), str(welcome["heartbeat"])]
    return [*mine, f"key {welcome['key']}"] if "key" in welcome else mine
