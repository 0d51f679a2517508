"""The targets to which projects can publish. ``web.api``; ``routes`` has these functions."""

from __future__ import annotations

from typing import Any

from twistedipc.publish.targets.fields import fields_of
from twistedipc.publish.targets.registry import TARGETS
from twistedipc.publish.targets.target import Target
from twistedipc.web.api.call import Call, Reply
from twistedipc.web.api.schemas import KnownSecret, KnownTarget, KnownTargets, TargetField


async def list_all(call: Call[None, None]) -> Reply[KnownTargets]:
    """List the targets to which projects can publish here, with what can be set of each: forms are made from that."""
    return Reply(body=KnownTargets(targets=[_shown(target) for target in TARGETS]))


def _shown(target: Target[Any]) -> KnownTarget:
    return KnownTarget(
        name=target.name,
        what=target.what,
        default=target.default,
        fields=[
            TargetField(
                name=field.name,
                kind=field.kind,
                required=field.required,
                label=field.option.label or field.name.replace("_", " ").capitalize(),
                help=field.option.help,
                example=field.option.metavar,
            )
            for field in fields_of(target)
        ],
        secrets=[KnownSecret(name=secret.name, help=secret.help) for secret in target.secrets],
    )
