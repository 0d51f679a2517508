"""
A crawler, and a hundred open tabs, while releases are switched a thousand times. Every answer is compared with the file
of the release that it must be of, byte for byte.

Real services: the releases are built one after another, each is live when it is built, and then the API switches among
those that are kept. The crawler has no cookies and sends no Referer: what it asks for by a plain address must be of the
release that is live, or of one that was while it asked; what a page has named must be of that page's release. The tabs
send what browsers send (``tests/integration/test_open_pages.py`` has a real one). Each browser has two of them: one
that was opened long ago, the first of them before all other releases, and one that is opened again and again. Both load
chunks for as long as they are open: by the mark in an address, by the Referer of a style with a mark, by a hash. The
newest tab of a browser loads some by the cookie too. An older tab can't: all tabs of a browser share one cookie.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import hashlib
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from bench.common.processes import Failed, spent
from bench.common.runs import Measured
from tests.integration.platform import DEADLINE, Platform

#: Figures that have bars too.
FAILED = "failed"
TORN = "torn"
MISSING = "chunks missing"
WRONG = "of a wrong release"

BROWSERS = 50
PAGES = 10
CHUNKS = 4

#: Of how many visits of a newer tab one opens its pages again.
_AGAIN = 20

#: How many bad answers of a kind are told.
_TOLD = 10

_MARK = re.compile(rb"/~r(\d+)~")
_ADDRESS = re.compile(rb"(?:href|src)=\"(/[^\"]*)\"")
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)")
_ETAG = re.compile(rb"(?i)\r\netag: (\"[^\"]+\")")
_COOKIE = re.compile(rb"(?i)\r\nset-cookie: ([^;\r]+)")
_ZIPPED = re.compile(rb"(?i)\r\ncontent-encoding: gzip\r\n")


class Size(NamedTuple):
    """How much is measured."""

    requests: int
    switches: int  # among them the first time that each release is live
    releases: int  # as many as are built while the oldest tab is open, and one


class _Answer(NamedTuple):
    status: int
    head: bytes
    body: bytes

    def found(self, pattern: re.Pattern[bytes]) -> str:
        """What a header has; "" if there is none."""
        found = pattern.search(self.head)
        return found[1].decode() if found else ""


class _Release:
    """One version of the site: its files, and the chunks by which its pages load more."""

    def __init__(self, number: int) -> None:
        text = f"release {number}"

        def hashed(name: str) -> str:
            digest = hashlib.sha256(f"{name} of {text}".encode()).digest()
            return f"assets/{name}-{base64.urlsafe_b64encode(digest).decode()[:8]}.js"

        self.main = hashed("main")
        self.chunks = [hashed(f"chunk{number}") for number in range(CHUNKS)]
        links = "".join(f'<a href="/page-{number}.html">{number}</a>' for number in range(PAGES))
        plain = (
            '<link rel="stylesheet" href="/style.css"><script src="/classic.js"></script>'
            '<script type="module" src="/app.js"></script>'
        )
        files = {
            "index.html": f"<!doctype html><title>{text}</title>{plain}{links}",
            "hashed.html": f'<!doctype html><title>{text}</title><script type="module" src="/{self.main}"></script>',
            **{f"page-{n}.html": f"<!doctype html><title>{text}, {n}</title>{plain}{links}" for n in range(PAGES)},
            "app.js": f'export const text = "{text}"; export const lazy = () => import("./lazy/part.js");',
            "lazy/part.js": f'export const part = "{text}";',
            "classic.js": f'window.classic = "{text}";',
            "pack.js": f'window.pack = "{text}";',
            "style.css": f'@import url(/more.css); body {{ --own: "{text}" }}',
            "more.css": f'body {{ --more: "{text}" }}',
            **{path: f'export const text = "{path} of {text}";' * 20 for path in (self.main, *self.chunks)},
        }
        self.texts = files
        self.files = {path: content.encode() for path, content in files.items()}


class _Switches:
    """Which release is live: the one that was switched to, and while it is being switched also the next one."""

    def __init__(self) -> None:
        self._order: list[int] = []
        self.ended = 0  # how many switches are over

    @contextlib.contextmanager
    def switching(self, number: int) -> Iterator[None]:
        """Another one is made live meanwhile."""
        self._order.append(number)
        yield
        self.ended = len(self._order)

    def since(self, ended: int) -> set[int]:
        """Those that have been live since so many switches were over."""
        return set(self._order[max(0, ended - 1) :])


class _Clients:
    """What all of them share: the releases by their numbers, what is live, and what was seen."""

    def __init__(self, port: int, size: Size) -> None:
        self.port = port
        self.host = f"app.localhost:{port}"
        self.size = size
        self.releases = {number: _Release(number) for number in range(1, size.releases + 1)}
        self.live = _Switches()
        self.marks: dict[int, int] = {}  # the release that each mark stands for
        self.over = False
        self.done = 0  # requests
        self._due = 0
        self._reached = asyncio.Event()
        self.counts: Counter[str] = Counter()
        self.complaints: list[str] = []

    def count(self) -> None:
        """There is one more request."""
        self.done += 1
        if self.done == self._due:
            self._reached.set()

    async def until(self, due: int) -> None:
        """Wait for so many requests."""
        if self.done < due:
            self._due = due
            self._reached.clear()
            await self._reached.wait()

    def bad(self, kind: str, text: str) -> None:
        """Something that must not be."""
        self.counts[kind] += 1
        if self.counts[kind] <= _TOLD:
            self.complaints.append(f"{kind}: {text}")


class _Client:
    """One connection."""

    def __init__(self, clients: _Clients, *, gzipped: bool = False) -> None:
        self._all = clients
        self._always = f"Host: {clients.host}\r\n" + "Accept-Encoding: gzip, br;q=0\r\n" * gzipped
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def get(self, address: str, **headers: str) -> _Answer:
        """Ask for an address; the answer's body as it is without a coding. A status of 0: there was no whole answer."""
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        self._all.count()
        try:
            async with asyncio.timeout(DEADLINE):
                if self._reader is None or self._writer is None:
                    self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._all.port)
                self._writer.write(f"GET {address} HTTP/1.1\r\n{self._always}{lines}\r\n".encode())
                head = await self._reader.readuntil(b"\r\n\r\n")
                status, length = int(head[9:12]), _LENGTH.search(head)
                body = await self._reader.readexactly(int(length[1])) if length and status != 304 else b""
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            self._all.bad(FAILED, f"{address}: {error!r}")
            self.close()
            return _Answer(0, b"", b"")
        if _ZIPPED.search(head):
            try:
                body = gzip.decompress(body)
            except (OSError, EOFError) as error:
                self._all.bad(TORN, f"{address}: {error!r}")
        elif (
            status == 200
            and (tag := _ETAG.search(head))
            and tag[1][1:33] != hashlib.sha256(body).hexdigest()[:32].encode()
        ):
            self._all.bad(TORN, f"{address}: the ETag is another content's")
        if status >= 500:
            self._all.bad(FAILED, f"{address}: {head[:100]!r}")
        return _Answer(status, head, body)

    def close(self) -> None:
        """Leave."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def page(self, address: str, **headers: str) -> tuple[int, str, _Answer]:
        """Open a page; the release that it is of, and its mark, if it has one. 0: it hasn't changed, or isn't there."""
        since = self._all.live.ended
        answer = await self.get(address, **headers)
        live = self._all.live.since(since)
        if answer.status != 200:
            if answer.status != 304:
                self._all.bad(FAILED, f"{address}: {answer.status}")
            return 0, "", answer
        marks = set(_MARK.findall(answer.body))
        path = address[1:] or "index.html"
        number = self._is_of(path, _MARK.sub(b"", answer.body), live)
        if len(marks) > 1 or (marks and self._all.marks.setdefault(int(min(marks)), number) != number):
            self._all.bad(TORN, f"{address}: the marks {marks} in a page of release {number}")
        return number, f"/~r{min(marks).decode()}~" if marks else "", answer

    def _is_of(self, path: str, body: bytes, live: set[int]) -> int:
        """Return the release that an answer is of, which must be one of these; 0 if it is of none."""
        found = next((number for number in live if self._all.releases[number].files[path] == body), 0)
        if not found:
            other = [number for number, each in self._all.releases.items() if each.files.get(path) == body]
            self._all.bad(WRONG if other else TORN, f"{path}: of {other}, and {live} are live: {body[:200]!r}")
        return found

    async def plain(self, path: str) -> None:
        """Ask for a file by its plain address, as somebody without a page: it is of what is live."""
        since = self._all.live.ended
        answer = await self.get(f"/{path}")
        if answer.status != 200:
            self._all.bad(FAILED, f"/{path}: {answer.status}")
        else:
            self._is_of(path, answer.body, self._all.live.since(since))

    async def chunk(self, address: str, number: int, **headers: str) -> None:
        """Load a chunk of a page of this release."""
        path = re.sub(r"^/(?:~r\d+~/)?", "", address)
        answer = await self.get(address, **headers)
        if answer.status in (404, 410):
            self._all.bad(MISSING, f"{address} of release {number}")
        elif answer.status != 200:
            self._all.bad(FAILED, f"{address}: {answer.status}")
        elif answer.body != self._all.releases[number].files[path]:
            self._all.bad(WRONG, f"{address} for a page of release {number}: {answer.body[:200]!r}")


def _tag_of(body: bytes) -> bytes:
    """The ETag that the site gives a content."""
    return b'"%b"' % hashlib.sha256(body).hexdigest()[:32].encode()


async def _crawl(clients: _Clients) -> None:
    """Ask for pages, and for what each has named, with a fixed order of chance."""
    client, chance = _Client(clients), random.Random(1)
    while not clients.over:
        address = chance.choice(["/", "/hashed.html", *(f"/page-{number}.html" for number in range(PAGES))])
        number, _, answer = await client.page(address)
        if number:
            for linked in _ADDRESS.findall(answer.body):
                if not linked.endswith(b".html"):
                    await client.chunk(linked.decode(), number)
        await client.plain(chance.choice(["app.js", "style.css", "lazy/part.js"]))
    client.close()


class _Browser:
    """Two tabs, which share their cookies."""

    def __init__(self, clients: _Clients, number: int) -> None:
        self._chance = random.Random(number)
        self._all = clients
        self.cookie = ""
        self.newest: _Tab | None = None

    async def run(self, opened: Callable[[], None]) -> None:
        """Open the one tab, and the other after it; tell when the first one is open."""
        old, new = _Tab(self._all, self, self._chance), _Tab(self._all, self, self._chance)
        await old.open()
        opened()
        await asyncio.gather(old.use(again=False), new.use(again=True))


class _Tab:
    """A tab with two pages: one whose links have marks, and one whose scripts have hashes."""

    def __init__(self, clients: _Clients, browser: _Browser, chance: random.Random) -> None:
        self._all = clients
        self._browser = browser
        self._chance = chance
        self._client = _Client(clients, gzipped=True)
        self._origin = f"http://{clients.host}"
        self._marked = self._hashed = 0  # the releases of the pages
        self._mark = ""
        self._tag = ""

    async def open(self) -> None:
        """Open both pages, again if they are open."""
        cookie = {"Cookie": self._browser.cookie} if self._browser.cookie else {}
        known = {"If_None_Match": self._tag} if self._tag else {}
        self._hashed = (await self._client.page("/hashed.html", **cookie))[0]
        number, mark, answer = await self._client.page("/", Sec_Fetch_Dest="document", **cookie, **known)
        if answer.status != 304:
            self._marked, self._mark, self._tag = number, mark, answer.found(_ETAG)
            if number and not mark:
                self._all.bad(MISSING, "the mark in a page")
        self._browser.cookie = answer.found(_COOKIE) or self._browser.cookie
        self._browser.newest = self

    async def use(self, *, again: bool) -> None:
        """Load chunks; with ``again``, open the pages now and then."""
        visits = 0
        while not self._all.over:
            if again and visits % _AGAIN == 0:
                await self.open()
            visits += 1
            await self._load()
        self._client.close()

    async def _load(self) -> None:
        client, origin, mark = self._client, self._origin, self._mark
        if self._hashed:
            release = self._all.releases[self._hashed]
            address = f"/{self._chance.choice(release.chunks)}"
            await client.chunk(address, self._hashed, Referer=f"{origin}/{release.main}", Sec_Fetch_Dest="script")
        if not mark or not self._marked:
            return
        match self._chance.randrange(3 if self._browser.newest is self else 2):
            case 0:
                await client.chunk(f"{mark}/lazy/part.js", self._marked, Referer=f"{origin}{mark}/app.js")
            case 1:
                style = f"{origin}{mark}/style.css"
                await client.chunk("/more.css", self._marked, Referer=style, Sec_Fetch_Dest="style")
            case _:
                cookie = self._browser.cookie
                await client.chunk(
                    "/pack.js", self._marked, Referer=f"{origin}/", Sec_Fetch_Dest="script", Cookie=cookie
                )


class _Switcher:
    """Makes releases live, by builds and by the API. Its methods run in a thread."""

    def __init__(self, platform: Platform, clients: _Clients) -> None:
        self._platform = platform
        self._all = clients
        self._repository = platform.repository({"README": ""})
        self.took: list[float] = []  # seconds from a request of a switch to its answer
        platform.add_project("app", self._repository)

    def release(self, number: int) -> None:
        """Build a release."""
        texts = self._all.releases[number].texts
        for path in self._repository.glob("assets/*"):
            path.unlink()
        self._platform.commit(self._repository, texts)
        with self._all.live.switching(number):
            self._platform.succeed(self._platform.build("app"))

    def kept(self) -> list[tuple[int, int]]:
        """The releases that can be made live again: their ids, and their numbers here, which their builds have too."""
        newest = self._platform.api("GET", "/api/v1/projects/app/releases")["releases"]  # not all: it is a page
        return sorted((release["id"], release["build"]) for release in newest)[-10:]

    def activate(self, release: tuple[int, int]) -> None:
        """Switch."""
        with self._all.live.switching(release[1]):
            began = time.perf_counter()
            self._platform.api("POST", f"/api/v1/projects/app/releases/{release[0]}/activate")
            self.took.append(time.perf_counter() - began)


def measure(folder: Path, size: Size) -> Measured:
    """Return how many answers weren't as they must be."""
    with Platform(folder) as platform:
        clients = _Clients(platform.releases_port, size)
        switcher = _Switcher(platform, clients)
        sent, began = spent(platform.apiserver.pid), time.monotonic()
        asyncio.run(_run(clients, switcher))
        seconds, used = time.monotonic() - began, spent(platform.apiserver.pid) - sent
    kinds = (FAILED, TORN, MISSING, WRONG)
    switcher.took.sort()
    return Measured(
        sum(clients.counts[kind] for kind in kinds),
        {
            **{kind: clients.counts[kind] for kind in kinds},
            "requests": clients.done,
            "switches": size.switches,
            "requests/s": clients.done / seconds,
            "a switch under this load, ms, median": switcher.took[len(switcher.took) // 2] * 1000,
            "of the apiserver's processor for a request, µs": used * 1e6 / clients.done,
        },
        "\n".join(clients.complaints),
    )


async def _run(clients: _Clients, switcher: _Switcher) -> None:
    size = clients.size
    await asyncio.to_thread(switcher.release, 1)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_crawl(clients))
        for number in range(BROWSERS):
            # A tab of each release but the newest; the more releases there are, the fewer open at a time.
            release = 1 + number * (size.releases - 1) // BROWSERS
            while clients.live.ended < release:
                await asyncio.to_thread(switcher.release, clients.live.ended + 1)
            opened = asyncio.Event()
            tasks.create_task(_Browser(clients, number).run(opened.set))
            await opened.wait()
        while clients.live.ended < size.releases:
            await asyncio.to_thread(switcher.release, clients.live.ended + 1)
        kept = await asyncio.to_thread(switcher.kept)
        chance, live = random.Random(2), kept[-1]
        begun, left = clients.done, size.switches - size.releases
        for number in range(left):
            await clients.until(begun + (size.requests - begun) * (number + 1) // (left + 1))
            live = chance.choice([each for each in kept if each != live])
            await asyncio.to_thread(switcher.activate, live)
        await clients.until(size.requests)
        clients.over = True
    if clients.live.ended != size.switches:
        raise Failed(f"{clients.live.ended} switches, and not {size.switches}")
