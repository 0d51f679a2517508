"""
What the output of a step that failed means: its cause and its cure, for the failures that most teams meet. Bottom
layer, pure: it is given the last output, as it is in the log (so what is hidden there is hidden here), and the exit
code.

`FAILURES` is a table from what tools print to two sentences. The first row that fits explains the failure, so rows of
one certain cause come before those that could have several. `WARNINGS` are of what a tool did not do though it
succeeded. A row's pattern is searched in text without colours; what it captures by name is put into its sentences.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

#: How much of a step's last output is looked at.
MAX_LINES = 200
MAX_CHARACTERS = 64 * 1024
MAX_LINE = 500  # characters of each line; the patterns' work grows with its square

#: The longest text that is quoted of what a step printed, in characters.
_MAX_QUOTED = 120

# Colours and other sequences of terminals (ECMA-48): CSI, and OSC up to BEL or ST.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[@-Z\\-_]")


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why something failed, and what its authors can do. Both are sentences; ``cause`` begins with a small letter."""

    name: str  # the row's
    cause: str
    cure: str

    @property
    def sentences(self) -> str:
        """Both, for an annotation."""
        return f"{self.cause[:1].upper()}{self.cause[1:]}. {self.cure}."


class Known(NamedTuple):
    """A row: what is printed, and what it means. The sentences may have the pattern's groups in braces."""

    name: str
    pattern: str
    cause: str
    cure: str
    exit_code: int | None = None  # this exit code alone will do, if no row before it fits


# How tools begin the lines of their errors.
_NPM = r"^npm (?:error|ERR!)"

_DEV = "with NODE_ENV=production or --omit=dev, what is in devDependencies isn't installed"

_LOCK = "the lock file isn't up to date: {lock} and package.json don't agree"

_CERTIFICATE = (
    "Give the builder the certificate of the proxy or registry, under [environment] in builder.toml: "
    "NODE_EXTRA_CA_CERTS=/path/to/ca.pem for Node, GIT_SSL_CAINFO for git. Don't switch the check off"
)

#: How what is imported stands behind what tools say of it when it isn't there.
_UNRESOLVED = r"(?:Cannot find (?:module|package)|Can't resolve|Could not resolve|[Ff]ailed to resolve import) ['\"]"

#: The host of an address that is printed, without a user name or a password in it.
_HOST = r"(?:[a-z+]+://)?(?:[^'\"\s/@]*@)?(?P<host>[^'\"\s/@]+)"

FAILURES: tuple[Known, ...] = (
    # -- the machine
    Known(
        "heap",
        r"JavaScript heap out of memory",
        "Node ran out of memory, since its heap reached its limit",
        "Raise the limit with NODE_OPTIONS=--max-old-space-size=4096 (in MiB), as a variable or in front of the "
        "command in package.json, and build where there is as much memory",
    ),
    Known(
        "watchers",
        r"ENOSPC: System limit for number of file watchers reached",
        "the build watches files, and the machine takes no more watchers",
        "Build without a watch mode; or raise fs.inotify.max_user_watches on the builder's machine",
    ),
    Known(
        "disk-full",
        r"\bENOSPC\b|No space left on device",
        "a disk is full",
        "Free some room on the builder's disk, or let the build write less",
    ),
    Known(
        "open-files",
        r"\bEMFILE\b|[Tt]oo many open files",
        "the build had more files open than one process may",
        "Raise limits.open_files in builder.toml, and the limit of the builder's service (LimitNOFILE in systemd, "
        "ulimit -n in a shell)",
    ),
    Known(
        "processes",
        r"[Cc]annot fork\b|\bfork: (?:retry: )?Resource temporarily unavailable|\bspawn \S+ EAGAIN\b"
        r"|pthread_create[^\n]*Resource temporarily unavailable",
        "the build had as many processes and threads as it may",
        "Let it run fewer at once, or raise limits.processes in builder.toml",
    ),
    Known(
        "file-too-large",
        r"\bEFBIG\b|File size limit exceeded|\bsignal SIGXFSZ\b",
        "a file became as large as all of the build's files together may be",
        "Let the build write less, or raise limits.disk in builder.toml",
        exit_code=153,
    ),
    # -- certificates and repositories
    Known(
        "certificate-expired",
        r"\bCERT_HAS_EXPIRED\b|certificate has expired",
        "the certificate of a server that the build asked has expired",
        "Renew it there; if it is valid, set the clock of the builder's machine",
    ),
    Known(
        "certificate",
        r"\b(?:SELF_SIGNED_CERT_IN_CHAIN|DEPTH_ZERO_SELF_SIGNED_CERT|UNABLE_TO_VERIFY_LEAF_SIGNATURE"
        r"|UNABLE_TO_GET_ISSUER_CERT(?:_LOCALLY)?)\b|self[- ]signed certificate|unable to verify the first certificate"
        r"|server certificate verification failed|SSL certificate problem",
        "the certificate of a server that the build asked is signed by nobody that the builder trusts",
        _CERTIFICATE,
    ),
    Known(
        "git-asks-for-user",
        r"[Cc]ould not read (?:Username|Password) for '" + _HOST,
        "git asked for a user name at {host}, where nobody can answer: a repository is private, or isn't there",
        "Check its address. If it is private, the project needs a token for its host (project secret), or a deploy key "
        "and the address for ssh (project key)",
    ),
    Known(
        "git-authentication",
        r"fatal: Authentication failed for '" + _HOST,
        "{host} refused git's user name and password, or there were none",
        "Give the project a token that may read the repository, or set a new one in the place of one that is void",
    ),
    Known(
        "git-no-repository",
        r"remote: Repository not found|fatal: repository '[^'\n]*' not found"
        r"|ERROR: Repository not found|does not appear to be a git repository",
        "there is no such repository, or the build may not see it",
        "Check its address. If it is private, the project needs a token or a deploy key that may read it "
        "(project secret, project key)",
    ),
    Known(
        "git-unreachable",
        r"fatal: unable to access '[^'\n]*': (?P<why>[^\n]+)"
        r"|ssh: (?P<why2>Could not resolve hostname [^\n:]+|connect to host [^\n]+)",
        "the host of a repository can't be reached: {why}",
        "Check the repository's address, and whether the builder's machine reaches that host (HTTPS_PROXY, DNS)",
    ),
    Known(
        "git-host-key",
        r"Host key verification failed",
        "ssh doesn't know the key of the host that a repository is on",
        "Give the project that host's key (its line for known_hosts), or use the https address if the repository is "
        "public",
    ),
    Known(
        "git-public-key",
        r"(?:(?P<user>[^\s@]+)@(?P<host>[^\s:]+): )?Permission denied \([a-z,-]*publickey",
        "the host of a repository accepts no key that the build has",
        "Add the project's public key to the repository there, as one that may read; or use the https address if the "
        "repository is public",
    ),
    # -- what is installed
    Known(
        "lock-missing",
        r"`npm ci` command can only install with an existing package-lock\.json|ERR_PNPM_NO_LOCKFILE",
        "there is no lock file, and the command that installs needs one",
        "Run the install command (npm install, pnpm install) and commit the lock file that it makes",
    ),
    Known(
        "lock-npm",
        r"`npm ci` can only install packages when your package\.json and (?P<lock>package-lock\.json)",
        _LOCK,
        "Run `npm install`, with the version of npm that the build uses, and commit {lock}",
    ),
    Known(
        "lock-pnpm",
        r"ERR_PNPM_(?:OUTDATED_LOCKFILE|LOCKFILE_CONFIG_MISMATCH)\b[^\n]*?(?P<lock>pnpm-lock\.yaml|lockfile)",
        _LOCK,
        "Run `pnpm install` with the version of pnpm that the build uses, and commit pnpm-lock.yaml",
    ),
    Known(
        "lock-yarn",
        r"Your (?P<lock>lockfile) needs to be updated, but yarn was run with `--frozen-lockfile`"
        r"|YN0028\b[^\n]*The (?P<lock2>lockfile) would have been modified by this install",
        "the lock file isn't up to date: yarn.lock and package.json don't agree",
        "Run `yarn install`, with the version of Yarn that the build uses, and commit yarn.lock",
    ),
    Known(
        "lock-bun",
        r"lockfile had changes, but lockfile is frozen",
        "the lock file isn't up to date: bun.lock and package.json don't agree",
        "Run `bun install` and commit bun.lock",
    ),
    Known(
        "peers",
        _NPM + r" peer (?P<wanted>[^\s\"]+@\"[^\"\n]*\") from (?P<package>\S+)",
        "two packages can't be installed together: {package} needs {wanted}, and another version is asked for",
        "Ask for versions that fit in package.json (or set one by `overrides`). A project that has lived with this "
        "before can put legacy-peer-deps=true into its .npmrc",
    ),
    Known(
        "peers",
        _NPM + r" code ERESOLVE",
        "two packages ask for versions of a third that no single version satisfies",
        "Ask for versions that fit in package.json (or set one by `overrides`). A project that has lived with this "
        "before can put legacy-peer-deps=true into its .npmrc",
    ),
    Known(
        "peers-pnpm",
        r"ERR_PNPM_PEER_DEP_ISSUES",
        "a package needs another, as a peer, that isn't there in a version that fits",
        "Add what is named as missing or unmet to package.json in a version that fits, or put "
        "strict-peer-dependencies=false into .npmrc",
    ),
    Known(
        "engine",
        _NPM + r" notsup Required:\s*(?P<wanted>[^\n]+)\n" + _NPM + r" notsup Actual:\s*(?P<found>[^\n]+)"
        r"|ERR_PNPM_UNSUPPORTED_ENGINE[\s\S]{0,400}?Expected version: (?P<wanted2>[^\n]+)\nGot: (?P<found2>[^\n]+)"
        r"|The engine \"(?:node|npm|yarn)\" is incompatible with this module\. "
        r"Expected version \"(?P<wanted3>[^\"\n]+)\"\. Got \"(?P<found3>[^\"\n]+)\"",
        "a package needs {wanted}, and the build has {found}",
        "Ask for a version of Node that fits (engines.node in package.json, or .nvmrc), or for one of the package that "
        "this Node runs",
    ),
    Known(
        "integrity",
        r"\bEINTEGRITY\b|ERR_PNPM_TARBALL_INTEGRITY|Integrity check(?:sum)? failed|YN0018\b",
        "a package that was fetched isn't the one whose checksum is in the lock file",
        "If it was published again with other contents, make its entry in the lock file new, after looking at what "
        "changed. Otherwise a mirror or a proxy of the registry gives something else",
    ),
    Known(
        "unauthorized",
        _NPM + r" code (?:E401|ENEEDAUTH)|ERR_PNPM_FETCH_401|\b401 Unauthorized\b|YN0041\b|Unauthorized - 401",
        "a registry wants credentials, or doesn't take those that it was given",
        "Give the project a token for that registry (project registry add); if it has one, it may have expired, or be "
        "for another registry",
    ),
    Known(
        "forbidden",
        _NPM + r" code E403|ERR_PNPM_FETCH_403|\b403 Forbidden\b|Forbidden - 403",
        "a registry refused what the build asked for: the token may not read it, or a policy forbids the package",
        "Give the project a token that may read it, or ask the registry's administrators",
    ),
    Known(
        "no-version",
        r"No matching version found for (?P<package>[^\s,]+)|No version matching \"[^\"\n]*\" found for specifier",
        "the registry has no such version: {package}",
        "Ask for a version that was published. If it was a moment ago, or in another registry, check which registry "
        "the build uses (.npmrc)",
    ),
    Known(
        "too-young",
        r"YN0016: │ +(?P<package>@?[^@\s]+)@[^\n]* (?:are|is) quarantined"
        r"|ERR_PNPM_NO_MATURE_MATCHING_VERSION\s+Version [^\n]* of (?P<package2>\S+) does not meet",
        "the manager takes no version that was published a short while ago, and there is no older one of {package}",
        "Wait, or allow it: npmMinimalAgeGate (also under npmScopes, for a scope with a registry of its own) or "
        "npmPreapprovedPackages in .yarnrc.yml, minimumReleaseAgeExclude in pnpm-workspace.yaml",
    ),
    Known(
        "no-file",
        r"ERR_PNPM_FETCH_404[^\n]*GET \S*/(?P<file>[^/\s]+\.tgz): Not Found",
        "the registry has no file {file}, which the lock file names",
        "The version was withdrawn, or this registry lacks files that the public one has. Update the package, and "
        "commit the lock file",
    ),
    Known(
        "no-package",
        _NPM + r" 404\s+(?:The requested resource )?'(?P<package>[^'\n]+)' (?:could not be found|is not in)"
        r"|ERR_PNPM_FETCH_404[^\n]*GET [^\n]*/(?P<package2>[^/\s:]+): Not Found"
        r"|Couldn't find package \"(?P<package3>[^\"\n]+)\" on the"
        r"|YN0035: │ +(?P<package5>@?[^@\s]+)@|error: GET [^\n]*/(?P<package4>[^/\s]+) - 404",
        "the registry has no such package, or doesn't show it without a token: {package}",
        "Check its name. If it is in a registry of your own, say so (@scope:registry=https://… in .npmrc), and give "
        "the project a token for it (project registry add)",
    ),
    Known(
        "font",
        r"Failed to fetch [`'\"](?P<font>[^`'\"\n]+)[`'\"] from Google Fonts",
        "Next.js fetches the font {font} during the build, and the builder doesn't reach the server",
        "Let the builder reach it, or keep the font's files in the repository and use next/font/local",
    ),
    Known(
        "gyp-python",
        r"gyp ERR! find Python|Could not find any Python installation to use",
        "a package is compiled when it is installed, and the builder has no Python, which that needs",
        "Install python3, make and a C++ compiler on the builder's machine, or use a version of the package that "
        "comes compiled for this Node",
    ),
    Known(
        "gyp-compiler",
        r"gyp ERR! (?:stack )?(?:Error: )?not found: (?:make|g\+\+|gcc|cc)\b"
        r"|make: (?:g\+\+|cc|c\+\+): (?:No such file|not found)",
        "a package is compiled when it is installed, and the builder has no compiler",
        "Install make and a C++ compiler on the builder's machine, or use a version of the package that comes compiled "
        "for this Node",
    ),
    Known(
        "gyp",
        r"gyp ERR! (?:build|configure) error",
        "a package that is compiled when it is installed couldn't be",
        "Use a version of it that comes compiled for this Node; else see the compiler's messages in the log",
    ),
    Known(
        "download",
        r"^npm (?:error|ERR!) (?P<package>[\w@/-]+): [^\n]*getaddrinfo (?P<code>ENOTFOUND|EAI_AGAIN) (?P<host>[\w.-]+)",
        "the package {package} downloads from {host} when it is installed, which can't be reached ({code})",
        "Use a version of it whose binaries are in the registry, or let the builder's machine reach {host} "
        "(HTTPS_PROXY)",
    ),
    Known(
        "network-host",
        r"^error (?:An unexpected error occurred|Error)[^\n]*getaddrinfo "
        r"(?P<code>ENOTFOUND|EAI_AGAIN) (?P<host>[\w.-]+)",
        "the registry {host} can't be reached ({code})",
        "Try again. If it stays so, look for that host: the lock file may name it (install the package again from your "
        "registry, and commit the lock file), or .npmrc; else see whether the builder's machine reaches it",
    ),
    Known(
        "network",
        r"(?:" + _NPM + r"|ERR_PNPM_META_FETCH_FAIL|\bFetchError:|^error (?:An unexpected error occurred|Error))[^\n]*"
        r"(?P<code>ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|network timeout)\b",
        "the registry can't be reached ({code})",
        "Try again. If it stays so, check the registry's address in .npmrc, and whether the builder's machine reaches "
        "it (HTTPS_PROXY, DNS). One on a private network, or on the builder's machine, is reached by builds whose "
        "project names it: `twistedipc project set PROJECT --host HOST:PORT`",
    ),
    # -- what is run
    Known(
        "no-script",
        r"Missing script: \"(?P<script>[^\"\n]+)\"|ERR_PNPM_NO_SCRIPT[^\n]*Missing script: (?P<script2>\S+)"
        r"|error Command \"(?P<script3>[^\"\n]+)\" not found\.|error: Script not found \"(?P<script4>[^\"\n]+)\""
        r"|Couldn't find a script named \"(?P<script5>[^\"\n]+)\"",
        'package.json has no script "{script}"',
        "Add it, or change the command that is run",
    ),
    Known(
        "husky",
        r"\bhusky: (?:command )?not found|command not found: husky|\.git can't be found",
        "the script that sets up husky's git hooks failed: husky isn't installed here, and a build needs no hooks",
        'Let package.json say "prepare": "husky || true"',
    ),
    Known(
        "no-command",
        r"^(?:\S*/)?(?:sh|bash|dash|zsh)(?:: line \d+|: \d+)?: (?P<command>[^\s:]+): (?:command )?not found"
        r"|command not found: (?P<command2>\S+)|spawn (?P<command3>[^\s/]+) ENOENT"
        r"|Command \"(?P<command4>\S+)\" not found$",
        "there is no command {command}",
        f"Add the package that has it to package.json and commit the lock file ({_DEV}). If it is a program of the "
        "system, install it on the builder's machine",
    ),
    Known(
        "platform-binary",
        r"Cannot find module '?(?P<package>@(?:rollup/rollup|esbuild|img/sharp|swc/core|next/swc|parcel/watcher|"
        r"rolldown/binding|tailwindcss/oxide|oxc-[a-z]+/binding|biomejs/cli)[-/][\w-]+)"
        r"|The package \"(?P<package2>@esbuild/[\w-]+)\" could not be found"
        r"|Could not load the \"(?P<package3>sharp)\" module|Failed to load (?P<package4>SWC) binary"
        r"|Cannot find module '[^'\n]*?(?P<package5>lightningcss)\.[\w-]+\.node'"
        r"|(?P<package6>Cannot find native binding)",
        "the part of a package for this machine's platform isn't installed: {package}",
        "A lock file that npm made on another platform can lack such parts: delete node_modules and package-lock.json, "
        "run `npm install`, and commit the lock file. --omit=optional leaves them out too",
    ),
    Known(
        "openssl",
        r"ERR_OSSL_EVP_UNSUPPORTED|digital envelope routines::unsupported",
        "the bundler (webpack 4, or 5 before 5.61) uses a hash that Node has no more since version 17",
        "Update it; until then, ask for Node 16, or set NODE_OPTIONS=--openssl-legacy-provider for the build",
    ),
    Known(
        "warnings-as-errors",
        r"Treating warnings as errors because process\.env\.CI = true",
        "the build has warnings, and Create React App takes them for errors where CI is set",
        'Mend them, or let package.json say "build": "CI=false react-scripts build"',
    ),
    Known(
        "file-missing",
        _UNRESOLVED + r"(?P<path>\.{1,2}/[^'\"\n]*)['\"]",
        "a file that is imported isn't there: {path}",
        "Compare the name with the file's, also its capitals: a file system of Linux tells Header.js from header.js, "
        "and those of macOS and Windows mostly don't. If the file is made by a step, check that the step runs first",
    ),
    Known(
        "require-esm",
        r"\[ERR_REQUIRE_ESM\]|\[ERR_REQUIRE_ASYNC_MODULE\]",
        "a package that is an ES module was loaded with require()",
        "Load it with import, or import(); or ask for Node 22 or newer, where require() takes most ES modules; or for "
        "the package's last version that was CommonJS",
    ),
    Known(
        "module-kind",
        r"Cannot use import statement outside a module"
        r"|(?:module|require|exports|__dirname) is not defined in ES module scope",
        "a file is written as one kind of module, and Node takes it for the other",
        'Name it .mjs if it has import, .cjs if it has require(); or set "type" in package.json',
    ),
    Known(
        # What can't be a package's name: npm has none of one sign, with "$", "#" or a capital letter, or named src.
        "alias",
        _UNRESOLVED
        + r"(?P<path>(?P<alias>(?:@@?|~~?|[$#][\w-]*|src)/|@[\w-]+/(?=[A-Z])|[$#][\w-]+(?=['\"]))[^'\"\n]*)",
        "the alias {alias} isn't set up for the tool that says so, or nothing is behind it: {path}",
        'Set it up for each tool that reads the sources: resolve.alias of Vite and webpack, "paths" in tsconfig.json, '
        'moduleNameMapper of Jest, "imports" in package.json for what begins with #. If it is set up, compare the name '
        "with the file's, also its capitals",
    ),
    Known(
        "module-scheme",
        _UNRESOLVED + r"(?P<path>(?P<scheme>[a-z][\w-]+):(?!//)[^'\"\n]*)",
        "there is no module {path}: what begins with {scheme}: comes from the tool itself, or from a plugin of it",
        "If it begins with node:, ask for a newer version of Node; else add the plugin that makes it to the tool's "
        "configuration",
    ),
    Known(
        "module-missing",
        _UNRESOLVED + r"~?(?P<package>(?![./])(?:@[^/'\"\n]+/)?[^/'\"\n]+)",
        "a package isn't installed: {package}",
        "Add it to package.json (`npm install {package}`) and commit the lock file. It may be there as another "
        "package's dependency only, or in devDependencies: " + _DEV,
    ),
    Known(
        "node-version",
        r"(?P<tool>Vite|Astro|Angular CLI|Next\.js|Nuxt|Gatsby|Docusaurus)[^\n]{0,60}"
        r"(?:requires (?:a minimum )?Node\.js version|Node\.js version \"[^\"\n]+\" is required|requires Node\.js)"
        r"[^\n]{0,4}(?P<wanted>[^\n]{0,60})",
        "{tool} needs another version of Node than the build has",
        "Ask for one that fits: engines.node in package.json, or .nvmrc",
    ),
    Known(
        "connection",
        r"\b(?P<code>ECONNREFUSED|ENOTFOUND|ETIMEDOUT|EAI_AGAIN)\b[^\n]*?(?P<host>[\w.:-]*\w)",
        "the build asked a server that it can't reach ({code} {host})",
        "A build must get by with what is in the repository and the registry, unless the builder's machine reaches "
        "that server. One on a private network is reached by builds whose project names it: `twistedipc project set "
        "PROJECT --host HOST:PORT`",
    ),
    # -- what says nothing but its exit code
    Known(
        "killed",
        r"^Killed$|\bsignal SIGKILL\b",
        "a process was killed, most likely since the machine had no more memory",
        "Let the build run fewer processes at once, or build where there is more memory",
        exit_code=137,
    ),
    Known(
        "crashed",
        r"^Segmentation fault|\bsignal SIGSEGV\b",
        "a program crashed",
        "That is mostly a package with a compiled part that doesn't fit this version of Node: update it, or change the "
        "version of Node",
        exit_code=139,
    ),
    Known(
        "no-command",
        r"(?!)",
        "a command wasn't found",
        "See the step's last lines for its name. " + _DEV[:1].upper() + _DEV[1:],
        exit_code=127,
    ),
)

WARNINGS: tuple[Known, ...] = (
    Known(
        "scripts-blocked",
        r"^npm warn install-scripts (?P<count>\d+) packages? had install scripts blocked[^\n]*\n"
        r"npm warn install-scripts +(?P<package>\S+)"
        r"|Ignored build scripts: (?P<package2>[^\n│]+)",
        "install scripts of packages weren't run, since package.json doesn't allow them: {package}",
        "If the build needs them, allow them (`npm install-scripts approve`, `pnpm approve-builds`) and commit what "
        "that writes",
    ),
    Known(
        "engine",
        r"^npm warn EBADENGINE +package: '(?P<package>[^'\n]+)',\n"
        r"npm warn EBADENGINE +required: (?P<wanted>[^\n]+),\nnpm warn EBADENGINE +current: (?P<found>[^\n]+)",
        "the package {package} needs {wanted}, and the build has {found}",
        "Ask for a version of Node that fits: engines.node in package.json, or .nvmrc",
    ),
)


def last_output(lines: Iterable[str]) -> str:
    """Return the last of these lines, as far as they are looked at, without colours."""
    kept = "\n".join(list(lines)[-MAX_LINES:])[-MAX_CHARACTERS:]
    plain = _ESCAPES.sub("", kept).replace("\r\n", "\n").replace("\r", "\n")
    return "\n".join([line[:MAX_LINE] for line in plain.split("\n")])


def explain_failure(output: str, exit_code: int | None) -> Explanation | None:
    """Return what the failure of a step with this `last_output` and exit code means; None if that isn't known."""
    found = explain_at(output, exit_code)
    return None if found is None else found.explanation


class Explained(NamedTuple):
    """What a failure means, and which line says so: the one with so many ``behind`` it; None: only the exit code."""

    explanation: Explanation
    behind: int | None


def explain_at(output: str, exit_code: int | None) -> Explained | None:
    """Return what `explain_failure` does, with its line."""
    for row, pattern in _compiled(FAILURES):
        found = pattern.search(output)
        if found is not None:
            return Explained(_explanation(row, found), output.count("\n", found.start()))
    for row, _pattern in _compiled(FAILURES):
        if row.exit_code is not None and row.exit_code == exit_code:
            return Explained(Explanation(name=row.name, cause=row.cause, cure=row.cure), None)
    return None


def explain_warnings(output: str) -> list[Explanation]:
    """Return what a tool has left out, by the `last_output` of a step that succeeded."""
    found = ((row, pattern.search(output)) for row, pattern in _compiled(WARNINGS))
    return [_explanation(row, match) for row, match in found if match is not None]


def _explanation(row: Known, found: re.Match[str]) -> Explanation:
    # A group's name may end in a digit, where alternatives of one pattern capture the same thing.
    groups: dict[str, str] = {}
    for name, value in found.groupdict().items():
        key = name.rstrip("0123456789")
        groups[key] = groups.get(key) or _quoted(value or "")
    shown = {key: value or "(see the log)" for key, value in groups.items()}
    return Explanation(name=row.name, cause=row.cause.format_map(shown), cure=row.cure.format_map(shown))


def _quoted(text: str) -> str:
    """Return a stranger's text as part of a sentence: on one line, printable, and not too long."""
    cleaned = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return cleaned if len(cleaned) <= _MAX_QUOTED else f"{cleaned[: _MAX_QUOTED - 1]}…"


@functools.cache
def _compiled(rows: tuple[Known, ...]) -> tuple[tuple[Known, re.Pattern[str]], ...]:
    # Not when this module is imported: most steps have nothing to be explained, and all of their processes import it.
    return tuple((row, re.compile(row.pattern, re.MULTILINE)) for row in rows)
