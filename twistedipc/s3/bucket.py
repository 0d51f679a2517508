"""
A bucket of S3, or a part of one below a prefix. All methods block, for a bounded time, and may be called in several
threads at once.

Three things can go wrong, and callers must tell them apart. `Missing`: the bucket answers, and has no such object.
`Unavailable`: nothing is known of the object now, since S3 can't be reached, is overloaded, or refuses us; asking
later may help (`Refused`: of others more may be known). `Exists`: an object that was to be new is there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar

_T = TypeVar("_T")

#: Seconds until a connection is there, and between two parts of an answer.
CONNECT_SECONDS: Final = 3.0
READ_SECONDS: Final = 10.0

#: How often something is tried, with pauses of a second at most between. What is asked ends by `SECONDS`, or with the
#: try that is under way then: a server that gives a byte now and then doesn't hold a thread for ever.
TRIES: Final = 3
SECONDS: Final = 30.0

#: How many connections are kept for the threads.
CONNECTIONS: Final = 8

#: The most that S3 lists at once.
PAGE: Final = 1000

#: What S3 says when it refuses all that is asked: its codes, and statuses that ask us to come again.
_REFUSES_ALL: Final = frozenset(
    {
        "AccountProblem",
        "AllAccessDisabled",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidBucketName",
        "InvalidToken",
        "NoSuchBucket",
        "NotSignedUp",
        "RequestTimeTooSkewed",
        "RequestTimeout",
        "SignatureDoesNotMatch",
        "SlowDown",
        "TokenRefreshRequired",
    }
)
_COME_AGAIN: Final = frozenset({408, 429})

_BLOCK: Final = 256 * 1024


class Unavailable(OSError):
    """S3 doesn't answer, or not with what was asked: nothing is known of what is there. ``str()`` is for people."""


class Refused(Unavailable):
    """S3 answers, and doesn't give or take this object; others it may."""


class Missing(OSError):
    """The bucket has no object of this name."""


class Exists(OSError):
    """The bucket has an object of this name already."""


@dataclass(frozen=True)
class Place:
    """Where a bucket is, and by whose leave it is used."""

    bucket: str
    endpoint: str = ""  # the server's address; "": Amazon's
    region: str = ""
    prefix: str = ""  # with which the names of all objects begin; "" or it ends with a slash
    access_key: str = ""  # "": as boto3 finds credentials (the environment, a role of the machine)
    secret_key: str = field(default="", repr=False)

    def __str__(self) -> str:
        at = f" at {self.endpoint}" if self.endpoint else ""
        return f"s3://{self.bucket}/{self.prefix}{at}"


@dataclass(frozen=True)
class Listed:
    """An object, as a list has it."""

    name: str
    size: int
    modified: float  # seconds since the epoch


class Bucket:
    """
    The objects below a place's prefix; names are without it.

    :param seconds: after which what is asked is given up
    :param tries: how often it is tried
    :param page: how many objects are listed at once
    """

    def __init__(
        self,
        place: Place,
        *,
        connect: float = CONNECT_SECONDS,
        read: float = READ_SECONDS,
        seconds: float = SECONDS,
        tries: int = TRIES,
        page: int = PAGE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.place = place
        self._connect = connect
        self._read = read
        self._seconds = seconds
        self._tries = tries
        self._page = page
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._made: Any = None

    def put(self, name: str, data: bytes, *, new: bool = False) -> None:
        """
        Put an object there; it is durable when this returns. Raises `Unavailable`, and `Exists` if it was to be
        ``new`` and isn't.
        """
        only = {"IfNoneMatch": "*"} if new else {}
        self._ask(name, lambda s3, key: s3.put_object(**self._at(key), Body=data, **only))

    def get(self, name: str, most: int) -> bytes:
        """
        Return an object, of ``most`` bytes at most: a longer one is cut one byte behind that. Raises `Missing`,
        `Unavailable`; also if less of it came than was announced.
        """
        ends = self._monotonic() + self._seconds
        tries = self._tries
        while True:
            tries -= 1
            try:
                return self._ask(name, lambda s3, key: self._body(s3.get_object(**self._at(key)), most, ends))
            except _Broken as error:
                # It came to an end in its middle, which boto3 doesn't try again.
                if tries <= 0 or self._monotonic() >= ends:
                    raise Unavailable(f"{name!r} can't be read from {self.place}: {error}") from error

    def remove(self, name: str) -> None:
        """Remove an object, if it is there. Raises `Unavailable`."""
        self._ask(name, lambda s3, key: s3.delete_object(**self._at(key)))

    def folders(self, below: str = "") -> Iterator[str]:
        """Yield the names up to the next slash behind ``below``, without that slash. Raises `Unavailable`."""
        for page in self._pages(below, Delimiter="/"):
            for each in page.get("CommonPrefixes", ()):
                yield each["Prefix"].removeprefix(self.place.prefix + below).rstrip("/")

    def objects(self, below: str) -> Iterator[Listed]:
        """Yield what there is whose name begins with ``below``, in the order of names. Raises `Unavailable`."""
        for page in self._pages(below):
            for each in page.get("Contents", ()):
                modified: datetime = each["LastModified"]
                name = each["Key"].removeprefix(self.place.prefix)
                yield Listed(name, each["Size"], modified.timestamp())

    def _pages(self, below: str, **more: str) -> Iterator[dict[str, Any]]:
        token: dict[str, str] = {}
        while True:
            asked: dict[str, Any] = {"Bucket": self.place.bucket, "MaxKeys": self._page, **more, **token}

            def ask(s3: Any, key: str, asked: dict[str, Any] = asked) -> dict[str, Any]:
                page: dict[str, Any] = s3.list_objects_v2(Prefix=key, **asked)
                return page

            page = self._ask(below, ask)
            yield page
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self.place.bucket, "Key": key}

    def _body(self, answer: dict[str, Any], most: int, ends: float) -> bytes:
        """Return what an answer carries. Raises `_Broken`."""
        from botocore.exceptions import BotoCoreError

        found = bytearray()
        body = answer["Body"]
        try:
            while len(found) <= most and (block := body.read(min(_BLOCK, most + 1 - len(found)))):
                found += block
                if self._monotonic() > ends:
                    raise _Broken(f"it takes longer than {self._seconds:.0f} s")
        except (BotoCoreError, OSError) as error:
            raise _Broken(str(error)) from error
        finally:
            body.close()
        if len(found) < min(answer["ContentLength"], most + 1):
            raise _Broken("it ends too early")
        return bytes(found)

    def _ask(self, name: str, ask: Callable[[Any, str], _T]) -> _T:
        """Ask for something of an object. Raises `Missing`, `Exists`, `Unavailable`."""
        try:
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            raise Unavailable("S3 needs boto3: pip install 'twistedipc[s3]'") from error
        try:
            return ask(self._client(), self.place.prefix + name)
        except ClientError as error:
            raise self._meant(name, error.response) from error
        except BotoCoreError as error:  # no connection, no credentials, a time that is over
            raise Unavailable(f"{self.place} can't be used: {error}") from error

    def _meant(self, name: str, answer: Any) -> OSError:
        """Return what the error of an answer means."""
        code = str(answer.get("Error", {}).get("Code", ""))
        said = str(answer.get("Error", {}).get("Message", ""))[:200]
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in ("NoSuchKey", "404") or (status == 404 and not code):
            return Missing(f"{name!r} isn't at {self.place}")
        if status == 412:
            return Exists(f"{name!r} is at {self.place} already")
        of_one = 400 <= status < 500 and status not in _COME_AGAIN and code not in _REFUSES_ALL
        kind = Refused if of_one else Unavailable
        return kind(f"{self.place} refuses {name!r}: {status} {code} {said}".rstrip())

    def _client(self) -> Any:
        """Return boto3's client, made once: that takes a third of a second, and isn't safe in two threads."""
        with self._lock:
            if self._made is None:
                import boto3
                from botocore.config import Config

                place = self.place
                keys = (
                    {"aws_access_key_id": place.access_key, "aws_secret_access_key": place.secret_key}
                    if place.access_key
                    else {}
                )
                self._made = boto3.session.Session().client(
                    "s3",
                    endpoint_url=place.endpoint or None,
                    region_name=place.region or ("us-east-1" if place.endpoint else None),
                    config=Config(
                        signature_version="s3v4",
                        connect_timeout=self._connect,
                        read_timeout=self._read,
                        retries={"total_max_attempts": self._tries, "mode": "standard"},
                        max_pool_connections=CONNECTIONS,
                        # Servers other than Amazon's often don't know the checksums that it takes by default. What is
                        # put is read again, or named by its hash.
                        request_checksum_calculation="when_required",
                        response_checksum_validation="when_required",
                    ),
                    **keys,
                )
            return self._made


class _Broken(Exception):
    """An answer's body didn't come to its end."""
