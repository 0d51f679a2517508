"""
What the ledger's queries raise, in the caller's terms. Used by ``server`` and ``web``; ``storage`` layer.

``str()`` of each is a sentence that may be shown to the person whose request it answers.
"""

from __future__ import annotations


class LedgerUnavailable(Exception):
    """
    The database can't be used right now: locked, its disk full, unreachable, or more is waiting than may wait.
    What was asked hasn't been done. Trying again later is right; a restart isn't needed.
    """


class PartUnavailable(LedgerUnavailable):
    """A part of a stored log can't be read right now, where it is kept; others may be."""


class LedgerUnreachable(LedgerUnavailable):
    """Nothing answers where the database is said to be: it isn't running, or its address is wrong."""


class LedgerUnusable(LedgerUnavailable):
    """The database is damaged, isn't a database, or can't be opened. That won't pass: an operator must mend it."""


class LedgerConflict(Exception):
    """
    The database refused the change: something else was there first, or what it refers to is gone. Nothing of it was
    done. Looking again and then trying again is right.
    """


class LedgerFault(Exception):
    """
    The database can't do what it was asked: a mistake of this program, and no fault of the caller's. Nothing of it was
    done, and trying again won't help.
    """


class LedgerLost(LedgerUnusable):
    """The database isn't this apiserver's any more: it must end, and write nothing more."""


class LedgerTaken(Exception):
    """Another apiserver has the database, or the data folder: this one must not start."""


class SchemaTooNew(Exception):
    """The database was made by a later version of this program, which this one mustn't touch."""


class NotFound(Exception):
    """The thing doesn't exist, or the caller may not see it."""


class NotPossible(Exception):
    """The thing exists, but this can't be done in its present state."""


class NotProtected(Exception):
    """The commit of a release was on none of the project's protected refs, so that it can't be made live."""


class NotAllowed(Exception):
    """The thing can be done, but not by this caller."""


class TenureLost(Exception):
    """A link has something to write about a builder that another link has by now, perhaps at another apiserver."""

    def __init__(self, builder: str) -> None:
        super().__init__(f"another link has builder {builder} by now")
        self.builder = builder


class NoSuchRelease(Exception):
    """The project has no release with this id, or its files are gone."""


class NameTaken(Exception):
    """Another thing of the same kind has this name."""


class IdempotencyConflict(Exception):
    """The Idempotency-Key was used before, with another body."""


class LogOrder(Exception):
    """Records that aren't the next ones of their log: a hole, an overlap, or something after the end."""

    def __init__(self, attempt: str, next_record: int, first: int, *, ended: bool = False) -> None:
        if ended:
            super().__init__(f"the log of attempt {attempt} has ended with record {next_record - 1}")
        else:
            super().__init__(f"the log of attempt {attempt} goes on with record {next_record}, not {first}")
        self.attempt = attempt
        self.next_record = next_record  # what is to come next; 0 if there is no such attempt
        self.first = first
        self.ended = ended
