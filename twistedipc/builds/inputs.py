"""
What a build is given beside its repository, as one short text to compare: its variables, and which secrets. Bottom
layer, pure.

Two builds of one commit with equal inputs make the same, as far as the platform is concerned: so what one made for a
preview may become what users get. Secrets' values aren't in it, since the ledger must not tell what they could be: a
secret is its name, for which builds it was set, and when.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec


class GivenSecret(NamedTuple):
    """A secret that a build is given."""

    name: str
    builds: str  # `secrets.Builds`: for which it was set
    updated: int  # when, in milliseconds since the epoch


def inputs_of(variables: Mapping[str, str], parameters: Mapping[str, str], secrets: Iterable[GivenSecret]) -> str:
    """
    Return a text that is equal for equal inputs.

    :param variables: the project's, for builds of this environment
    :param parameters: the request's
    :param secrets: those that are given to builds of this environment
    """
    told = msgspec.json.encode([sorted({**variables, **parameters}.items()), sorted(secrets)])
    return hashlib.sha256(told).hexdigest()[:32]
