"""
What front-end tools print: of real tools, from the registry, about a made project. It is made once, and kept in
``build/bench-corpus``.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench.common.processes import Missing, found
from twistedipc.builds.logs import Lines, Record

FOLDER = Path("build/bench-corpus")

_PACKAGES = {
    "@eslint/js": "9",
    "@types/react": "18",
    "date-fns": "3",
    "eslint": "9",
    "jest": "29",
    "pnpm": "9",
    "react": "18",
    "react-dom": "18",
    "typescript": "5.6",
    "vite": "5",
    "webpack": "5",
    "webpack-cli": "5",
}

_WORDS = (
    "cart user order price item total list page view form button header menu search filter sort login session token "
    "route store state model query cache image product basket invoice payment address customer delivery voucher rating"
).split()

#: Each tool's command, in the project's folder; most of them find mistakes, and say so by their exit code.
_COMMANDS = {
    "npm": "npm install --no-audit --no-fund --loglevel http && npm ls --all",
    "pnpm": "rm -rf ../pnpm && mkdir ../pnpm && cp package.json ../pnpm && cd ../pnpm && "
    "../project/node_modules/.bin/pnpm install --reporter=append-only && "
    "../project/node_modules/.bin/pnpm ls --depth 4 && ../project/node_modules/.bin/pnpm licenses list",
    "tsc": "tsc; tsc --pretty",
    "eslint": "eslint src/*.js",
    "vite": "vite build",
    "webpack": "webpack",
    "jest": "jest --verbose",
}


def corpus(modules: int) -> dict[str, str]:
    """
    Return what each tool prints about a project of so many modules.

    :raises Missing: there is no npm, or it doesn't reach a registry
    """
    folder = FOLDER / str(modules)
    if not (folder / "made").exists():
        _make(folder, modules)
    return {path.stem: path.read_text("utf-8", "replace") for path in sorted(folder.glob("*.log"))}


def batches(texts: dict[str, str]) -> Iterator[Lines]:
    """Yield the lines of these texts as a build has them: mostly few at a time, and then many."""
    chance = random.Random(1)
    first, time = 1, 1_732_300_000_000
    for text in texts.values():
        lines: list[Record] = [*text.split("\n")[:-1]]
        at = 0
        while at < len(lines):
            count = chance.choice([1, 1, 2, 5, 20, 100, 500])
            yield Lines(first=first, time=time, step=0, lines=lines[at : at + count])
            taken = len(lines[at : at + count])
            first, at, time = first + taken, at + taken, time + chance.randrange(500)


def _make(folder: Path, modules: int) -> None:
    found("npm", "Node")
    shutil.rmtree(folder, ignore_errors=True)
    project = folder / "project"
    (project / "src").mkdir(parents=True)
    _write_project(project, modules)
    path = f"{(project / 'node_modules' / '.bin').absolute()}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "FORCE_COLOR": "1", "CI": "1", "PATH": path}
    for tool, command in _COMMANDS.items():
        with (folder / f"{tool}.log").open("wb") as log:
            done = subprocess.run(
                ["sh", "-c", command],
                cwd=project,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=900,
                check=False,
            )
        if done.returncode and tool in ("npm", "pnpm"):
            raise Missing(f"{tool} can't install what the corpus is made with: see {folder / tool}.log")
    for made in (project, folder / "pnpm"):
        shutil.rmtree(made, ignore_errors=True)
    (folder / "made").touch()


def _write_project(project: Path, modules: int) -> None:
    chance = random.Random(7)

    def word() -> str:
        return chance.choice(_WORDS)

    names = [f"{word().capitalize()}{word().capitalize()}{number}" for number in range(modules)]
    source = project / "src"
    for number, name in enumerate(names):
        used = chance.sample(names[:number], min(number, 2))
        imports = "".join(f"import {{ {each} }} from './{each}'\n" for each in used)
        inner = "".join(f"<{each} />" for each in used)
        (source / f"{name}.tsx").write_text(
            f"import React from 'react'\n{imports}"
            f"export interface {name}Props {{ {word()}: string; {word()}Count: number }}\n"
            f"export function {name}(props: {name}Props) {{\n  const unused{word()} = 1\n"
            f"  const {word()}: number = '{word()}'\n  return <div>{{props.{word()}}}{inner}</div>\n}}\n"
        )
        (source / f"{name}.js").write_text(
            f"import {{ format }} from 'date-fns'\nexport const name = '{name}'\n"
            f"export const show = () => format(new Date(), 'P') + name\n"
            f"const unused{word()} = 2\nif (name == 1) {word()}()\n"
        )
        cases = "".join(
            f"  test('{word()} {word()} of the {word()} {case}', () => {{\n"
            f"    expect({case if chance.random() < 0.95 else -1}).toBe({case})\n  }})\n"
            for case in range(12)
        )
        (source / f"{name}.test.js").write_text(f"describe('{name}', () => {{\n{cases}}})\n")
    loaded = "".join(f"import('./{name}.js').then((found) => console.log(found.show()))\n" for name in names)
    (source / "main.js").write_text(loaded)
    (project / "index.html").write_text('<script type="module" src="/src/main.js"></script>\n')
    (project / "webpack.config.js").write_text(
        "module.exports = {mode: 'production', entry: './src/main.js', stats: 'verbose', "
        "output: {path: __dirname + '/packed'}}\n"
    )
    (project / "eslint.config.mjs").write_text(
        "import js from '@eslint/js'\nexport default [js.configs.recommended, {rules: {eqeqeq: 'warn'}}]\n"
    )
    options = {"jsx": "react-jsx", "strict": True, "noEmit": True, "noUnusedLocals": True, "module": "esnext",
               "moduleResolution": "bundler", "target": "es2022"}  # fmt: skip
    (project / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "include": ["src/*.tsx"]}))
    (project / "package.json").write_text(
        json.dumps({"name": "corpus", "version": "1.0.0", "private": True, "dependencies": _PACKAGES})
    )
