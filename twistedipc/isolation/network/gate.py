"""
The gate of one attempt: the only way out of its namespaces, but for an engine. It runs outside of them, and takes
connections on sockets that were made inside (``holder``)::

    resolver    names become addresses here, by this machine's own resolver
    proxy       CONNECT and http://, for whatever asks a proxy
    hosts       allowed hosts that can't be reached directly have an address of their own in the namespace, at which
                the gate listens: programs that know no proxy (ssh, git) reach them all the same

Every connection is held to the policy of the step that runs (``hosts``) and is in the ledger (``contacts``). A host's
name is resolved once for a connection, and what was checked is what is connected to.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, cast

from twistedipc.builds.host_rules import Address, is_name, literal, place, rule
from twistedipc.isolation.network import proxying, resolving, sniffing
from twistedipc.isolation.network.contacts import Contacts
from twistedipc.isolation.network.engines import Engine
from twistedipc.isolation.network.holder import PORTS, Holder, HolderFailed
from twistedipc.isolation.network.hosts import NOT_KNOWN, UNRESOLVED, Policy, Verdict, cure, verdict
from twistedipc.isolation.network.rtnetlink import Routes
from twistedipc.isolation.network.splicing import Splice, Upstream, send

#: The most connections at a time, names that are resolved at a time, names that are remembered.
MAX_CONNECTIONS = 512
MAX_RESOLVING = 64
MAX_NAMES = 4096

#: The most hosts that have an address of their own in a namespace.
MAX_OWN = 200

#: Seconds: for a connection, for a name, for the head of a request; without a byte; for which a name is remembered.
CONNECT_DEADLINE = 15.0
RESOLVE_DEADLINE = 10.0
HEAD_DEADLINE = 15.0
IDLE = 900.0
REMEMBERED = 5.0

#: The alert "access_denied" of TLS (RFC 8446, 6.2): clients say so, instead of "connection closed".
_TLS_DENIED = b"\x15\x03\x03\x00\x02\x02\x31"

#: What a sandbox is called (`bubblewrap`). Programs ask for their own machine's address; nobody is contacted then.
_OWN_NAME = "build"

Kind = Literal["closed", "open"]


class Gate:
    """The gate of one attempt."""

    def __init__(
        self,
        holders: dict[Kind, Holder],
        *,
        engine: Engine,
        program: str,
        ours: Sequence[tuple[str, int]],
        project: str = "",
        credentials: str = "",
    ) -> None:
        """
        :param program: the engine's path
        :param ours: where link and API listen: a host, and "" is every address of this machine; and a port
        :param project: whose it is
        :param credentials: "name:password", which who asks the proxy must show; "": nobody else can ask it
        """
        self.policy = Policy()
        self.contacts = Contacts()
        self._engine: Engine = engine
        self._program = program
        self._project = project
        self._credentials = credentials
        self._loopback: socket.socket | None = None  # where the proxy listens, if it is on this machine's loopback
        self._servers: list[object] = []
        self._resolver = Resolver()
        self._machine = Machine(ours)
        self._namespaces = {kind: Namespace(kind, holder, self) for kind, holder in holders.items()}
        self._connections: dict[Splice, None] = {}  # those that lead somewhere
        self._open = 0  # how many there are, those that have asked for nothing yet among them

    # -- what the runner asks for --

    async def do_namespace(self, kind: Kind) -> dict[str, Any]:
        """Make a namespace, if it isn't there. Return the process that holds it, and where its proxy listens."""
        await self._machine.find(self._resolver)
        namespace = self._namespaces[kind]
        if not namespace.proxy:
            await namespace.make(self._engine, self._program, self._machine)
        await namespace.open_literals(self.policy)
        return {"holder": namespace.holder.pid, "proxy": namespace.proxy}

    async def do_loopback(self) -> dict[str, Any]:
        """Open the proxy at this machine's loopback address, if it isn't open. Return its port."""
        await self._machine.find(self._resolver)
        if self._loopback is None:
            self._loopback = socket.create_server(("127.0.0.1", 0), backlog=128)
            await self.serve(self._loopback, self.proxied)
        return {"proxy": self._loopback.getsockname()[1]}

    async def do_step(
        self,
        step: str,
        open: bool,
        allowed: Sequence[str],
        operators: Sequence[str],
        used: Sequence[str] | None,
        elsewhere: bool,
    ) -> dict[str, Any]:
        """Hold what follows to the policy of a step."""
        self._end_all()
        self.contacts.begin(step)
        self.policy = Policy(
            open=open,
            allowed=[rule(text) for text in allowed],
            operators=[rule(text) for text in operators],
            used=None if used is None else frozenset(used),
            elsewhere=elsewhere,
        )
        return {}

    async def do_ended(self) -> dict[str, Any]:
        """End the connections of the step; return what it was refused."""
        for namespace in self._namespaces.values():
            namespace.hear()
        self._end_all()
        refused = self.contacts.told()
        self.policy = Policy()
        return {"refused": refused}

    async def do_report(self) -> dict[str, Any]:
        """Return the ledger."""
        return self.contacts.report()

    def sweep(self) -> None:
        """End the connections on which nothing comes any more."""
        now = time.monotonic()
        for splice in [splice for splice in self._connections if now - splice.active > IDLE]:
            splice.abort()

    def _end_all(self) -> None:
        for splice in list(self._connections):
            splice.abort()

    # -- names and verdicts --

    async def judge(self, host: str, port: int) -> Verdict:
        """Return where a connection to a host may go now."""
        address = literal(host)
        addresses: Sequence[Address] = [address] if address is not None else []
        if address is None and (self.policy.open or self.policy.names(host, port)):
            addresses = await self._resolver.addresses(host)
        return verdict(
            self.policy, host, port, addresses, ours=self._machine.ours, local=self._machine.local(addresses)
        )

    def refuse(self, host: str, port: int, why: str, address: str = "") -> str:
        """Note a refusal. Return the sentence for the one that asked."""
        self.contacts.note(host, port, now=_now(), why=why, address=address)
        return f"the network refused {place(host, port)}: {why}. {cure(why, host, self._project)}"

    def resolved(self, name: str, addresses: Sequence[Address]) -> None:
        """Remember which name an address was given for."""
        self._resolver.remember(name, addresses)

    def name_of(self, address: Address) -> str:
        """Return the name for which an address was given last; without any the address."""
        return self._resolver.names.get(address, str(address))

    async def resolve(self, name: str) -> Verdict:
        """Return what a name stands for to the step, if it may know."""
        policy = self.policy
        known = policy.open or any(
            policy.names(name, port) for port in (443, *(each.port for each in (*policy.allowed, *policy.operators)))
        )
        if not known:
            return Verdict(why=NOT_KNOWN)
        return Verdict(addresses=await self._resolver.addresses(name))

    def is_public(self, name: str, addresses: Sequence[Address]) -> bool:
        """Return whether a step may connect to these addresses itself."""
        found = verdict(
            Policy(open=True), name, 0, addresses, ours=self._machine.ours, local=self._machine.local(addresses)
        )
        return bool(addresses) and len(found.addresses) == len(addresses) and not self._machine.has_ours(addresses)

    # -- connections --

    async def serve(
        self, made: socket.socket, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> None:
        """Serve the connections of a listening socket."""

        async def taken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._open += 1
            try:
                if self._open <= MAX_CONNECTIONS:
                    await serve(reader, writer)
                    await writer.drain()
            except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                pass  # the client has gone, or says nothing
            finally:
                self._open -= 1
                writer.close()

        self._servers.append(await asyncio.start_server(taken, sock=made, limit=proxying.MAX_HEAD, backlog=128))

    async def proxied(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client of the proxy."""
        async with asyncio.timeout(HEAD_DEADLINE):
            head = await reader.readuntil(b"\r\n\r\n")
        if self._credentials and not proxying.shows(head, self._credentials):
            wanted = "this is the proxy of one build: the address in HTTPS_PROXY has its password"
            header = 'Proxy-Authenticate: Basic realm="build"'
            writer.write(proxying.response(407, "Proxy Authentication Required", wanted, header))
            return
        try:
            asked = proxying.asked(head)
        except proxying.BadRequest as error:
            writer.write(proxying.response(400, "Bad Request", str(error)))
            return
        await self.pass_on(
            asked.host,
            asked.port,
            reader,
            writer,
            refused=_in_http,
            first=asked.head,
            begin=b"HTTP/1.1 200 Connection established\r\n\r\n" if asked.connect else b"",
        )

    async def pass_on(
        self,
        host: str,
        port: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        refused: Callable[[int, str], bytes],
        first: bytes = b"",
        begin: bytes = b"",
    ) -> None:
        """
        Connect to a host, and pass everything on in both directions until both have ended.

        :param refused: the answer if it can't be: a status, and the sentence
        :param first: what is sent to the host
        :param begin: what is said to the client once the connection is there
        """
        found = await self.judge(host, port)
        if found.why == UNRESOLVED:
            writer.write(refused(502, f"{place(host, port)} can't be reached: {found.why}"))
            return
        if found.why:
            writer.write(refused(403, self.refuse(host, port, found.why)))
            return
        connected = await self._connect(found.addresses, port)
        if isinstance(connected, str):
            self.contacts.note(host, port, now=_now(), address=str(found.addresses[0]))
            writer.write(refused(502, f"{place(host, port)} can't be reached: {connected}"))
            return
        address, upstream = connected
        contact = self.contacts.note(host, port, now=_now(), address=str(address))
        splice = Splice(writer.transport, upstream.transport)
        self._connections[splice] = None
        try:
            writer.write(begin)
            upstream.begin(writer, splice, contact)
            await asyncio.gather(send(first, reader, upstream, splice, contact), upstream.ended)
        finally:
            del self._connections[splice]
            upstream.transport.abort()

    async def _connect(self, addresses: Sequence[Address], port: int) -> tuple[Address, Upstream] | str:
        """Connect to the first address that answers. Return why none does."""
        why = ""
        for address in addresses[:4]:
            try:
                async with asyncio.timeout(CONNECT_DEADLINE / min(len(addresses), 4)):
                    loop = asyncio.get_running_loop()
                    _, upstream = await loop.create_connection(Upstream, str(address), port)
            except TimeoutError:
                why = why or "it doesn't answer"
            except OSError as error:
                why = why or (error.strerror or str(error))
            else:
                return address, upstream
        return why


class Namespace:
    """One of the attempt's namespaces, as the gate serves it."""

    def __init__(self, kind: Kind, holder: Holder, gate: Gate) -> None:
        self.kind: Kind = kind
        self.holder = holder
        self.proxy = 0  # the port of its proxy; 0: it isn't made
        self._gate = gate
        self._all_public = False  # whether connections to all public hosts come to the gate
        self._own: dict[str, str] = {}  # host -> its own address here
        self._hosts: dict[str, str] = {}  # the other way round
        self._listening: set[tuple[str, int]] = set()
        self._own_routes: set[str] = set()  # addresses that are the namespace's own
        self._heard: list[tuple[socket.socket, Callable[[sniffing.Packet], None]]] = []

    async def make(self, engine: Engine, program: str, machine: Machine) -> None:
        """Make it, and serve it. Raises `HolderFailed`."""
        made = self.holder.ask(do="make", engine=engine, program=program, open=self.kind == "open")
        resolver, proxy, *public = made.sockets
        loop = asyncio.get_running_loop()
        resolver.setblocking(False)
        await loop.create_datagram_endpoint(lambda: _Questions(self._answer), sock=resolver)
        await self._gate.serve(proxy, self._gate.proxied)
        for each in public:
            await self._gate.serve(each, self._taken)
        self._all_public = bool(public)
        if self.kind == "open" and engine != "gate":
            addresses = sorted({str(address) for address in machine.all() if not address.is_loopback})
            (tap,) = self.holder.ask(do="close_off", addresses=addresses).sockets
            self._hear(tap, self._left)
        if not public:
            (kept,) = self.holder.ask(do="hear").sockets
            self._hear(kept, self._kept)
        self.proxy = int(made.said["proxy"])

    async def open_literals(self, policy: Policy) -> None:
        """Listen at the addresses that a policy names."""
        for allowed in (*policy.allowed, *policy.operators):
            address = literal(allowed.host)
            if address is not None or allowed.host == "localhost":
                for each in [str(address)] if address is not None else ["127.0.0.1", "::1"]:
                    await self._listen(each, [allowed.port] if allowed.port else PORTS)

    def hear(self) -> None:
        """Read what was heard."""
        for heard, note in self._heard:
            self._read(heard, note)

    async def _listen(self, address: str, ports: Sequence[int]) -> None:
        wanted = [
            port
            for port in ports
            if (address, port) not in self._listening and not (self._all_public and port in PORTS)
        ]
        keep = self._all_public and address not in self._own_routes
        if not (wanted or keep) or len(self._listening) >= MAX_OWN * len(PORTS):
            return
        try:
            made = self.holder.ask(do="listen", address=address, ports=wanted)
        except HolderFailed:
            return  # no address here, or a step listens there itself
        self._own_routes.add(address)
        for port, each in zip(wanted, made.sockets, strict=True):
            self._listening.add((address, port))
            await self._gate.serve(each, self._taken)

    # -- connections to a host itself --

    async def _taken(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = writer.get_extra_info("sockname")
        address, port = literal(name[0]), name[1]
        assert address is not None
        host = self._hosts.get(str(address)) or (str(address) if address.is_loopback else self._gate.name_of(address))

        def refused(status: int, sentence: str) -> bytes:
            if port == 443:
                return _TLS_DENIED
            return _in_http(status, sentence) if port == 80 else b""

        await self._gate.pass_on(host, port, reader, writer, refused=refused)

    # -- the resolver --

    async def _answer(self, query: bytes) -> bytes:
        asked = resolving.question(query)
        if asked is None:
            return b""
        if asked.name in ("", _OWN_NAME):
            return resolving.answer(asked, code=resolving.NXDOMAIN)
        if asked.kind not in (resolving.A, resolving.AAAA):
            return resolving.answer(asked)
        found = await self._gate.resolve(asked.name)
        if found.why or not found.addresses:
            if found.why:
                self._gate.refuse(asked.name, 0, found.why)
            return resolving.answer(asked, code=resolving.NXDOMAIN)
        public = self.kind == "open" and self._gate.is_public(asked.name, found.addresses)
        if public:
            # An engine has no IPv6. Where the gate takes all connections, it can be reached by either.
            reached = [each for each in found.addresses if each.version == 4 or self._all_public]
            if reached:
                self._gate.resolved(asked.name, reached)
                return resolving.answer(asked, reached)
        own = await self._own_address(asked.name, public)
        if own is None:
            self._gate.refuse(asked.name, 0, (await self._gate.judge(asked.name, 443)).why)
            return resolving.answer(asked, code=resolving.NXDOMAIN)
        return resolving.answer(asked, [own])

    async def _own_address(self, name: str, public: bool) -> Address | None:
        """Return the address that a host has in this namespace; None unless it is public or allowed."""
        policy = self._gate.policy
        ports = {port for port in (*PORTS, *(each.port for each in (*policy.allowed, *policy.operators))) if port}
        if not public:
            ports = {port for port in ports if policy.names(name, port)}
        if not ports:
            return None
        own = self._own.get(name)
        if own is None:
            if len(self._own) >= MAX_OWN:
                return None
            own = f"127.64.{len(self._own) // 250}.{len(self._own) % 250 + 1}"
            self._own[name], self._hosts[own] = own, name
        await self._listen(own, sorted(ports))
        return ipaddress.ip_address(own)

    # -- what goes past the gate --

    def _hear(self, heard: socket.socket, note: Callable[[sniffing.Packet], None]) -> None:
        heard.setblocking(False)
        self._heard.append((heard, note))
        asyncio.get_running_loop().add_reader(heard, self._read, heard, note)

    def _read(self, heard: socket.socket, note: Callable[[sniffing.Packet], None]) -> None:
        for _ in range(256):
            try:
                packet = sniffing.read(heard)
            except OSError:
                return
            if packet is not None:
                note(packet)

    def _left(self, packet: sniffing.Packet) -> None:
        """An engine has carried a packet out."""
        host = self._gate.name_of(packet.address)
        self._gate.contacts.note(host, packet.port, now=_now(), address=str(packet.address), udp=packet.udp)

    def _kept(self, packet: sniffing.Packet) -> None:
        """A packet to an address at which the namespace ends."""
        if packet.udp or (str(packet.address), packet.port) in self._listening:
            return
        found = verdict(self._gate.policy, str(packet.address), packet.port, [packet.address], ours=())
        self._gate.refuse(str(packet.address), packet.port, found.why or "no network leads there")


class _Questions(asyncio.DatagramProtocol):
    """The resolver's socket."""

    def __init__(self, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer a question, unless too many are open: the resolver in the step asks again."""
        if len(self._tasks) < MAX_RESOLVING:
            task = asyncio.ensure_future(self._send(data, addr))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, data: bytes, where: tuple[str, int]) -> None:
        answer = await self._answer(data)
        if answer:
            self._transport.sendto(answer, where)


class Resolver:
    """This machine's own resolver, in threads."""

    def __init__(self) -> None:
        self.names: dict[Address, str] = {}
        self._threads = ThreadPoolExecutor(4, "resolver")
        self._found: dict[str, tuple[float, Sequence[Address]]] = {}
        self._open = 0

    async def addresses(self, name: str) -> Sequence[Address]:
        """Return the addresses of a name: none if it has none, or there is no answer in time."""
        now = time.monotonic()
        until, found = self._found.get(name, (0.0, ()))
        if until > now:
            return found
        if self._open >= MAX_RESOLVING or not is_name(name):
            return ()
        self._open += 1
        try:
            async with asyncio.timeout(RESOLVE_DEADLINE):
                found = await asyncio.get_running_loop().run_in_executor(self._threads, _addresses, name)
        except TimeoutError:
            found = ()
        finally:
            self._open -= 1
        if len(self._found) >= MAX_NAMES:
            self._found.clear()
        self._found[name] = (now + REMEMBERED, found)
        return found

    def remember(self, name: str, addresses: Sequence[Address]) -> None:
        """Remember a name by its addresses."""
        if len(self.names) >= MAX_NAMES:
            self.names.clear()
        self.names.update(dict.fromkeys(addresses, name))


def _addresses(name: str) -> Sequence[Address]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    literals = (literal(str(each[4][0]).partition("%")[0]) for each in found)
    return list(dict.fromkeys(address for address in literals if address is not None))[:16]


class Machine:
    """What belongs to this machine and to the platform."""

    def __init__(self, ours: Sequence[tuple[str, int]]) -> None:
        self.ours: set[tuple[Address | None, int]] = set()
        self._named = list(ours)

    async def find(self, resolver: Resolver) -> None:
        """Find where link and API are."""
        for host, port in self._named:
            if not host:
                self.ours.add((None, port))
                continue
            address = literal(host)
            for each in [address] if address is not None else await resolver.addresses(host):
                self.ours.add((each, port))
        self._named = []

    def has_ours(self, addresses: Sequence[Address]) -> bool:
        """Return whether the platform listens at one of the addresses, at any port."""
        return any(address in addresses for address, _ in self.ours if address is not None)

    def local(self, addresses: Sequence[Address]) -> set[Address]:
        """Return those of the addresses that are this machine's own."""
        return {address for address in addresses if _is_local(address)}

    def all(self) -> set[Address]:
        """Return all addresses of this machine, and of link and API."""
        routes = Routes()
        try:
            return {*routes.addresses(), *(address for address, _ in self.ours if address is not None)}
        finally:
            routes.close()


def _is_local(address: Address) -> bool:
    """Return whether an address is this machine's own: what is sent to it would come from it, too."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as made:
            made.connect((str(address), 9))
            return literal(str(made.getsockname()[0]).partition("%")[0]) == address
    except OSError:
        return False


def _in_http(status: int, sentence: str) -> bytes:
    return proxying.response(status, "Forbidden" if status == 403 else "Bad Gateway", sentence)


def _now() -> int:
    return time.time_ns() // 1_000_000
