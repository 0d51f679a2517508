"""What is uploaded, against what real npm uploads of the same tarball; and stages against real npm's requests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import registry as registries
from tests.package_registry import archive
from tests.registry import OTP, TOKEN, Registry
from tests.registry.server import Asked
from twistedipc.publish.targets.npm.client import Client
from twistedipc.publish.targets.npm.registry import Kind, Stage
from twistedipc.registries.connection import Connection
from twistedipc.registries.npmrc import Npmrc

NPM = shutil.which("npm")

# Compared with npm 10.9, 11.19, 11.21 and 12.2. npm 10 writes ".git" behind an address at sourcehut, where there is no
# such path; npm 11 and older add the script `start` where there is a server.js.

#: What names the client in a version: npm's and Node's version, and where the tarball is at the client.
OF_THE_CLIENT = ("_npmVersion", "_nodeVersion", "_from", "_resolved")

README = "# Widget\n\nA widget\nfor all.\n\nMore of it: ä 𝄞\n"

#: Packages that show what npm makes of a package.json: (package.json beside name and version, other files).
CASES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "nothing": ({}, {}),
    "texts": ({}, {"README.md": README, "AUTHORS": "Ada <ada@example.org>\n# a note\n\nBo\n"}),
    "readme-plain": ({}, {"README": "plain\n", "README.txt": "not this one\n"}),
    "readme-small": ({"readme": "", "description": "said"}, {"readme.markdown": "\ufeffsmall letters\r\n"}),
    "readme-given": ({"readme": "given", "readmeFilename": "x"}, {"README.md": README}),
    "readme-elsewhere": ({}, {"docs/README.md": README, "README.html": "<p>"}),
    "gyp": ({"scripts": {"test": "node_modules/.bin/mocha", "odd": 7}}, {"binding.gyp": "{}", "server.js": "1\n"}),
    "gyp-no": ({"gypfile": False, "scripts": {"start": "x"}}, {"binding.gyp": "{}", "server.js": "1\n"}),
    "gyp-own": ({"scripts": {"preinstall": "x"}}, {"binding.gyp": "{}", "lib/server.js": "1\n"}),
    "bin-text": ({"bin": "./cli.js"}, {"cli.js": "1\n"}),
    "bin-list": ({"bin": ["./bin/a.js", "b.js"]}, {"bin/a.js": "1\n", "b.js": "1\n"}),
    "bin-odd": (
        {
            "bin": {"../up": "../../etc/x", "a/b": "c.js", "n": 7, "e": "", "w": ".\\win\\x.js", "ok": "x/"},
            "man": "./a.1",
        },
        {"c.js": "1\n"},
    ),
    "directories": (
        {"directories": {"bin": "./bin", "man": "man", "doc": "x"}},
        {
            "bin/a": "1\n",
            "bin/sub/b": "1\n",
            "bin/.hidden": "1\n",
            "man/a.1": "x",
            "man/deep/b.7": "x",
            "man/c.txt": "x",
        },
    ),
    "directories-and-bin": ({"directories": {"bin": "bin"}, "bin": {"x": "y.js"}, "man": ["b.1", 7]}, {"bin/a": "1\n"}),
    "bundled": ({"bundledDependencies": ["a", "", "b"], "dependencies": {"a": "1"}}, {}),
    "bundled-all": ({"bundleDependencies": True, "dependencies": {"a": "1", "b": "2"}}, {}),
    "bundled-object": ({"bundleDependencies": {"a": "1"}}, {}),
    "bundled-not": ({"bundleDependencies": False}, {}),
    "types": ({"main": "./lib/index.js"}, {"lib/index.js": "1\n", "lib/index.d.ts": "1\n"}),
    "types-default": ({}, {"index.js": "1\n", "index.d.ts": "1\n"}),
    "types-given": ({"typings": "x.d.ts"}, {"index.js": "1\n", "index.d.ts": "1\n"}),
    "repository-short": ({"repository": "acme/ui", "bugs": "bugs@example.org", "homepage": "example.org"}, {}),
    "repository-ssh": ({"repository": {"type": "git", "url": "git@github.com:acme/ui.git", "directory": "x"}}, {}),
    "repository-https": ({"repository": {"url": "https://user:pw@gitlab.com/acme/team/ui.git#next"}}, {}),
    "repository-git": (
        {"repository": {"url": "git://github.com/acme/ui"}, "bugs": {"web": "https://b.example.org"}},
        {},
    ),
    "repository-gist": ({"repository": "gist:11081aaa281"}, {}),
    "repository-bitbucket": ({"repository": "bitbucket:acme/ui#dev", "bugs": {"email": "nothing"}}, {}),
    "repository-sourcehut": ({"repository": "https://git.sr.ht/~acme/ui"}, {}),
    "repository-tree": ({"repository": "https://www.github.com/acme/ui/tree/next"}, {}),
    "repository-other": ({"repository": "https://git.example.org/acme/ui.git", "bugs": "nothing", "homepage": 7}, {}),
    "repositories": ({"repositories": [{"type": "git", "url": "github:acme/ui"}]}, {}),
    "dependencies": (
        {
            "dependencies": {"a": "acme/ui", "b": "git+ssh://git@github.com/acme/ui.git#v1", "c": "^1", "d": "npm:x@1"},
            "devDependencies": {"e": "gitlab:acme/ui", "f": 7, "g": "https://github.com/acme/ui/archive/x.tgz"},
            "optionalDependencies": {"h": "acme/ui", "c": "^1"},
            "peerDependencies": {"i": "acme/ui"},
        },
        {},
    ),
    "dependencies-odd": (
        {"dependencies": "a@1 b, c@>=2", "optionalDependencies": ["d@^1", "e"], "devDependencies": None},
        {},
    ),
    "people": (
        {
            "author": "Ada Lovelace <ada@example.org> (https://ada.example.org)",
            "contributors": [{"name": "Bo", "mail": "bo@example.org", "web": "https://bo.example.org"}, "Cy"],
            "maintainers": [{"email": "di@example.org"}],
        },
        {"AUTHORS": "nobody\n"},
    ),
    "lists": (
        {
            "keywords": "a, b,c",
            "files": ["x", "", 7],
            "modules": {"a": 1},
            "description": ["odd"],
            "funding": "https://f",
        },
        {"README.md": README},
    ),
    "lists-odd": ({"keywords": {"a": 1}, "files": "x", "contributors": "x", "license": 7, "bugs": {"name": "x"}}, {}),
    "own": (
        {"_hidden": 1, "_id": "x", "dist": {"a": 1, "shasum": "x"}, "gitHead": "abc", "tags": 1, "ü": "ä𝄞\u2028"},
        {},
    ),
    "access": ({"publishConfig": {"access": "public", "tag": "next"}}, {}),
}


#: Publishes tarballs by npm's own packages, as its command does, in one process: each takes a second otherwise.
PUBLISH = """
const [npm, registry, token, cache, ...tarballs] = process.argv.slice(2)
const pacote = require(`${npm}/node_modules/pacote`)
const {publish} = require(`${npm}/node_modules/libnpmpublish`)
const place = registry.replace("http:", "")
;(async () => {
  for (const tarball of tarballs) {
    const options = {cache, registry, [`${place}:_authToken`]: token, npmVersion: "0.0.0", fetchRetries: 0}
    const manifest = await pacote.manifest(`file:${tarball}`, {...options, fullMetadata: true, fullReadJson: true})
    const access = manifest.publishConfig?.access ?? null
    await publish(manifest, require("fs").readFileSync(tarball), {...options, access, defaultTag: "next"})
  }
})()
"""


@pytest.fixture
def registry() -> Iterator[Registry]:
    with registries.running() as registry:
        yield registry


def npm_folder() -> Path:
    """The folder of the npm on PATH."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm isn't there")
    folder = Path(npm).resolve().parent.parent
    if not (folder / "node_modules" / "libnpmpublish").is_dir():
        pytest.skip(f"the packages of npm aren't in {folder}")
    return folder


def npm_version() -> tuple[int, ...]:
    """The version of this npm."""
    version = json.loads((npm_folder() / "package.json").read_text())["version"]
    return tuple(int(part) for part in version.partition("-")[0].split("."))


class Npm:
    """npm, with a folder of its own, for this registry."""

    def __init__(self, folder: Path, registry: Registry) -> None:
        (folder / "empty").mkdir(parents=True)
        self._folder = folder
        place = registry.url.removeprefix("http:")
        (folder / "npmrc").write_text(f"registry={registry.url}\n{place}:_authToken={TOKEN}\n")
        (folder / "global").touch()

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        settings = (
            f"--userconfig={self._folder / 'npmrc'}",
            f"--globalconfig={self._folder / 'global'}",
            f"--cache={self._folder / 'cache'}",
        )
        return subprocess.run(
            ["npm", *arguments, "--ignore-scripts", *settings],
            cwd=self._folder / "empty",
            env={"PATH": os.environ["PATH"], "HOME": str(self._folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


def tarballs(folder: Path) -> dict[str, Path]:
    """Case -> its tarball."""
    found = {}
    for name, (manifest, files) in CASES.items():
        package = {"name": f"@acme/{name}", "version": "1.2.3-rc.1+build.7", **manifest}
        found[name] = folder / f"{name}.tgz"
        found[name].write_bytes(archive({"package.json": json.dumps(package), **files}))
    return found


def documents(registry: Registry) -> dict[str, Any]:
    """Case -> what was uploaded, without what names the client."""
    found = {}
    for asked in registry.uploads:
        document = asked.document
        (version,) = document["versions"].values()
        for key in OF_THE_CLIENT:
            version.pop(key, None)
        if version.get("scripts", {}).get("start") == "node server.js":  # npm 11 and older add it
            del version["scripts"]["start"]
        found[document["name"].removeprefix("@acme/")] = document
    return found


def test_the_same_document_as_npms(registry: Registry, tmp_path: Path) -> None:
    packed = tarballs(tmp_path)
    arguments = [npm_folder(), registry.url, TOKEN, tmp_path / "cache", *packed.values()]
    done = subprocess.run(
        ["node", "-", *map(str, arguments)], input=PUBLISH, capture_output=True, text=True, timeout=180, check=False
    )
    npms = documents(registry)
    assert npms.keys() == CASES.keys(), done.stderr
    with registries.running() as other:
        client = Client(other.url, TOKEN, Connection(Npmrc({}), {}))
        for path in packed.values():
            assert client.upload(path, tag="next").kind is Kind.DONE
        ours = json.loads(json.dumps(documents(other)).replace(other.url, registry.url))
    for name in CASES:
        if name != "repository-sourcehut" or npm_version() >= (11,):
            assert ours[name] == npms[name], name


# -- stages ------------------------------------------------------------------------------------------------------------


def shape(asked: Asked) -> dict[str, Any]:
    """What of a request a registry may look at."""
    headers = ("npm-command", "npm-auth-type", "npm-otp", "authorization", "content-type", "content-length")
    shown = {name: asked.headers.get(name) for name in headers if asked.headers.get(name)}
    if asked.body:  # of the document, the content is compared above
        shown |= {"content-length": "some", "document": ", ".join(sorted(asked.document))}
    return {"method": asked.method, "path": asked.path.replace("%2f", "%2F"), **shown}


def test_stages_as_npm_asks_for_them(registry: Registry, tmp_path: Path) -> None:
    """What `npm stage` sends is what the client sends, and npm understands the registry of the tests."""
    if npm_version() < (11, 15):
        pytest.skip("this npm has no stages")
    npm = Npm(tmp_path / "npm", registry)
    client = Client(registry.url, TOKEN, Connection(Npmrc({}), {}))
    path = tarballs(tmp_path)["texts"]

    done = npm("stage", "publish", str(path), "--tag=next", "--json")
    (one,) = registry.state.stages
    assert one in done.stdout, done.stderr
    npms = registry.asked[-1:]
    client.reject(one, OTP)
    stage = client.stage(path, tag="next")
    assert isinstance(stage, Stage)
    ours = registry.asked[-1:]

    (listed,) = json.loads(npm("stage", "list", "@acme/texts", "--json").stdout)
    assert (listed["id"], listed["packageName"], listed["version"]) == (stage.id, "@acme/texts", "1.2.3-rc.1")
    npms += registry.asked[-1:]
    client.stages("@acme/texts")
    ours += registry.asked[-1:]

    refused = npm("stage", "approve", stage.id, "--otp=999999")
    assert "EOTP" in refused.stderr
    npms += registry.asked[-1:]
    assert client.approve(stage.id, "999999").kind is Kind.OTP
    ours += registry.asked[-1:]

    assert npm("stage", "approve", stage.id, f"--otp={OTP}").returncode == 0
    assert [change.what for change in registry.state.changes] == ["stage", "reject", "stage", "approve"]
    assert [shape(asked) for asked in ours] == [shape(asked) for asked in npms]
