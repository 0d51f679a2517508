"""
Sealed chunks in S3: an object for each. ``storage`` layer.

::

    logs/archive                                  the mark: which archive this is, as `log_archive` has it
    logs/000012/12345-1/3b1f0c9a5d2e8746          a chunk of attempt 1 of build 12345

A chunk's place, by which the ledger names it, is below 0, and says its name: 63 bits of its SHA-256. So an object is
never written over by another one, whoever else seals the same log at the time; what was put twice is there once; and a
reader sees that it got what was put there. What a kill has left is named by nothing, and goes with the log's other
objects (`LogObjects.attempts`, `LogObjects.remove`).
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator
from typing import Final

from twistedipc.s3.bucket import Bucket, Exists, Missing, Refused, Unavailable
from twistedipc.sealed.chunk import Damaged
from twistedipc.storage.log_archive import NAME, PART, NotHere, part_of

_ROOT: Final = "logs/"
_MARK: Final = f"{_ROOT}archive"

#: More bytes than a mark has.
_MOST_OF_MARK: Final = 1000


class LogObjects:
    """A `log_archive.Archive` in a bucket. Its methods wait for an answer, so they belong in a thread."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def begin(self, id: str) -> str:
        """See `Archive.begin`."""
        with _here():
            try:
                self._bucket.get(_MARK, _MOST_OF_MARK)  # some servers take no notice of what is to be new
            except Missing:
                with contextlib.suppress(Exists):
                    self._bucket.put(_MARK, id.encode(), new=True)
        if self._mark() != id:
            raise NotHere(
                f"the archive of logs at {self._bucket.place} belongs to another ledger: set stores.s3.prefix"
            )
        return id

    def check(self, mark: str) -> None:
        """See `Archive.check`."""
        if self._mark() != mark:
            raise NotHere(f"the archive of logs at {self._bucket.place} is another one than the ledger's")

    def put(self, attempt: str, end: int, data: bytes) -> int:
        """See `Archive.put`. ``end`` says nothing here."""
        place = place_of(data)
        name = _name(attempt, place)
        with _here():
            self._bucket.put(name, data)
            try:
                found = self._bucket.get(name, len(data))
            except Missing as error:
                raise NotHere(f"{self._bucket.place} has lost what was put there: {error}") from error
        if found != data:
            raise OSError(f"{name!r} at {self._bucket.place} is something else than what was put there")
        return place

    def get(self, attempt: str, place: int, size: int) -> bytes:
        """See `Archive.get`."""
        try:
            found = self._bucket.get(_name(attempt, place), size)
        except Missing:
            raise Damaged("its object is gone") from None
        except Refused:
            raise  # of others more may be had
        except Unavailable as error:
            raise NotHere(str(error)) from error
        if place_of(found) != place:
            raise Damaged("its object is another one")
        return found

    def remove(self, attempt: str, before: float = math.inf) -> None:
        """See `Archive.remove`."""
        with _here():
            for each in list(self._bucket.objects(_folder(attempt))):
                if each.modified < before:
                    self._bucket.remove(each.name)

    def parts(self) -> list[str]:
        """See `Archive.parts`."""
        with _here():
            return sorted(name for name in self._bucket.folders(_ROOT) if PART.fullmatch(name))

    def attempts(self, part: str, before: float = math.inf) -> list[str]:
        """See `Archive.attempts`."""
        newest: dict[str, float] = {}
        with _here():
            for each in self._bucket.objects(f"{_ROOT}{part}/"):
                name = each.name.split("/")[-2]
                if NAME.fullmatch(name):
                    newest[name] = max(newest.get(name, 0.0), each.modified)
        return [name for name, modified in newest.items() if modified < before]

    def _mark(self) -> str:
        try:
            with _here():
                return self._bucket.get(_MARK, _MOST_OF_MARK).decode(errors="replace").strip()
        except Missing:
            raise NotHere(f"the archive of logs isn't at {self._bucket.place}: is it the right bucket?") from None


def place_of(data: bytes) -> int:
    """Return the place of this chunk: below 0, and no lower than a column of 64 bits takes."""
    return -1 - (int.from_bytes(hashlib.sha256(data).digest()[:8], "big") >> 1)


def _name(attempt: str, place: int) -> str:
    return f"{_folder(attempt)}{-1 - place:016x}"


def _folder(attempt: str) -> str:
    return f"{_ROOT}{part_of(attempt)}/{attempt}/"


@contextlib.contextmanager
def _here() -> Iterator[None]:
    """Have what doesn't answer be an archive that isn't here now: of no log more can be had."""
    try:
        yield
    except Unavailable as error:
        raise NotHere(str(error)) from error
