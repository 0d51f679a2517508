"""
The rules for the environment variables that a project or a request may set. Bottom layer, pure.

A project's variables, and a request's parameters, come from people who need not be able to change the repository: a
token with the scope ``build`` may give parameters. So they can't have a build run other programs than the repository
says, nor have it fetch from or send credentials to other places. The repository itself is not held to that
(`of_repository`): its steps are run as they are, and could set any variable themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec

from twistedipc.builds.environments import NAME, PREVIEW, PRODUCTION
from twistedipc.builds.names import MAX_VALUE, VARIABLE, BadValue
from twistedipc.builds.secrets import Builds, are_for

#: The most variables of one kind.
MAX_VARIABLES = 256


# Variables that make programs run something else, or that the platform itself sets.
_FORBIDDEN = frozenset(
    """
    PATH HOME TMPDIR SHELL IFS ENV BASH_ENV SHELLOPTS BASHOPTS PS4 PROMPT_COMMAND CDPATH GLOBIGNORE EDITOR VISUAL PAGER
    NODE_PATH NODE_REPL_EXTERNAL_MODULE NODE_CHANNEL_FD NODE_CHANNEL_SERIALIZATION_MODE NODE_UNIQUE_ID
    PERL5LIB PERL5OPT PERLLIB RUBYOPT RUBYLIB JAVA_TOOL_OPTIONS _JAVA_OPTIONS
    JDK_JAVA_OPTIONS GCONV_PATH HOSTALIASES LOCALDOMAIN RES_OPTIONS LOCPATH MALLOC_TRACE NLSPATH RESOLV_HOST_CONF
    TERMCAP TERMINFO GLIBC_TUNABLES LESSOPEN LESSCLOSE BROWSER MAKEFLAGS GNUMAKEFLAGS MAKEFILES ZDOTDIR FPATH CURL_HOME
    XDG_CONFIG_HOME RSYNC_RSH SVN_SSH NODE_COMPILE_CACHE NODE_TLS_REJECT_UNAUTHORIZED BUN_OPTIONS NPM_EXECPATH
    NPM_NODE_EXECPATH ELECTRON_RUN_AS_NODE
    """.split()
)
_FORBIDDEN_PREFIXES = tuple("LD_ DYLD_ GIT_ SSH_ PYTHON BASH_FUNC_ TWISTEDIPC_ OPENSSL_".split())

#: Those of the forbidden prefixes that change nothing of what is run.
_HARMLESS = frozenset({"PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONUTF8", "PYTHONIOENCODING"}) | frozenset(
    {"GIT_LFS_SKIP_SMUDGE"}
)

#: Credentials: a secret may have such a name, a variable may not.
_CREDENTIALS = frozenset({"NPM_TOKEN", "NODE_AUTH_TOKEN"})

#: The settings of package managers, as variables.
_MANAGERS = ("NPM_CONFIG_", "PNPM_CONFIG_", "YARN_", "PNPM_", "COREPACK_")

#: What says, in the name of such a setting, that it is about where packages come from, with which credentials, by which
#: programs and settings they are installed, where that is kept, or what is loaded beside the build's own code.
_UNSAFE_SETTING = (
    r"REGISTR|AUTH|TOKEN|PASSWORD|USERNAME|IDENT|OTP|CERT|CAFILE|KEYFILE|(?:^|_)KEY|^CA$|SSL|PROXY|NETWORK_SETTINGS"
    r"|SCOPES|MIRROR|BINARY_HOST|DIST_?URL|PUBLISH|UNSAFE|INTEGRITY|SIGNATURE|LOCAL_ADDRESS"
    r"|SHELL|EXECPATH|NODE_GYP|NODE_?OPTIONS|ONLOAD|PRELOAD|LOADER|REQUIRE|INJECT|PLUGIN|PNPMFILE|HOOKS|INIT_MODULE"
    r"|EDITOR|VIEWER|BROWSER|^GIT$|^CALL$|^C$|^PACKAGE$|^P$|^WHICH|PYTHON"
    r"|USERCONFIG|GLOBALCONFIG|RC_FILENAME|RCFILE|CONFIG_DIR|CONFIG_FILE|AUTH_FILE|(?:^|GLOBAL_|LOCAL_)PREFIX$"
    r"|PATH|HOME|ROOT|STORE|^GLOBAL|^CACHE(?:_FOLDER|_DIR)?$|TMP"
)

#: Flags of Node that change how much memory it takes, and nothing else.
_MEMORY_FLAGS = (
    r"--(?:max[-_]old[-_]space[-_]size|max[-_]semi[-_]space[-_]size|min[-_]semi[-_]space[-_]size"
    r"|max[-_]heap[-_]size|max[-_]old[-_]space[-_]size[-_]percentage|stack[-_]size)=[0-9]{1,9}"
)

_SECRET_WORDS = (
    r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|PWD|KEY|APIKEY|CREDENTIALS?|PAT|AUTH|DSN)S?(?:_|$|(?<=KEY)[0-9])"
    r"|TOKEN$|SECRET$|PASSWORD$|APIKEY$|CREDENTIALS$"
)
#: What frameworks put into the code that browsers get.
_PUBLIC = r"^(?:NEXT_PUBLIC|NUXT_PUBLIC|VITE|VUE_APP|REACT_APP|GATSBY|PUBLIC|EXPO_PUBLIC|STORYBOOK)_|PUBLIC_?KEY"

#: A value below this many characters isn't taken for a secret, whatever its name: it would be found everywhere.
LIKELY_SECRET = 8


def _shown(pattern: str, length: int) -> msgspec.Meta:
    """A rule that `check` holds a value to: here it is only for the API's document."""
    return msgspec.Meta(extra_json_schema={"pattern": f"^(?:{pattern})$", "maxLength": length})


class OfContexts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A project's variables that only some of its builds have, or have with other values."""

    production: dict[str, str] = {}
    previews: dict[str, str] = {}
    environments: dict[str, dict[str, str]] = {}  # by the name of one

    def of(self, environment: str) -> dict[str, str]:
        """Return those of the builds of one environment."""
        if environment == PRODUCTION:
            return self.production
        return self.previews if environment == PREVIEW else self.environments.get(environment, {})


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A variable that is set for these builds; or unset, if ``value`` is null."""

    name: Annotated[str, _shown(VARIABLE, 128)]
    value: Annotated[str, _shown(r"[^\x00]*", MAX_VALUE)] | None
    builds: Annotated[Builds, _shown(NAME, 32)] = "all"


def of_context(environment: Mapping[str, str], of_contexts: OfContexts, of: str) -> dict[str, str]:
    """Return the variables of a build of the environment ``of``."""
    return {**environment, **of_contexts.of(of)}


def changed(
    environment: Mapping[str, str], of_contexts: OfContexts, changes: list[Change]
) -> tuple[dict[str, str], OfContexts]:
    """
    Return a project's variables with these changes. What is set for all builds, or unset in all, is no longer set for
    some of them; what is unset in some is no longer set for all, and stays with the others.
    """
    kinds = {
        name: of_context(environment, of_contexts, name) for name in (PRODUCTION, PREVIEW, *of_contexts.environments)
    }
    for change in changes:
        for name, values in kinds.items():
            if are_for(change.builds, name):
                values.pop(change.name, None)
                if change.value is not None:
                    values[change.name] = change.value
    first, *others = kinds.values()
    both = {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}
    left = {of: {name: value for name, value in values.items() if name not in both} for of, values in kinds.items()}
    return both, OfContexts(production=left.pop(PRODUCTION), previews=left.pop(PREVIEW), environments=left)


def with_environments(of_contexts: OfContexts, environments: Iterable[str]) -> OfContexts:
    """
    Return a project's variables once it has these environments. What a new one builds was previews until then, so it
    begins with the variables that these have.
    """
    known = of_contexts.environments
    left = {name: known.get(name, of_contexts.previews) for name in environments}
    return msgspec.structs.replace(of_contexts, environments=left)


def check(values: Mapping[str, str]) -> Mapping[str, str]:
    """
    Check the variables of a project, or the parameters of a request. Raises `BadValue`. (An operator's own values, in
    the builder's configuration, aren't held to this.)
    """
    _check_size(values)
    for name, value in values.items():
        reason = _wrong_with(name, value)
        if reason:
            raise BadValue(f"{name} can't be set: {reason}")
    return values


def of_repository(values: Mapping[str, str]) -> Mapping[str, str]:
    """Check what a repository says of its own steps' environment. Raises `BadValue`."""
    _check_size(values)
    for name in values:
        if name.upper().startswith("TWISTEDIPC_"):
            raise BadValue(f"{name} can't be set: the platform sets it")
    return values


def secret_name(name: str) -> str:
    """Check the name of a secret, which is that of the variable that has it. Raises `BadValue`."""
    if not re.fullmatch(VARIABLE, name):
        raise BadValue(f"{name[:64]!r} can't be the name of a secret: it is the name of an environment variable")
    # Without a value, since nothing would hold a secret's value to what is allowed for a variable of this name.
    reason = "" if _is_credential(name) else _wrong_with(name, "?")
    if reason:
        raise BadValue(f"a secret can't be named {name}: {reason}")
    return name


def looks_secret(name: str, value: str = "") -> bool:
    """Return whether a variable of this name is likely to be a secret, by its name and the length of its value."""
    upper = name.upper()
    if value and len(value) < LIKELY_SECRET:
        return False
    return re.search(_SECRET_WORDS, upper) is not None and re.search(_PUBLIC, upper) is None


def _check_size(values: Mapping[str, str]) -> None:
    if len(values) > MAX_VARIABLES:
        raise BadValue(f"there can be at most {MAX_VARIABLES} variables")
    for name, value in values.items():
        if not re.fullmatch(VARIABLE, name):
            raise BadValue(f"{name[:64]!r} can't be the name of an environment variable")
        if "\0" in value or len(value) > MAX_VALUE:
            raise BadValue(f"the value of {name} has a NUL, or more than {MAX_VALUE} characters")


def _is_credential(name: str) -> bool:
    """Whether a setting of a package manager is a credential, which a secret may be."""
    upper = name.upper()
    return upper in _CREDENTIALS or (
        upper.startswith(_MANAGERS) and re.search(r"AUTH|TOKEN|PASSWORD|IDENT|OTP", upper) is not None
    )


def _wrong_with(name: str, value: str) -> str:
    """Return why a variable can't have this name and value; "" if it can."""
    upper = name.upper()
    if upper in _CREDENTIALS:
        how = f"twistedipc project secret set PROJECT {name}"
        return f"it is a credential, and variables can be read: set it as a secret ({how})"
    if upper == "NODE_OPTIONS":
        wrong = [flag for flag in value.split() if not re.fullmatch(_MEMORY_FLAGS, flag)]
        return (
            f"only flags for memory can be set, such as --max-old-space-size=4096, and {wrong[0][:60]} isn't one"
            if wrong
            else ""
        )
    if upper in _HARMLESS:
        return ""
    manager = next((prefix for prefix in _MANAGERS if upper.startswith(prefix)), None)
    if manager is not None:
        setting = upper.removeprefix(manager).replace("-", "_")
        if not setting or re.search(_UNSAFE_SETTING, setting):
            return (
                "it changes where packages come from, with which credentials, or what is run; for registries see "
                "`twistedipc project registry`"
            )
        return ""
    if upper in _FORBIDDEN or upper.startswith(_FORBIDDEN_PREFIXES):
        return "it changes how programs are run"
    return ""
