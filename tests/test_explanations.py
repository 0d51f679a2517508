"""
What the output of failed steps means. The files in ``fixtures/failures`` are what the tools have really printed
(npm 11 and 12, pnpm 9 and 10, Yarn 1 and 4, Bun 1, Node 20, git 2.39), with paths and hosts replaced, and shortened.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.builds.explanations import (
    FAILURES,
    MAX_CHARACTERS,
    MAX_LINES,
    WARNINGS,
    Explanation,
    explain_failure,
    explain_warnings,
    last_output,
)

FOLDER = Path(__file__).parent / "fixtures" / "failures"

#: The file, the step's exit code, the row that explains it, and what its sentences name.
REAL = [
    ("heap", 134, "heap", "--max-old-space-size"),
    ("heap-npm", 134, "heap", "--max-old-space-size"),
    ("killed-npm", 137, "killed", "memory"),
    ("killed-npm2", 137, "killed", "memory"),
    ("segv", 139, "crashed", "compiled"),
    ("enospc", 1, "disk-full", "disk"),
    ("enospc-cp", 1, "disk-full", "disk"),
    ("emfile", 1, "open-files", "LimitNOFILE"),
    ("spawn-eagain", 1, "processes", "limits.processes"),
    ("fork-retry", 254, "processes", "limits.processes"),
    ("efbig", 1, "file-too-large", "limits.disk"),
    ("sigxfsz", 153, "file-too-large", "limits.disk"),
    ("tls-self", 1, "certificate", "NODE_EXTRA_CA_CERTS"),
    ("tls-chain", 1, "certificate", "NODE_EXTRA_CA_CERTS"),
    ("tls-leaf", 1, "certificate", "NODE_EXTRA_CA_CERTS"),
    ("pnpm-tls", 1, "certificate", "NODE_EXTRA_CA_CERTS"),
    ("git-tls", 128, "certificate", "GIT_SSL_CAINFO"),
    ("git-username", 128, "git-asks-for-user", "127.0.0.1:18441"),
    ("git-nott", 128, "git-asks-for-user", "127.0.0.1:18441"),
    ("npm-git", 1, "git-authentication", "127.0.0.1:18441"),
    ("git-hostkey", 128, "git-host-key", "known_hosts"),
    ("npm-git-hostkey", 1, "git-host-key", "known_hosts"),
    ("git-publickey", 128, "git-public-key", "public key"),
    ("npm-git-publickey", 1, "git-public-key", "public key"),
    ("git-refused", 128, "git-unreachable", "Failed to connect to 127.0.0.1 port 9"),
    ("git-nohost", 128, "git-unreachable", "git.invalid"),
    ("ssh-nohost", 128, "git-unreachable", "git.invalid"),
    ("ci-nolock", 1, "lock-missing", "commit the lock file"),
    ("pnpm-nolock", 1, "lock-missing", "commit the lock file"),
    ("ci-stale", 1, "lock-npm", "commit package-lock.json"),
    ("pnpm-stale", 1, "lock-pnpm", "commit pnpm-lock.yaml"),
    ("yarn-stale", 1, "lock-yarn", "commit yarn.lock"),
    ("yarn4-stale", 1, "lock-yarn", "commit yarn.lock"),
    ("bun-stale", 1, "lock-bun", "commit bun.lock"),
    ("eresolve", 1, "peers", 'react-dom@18.2.0 needs react@"^18.2.0"'),
    ("pnpm-peer", 1, "peers-pnpm", "strict-peer-dependencies"),
    ("engine", 1, "engine", '{"node":">=99"}'),
    ("pnpm-engine", 1, "engine", "needs >=99, and the build has v20.20.2"),
    ("yarn-engine", 1, "engine", "needs >=99, and the build has 20.20.2"),
    ("vite7-node18", 1, "node-version", "Vite needs another version of Node"),
    ("integrity", 1, "integrity", "checksum"),
    ("e401", 1, "unauthorized", "token"),
    ("pnpm-401", 1, "unauthorized", "token"),
    ("e403", 1, "forbidden", "token"),
    ("etarget", 1, "no-version", "is-odd@99.0.1"),
    ("yarn4-young", 1, "too-young", "no older one of is-odd."),
    ("pnpm-young", 1, "too-young", "no older one of is-odd."),
    ("e404", 1, "no-package", "@acme-nowhere-x/ui-y@3.0.1"),
    ("pnpm-404-file", 1, "no-file", "no file eslint-config-66.6.1.tgz"),
    ("pnpm-404", 1, "no-package", "@acme-nowhere-x%2Fui-y"),
    ("yarn-404", 1, "no-package", "@acme-nowhere-x/ui-y"),
    ("yarn4-404", 1, "no-package", "@acme-nowhere-x/ui-y"),
    ("bun-404", 1, "no-package", "@acme-nowhere-x%2fui-y"),
    ("download", 1, "download", "sharp downloads from github.com"),
    ("refused", 1, "network", "ECONNREFUSED"),
    ("notfound", 1, "network", "ENOTFOUND"),
    ("etimedout", 1, "network", "network timeout"),
    ("pnpm-notfound", 1, "network", "ENOTFOUND"),
    ("yarn-notfound", 1, "network-host", "registry registry.mirror.example can't be reached (ENOTFOUND)"),
    ("yarn-refused", 1, "network", "ECONNREFUSED"),
    ("connect", 1, "connection", "127.0.0.1:5432"),
    ("next-font", 1, "font", "Inter"),
    ("gyp-python", 1, "gyp-python", "python3"),
    ("gyp-make", 1, "gyp-compiler", "compiler"),
    ("no-script", 1, "no-script", '"build"'),
    ("pnpm-noscript", 1, "no-script", '"nothing"'),
    ("yarn1-noscript", 1, "no-script", '"nothing"'),
    ("yarn4-noscript", 1, "no-script", '"nothing"'),
    ("husky", 127, "husky", "husky || true"),
    ("vite-missing", 127, "no-command", "no command vite. "),
    ("sh-missing", 127, "no-command", "no command hugo. "),
    ("yarn1-cmd", 127, "no-command", "no command vite. "),
    ("yarn4-cmd", 127, "no-command", "no command vite. "),
    ("pnpm-cmd", 1, "no-command", "no command vite. "),
    ("bun-cmd", 127, "no-command", "no command vite. "),
    ("rollup-native", 1, "platform-binary", "@rollup/rollup-linux-x64-gnu"),
    ("esbuild-native", 1, "platform-binary", "@esbuild/linux-x64"),
    ("sharp-native", 1, "platform-binary", "sharp"),
    ("openssl", 1, "openssl", "webpack 4"),
    ("webpack4", 1, "openssl", "webpack 4"),
    ("cra-ajv", 1, "module-missing", "npm install ajv`"),
    ("cra", 1, "warnings-as-errors", "CI=false"),
    ("webpack-case", 1, "file-missing", "./header"),
    ("vite-case", 1, "file-missing", "./header.js"),
    ("require-rel", 1, "file-missing", "./Header"),
    ("vite-nomodule", 1, "module-missing", "npm install react`"),
    ("require", 1, "module-missing", "left-pad-x"),
    ("import", 1, "module-missing", "left-pad-x"),
    ("esm", 1, "require-esm", "import()"),
    ("esm-import", 1, "module-kind", ".mjs"),
    ("esm-module", 1, "module-kind", ".cjs"),
]  # fmt: skip

#: Of steps that succeeded.
REAL_WARNINGS = [
    ("npm12-scripts", ["scripts-blocked", "engine"], "esbuild@0.21.5"),
    ("pnpm10-scripts", ["scripts-blocked"], "esbuild@0.21.5"),
    ("engine-warn", ["engine"], "@1.0.0 needs { node: '>=99' }"),
    ("npm11-scripts", [], ""),  # it ran them
    ("pnpm-peer-warn", [], ""),
]


def real(name: str) -> str:
    return last_output((FOLDER / f"{name}.txt").read_bytes().decode().split("\n"))


@pytest.mark.parametrize(("name", "exit_code", "row", "named"), REAL)
def test_failures(name: str, exit_code: int, row: str, named: str) -> None:
    found = explain_failure(real(name), exit_code)
    assert found is not None
    assert found.name == row
    assert named in found.sentences
    assert "see the log" not in found.sentences
    assert found.sentences.isprintable()


@pytest.mark.parametrize(("name", "rows", "named"), REAL_WARNINGS)
def test_warnings(name: str, rows: list[str], named: str) -> None:
    found = explain_warnings(real(name))
    assert [each.name for each in found] == rows
    assert named in "".join(each.sentences for each in found)


def test_each_file_is_expected_somewhere() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == {row[0] for row in (*REAL, *REAL_WARNINGS)}


@pytest.mark.parametrize(
    ("output", "row"),
    [
        ("error: CERT_HAS_EXPIRED", "certificate-expired"),
        ("Error: ENOSPC: System limit for number of file watchers reached, watch '/work'", "watchers"),
        ("remote: Repository not found.\nfatal: repository 'https://git.example/a/b/' not found", "git-no-repository"),
        ("npm ERR! code ERESOLVE\nnpm ERR! ERESOLVE could not resolve", "peers"),
        ("gyp ERR! build error \ngyp ERR! stack Error: `make` failed with exit code: 2", "gyp"),
        ("sh: vite: not found", "no-command"),  # busybox
        ("/bin/sh: vite: command not found", "no-command"),  # bash as sh
        ("Error: spawn hugo ENOENT", "no-command"),
        ('Error: [vite]: Rollup failed to resolve import "virtual:pwa-register"', "module-scheme"),
        ("Error: Cannot find module 'node:sqlite'", "module-scheme"),
        ('✘ [ERROR] Could not resolve "react"', "module-missing"),
        ("Module not found: Error: Can't resolve '~bootstrap/scss/bootstrap' in '/app/src'", "module-missing"),
        ('[vite]: Rollup failed to resolve import "./App" from "/app/src/main.js".', "file-missing"),
    ],
)
def test_what_these_tools_could_not_be_made_to_print(output: str, row: str) -> None:
    """From their sources."""
    found = explain_failure(last_output(output.split("\n")), 1)
    assert found is not None
    assert found.name == row


@pytest.mark.parametrize(
    ("path", "alias"),
    [
        ("@/components/Header", "@/"),
        ("~/lib/api", "~/"),
        ("@@/server", "@@/"),
        ("#/router", "#/"),
        ("#internal/log.js", "#internal/"),
        ("#config", "#config"),
        ("$lib/stores", "$lib/"),
        ("src/App", "src/"),
        ("@components/Header", "@components/"),
    ],
)
def test_an_alias_is_no_package(path: str, alias: str) -> None:
    for said in ("Module not found: Error: Can't resolve '{}' in '/app/src'", 'failed to resolve import "{}" from "a"'):
        found = explain_failure(said.format(path), 1)
        assert found is not None
        assert found.name == "alias"
        assert found.cause.startswith(f"the alias {alias} isn't set up")
        assert path in found.cause
    # What only looks like it is one.
    for name in ("@acme/ui", "lodash", "src-loader"):
        found = explain_failure(f"Cannot find module '{name}'", 1)
        assert found is not None
        assert (found.name, f"`npm install {name}`" in found.cure) == ("module-missing", True)


def test_an_exit_code_alone() -> None:
    names = {code: found and found.name for code in (1, 2, 127, 134, 137, 139) for found in [explain_failure("", code)]}
    assert names == {1: None, 2: None, 127: "no-command", 134: None, 137: "killed", 139: "crashed"}
    assert explain_failure("", None) is None
    # What is printed says more than the code.
    found = explain_failure("npm error code E401", 137)
    assert found is not None
    assert found.name == "unauthorized"


@pytest.mark.parametrize(
    "output",
    [
        "",
        "FAIL src/a.test.js\nExpected: 1\nReceived: 2",
        "a.ts(1,7): error TS2322: Type 'string' is not assignable to type 'number'.",
        "npm warn EBADENGINE Unsupported engine {",  # a warning, and something else failed
        "Cannot find module '/app/dist/index.js'",  # the build's own, named in full
    ],
)
def test_what_is_not_known_is_not_explained(output: str) -> None:
    assert explain_failure(output, 1) is None


def test_no_password_is_quoted() -> None:
    found = explain_failure("fatal: could not read Password for 'https://me:s3cret@git.example': terminal prompts", 128)
    assert found is not None
    assert "s3cret" not in found.sentences
    assert "git.example" in found.sentences


def test_only_the_end_is_looked_at() -> None:
    old = ["npm error code E401", *["line"] * MAX_LINES]
    assert explain_failure(last_output(old), 1) is None
    assert explain_failure(last_output(["npm error code E401", "x" * MAX_CHARACTERS]), 1) is None
    assert len(last_output(["x" * 100_000] * 300)) <= MAX_CHARACTERS


@given(
    st.text(max_size=300), st.sampled_from(["Cannot find module '{}'", 'Missing script: "{}"', "sh: 1: {}: not found"])
)
def test_what_is_quoted_is_one_printable_line(text: str, form: str) -> None:
    """Whatever a build prints there, braces and all."""
    found = explain_failure(last_output(form.replace("{}", text).split("\n")), 1)
    if found is not None:
        assert found.sentences.isprintable()
        assert len(found.sentences) < 1000


def test_no_row_is_slow() -> None:
    """On text that nearly fits, again and again. On lines of any length it took minutes."""
    for piece in ("npm error ", "\"'@/.", "Cannot find module '", "gyp ERR! ", "YN0028: ", "ERR_PNPM_", "a@b:c "):
        began = time.process_time()
        explain_failure(last_output([piece * 10_000] * MAX_LINES), 1)
        assert time.process_time() - began < 5  # mostly 0.1


@pytest.mark.parametrize("row", [*FAILURES, *WARNINGS])
def test_the_table_keeps_to_its_form(row: object) -> None:
    assert isinstance(row, tuple)
    name, pattern, cause, cure, _code = row
    groups = {group.rstrip("0123456789") for group in re.compile(pattern).groupindex}
    assert set(re.findall(r"{(\w+)}", cause + cure)) <= groups
    assert re.fullmatch(r"[a-z-]+", name)
    assert not cause.endswith(".")
    assert not cure.endswith(".")
    assert cure[0].isupper()
    shown = Explanation(name=name, cause=cause, cure=cure).sentences
    assert shown.endswith(".")
    assert len(shown) < 700
