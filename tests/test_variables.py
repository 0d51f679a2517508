"""Which variables and secrets a build may be given, and which builds and steps are given them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.builds import names, secrets, variables


@pytest.mark.parametrize(
    "name",
    ["LD_PRELOAD", "ld_preload", "NODE_OPTIONS", "GIT_SSH_COMMAND", "BASH_ENV", "npm_config_registry", "PATH", "HOME",
     "NODE_AUTH_TOKEN", "TWISTEDIPC_BUILD", "PYTHONPATH", "OPENSSL_CONF", "MAKEFLAGS", "npm_execpath", "", "1A",
     "A-B", "A=B", "A\n", "NPM_TOKEN", "YARN_NPM_AUTH_TOKEN", "YARN_NPM_REGISTRY_SERVER", "npm_config_userconfig",
     "npm_config_script_shell", "npm_config_node_options", "npm_config_cache", "npm_config_prefix", "YARN_RC_FILENAME",
     "YARN_PLUGINS", "YARN_YARN_PATH", "PNPM_HOME", "pnpm_config_npmrc_auth_file", "npm_config__auth",
     "npm_config_git", "npm_config_https_proxy", "npm_config_strict_ssl", "COREPACK_NPM_REGISTRY", "COREPACK_HOME",
     "COREPACK_INTEGRITY_KEYS", "npm_config_onload_script", "npm_config_init_module", "npm_config_electron_mirror",
     "YARN_UNSAFE_HTTP_WHITELIST", "npm_config_globalconfig", "NPM_CONFIG_", "npm_config_ca", "GIT_LFS_SKIP"],
)  # fmt: skip
def test_variables_that_can_t_be_set(name: str) -> None:
    with pytest.raises(names.BadValue):
        variables.check({name: "x"})


@pytest.mark.parametrize(
    ("name", "value"),
    [("MODE", "production"), ("VITE_URL", "https://x"), ("NODE_OPTIONS", "--max-old-space-size=4096"),
     ("NODE_OPTIONS", "--max_old_space_size=4096  --max-semi-space-size=64"), ("NODE_OPTIONS", ""),
     ("PYTHONUNBUFFERED", "1"), ("GIT_LFS_SKIP_SMUDGE", "1"), ("NPM_CONFIG_LEGACY_PEER_DEPS", "true"),
     ("npm_config_loglevel", "verbose"), ("npm_config_ignore_scripts", "true"), ("YARN_ENABLE_IMMUTABLE_INSTALLS", "0"),
     ("YARN_ENABLE_GLOBAL_CACHE", "false"), ("YARN_HTTP_TIMEOUT", "100000"), ("PNPM_CONFIG_NODE_LINKER", "hoisted"),
     ("COREPACK_ENABLE_DOWNLOAD_PROMPT", "0"), ("COREPACK_ENABLE_STRICT", "0"), ("npm_config_maxsockets", "5"),
     ("npm_config_package_lock", "false"), ("npm_config_save_prefix", "~")],
)  # fmt: skip
def test_variables_that_can_be_set(name: str, value: str) -> None:
    assert variables.check({name: value}) == {name: value}


@pytest.mark.parametrize(
    "value",
    ["--require ./x.js", "-r ./x.js", "--max-old-space-size=4096 --import=x", "--max-old-space-size", "--inspect",
     "--max-old-space-size=4096,--require=x", "--max-old-space-size=1\n--require=x", "x"],
)  # fmt: skip
def test_node_takes_flags_for_memory_alone(value: str) -> None:
    with pytest.raises(names.BadValue, match=r"only flags for memory can be set, such as --max-old-space-size=4096"):
        variables.check({"NODE_OPTIONS": value})


def test_variables_are_bounded() -> None:
    for bad in ({"A": "\0"}, {"A": "x" * 100_000}, {f"A{n}": "" for n in range(300)}):
        with pytest.raises(names.BadValue):
            variables.check(bad)
        with pytest.raises(names.BadValue):
            variables.of_repository(bad)


def test_a_repository_may_set_nearly_all() -> None:
    """Its steps could set it all themselves."""
    assert variables.of_repository({"NODE_OPTIONS": "--require ./x.js", "npm_config_registry": "https://x"})
    with pytest.raises(names.BadValue):
        variables.of_repository({"TWISTEDIPC_BUILD": "1"})


@pytest.mark.parametrize("name", ["NPM_TOKEN", "NODE_AUTH_TOKEN", "YARN_NPM_AUTH_TOKEN", "SENTRY_AUTH_TOKEN", "a"])
def test_names_of_secrets(name: str) -> None:
    assert variables.secret_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["NODE_OPTIONS", "PATH", "GIT_SSH_COMMAND", "npm_config_registry", "TWISTEDIPC_X", "", "a-b", "1", "A" * 129],
)
def test_names_that_no_secret_has(name: str) -> None:
    with pytest.raises(names.BadValue):
        variables.secret_name(name)


@pytest.mark.parametrize(
    ("name", "secret"),
    [("REG_TOKEN", True), ("API_KEY", True), ("AWS_SECRET_ACCESS_KEY", True), ("DB_PASSWORD", True), ("apiKey", True),
     ("GITHUB_PAT", True), ("MY_SECRETS", True), ("SENTRY_DSN", True), ("authToken", True), ("KEY1", True),
     ("MODE", False), ("VITE_API_KEY", False), ("NEXT_PUBLIC_TOKEN", False), ("KEYBOARD", False), ("MONKEY", False),
     ("TOKENIZER", False), ("STRIPE_PUBLIC_KEY", False), ("PATTERN", False), ("AUTHOR", False)],
)  # fmt: skip
def test_names_that_look_like_secrets(name: str, secret: bool) -> None:
    assert variables.looks_secret(name, "x" * 20) is secret


def test_a_short_value_is_no_secret() -> None:
    assert not variables.looks_secret("API_KEY", "main")


def test_variables_of_some_builds() -> None:
    change = variables.Change
    environment, of_contexts = variables.changed(
        {"A": "1", "B": "2"},
        variables.OfContexts(),
        [change(name="A", value="3", builds="previews"), change(name="C", value="4", builds="production")],
    )
    assert variables.of_context(environment, of_contexts, "production") == {"A": "1", "B": "2", "C": "4"}
    assert variables.of_context(environment, of_contexts, "preview") == {"A": "3", "B": "2"}
    assert environment == {"B": "2"}
    again = variables.changed(environment, of_contexts, [change(name="A", value="5"), change(name="C", value=None)])
    assert again == ({"A": "5", "B": "2"}, variables.OfContexts())
    gone = variables.changed(*again, [change(name="B", value=None, builds="previews")])
    assert gone == ({"A": "5"}, variables.OfContexts(production={"B": "2"}))


_values = st.dictionaries(st.sampled_from("ABC"), st.sampled_from("xy"), max_size=3)


@given(
    _values,
    _values,
    _values,
    st.lists(
        st.builds(
            variables.Change,
            name=st.sampled_from("ABC"),
            value=st.sampled_from(["x", "y", None]),
            builds=st.sampled_from(["all", "production", "previews", "staging"]),
        )
    ),
    st.dictionaries(st.sampled_from(["staging", "qa"]), _values),
)
def test_a_change_of_variables_is_what_each_build_notices(
    environment: dict[str, str],
    production: dict[str, str],
    previews: dict[str, str],
    changes: list[variables.Change],
    others: dict[str, dict[str, str]],
) -> None:
    before = environment, variables.OfContexts(production=production, previews=previews, environments=others)
    after = variables.changed(*before, changes)
    for context in ("production", "preview", *others):
        expected = variables.of_context(*before, context)
        for one in changes:
            if secrets.are_for(one.builds, context):
                expected.pop(one.name, None)
                if one.value is not None:
                    expected[one.name] = one.value
        assert variables.of_context(*after, context) == expected
    for each in (after[1].production, after[1].previews, *after[1].environments.values()):
        assert not after[0].keys() & each.keys()


def test_a_new_environment_begins_with_what_previews_have() -> None:
    before = variables.OfContexts(production={"A": "1"}, previews={"A": "2"}, environments={"qa": {"A": "3"}})
    after = variables.with_environments(before, ["staging", "qa"])
    assert after.environments == {"staging": {"A": "2"}, "qa": {"A": "3"}}
    assert variables.with_environments(after, []).environments == {}


@pytest.mark.parametrize(
    ("builds", "contexts"),
    [("all", {"production", "preview", "staging", "qa"}), ("production", {"production"}), ("previews", {"preview"}),
     ("staging", {"staging"}), ("preview", {"preview"} - {"preview"})],
)  # fmt: skip
def test_which_builds_something_is_for(builds: secrets.Builds, contexts: set[str]) -> None:
    known = ("production", "preview", "staging", "qa")
    assert {environment for environment in known if secrets.are_for(builds, environment)} == contexts


@pytest.mark.parametrize(
    ("steps", "given_to"),
    [("all", {"install", "build", "test"}), ("install", {"install"}), ("build", {"build", "test"})],
)
def test_which_steps_a_secret_is_for(steps: secrets.Steps, given_to: set[str]) -> None:
    assert {step for step in ("install", "build", "test") if secrets.is_for_step(steps, step)} == given_to


@pytest.mark.parametrize("value", ["abcd", "-----BEGIN KEY-----\nabc\n", "äöü€", "a b c", "\n\nabcd\n", "{\n  1234\n}"])
def test_values_of_secrets(value: str) -> None:
    assert secrets.value(value) == value


@pytest.mark.parametrize(
    "value", ["", "abc", "a\nb\nc", "*****", "ab  \n", "***a", "ä€", "x" * 32_769, "abcd\0", "abcd\ud800"]
)
def test_values_that_no_secret_has(value: str) -> None:
    with pytest.raises(names.BadValue):
        secrets.value(value)
