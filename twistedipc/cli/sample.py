"""
The demo's samples, each in a git repository in a folder.

The first is a front-end project without dependencies. Its build script is plain Node: it shows some coloured lines with
short pauses, as a bundler would, writes a page with hashed assets to ``dist/``, and says on its channel how far it is
and what came of it. The second is a workspace of three packages that need one another, with a test.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from twistedipc.cli.failures import ExitCode, Failure

NAME: Final = "hello"

#: The workspace, and the packages that it publishes, each after those that it needs.
PACKAGES_NAME: Final = "packages"
PACKAGES: Final = ("@demo/colours", "@demo/text", "@demo/page")

_PACKAGE = """\
{
  "name": "hello",
  "version": "1.0.0",
  "private": true,
  "type": "module",
  "scripts": {
    "build": "node build.mjs"
  }
}
"""

_LOCK = """\
{
  "name": "hello",
  "version": "1.0.0",
  "lockfileVersion": 3,
  "requires": true,
  "packages": {
    "": {
      "name": "hello",
      "version": "1.0.0"
    }
  }
}
"""

_BUILD = """\
// A small bundler: hashes the assets' names, so that browsers may keep them for ever.
import { createHash } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { setTimeout as pause } from "node:timers/promises";

const green = (text) => `\\x1b[32m${text}\\x1b[0m`;
const cyan = (text) => `\\x1b[36m${text}\\x1b[0m`;
const dim = (text) => `\\x1b[2m${text}\\x1b[0m`;
const say = (message) => process.send?.(message); // it isn't there when a person runs this
const started = Date.now();

console.log(`${cyan("hello")} building for production...`);
await rm("dist", { recursive: true, force: true });
await mkdir("dist/assets", { recursive: true });

say({ type: "group", name: "assets" });
const assets = {};
for (const name of ["page.css", "page.js"]) {
  const content = await readFile(`src/${name}`);
  const hash = createHash("sha256").update(content).digest("hex").slice(0, 8);
  const [stem, extension] = name.split(".");
  assets[name] = `assets/${stem}-${hash}.${extension}`;
  await pause(250);
  await writeFile(`dist/${assets[name]}`, content);
  console.log(`${green("✓")} ${assets[name]} ${dim(`${content.length} bytes`)}`);
}

say({ type: "group", name: "pages" });
for (let done = 0; done <= 100; done += 4) {
  say({ type: "progress", value: done / 100, label: "rendering" });
  await pause(20);
}

let page = await readFile("src/index.html", "utf8");
for (const [name, path] of Object.entries(assets)) page = page.replaceAll(`./${name}`, `./${path}`);
page = page
  .replaceAll("{{commit}}", (process.env.TWISTEDIPC_COMMIT ?? "unknown").slice(0, 12))
  .replaceAll("{{build}}", process.env.TWISTEDIPC_BUILD ?? "?")
  .replaceAll("{{time}}", new Date().toISOString().replace(/\\.[0-9]+Z$/, "Z"));
await writeFile("dist/index.html", page);
console.log(`${green("✓")} index.html ${dim(`${page.length} bytes`)}`);
say({
  type: "annotation",
  level: "notice",
  file: "src/index.html",
  line: 13,
  message: "Change this heading, commit it, and publish again.",
});
console.log(`${green("built")} in ${Date.now() - started} ms`);
const sizes = Object.values(assets).map((path) => `- \\`${path}\\``);
say({ type: "summary", markdown: `**One page** and ${sizes.length} assets:\\n\\n${sizes.join("\\n")}` });
"""

_HTML = """\
<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>hello</title>
    <link rel="stylesheet" href="./page.css">
    <script type="module" src="./page.js"></script>
  </head>
  <body>
    <main>
      <p class="over">released by twistedipc</p>
      <h1>Hello, front end</h1>
      <dl>
        <dt>build</dt><dd>{{build}}</dd>
        <dt>commit</dt><dd><code>{{commit}}</code></dd>
        <dt>built</dt><dd><time datetime="{{time}}">{{time}}</time></dd>
      </dl>
    </main>
  </body>
</html>
"""

_CSS = """\
:root { color-scheme: light dark; --ink: #1c2333; --soft: #5b6579; --from: #eef3ff; --to: #fdf1f5; --card: #ffffffcc; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e9ecf5; --soft: #9aa5bd; --from: #141a2b; --to: #231623; --card: #1c2336cc; }
}
* { box-sizing: border-box; }
body {
  margin: 0; min-height: 100vh; display: grid; place-items: center; color: var(--ink);
  font: 1.05rem/1.5 system-ui, sans-serif; background: linear-gradient(135deg, var(--from), var(--to)) fixed;
}
main { padding: 3rem 3.5rem; border-radius: 1.25rem; background: var(--card); box-shadow: 0 1.5rem 4rem #0002; }
h1 { margin: 0 0 1.5rem; font-size: clamp(2rem, 6vw, 3.25rem); letter-spacing: -0.03em; line-height: 1.1; }
.over { margin: 0 0 .5rem; color: var(--soft); font-size: .85rem; letter-spacing: .08em; text-transform: uppercase; }
dl { display: grid; grid-template-columns: auto 1fr; gap: .3rem 1.25rem; margin: 0; }
dt { color: var(--soft); }
dd { margin: 0; }
"""

_JS = """\
const time = document.querySelector("time");
const minutes = Math.round((Date.now() - Date.parse(time.dateTime)) / 60000);
time.title = time.textContent;
time.textContent = minutes < 1 ? "just now" : `${minutes} min ago`;
"""

FILES: Final = {
    "package.json": _PACKAGE,
    "package-lock.json": _LOCK,
    "build.mjs": _BUILD,
    "src/index.html": _HTML,
    "src/page.css": _CSS,
    "src/page.js": _JS,
    ".gitignore": "dist/\nnode_modules/\n",
}


_COLOURS = """\
export const green = (text) => `\\x1b[32m${text}\\x1b[0m`;
"""

_TEXT = """\
import { green } from "@demo/colours";
export const hello = (name) => `Hello, ${green(name)}`;
"""

_PAGE = """\
import { hello } from "@demo/text";
export const page = `<h1>${hello("front end")}</h1>`;
"""

_TEST = """\
import assert from "node:assert/strict";
import { page } from "@demo/page";
assert.match(page, /^<h1>Hello, .*front end.*<[/]h1>$/);
console.log("the packages fit together");
"""

_STEPS = """\
[build]
packages = ["packages/*"]
steps = ["npm ci", "npm test"]
"""


def _workspace() -> dict[str, str]:
    """Return the files of the packages' repository."""
    root = {"name": PACKAGES_NAME, "private": True, "workspaces": ["packages/*"], "scripts": {"test": "node test.mjs"}}
    locked: dict[str, object] = {"": {"name": PACKAGES_NAME, "workspaces": ["packages/*"]}}
    files = {"package.json": _json(root), ".twistedipc.toml": _STEPS, "test.mjs": _TEST, ".gitignore": "node_modules\n"}
    for number, (name, text) in enumerate(zip(PACKAGES, (_COLOURS, _TEXT, _PAGE), strict=True)):
        folder = f"packages/{name.partition('/')[2]}"
        package = {
            "name": name,
            "version": "1.0.0",
            "license": "MIT",
            **({"dependencies": {PACKAGES[number - 1]: "^1.0.0"}} if number else {}),
        }
        locked |= {folder: package, f"node_modules/{name}": {"resolved": folder, "link": True}}
        files |= {
            f"{folder}/package.json": _json({**package, "type": "module", "exports": "./index.js"}),
            f"{folder}/index.js": text,
        }
    lock = {"name": PACKAGES_NAME, "lockfileVersion": 3, "requires": True, "packages": locked}
    return {**files, "package-lock.json": _json(lock)}


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"


def make_samples(folder: Path) -> None:
    """
    Make the repositories ``sample`` and ``packages`` there, with everything committed on their branch ``main``. An
    existing one is left as it is, since a person who tries the demo may have changed it. Raises `Failure` if git can't.
    """
    for name, files, message in (
        ("sample", FILES, "Hello, front end"),
        (PACKAGES_NAME, _workspace(), "Three packages"),
    ):
        if not (folder / name / ".git").exists():
            make_repository(folder / name, files, message)


def make_repository(folder: Path, files: Mapping[str, str], message: str) -> None:
    """Make a git repository with these files in the first commit of its branch ``main``. Raises `Failure`."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    _git(folder, "init", "--quiet", "--initial-branch=main", "--template=")
    _git(folder, "add", "--all")
    _git(folder, "commit", "--quiet", "--no-verify", f"--message={message}")


def _git(folder: Path, *arguments: str) -> None:
    # The user's own configuration (signing, hooks, other names for branches) must not matter here.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    person = ["-c", "user.name=twistedipc demo", "-c", "user.email=demo@example.org"]
    try:
        done = subprocess.run(
            ["git", *person, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        )
    except FileNotFoundError as error:
        raise Failure(ExitCode.USAGE, "the demo needs git, and there is none on PATH") from error
    except subprocess.TimeoutExpired as error:
        raise Failure(ExitCode.UNAVAILABLE, f"git {arguments[0]} takes too long") from error
    if done.returncode != 0:
        raise Failure(ExitCode.UNAVAILABLE, f"git {arguments[0]} failed: {done.stderr.strip()}")
