"""Uploads of what was built: resumed by offset, verified, and held to what was granted."""

from __future__ import annotations

import hashlib
from typing import Any

from tests.web_world import Answer, World, connect, eventually, request_bytes
from twistedipc.server.uploads import UploadTarget
from twistedipc.storage import artifacts
from twistedipc.web.api import uploads

_DATA = bytes(range(256)) * 4096  # 1 MiB
_SHA256 = hashlib.sha256(_DATA).hexdigest()


class Uploads(World):
    async def prepare(self) -> None:
        await self.project()
        self.attempt = f"{await self.build()}-1"
        self.path = f"/api/v1/uploads/{self.attempt}"
        await self._begin(_SHA256)

    async def _begin(self, sha256: str) -> None:
        await self.ledger.write(artifacts.begin, self.attempt, len(_DATA), sha256, self.time)
        self.token_of_upload = self.uploads.grant(UploadTarget(attempt=self.attempt, size=len(_DATA), sha256=sha256))

    async def _put(self, offset: int | str | None, data: bytes, **more: str) -> Answer:
        headers = {} if offset is None else {"Upload-Offset": str(offset)}
        return await self.ask("PUT", self.path, data, token=self.token_of_upload, headers=headers | more)

    async def _offset(self) -> str | None:
        answer = await self.ask("HEAD", self.path, token=self.token_of_upload)
        assert answer.status == 204
        return answer.headers["Upload-Offset"]

    async def _stored(self) -> Any:
        return await self.ledger.read(artifacts.get, self.attempt)

    async def test_at_once(self) -> None:
        assert await self._offset() == "0"
        answer = await self._put(0, _DATA)
        assert answer.status == 204, answer.raw
        assert answer.headers["Upload-Offset"] == str(len(_DATA))
        assert (await self._stored()).complete
        assert self.artifacts.path(_SHA256).read_bytes() == _DATA
        self.problem(await self._put(0, _DATA), 401)

    async def test_in_parts(self) -> None:
        assert (await self._put(0, _DATA[:300_000])).headers["Upload-Offset"] == "300000"
        assert await self._offset() == "300000"
        assert not (await self._stored()).complete
        answer = await self._put(299_999, _DATA[299_999:])
        self.problem(answer, 409, "300000")
        assert answer.headers["Upload-Offset"] == "300000"
        assert (await self._put(300_000, _DATA[300_000:])).status == 204
        assert (await self._stored()).complete

    async def test_chunked(self) -> None:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(_DATA), _DATA)
        headers = {"Transfer-Encoding": "chunked", "Upload-Offset": "0"}
        answer = await self.ask("PUT", self.path, body, token=self.token_of_upload, headers=headers)
        assert answer.status == 204
        assert (await self._stored()).complete

    async def test_a_broken_connection_loses_nothing_that_arrived(self) -> None:
        client = await connect(self.port)
        assert client.transport is not None
        headers = {
            "Authorization": f"Bearer {self.token_of_upload}",
            "Upload-Offset": "0",
            "Content-Length": str(len(_DATA)),
        }
        client.transport.write(request_bytes("PUT", self.path, headers, b"") + _DATA[:500_000])
        await eventually(lambda: self.artifacts.offset(self.attempt) == 500_000)
        client.abort()
        await client.closed
        assert await self._offset() == "500000"
        assert (await self._put(500_000, _DATA[500_000:])).status == 204

    async def test_all_arrived_and_the_answer_was_lost(self) -> None:
        self.artifacts.append(self.attempt, 0, _DATA)
        assert await self._offset() == str(len(_DATA))
        assert (await self._put(len(_DATA), b"")).status == 204
        assert (await self._stored()).complete

    async def test_verified_but_not_noted(self) -> None:
        self.artifacts.append(self.attempt, 0, _DATA)
        self.artifacts.complete(self.attempt, len(_DATA), _SHA256)
        assert await self._offset() == "0", "the store doesn't know whose it is"
        assert (await self._put(0, _DATA)).status == 204
        assert (await self._stored()).complete

    async def test_another_content(self) -> None:
        answer = await self._put(0, b"\0" * len(_DATA))
        self.problem(answer, 422, "SHA-256")
        assert await self._offset() == "0"
        assert not (await self._stored()).complete
        assert (await self._put(0, _DATA)).status == 204

    async def test_more_than_was_granted(self) -> None:
        self.problem(await self._put(0, _DATA + b"x"), 413)
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(_DATA) + 1, _DATA + b"x")
        self.problem(await self._put(0, body, **{"Transfer-Encoding": "chunked"}), 413)

    async def test_bad_offsets(self) -> None:
        for offset in (None, "", "-1", "x", "1e3", "9" * 30):
            self.problem(await self._put(offset, b"x"), 400)
        self.problem(await self._put(5, b"x"), 409)

    async def test_tokens_that_are_not_good(self) -> None:
        old = self.token_of_upload
        await self._begin(_SHA256)
        for token in (old, self.admin, "x", None):
            for method in ("HEAD", "PUT"):
                answer = await self.ask(method, self.path, token=token, headers={"Upload-Offset": "0"})
                assert answer.status == 401
        other = "/api/v1/uploads/999-1"
        answer = await self.ask("PUT", other, b"x", token=self.token_of_upload, headers={"Upload-Offset": "0"})
        self.problem(answer, 401)
        answer = await self.ask("GET", "/api/v1/identity", token=self.token_of_upload)
        self.problem(answer, 401)

    async def test_a_full_disk(self) -> None:
        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        append = self.artifacts.append
        self.patch(self.artifacts, "append", full)
        self.problem(await self._put(0, _DATA), 503)
        self.artifacts.append = append  # type: ignore[method-assign]  # there is room again
        assert (await self._put(0, _DATA)).status == 204

    async def test_the_connection_waits_for_the_disk(self) -> None:
        self.patch(uploads, "HIGH_WATER", 1000)
        assert (await self._put(0, _DATA)).status == 204
        assert self.artifacts.path(_SHA256).read_bytes() == _DATA
