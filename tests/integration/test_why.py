"""Why a build failed, asked for by a person and by a program, of a real build on real services."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.platform import Platform
from tests.node import node_folder

GREEN = {
    "package.json": '{"name": "site", "version": "1.0.0", "scripts": {"build": "node build.cjs"}}',
    "build.cjs": 'require("fs").mkdirSync("dist");\nrequire("fs").writeFileSync("dist/index.html", "<p>");\n'
    'console.log("Error: the cache is cold, going on");\nconsole.log("wrote 1 page in", Date.now() % 1000, "ms");\n',
}
RED = {
    "build.cjs": 'console.log("Error: the cache is cold, going on");\n'
    'const pages = { home: {} };\nconsole.log("rendering", Object.keys(pages).length, "pages");\n'
    "console.log(pages.about.title);\n",
}
SAID = "TypeError: Cannot read properties of undefined (reading 'title')"


@pytest.mark.long
def test_a_person_and_a_program_are_told(tmp_path: Path) -> None:
    if node_folder() is None:
        pytest.skip("there is no Node")
    with Platform(tmp_path) as platform:
        repository = platform.repository(GREEN)
        platform.add_project("site", repository)
        platform.succeed(platform.build("site"))
        platform.commit(repository, RED)
        build = platform.build("site")
        assert platform.wait(build)["state"] == "failed"
        log = platform.log(build)

        said = platform.command("why", str(build))
        assert said.returncode == 0, said.stderr
        assert len(said.stdout.encode()) <= 8192
        (number,) = re.findall(rf"^> *(\d+)  {re.escape(SAID)}$", said.stdout, re.MULTILINE)
        found = json.loads(platform.command("why", str(build), "--json").stdout)
        assert found["error"] == {"record": int(number), "text": SAID}
        assert (found["step"]["name"], found["step"]["exit_code"]) == ("build", 1)
        new = [line["text"] for line in found["new"]["lines"]]
        assert SAID in new
        assert "Error: the cache is cold, going on" not in new
        assert f"sha256 {found['log']['sha256']}" in log
        asyncio.run(_talk(platform, build, int(number), found["log"]["sha256"]))


async def _talk(platform: Platform, build: int, number: int, digest: str) -> None:
    """A program asks, by the protocol's official client."""
    sdk = pytest.importorskip("mcp")
    stdio = pytest.importorskip("mcp.client.stdio")
    parameters = stdio.StdioServerParameters(
        command=sys.executable,
        args=["-m", "twistedipc.cli", "mcp", "--allow-changes"],
        env=platform.command_environment(),
    )

    async def call(client: Any, tool: str, **arguments: Any) -> str:
        answer = await client.call_tool(tool, arguments)
        text: str = answer.content[0].text
        assert not answer.is_error, text
        return text

    async with asyncio.timeout(120), sdk.Client(parameters) as client:
        assert SAID in await call(client, "build_failure", project="site")
        hits = await call(client, "search_log", build=build, query="cannot read")
        assert f">{number}: {SAID}" in hits
        lines = await call(client, "read_log", build=build, first=number, records=2)
        assert f"\n{number}:{SAID}\n" in lines
        assert digest in hits
        assert digest in lines
        assert f"build {build} of site failed" in await call(client, "list_builds", project="site")
        assert "live" in await call(client, "list_releases", project="site")
        assert "Attempt 2" in await call(client, "retry_build", build=build)
    platform.wait(build)
