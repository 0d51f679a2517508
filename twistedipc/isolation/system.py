"""
What all steps see of the machine, for reading only: its programs and libraries, some files of /etc by name, the
programs on the builds' PATH, and the Python with which the platform's own steps run. Used by ``runner`` and ``probe``.

Never a home folder, /var, /run or /srv, nor /etc as a whole: there are keys in it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from twistedipc.isolation.reach import USER, Reach

_FOLDERS = ("/usr", "/opt", "/sys/devices/system/cpu", "/nix/store")

#: Links into /usr on today's systems, folders on others.
_MERGED = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")

#: What is read of /etc: how names are looked up, which certificates are trusted, where programs and fonts are.
_ETC = (
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "fonts",
    "gai.conf",
    "gitconfig",
    "host.conf",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "pki/ca-trust",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "pki/tls/openssl.cnf",
    "protocols",
    "services",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
)

#: Variables that name files which programs need to trust a registry or a host.
_CERTIFICATES = (
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "NODE_EXTRA_CA_CERTS",
    "NPM_CONFIG_CAFILE",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "npm_config_cafile",
    "npm_config_globalconfig",
)

#: What of a tool's own folder (the one in which its ``bin`` is) belongs to it.
_PARTS = ("bin", "include", "lib", "lib64", "libexec", "sbin", "share")

#: The same of a folder of shims: small scripts by which a manager of versions (pyenv, nodenv, rbenv, asdf) finds the
#: program.
_OF_SHIMS = ("bin", "installs", "lib", "libexec", "plugins", "version", "versions")

#: Commands on PATH that often are links to somewhere else.
_COMMANDS = ("node", "npm", "npx", "corepack", "yarn", "pnpm", "bun", "git", "git-lfs", "python3")


def system(path: str, environment: Mapping[str, str], *, home: str, readable: Iterable[str] = ()) -> Reach:
    """
    Return what every step can read of this machine.

    :param path: PATH of the steps
    :param environment: the operator's variables for all steps
    :param home: the step's home
    :param readable: what the operator lets all steps read
    """
    links: dict[str, str] = {}
    folders = list(_FOLDERS)
    for merged in _MERGED:
        if os.path.islink(merged):
            links[merged] = os.readlink(merged)
        else:
            folders.append(merged)
    folders += _python()
    for name in _COMMANDS:
        folders += _of_command(path, name)
    for folder in path.split(":"):
        if os.path.isabs(folder):
            folders += _of_tool(folder)
    folders += [environment[name] for name in _CERTIFICATES if os.path.isabs(environment.get(name, ""))]
    folders += readable
    names = [*_ETC, *(name for name in os.listdir("/etc") if name.startswith("java-"))]
    return Reach(
        readable=_there(folder for folder in folders if folder not in links),
        # Some are links to places that no step sees, such as /run.
        elsewhere={
            f"/etc/{name}": os.path.realpath(f"/etc/{name}") for name in names if os.path.exists(f"/etc/{name}")
        },
        links=links,
        files={
            "/etc/passwd": passwd(home),
            # Names are resolved by the attempt's gate.
            "/etc/resolv.conf": b"nameserver 127.0.0.1\noptions timeout:10 attempts:2\n",
            "/etc/group": f"build:x:{USER}:\n".encode(),
        },
    )


def passwd(home: str) -> bytes:
    """Return an /etc/passwd with nobody in it but the user of the step."""
    return f"build:x:{USER}:{USER}::{home}:/bin/sh\n".encode()


def _python() -> list[str]:
    """Return what the Python of this process needs, and this package."""
    packages = [folder for folder in sys.path if os.path.basename(folder) in ("site-packages", "dist-packages")]
    return [sys.prefix, sys.base_prefix, sys.exec_prefix, *packages, str(Path(__file__).parent.parent)]


def _of_command(path: str, name: str) -> list[str]:
    """Return what belongs to the first command of this name on a PATH, if it is a link to somewhere else."""
    for folder in path.split(":"):
        file = os.path.join(folder, name)
        if os.path.isabs(file) and os.access(file, os.X_OK):
            real = os.path.realpath(file)
            return [] if real == file else _of_tool(os.path.dirname(real))
    return []


def _of_tool(folder: str) -> list[str]:
    """Return what a folder of commands needs of the folders beside it."""
    found = [folder, os.path.realpath(folder)]
    above = os.path.dirname(found[1])
    # ~/.local/share has keyrings and the like.
    parts = _PARTS if not os.path.basename(above).startswith(".") else ("bin", "lib")
    if os.path.basename(found[1]) in ("bin", "sbin") and above != "/":
        found += [os.path.join(above, part) for part in parts]
    if os.path.basename(found[1]) == "shims":
        found += [os.path.join(above, part) for part in _OF_SHIMS]
    return found


def _there(folders: Iterable[str]) -> list[str]:
    """Return those of these paths that are there, each once."""
    return [path for path in sorted({os.path.normpath(folder) for folder in folders} - {"/"}) if os.path.exists(path)]
