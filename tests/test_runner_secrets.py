"""Secrets in a real runner: which steps have them, and that nothing shows them."""

from __future__ import annotations

import base64
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from tests.attempt_folder import Attempt, repository, until
from twistedipc.attempts.handover import hand_over
from twistedipc.builds.attempt import FoundCommit, Result, Secrets
from twistedipc.builds.registries import Registry
from twistedipc.builds.secrets import GivenSecret
from twistedipc.disk.files import read_file, write_file

PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nBKcwggSjAgEAAoIBAQC7\n-----END PRIVATE KEY-----"


def plan(*steps: tuple[str, str]) -> dict[str, str]:
    """A repository with these steps, each a name and a command."""
    listed = ", ".join(f"{{name = '{name}', run = '''{command}'''}}" for name, command in steps)
    return {".twistedipc.toml": f"[build]\nsteps = [{listed}]\n"}


def attempt(base: Path, files: Mapping[str, str], *, message: str = "first commit", **options: object) -> Attempt:
    """An attempt whose runner must ask for secrets."""
    repository(base / "source", files, message=message)
    one = Attempt(base, base / "source", **options)  # type: ignore[arg-type]
    one.spec = msgspec.structs.replace(one.spec, asks=["steps"])
    write_file(one.folder / "spec.json", one.spec)
    return one


def run(one: Attempt, answer: Secrets) -> Result:
    """Run it, with this answer to its question."""
    one.start()
    until(lambda: (one.folder / "secrets.wanted").exists(), "it asks")
    assert one.output() == []
    hand_over(one.folder, answer)
    return one.wait()


def given(**secrets: str) -> Secrets:
    return Secrets(granted=True, steps=[GivenSecret(name=name, value=value) for name, value in secrets.items()])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}


def test_each_step_has_those_that_are_for_it(tmp_path: Path) -> None:
    show = "echo ${SECRET_ALL:+all} ${SECRET_INSTALL:+install} ${SECRET_BUILD:+build}"
    one = attempt(tmp_path, plan(("install", show), ("make", show)))
    secrets = [
        GivenSecret(name="SECRET_ALL", value="value-1"),
        GivenSecret(name="SECRET_INSTALL", value="value-2", steps="install"),
        GivenSecret(name="SECRET_BUILD", value="value-3", steps="build"),
    ]
    assert run(one, Secrets(granted=True, steps=secrets)).outcome == "succeeded"
    assert one.output(1) == ["all install"]
    assert one.output(2) == ["all build"]


def test_they_are_hidden_from_the_first_byte_in_every_form(tmp_path: Path) -> None:
    """Also in the subject of the commit, which is printed before any step."""
    value = 'p&ss w"rd/with+signs'
    steps = plan(
        ("plain", "echo start $A_SECRET"),
        ("base64", "printf %s $A_SECRET | base64"),
        ("hex", 'printf %s $A_SECRET | od -An -tx1 | tr -d " "'),
        ("forms", "cat forms"),
        ("lines", 'echo "$PEM"'),
    )
    forms = "https://x/?token=p%26ss%20w%22rd%2Fwith%2Bsigns\n" + r'{"token": "p&ss w\"rd/with+signs"}'
    one = attempt(tmp_path, {**steps, "forms": forms}, message=f"the token is {value}")
    result = run(one, given(A_SECRET=value, PEM=PEM))
    assert result.outcome == "succeeded"
    assert result.subject == "the token is ***"
    told = read_file(one.folder / "commit.json", FoundCommit)
    assert told is not None
    assert (told.commit, told.subject, told.resolved) == (result.commit, result.subject, result.resolved)
    assert one.output(1) == ["start ***"]
    assert one.output(4) == ["https://x/?token=***", '{"token": "***"}']
    log = "\n".join(one.output())
    for shown in (value, base64.b64encode(value.encode()).decode()[:16], value.encode().hex()[:20], *PEM.split("\n")):
        assert shown not in log
    assert one.output(5) == ["***"] * 4


def test_they_are_on_no_disk(tmp_path: Path) -> None:
    """Neither while a step has them, nor afterwards."""
    one = attempt(tmp_path, plan(("wait", "touch running; while [ ! -e go ]; do sleep 0.02; done")))
    thread = threading.Thread(target=lambda: run(one, given(KEY="correct-horse-battery")))
    thread.start()
    until((one.folder / "work" / "running").exists, "the step runs")
    during = contents(tmp_path)
    (one.folder / "work" / "go").touch()
    thread.join()
    assert one.result is not None
    assert one.result.outcome == "succeeded"
    for found in (during, contents(tmp_path)):
        assert found
        assert [path for path, data in found.items() if b"correct-horse-battery" in data] == []


def test_without_them_nothing_is_run(tmp_path: Path) -> None:
    one = attempt(tmp_path, plan(("s", "echo ran")))
    result = run(one, Secrets(granted=False, reason="their key is lost"))
    assert (result.outcome, result.reason) == ("failed", "the project's secrets can't be given: their key is lost")
    assert result.steps == []
    assert not (one.folder / "secrets").exists()
    assert not (one.folder / "secrets.wanted").exists()


def test_waiting_for_them_has_an_end(tmp_path: Path) -> None:
    result = attempt(tmp_path, plan(("s", "echo ran")), timeout=0.5).run()
    assert (result.outcome, result.steps) == ("timed_out", [])


def test_a_parameter_can_t_take_the_place_of_a_secret(tmp_path: Path) -> None:
    one = attempt(tmp_path, plan(("s", "echo ${#KEY}")), parameters={"KEY": "from a request"})
    assert run(one, given(KEY="12345")).outcome == "succeeded"
    assert one.output(1) == ["5"]


def installing(base: Path, script: str, *registries: Registry, more: str = "") -> Attempt:
    """An attempt whose steps show the configuration of package managers, or do something before that."""
    one = attempt(base, plan(("before", more or "true"), ("install", script), ("build", "ls -A ~ | tr '\\n' ' '")))
    one.spec = msgspec.structs.replace(one.spec, registries=list(registries))
    write_file(one.folder / "spec.json", one.spec)
    return one


REGISTRIES = (
    Registry(address="https://npm.example.org/team", secret="NPM_TOKEN", scopes=["@acme", "@other"]),
    Registry(address="http://127.0.0.1:4873/"),
)


def test_the_install_step_is_set_up_for_the_registries(tmp_path: Path) -> None:
    one = installing(tmp_path, "cat ~/.npmrc ~/.yarnrc.yml", *REGISTRIES)
    assert run(one, given(NPM_TOKEN="s3cret-token")).outcome == "succeeded"
    *npm, yarn = one.output(2)
    assert npm == [
        "@acme:registry=https://npm.example.org/team/",
        "@other:registry=https://npm.example.org/team/",
        "//npm.example.org/team/:_authToken=${NPM_TOKEN}",
        "registry=http://127.0.0.1:4873/",
    ]
    assert msgspec.json.decode(yarn) == {
        "npmRegistryServer": "http://127.0.0.1:4873",
        "npmScopes": {
            "acme": {"npmRegistryServer": "https://npm.example.org/team"},
            "other": {"npmRegistryServer": "https://npm.example.org/team"},
        },
        "npmRegistries": {"//npm.example.org/team": {"npmAuthToken": "${NPM_TOKEN-}", "npmAlwaysAuth": True}},
        "unsafeHttpWhitelist": ["127.0.0.1"],
    }
    assert one.output(3) == []


def test_a_build_that_isn_t_given_the_token_asks_without(tmp_path: Path) -> None:
    one = installing(tmp_path, "cat ~/.npmrc", *REGISTRIES)
    assert run(one, given()).outcome == "succeeded"
    assert not [line for line in one.output(2) if "authToken" in line]


def test_a_step_s_own_configuration_stays(tmp_path: Path) -> None:
    one = installing(tmp_path, "cat ~/.npmrc", *REGISTRIES, more="echo mine > ~/.npmrc")
    assert run(one, given(NPM_TOKEN="s3cret-token")).outcome == "succeeded"
    assert one.output(2) == ["mine"]
    assert one.output(3) == [".npmrc "]
    assert "~/.npmrc is a step's own: it isn't set up for the project's registries" in one.notices()


def test_a_step_can_put_a_folder_in_the_place_of_the_configuration(tmp_path: Path) -> None:
    one = installing(tmp_path, "rm ~/.npmrc; mkdir ~/.npmrc", *REGISTRIES)
    assert run(one, given()).outcome == "succeeded"
    assert one.output(3) == [".npmrc "]


@pytest.mark.skipif(not shutil.which("npm"), reason="there is no npm")
def test_npm_sends_the_token_to_its_registry_alone(tmp_path: Path) -> None:
    one = installing(
        tmp_path,
        "npm config get @acme:registry; npm config get registry; npm config list --json | grep -c npm.example.org",
        *REGISTRIES,
    )
    assert run(one, given(NPM_TOKEN="s3cret-token")).outcome == "succeeded"
    assert one.output(2)[:2] == ["https://npm.example.org/team/", "http://127.0.0.1:4873/"]


def test_without_a_step_that_installs_it_is_said(tmp_path: Path) -> None:
    one = attempt(tmp_path, plan(("make", "true")))
    secrets = Secrets(granted=True, steps=[GivenSecret(name="KEY", value="value", steps="install")])
    assert run(one, secrets).outcome == "succeeded"
    assert one.notices() == [
        'no step is named install, so none is given KEY: name the one that installs, for example {name = "install", '
        'run = "npm ci"}'
    ]


def test_a_variable_that_looks_like_a_secret_is_hidden_too(tmp_path: Path) -> None:
    repository(tmp_path / "source", plan(("s", "echo $API_KEY $MODE $OPERATORS_TOKEN $DB_PASSWORD $VITE_API_KEY")))
    one = Attempt(
        tmp_path,
        tmp_path / "source",
        variables={"API_KEY": "variable-1", "MODE": "variable-2", "VITE_API_KEY": "variable-3"},
        environment={"OPERATORS_TOKEN": "variable-4"},
        parameters={"DB_PASSWORD": "short"},
    )
    assert one.run().outcome == "succeeded"
    assert one.output(1) == ["*** variable-2 *** short variable-3"]


def test_what_a_build_is_told(tmp_path: Path) -> None:
    names = ("TWISTEDIPC_CONTEXT", "TWISTEDIPC_URL", "CONTEXT", "URL", "BRANCH", "VERCEL_URL", "VERCEL", "VERCEL_ENV",
             "TWISTEDIPC_ENVIRONMENT", "VERCEL_TARGET_ENV")  # fmt: skip
    show = " ".join(f"{name}=${{{name}-}}" for name in (*names, "NETLIFY", "CF_PAGES"))
    commit = repository(tmp_path / "source", plan(("s", f"echo {show}; echo $TWISTEDIPC_COMMIT $COMMIT_REF")))
    one = Attempt(tmp_path, tmp_path / "source")
    one.spec = msgspec.structs.replace(one.spec, context="production", url="https://shop.example.org/")
    write_file(one.folder / "spec.json", one.spec)
    assert one.run().outcome == "succeeded"
    assert one.output(1) == [
        "TWISTEDIPC_CONTEXT=production TWISTEDIPC_URL=https://shop.example.org/ CONTEXT=production "
        "URL=https://shop.example.org BRANCH=main VERCEL_URL=shop.example.org VERCEL= VERCEL_ENV= "
        "TWISTEDIPC_ENVIRONMENT=production VERCEL_TARGET_ENV=production NETLIFY= CF_PAGES=",
        f"{commit} {commit}",
    ]
    two = Attempt(tmp_path, tmp_path / "source", name="2-1", environment_name="staging", refs=["main"])
    assert two.run().outcome == "succeeded"
    assert two.output(1)[0].endswith("TWISTEDIPC_ENVIRONMENT=staging VERCEL_TARGET_ENV=staging NETLIFY= CF_PAGES=")
    assert two.output(1)[0].startswith("TWISTEDIPC_CONTEXT=preview TWISTEDIPC_URL= CONTEXT=branch-deploy ")
