"""
What a build needs of the builder that takes it, as names that are compared. Used by ``storage``, which says what builds
need, and ``server``, which knows what a builder has.

What a builder can do it says itself (`messages.FEATURES`, and the targets that it knows). Who it is, and which pools it
belongs to, the apiserver says by its own record: of a builder's own words these are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable

#: The beginnings of the features that the apiserver gives to a builder: its name, and its pools.
BUILDER, POOL = "builder:", "pool:"

#: Between features of which one is enough.
EITHER = "|"


def said_by_itself(features: Iterable[str]) -> frozenset[str]:
    """Return what a builder may say of itself."""
    return frozenset(feature for feature in features if not feature.startswith((BUILDER, POOL)))


def lacked(features: frozenset[str], needs: Iterable[str]) -> frozenset[str]:
    """Return those of the ``needs`` that a builder with these features doesn't meet."""
    return frozenset(need for need in needs if features.isdisjoint(need.split(EITHER)))
