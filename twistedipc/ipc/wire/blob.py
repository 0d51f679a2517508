"""
A large body, as a field of a request or a reply: `Blob`. Sans-IO; ``connections/bodies.py`` carries what is in it, by
the frames in ``bodies``.

On the wire a blob is a reference, the number of its body and its size: ``{"body":1,"size":1048576}``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import inspect

from twistedipc.ipc.wire.errors import CallFailed, Code, LocalProtocolError

#: Bytes that `Blob.read` returns, unless it is told another limit.
READ_LIMIT = 64 << 20

#: Bytes of a file that are read at once.
_FILE_PIECE = 3 << 16

#: Blobs in one request or reply, and bodies that may be open on a link, each way.
MOST_BODIES = 64

_Number = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class Source(Protocol):
    """Where the bytes of a body come from that is sent."""

    @property
    def is_spent(self) -> bool:
        """Whether its bytes were given, and can't be given again."""

    def begin(self) -> Iterable[bytes] | AsyncIterable[bytes]:
        """Return the bytes, from the first on, for one sending."""


class Reader(Protocol):
    """What reads a body that is received. ``connections/body_reader.py`` has it."""

    async def next(self, timeout: float | None) -> bytes | None:  # noqa: ASYNC109
        """Return the next bytes; None at the end."""

    def check_thread(self) -> None:
        """Raise `LocalProtocolError` unless this is the link's thread."""

    def stop(self) -> None:
        """Take nothing more, and make the peer stop; in another thread than the link's: as `let_go` does it."""

    def let_go(self) -> None:
        """As `stop`, in a turn of the reactor's own: for what may be called in the middle of anything."""


class BlobElsewhere:
    """
    Stands for the number of a body while no link has given it one. It can't be encoded: a blob that is in a field of
    another type, ``Any`` say, is refused where it is sent, and doesn't leave without its bytes.
    """


_NO_NUMBER: Any = BlobElsewhere()


class _Ends:
    """What a blob has beside the fields that are on the wire."""

    _source: Source | None = None
    _reader: Reader | None = None


class Blob(_Ends, msgspec.Struct, dict=True, eq=False, omit_defaults=True):
    """
    A large body, as a field of a `Request` or of its reply: ``class Put(Request[None]): name: str; content: Blob``. It
    may be larger than a frame, and larger than the memory: its bytes follow the message in chunks, as far as the
    receiver reads them.

    The sender makes it by `of`, `from_file` or `from_chunks`. The receiver reads it once: by `read`, by `save`, or by
    ``async for chunk in blob``. What the receiver doesn't take is bounded (256 KiB of a body); then the sender waits.

    **A body ends with its call.** A handler reads the bodies of its request before it returns: when the call is
    answered, they are stopped. The bodies of a reply are the caller's until it has read them, or lets go of the reply;
    one of which nothing is taken for two minutes is ended. When the link ends, all bodies end with it: nothing is
    resumed.

    Both ends must know blobs: a call with one fails with the code ``no-bodies`` if the peer doesn't. At most 64
    bodies are open on a link, each way. Not for messages, streams and streamed replies, nor for formats without a link,
    nor in fields of another type, such as ``Any``, or that only a subclass of what is declared has: what has one there
    can't be sent.
    """

    body: _Number = 0  # the number of its body, which the link gives it
    size: _Number | None = None  # its bytes; None if the sender doesn't know that before

    def __repr__(self) -> str:
        return f"<Blob of {'an unknown number of' if self.size is None else self.size} bytes>"

    # -- to send

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> Blob:
        """Return a blob of these bytes. It may be sent several times."""
        kept = bytes(data)
        return cls._made(_Bytes(kept), len(kept))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Blob:
        """
        Return a blob of what is in a file, which is opened now, and may be removed then. It may be sent several times.
        If the file becomes shorter meanwhile, the body fails.

        :raises OSError: it can't be opened, or isn't a file
        """
        source = _File(path)
        return cls._made(source, source.size)

    @classmethod
    def from_chunks(cls, chunks: Iterable[bytes] | AsyncIterable[bytes], size: int | None = None) -> Blob:
        """
        Return a blob of these bytes, one chunk after another, of any sizes. An iterator, or an async one, is asked for
        its next chunk when the receiver has room for it, and when the one before was sent or copied: so all of them may
        lie in the same memory. So it can be sent once. If it raises, that is logged, and the
        receiver's reading fails with the code ``internal``; if it raises `CallFailed`, with that one's code and
        message. It is closed when the body ends, or if
        its call fails before that.

        :param size: their bytes, if that is known; if they are more or less, the receiver's reading fails
        """
        return cls._made(_Chunks(chunks), size)

    @classmethod
    def _made(cls, source: Source, size: int | None) -> Blob:
        blob = cls(size=size)
        blob._source = source
        blob.has_no_number()
        return blob

    def has_no_number(self) -> None:
        """Note that the blob isn't on its way, or has come. Internal to the library."""
        self.body = _NO_NUMBER

    # -- received

    async def read(self, limit: int = READ_LIMIT, timeout: float | None = 30.0) -> bytes:  # noqa: ASYNC109
        """
        Return all of its bytes.

        :param limit: bytes that are taken. If there are more, the sender is stopped
        :param timeout: seconds that the next bytes may take to come; None: no limit
        :raises CallFailed: there are more bytes than ``limit`` (code ``too-large``); the sender has failed (its code);
            they aren't as many as was said (``bad-body``); or the call has ended (``closed``)
        :raises CallTimedOut: the next bytes didn't come in time
        :raises NotConnected: the link has ended
        :raises LocalProtocolError: it wasn't received; or this is another thread than the link's
        """
        data = bytearray()
        async for part in self._limited(limit, timeout):
            data += part
        return bytes(data)

    async def save(
        self,
        path: str | os.PathLike[str],
        limit: int | None = None,
        timeout: float | None = 30.0,  # noqa: ASYNC109
    ) -> int:
        """
        Write all of its bytes to a file, and return how many there are. The file is there when it is complete: it is
        written beside it and then renamed, and replaces one of its name. Raises what `read` raises, and OSError.

        :param limit: bytes that are taken; None: as many as the sender has
        """
        path = os.fspath(path)
        count = 0
        descriptor, beside = tempfile.mkstemp(prefix=".", dir=os.path.dirname(path) or ".")
        try:
            with open(descriptor, "wb") as file:  # noqa: ASYNC230  (as all files here: a piece takes microseconds)
                os.fchmod(descriptor, 0o666 & ~_umask())
                async with contextlib.aclosing(self._limited(limit, timeout)) as parts:
                    async for part in parts:
                        count += file.write(part)
            os.replace(beside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(beside)
            raise
        return count

    def __aiter__(self) -> AsyncGenerator[bytes, None]:
        return self.chunks()

    def chunks(self, timeout: float | None = 30.0) -> AsyncGenerator[bytes, None]:
        """
        Return an iterator over its bytes, in chunks as they come. Raises what `read` raises. Leaving the loop stops the
        sender when Python has freed the iterator, as at a streamed reply; `close` does so at once.

        :param timeout: seconds that the next chunk may take to come; None: no limit
        """
        return self._limited(None, timeout)

    async def _limited(self, limit: int | None, timeout: float | None) -> AsyncGenerator[bytes, None]:  # noqa: ASYNC109
        reader = self._reader
        if reader is None:
            raise LocalProtocolError("this blob was made here, to be sent: only one that was received can be read")
        reader.check_thread()
        count = 0
        end = reader.stop
        try:
            if limit is not None and self.size is not None and self.size > limit:
                raise _too_large(self.size, limit)
            while (part := await reader.next(timeout)) is not None:
                count += len(part)
                if limit is not None and count > limit:
                    raise _too_large(count, limit)
                yield part
        except GeneratorExit:  # it is closed, maybe as it was freed
            end = reader.let_go
            raise
        finally:
            end()

    def close(self) -> None:
        """
        Take no more of its bytes, and stop the sender. Nothing happens if all have come. Idempotent. May be called in
        any thread.
        """
        if self._reader is not None:
            self._reader.stop()


def _too_large(size: int, limit: int) -> CallFailed:
    return CallFailed(Code.TOO_LARGE, f"the body has {size} bytes or more, over the limit of {limit}")


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


# -- where the bytes come from ---------------------------------------------------------------------------------------


class _Bytes:
    is_spent = False

    def __init__(self, data: bytes) -> None:
        self._data = data

    def begin(self) -> list[bytes]:
        return [self._data]


class _File:
    """A file that is open, each time from its beginning."""

    is_spent = False

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # One that isn't a file, a pipe say, isn't waited for.
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self.size = os.fstat(self._file).st_size
        if not os.path.isfile(path):
            raise IsADirectoryError(f"{os.fspath(path)} isn't a file")

    def begin(self) -> Iterator[bytes]:
        offset = 0
        while offset < self.size:
            piece = os.pread(self._file, min(_FILE_PIECE, self.size - offset), offset)
            if not piece:
                raise CallFailed(Code.BAD_BODY, f"the file has {offset} bytes now, and had {self.size}")
            offset += len(piece)
            yield piece

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._file)


class _Chunks:
    def __init__(self, chunks: Iterable[bytes] | AsyncIterable[bytes]) -> None:
        self._chunks = chunks
        self.is_spent = False

    def begin(self) -> Iterable[bytes] | AsyncIterable[bytes]:
        # A list, say, gives them as often as one likes.
        self.is_spent = isinstance(self._chunks, Iterator | AsyncIterator)
        return self._chunks


# -- where blobs are -------------------------------------------------------------------------------------------------


def blobs_in(value: Any) -> list[Blob]:
    """Return the blobs in a message, wherever in it they are."""
    found: list[Blob] = []
    left, seen = [value], set()
    while left:
        each = left.pop()
        if each is None or isinstance(each, str | bytes | int | float):
            continue
        if id(each) in seen and not isinstance(each, Blob):
            continue  # it holds itself
        seen.add(id(each))
        if isinstance(each, Blob):
            found.append(each)
        elif isinstance(each, msgspec.Struct):
            left += [getattr(each, name) for name in each.__struct_fields__]
        elif isinstance(each, dict):
            left += each.values()
        elif isinstance(each, list | tuple | set | frozenset):
            left += each
        elif dataclasses.is_dataclass(each):
            left += [getattr(each, field.name) for field in dataclasses.fields(each)]
        elif (fields := getattr(each, "__attrs_attrs__", None)) is not None:
            left += [getattr(each, field.name) for field in fields]
    return found


@contextlib.contextmanager
def numbered_for_size(value: Any) -> Iterator[None]:
    """Let a message be encoded to find its size: its blobs have the longest of numbers meanwhile."""
    blobs = blobs_in(value)
    for each in blobs:
        each.body = 2**53 - 1
    try:
        yield
    finally:
        for each in blobs:
            each.has_no_number()


@functools.cache
def may_hold_undeclared(kind: Any) -> bool:
    """
    Return whether there may be something in a value of this type that isn't declared: where it may be anything, or an
    object, which may be one of a subclass with more fields. The value itself is of this very type.
    """
    try:
        found: Any = inspect.type_info(kind)
        parts = [field.type for field in found.fields] if isinstance(found, inspect.StructType) else found
        return _has(parts, set(), lambda each: isinstance(each, _OPEN) and not _is_blob(each))
    except Exception:
        return True


_OPEN = (
    inspect.AnyType,
    inspect.RawType,
    inspect.CustomType,
    inspect.StructType,
    inspect.DataclassType,
    inspect.TypedDictType,
    inspect.NamedTupleType,
)


def may_have_blobs(kind: Any) -> bool:
    """Return whether there may be a blob in a value of this type, by what is declared."""
    try:
        return _has(inspect.type_info(kind), set(), _is_blob)
    except Exception:
        return False  # msgspec doesn't know the type, which is said elsewhere


def _is_blob(found: Any) -> bool:
    return isinstance(cls := getattr(found, "cls", None), type) and issubclass(cls, Blob)


def _has(found: Any, seen: set[Any], is_meant: Callable[[Any], bool]) -> bool:
    """Return whether there is what is meant in what msgspec says of a type."""
    if isinstance(found, list | tuple):
        return any(_has(each, seen, is_meant) for each in found)
    if not isinstance(found, inspect.Type | inspect.Field):
        return False
    if is_meant(found):
        return True
    if (cls := getattr(found, "cls", None)) in seen:
        return False  # it holds itself
    seen.update([] if cls is None else [cls])
    return any(_has(getattr(found, name), seen, is_meant) for name in found.__struct_fields__)
