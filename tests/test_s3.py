"""The client of S3, with a real server, and with what networks and overloaded servers do."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from tests.s3_server import Between, Fault, new_place
from twistedipc.s3.bucket import Bucket, Exists, Missing, Place, Unavailable
from twistedipc.s3.trying import why_unusable


@pytest.fixture(scope="module")
def place() -> Place:
    return new_place("of/tests/")


@pytest.fixture
def between(place: Place) -> Iterator[Between]:
    between = Between(place)
    yield between
    between.close()


def test_what_is_put_is_there(place: Place) -> None:
    bucket = Bucket(place)
    data = os.urandom(100_000)
    bucket.put("a/one", data)
    assert bucket.get("a/one", len(data)) == data
    assert bucket.get("a/one", 10) == data[:11], "one byte more says that it is longer"
    bucket.put("a/empty", b"")
    assert bucket.get("a/empty", 10) == b""
    bucket.put("a/one", b"another")
    assert bucket.get("a/one", 100) == b"another"
    with pytest.raises(Exists):
        bucket.put("a/one", b"a third", new=True)
    bucket.put("a/new", b"new", new=True)
    bucket.put("b/two", b"")
    assert [(each.name, each.size) for each in bucket.objects("a/")] == [("a/empty", 0), ("a/new", 3), ("a/one", 7)]
    assert list(bucket.folders()) == ["a", "b"]
    assert list(Bucket(Place(place.bucket, place.endpoint, access_key="a", secret_key="b")).folders()) == ["of"]
    for name in ("a/empty", "a/new", "a/one", "a/one", "b/two"):
        bucket.remove(name)
    assert list(bucket.objects("")) == []
    with pytest.raises(Missing, match="'a/one' isn't at s3://"):
        bucket.get("a/one", 1)


def test_more_than_one_page_is_listed(place: Place) -> None:
    bucket = Bucket(place, page=2)
    names = [f"many/{number}/it" for number in range(5)]
    for name in names:
        bucket.put(name, b"")
    assert [each.name for each in bucket.objects("many/")] == names
    assert list(bucket.folders("many/")) == ["0", "1", "2", "3", "4"]
    for name in names:
        bucket.remove(name)


@pytest.mark.parametrize(
    ("fault", "asked", "said"),
    [(500, 2, "InternalError"), (503, 2, "ServiceUnavailable"), (403, 1, "AccessDenied"), (404, 1, "NoSuchBucket")],
)
def test_what_is_refused_is_never_called_missing(between: Between, fault: int, asked: int, said: str) -> None:
    bucket = between.bucket()
    between.fault = lambda method, path: fault
    with pytest.raises(Unavailable, match=said) as error:
        bucket.get("one", 10)
    assert "s3cret" not in str(error.value)
    assert len(between.asked) == asked, "it is tried again, a few times, if that can help"
    for call in (lambda: bucket.put("one", b""), lambda: bucket.remove("one"), lambda: list(bucket.objects(""))):
        with pytest.raises(Unavailable, match=said):
            call()


def test_a_fault_that_passes_is_not_noticed(between: Between) -> None:
    bucket = between.bucket()
    faults: list[Fault] = [500, None, "half", None]
    between.fault = lambda method, path: faults.pop(0)
    bucket.put("one", b"data" * 1000)
    assert bucket.get("one", 10_000) == b"data" * 1000
    assert faults == []


def test_half_of_a_body_is_no_object(between: Between) -> None:
    bucket = between.bucket()
    bucket.put("one", b"data" * 1000)
    between.fault = lambda method, path: "half"
    with pytest.raises(Unavailable, match="can't be read"):
        bucket.get("one", 10_000)


def test_what_does_not_answer_is_given_up(between: Between) -> None:
    bucket = between.bucket(tries=1, read=0.1)
    between.fault = lambda method, path: "stalls"
    with pytest.raises(Unavailable, match="timeout"):
        bucket.get("one", 10)
    between.close()
    with pytest.raises(Unavailable):
        between.bucket(tries=1).get("one", 10)


def test_credentials_that_are_missing_are_said(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nonexistent")
    with pytest.raises(Unavailable, match="credentials"):
        Bucket(Place(place.bucket, place.endpoint)).get("one", 10)
    assert "s3cret" not in repr(place)


def test_what_a_bucket_must_allow_is_tried(between: Between, place: Place) -> None:
    bucket = between.bucket(tries=1)
    assert why_unusable(bucket) == ""
    assert between.asked == ["GET", "GET", "PUT", "GET", "DELETE"]
    assert list(Bucket(place).objects("doctor/")) == []
    for index, right in enumerate(["s3:GetObject", "s3:ListBucket", "s3:PutObject", "s3:GetObject", "s3:DeleteObject"]):
        between.asked.clear()
        between.fault = lambda method, path, index=index: 403 if len(between.asked) > index else None  # type: ignore[misc]
        assert right in why_unusable(bucket)
    between.fault = lambda method, path: "other" if method == "GET" and len(between.asked) % 5 == 4 else None
    between.asked.clear()
    assert "something else than was put there" in why_unusable(bucket)


def test_threads_share_a_bucket(place: Place) -> None:
    bucket = Bucket(place)
    wrong: list[object] = []

    def work(number: int) -> None:
        data = bytes([number]) * 1000
        bucket.put(f"threads/{number}", data)
        if bucket.get(f"threads/{number}", 1000) != data:
            wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    for number in range(8):
        bucket.remove(f"threads/{number}")
