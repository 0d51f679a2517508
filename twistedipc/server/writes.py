"""
Writes that a builder's link drives, if several apiservers share the database: each under the link's tenure, so that
nothing is changed by a link whose builder has moved meanwhile. Used by ``lifecycle`` and ``builder_link``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection
from twisted.internet.defer import Deferred

from twistedipc.storage import tenures
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.tenures import Tenure

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Writes:
    """`Ledger.write`, under a tenure if there is one. Fails with `TenureLost` when that doesn't hold any more."""

    def __init__(self, ledger: Ledger, tenure: Tenure | None = None) -> None:
        self._ledger = ledger
        self._tenure = tenure

    def under(self, tenure: Tenure | None) -> Writes:
        """Return the same under another tenure; None: under none."""
        return Writes(self._ledger, tenure)

    def __call__(
        self, query: Callable[Concatenate[Connection, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> Deferred[_T]:
        """Run ``query`` as `Ledger.write` does."""
        if self._tenure is None:
            return self._ledger.write(query, *args, **kwargs)
        tenure = self._tenure
        return self._ledger.write(lambda connection: tenures.under(connection, tenure, query, *args, **kwargs))
