"""The package for Node as its users get it: published by npm to a registry, and installed from there by npm."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.node import node_environment, npm
from tests.node import node_folders
from tests.registry import TOKEN, running

PACKAGE = Path(__file__).parent.parent.parent / "packages/node"

USES = """
const socket = `unix:${process.argv[2]}`;
const listening = await listen(socket, 'calc', { handlers: { add: ({ a, b }) => ({ value: a + b }) } });
const remote = dial(socket, 'calc');
const { value } = await remote.call('add', { a: 2, b: 3 });
await remote.close();
await listening.close();
console.log(value);
"""
MODULE = f"import {{ dial, listen }} from 'twistedipc';\n{USES}"
COMMON = f"const {{ dial, listen }} = require('twistedipc');\n(async () => {{{USES}}})();\n"

#: What is shipped: nothing of the tests, nor of what the sources are checked with.
SHIPPED = re.compile(r"package/(LICENSE|README\.md|package\.json|index\.(cjs|mjs|d\.cts|d\.mts)|lib/\w+\.cjs)")


@pytest.mark.long
def test_published_installed_and_imported_in_both_ways(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("node_modules"))
    with running() as registry:
        credentials = {"npm_config_registry": registry.url, f"npm_config_{registry.url[5:]}:_authToken": TOKEN}
        refused = subprocess.run(
            ["npm", "publish"],
            cwd=source,
            env=node_environment(tmp_path, credentials),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "marked as private" in refused.stderr
        assert registry.uploaded == []
        description = json.loads((source / "package.json").read_text("utf-8"))
        del description["private"]
        (source / "package.json").write_text(json.dumps(description), "utf-8")
        npm(source, "publish", more=credentials)
        names = registry.names_in("twistedipc", description["version"])
        assert [name for name in names if not SHIPPED.fullmatch(name)] == []
        uses = tmp_path / "uses"
        uses.mkdir()
        (uses / "package.json").write_text('{"private": true}', "utf-8")
        npm(uses, "install", "twistedipc", more=credentials)
    assert [path.name for path in (uses / "node_modules").iterdir() if path.is_dir()] == ["twistedipc"]
    (uses / "uses.mjs").write_text(MODULE, "utf-8")
    (uses / "uses.cjs").write_text(COMMON, "utf-8")
    for version, folder in node_folders().items():
        for program in ("uses.mjs", "uses.cjs"):
            done = subprocess.run(
                [str(folder / "node"), program, str(tmp_path / "s")],
                cwd=uses,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert (done.stdout, done.stderr) == ("5\n", ""), f"{program}, Node {version}"
