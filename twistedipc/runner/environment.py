"""
The environment of each step, made from nothing: neither the runner's nor the builder's is in it. Used by ``course``.

The platform's own steps get `Environment.base` alone. The build's steps also get what project, repository and request
say, and those secrets of the project that are for the step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from twistedipc.builds.attempt import Spec
from twistedipc.builds.caches import DOWNLOADS_OF
from twistedipc.builds.hosts import variables
from twistedipc.builds.plan import Plan
from twistedipc.builds.secrets import GivenSecret, is_for_step
from twistedipc.toolchains.wanted import Toolchain


class Environment:
    """The environments of one attempt's steps."""

    def __init__(self, folder: Path, spec: Spec) -> None:
        self._folder = folder
        self._spec = spec
        self._path = spec.environment.get("PATH", spec.path)
        self.commit = ""  # the full id, once it is known
        self.secrets: Sequence[GivenSecret] = ()
        self.toolchain = Toolchain()  # what the build's steps get, once it is there

    def base(self) -> dict[str, str]:
        """Return the environment of every step: nothing of the project's own is in it."""
        spec = self._spec
        return {
            # A step of the platform prefers what the operator has.
            "PATH": ":".join([self._path, *self.toolchain.path]),
            "HOME": str(self._folder / "home"),
            "TMPDIR": str(self._folder / "tmp"),
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "CI": "true",
            "FORCE_COLOR": "1",
            **DOWNLOADS_OF["npm"].environment(str(self._folder)),
            "npm_config_update_notifier": "false",
            "npm_config_fund": "false",
            "npm_config_audit": "false",
            "TWISTEDIPC_BUILD": str(spec.build),
            "TWISTEDIPC_ATTEMPT": spec.attempt,
            "TWISTEDIPC_PROJECT": spec.project,
            "TWISTEDIPC_REF": spec.ref,
            "TWISTEDIPC_CONTEXT": spec.context,
            "TWISTEDIPC_ENVIRONMENT": spec.environment_name or spec.context,
            **({"TWISTEDIPC_URL": spec.url} if spec.url else {}),
            **({"TWISTEDIPC_COMMIT": self.commit} if self.commit else {}),
            **{name: value for name, value in spec.environment.items() if name != "PATH"},
        }

    def apart(self, *, home: Path, temporary: Path) -> dict[str, str]:
        """Return the environment of a step of the platform's own that sees nothing of the build's home."""
        own = {"HOME": str(home), "TMPDIR": str(temporary), **DOWNLOADS_OF["npm"].environment(str(home))}
        return {**self.base(), **own}

    def of_build(self, plan: Plan) -> dict[str, str]:
        """Return what all steps of the build have alike."""
        spec = self._spec
        name = spec.environment_name or spec.context
        return {
            **variables(commit=self.commit, ref=spec.ref, url=spec.url, environment=name),
            **self.base(),
            "PATH": ":".join([*self.toolchain.path, self._path]),
            **self._downloads(plan),
            **self.toolchain.environment,
            **self.said(plan),
        }

    def _downloads(self, plan: Plan) -> dict[str, str]:
        # Not the variables of all managers: npm warns of those that it doesn't know.
        manager = plan.recognised.manager
        downloads = DOWNLOADS_OF.get(manager.name) if manager is not None else None
        return downloads.environment(str(self._folder)) if downloads is not None else {}

    def said(self, plan: Plan) -> dict[str, str]:
        """Return what the project, its repository and the request say of the environment."""
        return {**self._spec.variables, **plan.environment, **self._spec.parameters}

    def of_step(self, name: str, of_build: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of the build's step of this name."""
        return {**of_build, **{secret.name: secret.value for secret in self.secrets if is_for_step(secret.steps, name)}}
