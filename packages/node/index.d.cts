// The types of the package's face. With an interface that `python -m twistedipc.ipc typescript` has written, the names
// of calls, messages and streams are checked, and what they carry.

/** What an interface says: each call with its request and its reply, each message, and each stream with its items. */
export interface Declared {
  calls: Record<string, { request: any; reply: any }>;
  /** The calls that are answered by items, one after another. */
  streamed?: Record<string, { request: any; item: any }>;
  messages: Record<string, any>;
  streams: Record<string, any>;
}

/** An interface of a service. Where the lists are absent, names aren't checked when the program runs. */
export interface Interface<D extends Declared = Declared> {
  readonly name: string;
  readonly calls?: readonly (keyof D['calls'] & string)[];
  readonly streamed?: readonly StreamedCall<D>[];
  readonly messages?: readonly (keyof D['messages'] & string)[];
  readonly streams?: readonly (keyof D['streams'] & string)[];
}

/**
 * The interface whose schema `python -m twistedipc.ipc dump MODULE:NAME` has printed. With it, fields are checked when the
 * program runs: of what comes and of what is sent.
 */
export function fromSchema<D extends Declared = Declared>(dumped: unknown): Interface<D>;

type Call<D extends Declared> = keyof D['calls'] & string;
type StreamedCalls<D extends Declared> = NonNullable<D['streamed']>;
type StreamedCall<D extends Declared> = keyof StreamedCalls<D> & string;
type Message<D extends Declared> = keyof D['messages'] & string;
type StreamName<D extends Declared> = keyof D['streams'] & string;
type Sent<T> = T extends object ? Omit<T, 'type'> : T;

/** Who is at the other end, once that is proven. */
export interface PeerInfo {
  readonly name: string;
  readonly role: string;
  /** Another one each time that the peer's process starts. */
  readonly incarnation: string;
  /** Of the protocol. */
  readonly version: number;
  /** For people; it isn't proven. */
  readonly address: string;
  /** The id of the named key by which it is proven; "" is the shared key, or none. */
  readonly key: string;
  /** What both sides can do beside the version. With `interface` among them, the peer says what it takes. */
  readonly features: readonly string[];
}

export interface CallOptions {
  /** Milliseconds to wait for the reply, and for a link; 30,000 by default. Infinity is as long as it takes. */
  timeout?: number;
  /** Its abort makes the other side drop the call. */
  signal?: AbortSignal;
}

/**
 * The items that answer a call, as they come. The call is made when the first one is asked for. What the program doesn't
 * take is bounded: the other side waits. Leaving the loop makes it stop.
 */
export interface StreamedReply<Item = any> extends AsyncIterableIterator<Item> {
  next(): Promise<IteratorResult<Item, undefined>>;
  /** Take no more items. */
  return(): Promise<IteratorResult<Item, undefined>>;
}

/** The peer at the other end of a link. `Asks` is the interface that it answers. */
export class Peer<Asks extends Declared = Declared> {
  private constructor();
  readonly info: PeerInfo;
  /** Whether messages can be sent. */
  readonly connected: boolean;
  /** Whether the peer doesn't keep up with what this side sends. */
  readonly paused: boolean;
  /** Bytes of a message to the peer: the smaller one of both sides' limits. */
  readonly frameLimit: number;
  call<C extends Call<Asks>>(
    type: C,
    request: Sent<Asks['calls'][C]['request']>,
    options?: CallOptions,
  ): Promise<Asks['calls'][C]['reply']>;
  /** Call the peer for items, on this link. See `Remote.streamCall`. */
  streamCall<C extends StreamedCall<Asks>>(
    type: C,
    request: Sent<StreamedCalls<Asks>[C]['request']>,
    options?: CallOptions,
  ): StreamedReply<StreamedCalls<Asks>[C]['item']>;
  /**
   * Whether the peer says that it takes a call, a message or a stream of this name: its program may be older or newer
   * than this one. False of one that says nothing of itself, whose `info.features` don't have `interface`.
   *
   * `exactly`: whether it must have the same fields as this side has, of a call those of its reply too. This side knows
   * them if its interface is a schema (`fromSchema`).
   */
  understands(name: string, options?: { kind?: 'call' | 'items' | 'message' | 'stream'; exactly?: boolean }): boolean;
  send<M extends Message<Asks>>(type: M, message: Sent<Asks['messages'][M]>): void;
  /** Resolves when the peer keeps up. */
  drain(options?: { signal?: AbortSignal }): Promise<void>;
  /** Tell the peer why, and end the link. */
  close(code?: string, reason?: string): void;
  /** Receive nothing more for now. */
  pauseReading(): void;
  resumeReading(): void;
}

/** One stream of one sender. A receiver keeps its position under the whole of it. */
export interface StreamId {
  readonly peer: string;
  readonly stream: string;
  readonly id: string;
}

/** Where a stream's items end up: what a service's `receiver` returns. */
export interface Receiver<Item = any> {
  /** The number of the first item that isn't kept yet: 1 in the beginning. */
  position(): number | Promise<number>;
  /** Keep these items, the first of which has the number `first`. When this is done they are acknowledged. */
  take(first: number, items: Item[]): void | Promise<void>;
}

type Answer<T> = T | Promise<T>;

type Handlers<D extends Declared, Asks extends Declared> = {
  [T in Call<D> | StreamedCall<D> | Message<D>]: T extends Call<D>
    ? (
        request: D['calls'][T]['request'],
        peer: Peer<Asks>,
        context: { readonly signal: AbortSignal },
      ) => Answer<D['calls'][T]['reply']>
    : T extends StreamedCall<D>
    ? (
        request: StreamedCalls<D>[T]['request'],
        peer: Peer<Asks>,
        context: { readonly signal: AbortSignal },
      ) => Answer<AsyncIterable<StreamedCalls<D>[T]['item']> | Iterable<StreamedCalls<D>[T]['item']>>
    : (message: D['messages'][T], peer: Peer<Asks>) => unknown;
};

/** What answers an interface: a handler for each call and message, and a receiver for its streams. */
export interface Service<D extends Declared = Declared, Asks extends Declared = Declared> {
  handlers?: Handlers<D, Asks>;
  receiver?(stream: StreamId & { readonly stream: StreamName<D> }): Receiver<D['streams'][StreamName<D>]>;
  peerReady?(peer: Peer<Asks>): void;
  peerLost?(peer: Peer<Asks>, reason: string): void;
}

/** PEM files of one side of a `tls:` link. */
export interface TLSFiles {
  certificate?: string | URL;
  /** Of the certificate. */
  key?: string | URL;
  /** That has issued the peer's certificate: then the peer must have one. */
  authority?: string | URL;
}

export interface Limits {
  /** Milliseconds between signs of life, 8000; the listening side's counts. */
  heartbeat?: number;
  /** Milliseconds without a received byte after which a peer is dead, 24,000; in whole heartbeats. */
  deadAfter?: number;
  /** Milliseconds for the peer to prove who it is, 10,000. */
  handshakeTimeout?: number;
  /** Bytes of a message that is taken, 1 MiB. */
  frameLimit?: number;
  /** Calls in flight, each way, 1024. */
  maxCalls?: number;
  /** Bytes that wait for a peer that doesn't read, 64 MiB; over it the link is closed. */
  outboundLimit?: number;
}

export interface SideOptions extends Limits {
  /** This side's name; by default its role and process id. Receivers know a stream by it. */
  name?: string;
  /** The secret of both sides, at least 16 bytes (`readKey`). A UNIX socket needs none. */
  key?: Uint8Array;
  /** Named keys of single peers. */
  keys?: Keys;
  /** For `tls:`. */
  tls?: TLSFiles;
  /** Gives a reason to refuse a peer that has proven who it is. */
  accept?: (peer: PeerInfo) => string | null | undefined | false;
  /** This side's role, and the other's, on a link that isn't one of a library's interface: `builder`, say. */
  role?: string;
  peerRole?: string;
  /** Whether the process may end while this goes on. */
  unref?: boolean;
}

export interface DialOptions<Answered extends Declared = Declared, Asks extends Declared = Declared> extends SideOptions {
  /** Answers the other side, if that side calls as well. `interface` is what it answers. */
  service?: Service<Answered, Asks> & { interface?: Interface<Answered> | string };
  /** Whether calls wait for a link, within their timeout (they do); else they fail at once. */
  callsWait?: boolean;
  /** Bytes of one-way messages that are kept for the next link, 1 MiB. */
  queue?: number;
  /** Whether what waits fails, by `LinkRefused`, when one side has refused the other. */
  failOnRefusal?: boolean;
  /** Gives numbers from 0 to 1, by which the delays between attempts are scattered. */
  random?: () => number;
}

export interface ListenOptions<Asks extends Declared = Declared> extends SideOptions {
  /** What the peers answer, if this side calls them: with a schema (`fromSchema`), what goes to them and comes is checked. */
  calls?: Interface<Asks> | string;
}

/** Stay linked with the service at `unix:PATH`, `tcp:HOST:PORT`, `tls:HOST:PORT`, or `parent:`, until `close`. */
export function dial<D extends Declared = Declared, Answered extends Declared = Declared>(
  endpoint: string,
  described: Interface<D> | string,
  options?: DialOptions<Answered, NoInfer<D>>,
): Remote<D>;

/** Listen at `unix:PATH`, `tcp:PORT`, `tls:PORT:interface=ADDRESS`, or `parent:` for peers of a service. */
export function listen<D extends Declared = Declared, Asks extends Declared = Declared>(
  endpoint: string,
  described: Interface<D> | string,
  service: Service<NoInfer<D>, NoInfer<Asks>>,
  options?: ListenOptions<NoInfer<Asks>>,
): Promise<Listening<Asks>>;

/**
 * One of several services at an endpoint. What it leaves out is as it is in the options; but with a `key` or with `keys`
 * it has neither of theirs.
 */
export interface Offer {
  interface: Interface<any> | string;
  service: Service<any, any>;
  calls?: Interface<any> | string;
  key?: Uint8Array;
  keys?: Keys;
  accept?: SideOptions['accept'];
}

/** Listen for peers of several services, each of which finds its own. Older ones find the first. */
export function listen(
  endpoint: string,
  services: readonly Offer[],
  options?: Omit<ListenOptions<any>, 'role' | 'peerRole'>,
): Promise<Listening<any>>;

/** How plain lines are written and bounded. */
export interface PlainOptions {
  /** For people, where there is a name. */
  name?: string;
  /** For `tls:`; a side that listens needs an `authority`. */
  tls?: TLSFiles;
  unref?: boolean;
  /** The member of a line that says its type, `type`; null: lines have none, and all are of the `defaultType`. */
  typeField?: string | null;
  /** The type of a line that says none; without it, such a line isn't understood. */
  defaultType?: string;
  /** The member that has a request's id, `id`. */
  requestId?: string;
  /** Milliseconds without a line, and without a request at work, after which a connection is closed. */
  idleTimeout?: number;
  /** Bytes of a line, 1 MiB. */
  frameLimit?: number;
  /** Calls of this side's in flight, 1024. */
  maxCalls?: number;
  /** Bytes that wait for a peer that doesn't read, 64 MiB; over it the connection is closed. */
  outboundLimit?: number;
}

type Unlinked = Pick<DialOptions, 'service' | 'callsWait' | 'queue' | 'failOnRefusal' | 'random'>;

/** Stay connected with a server of lines of JSON (`net.createServer`, say, or a `listenPlain`). There is no handshake. */
export function dialPlain<D extends Declared = Declared>(
  endpoint: string,
  described: Interface<D> | string,
  options?: PlainOptions & Unlinked,
): Remote<D>;

/** Listen for tools that speak lines of JSON. Nobody proves who it is: whoever can connect may ask. */
export function listenPlain<D extends Declared = Declared, Asks extends Declared = Declared>(
  endpoint: string,
  described: Interface<D> | string,
  service: Service<NoInfer<D>, NoInfer<Asks>>,
  options?: PlainOptions & { calls?: Interface<Asks> | string },
): Promise<Listening<Asks>>;

interface Emitter<Events extends Record<string, unknown[]>> {
  on<E extends keyof Events>(event: E, listener: (...what: Events[E]) => void): this;
  once<E extends keyof Events>(event: E, listener: (...what: Events[E]) => void): this;
  off<E extends keyof Events>(event: E, listener: (...what: Events[E]) => void): this;
}

type Fault = [error: unknown, what: string];

/** A service, over one link after another. Made by `dial`. */
export class Remote<D extends Declared = Declared> {
  private constructor();
  /** The service on the link of now; undefined while there is none. */
  readonly peer: Peer<D> | undefined;
  /** Call the service, and wait for the reply; without a link, for the next one. */
  call<C extends Call<D>>(
    type: C,
    request: Sent<D['calls'][C]['request']>,
    options?: CallOptions,
  ): Promise<D['calls'][C]['reply']>;
  /**
   * Call the service for items: `for await (const row of remote.streamCall('query', { … }))`. Without a link, on the next
   * one. `timeout` is for the link, and for each next item.
   */
  streamCall<C extends StreamedCall<D>>(
    type: C,
    request: Sent<StreamedCalls<D>[C]['request']>,
    options?: CallOptions,
  ): StreamedReply<StreamedCalls<D>[C]['item']>;
  /** Send a one-way message; or keep it for the next link. */
  send<M extends Message<D>>(type: M, message: Sent<D['messages'][M]>): void;
  /** Resolves when there is a link, and the peer keeps up with what this side sends. */
  drain(options?: { signal?: AbortSignal }): Promise<void>;
  /** Resolves when there is a link. */
  linked(options?: { timeout?: number; signal?: AbortSignal }): Promise<Peer<D>>;
  /** A reliable stream to the service. */
  stream<S extends StreamName<D>>(name: S, options?: StreamOptions): Stream<D['streams'][S]>;
  /** End the link, and dial no more. Resolves when all is gone, within 5 seconds. */
  close(): Promise<void>;
  /** Resolves with the reason when there is no link and won't be another. */
  closed(): Promise<string>;
}
export interface Remote<D extends Declared = Declared>
  extends Emitter<{ link: [peer: Peer<D>]; loss: [reason: string]; fault: Fault }> {}

/** One of the services that listen at an endpoint. */
export interface Served<Asks extends Declared = Declared>
  extends Emitter<{ link: [peer: Peer<Asks>]; loss: [peer: Peer<Asks>, reason: string] }> {
  /** Its interface's. */
  readonly name: string;
  /** The peers that are linked now. */
  readonly peers: ReadonlySet<Peer<Asks>>;
  /** A reliable stream to the peer of this name, whenever it is linked. */
  stream<S extends StreamName<Asks>>(peer: string, name: S, options?: StreamOptions): Stream<Asks['streams'][S]>;
}

/** A service that listens, or several. Made by `listen`. */
export class Listening<Asks extends Declared = Declared> {
  private constructor();
  /** The services, by the names of their interfaces. */
  readonly services: ReadonlyMap<string, Served<Asks>>;
  /** The peers that are linked now. */
  readonly peers: ReadonlySet<Peer<Asks>>;
  /** The TCP port. */
  readonly port: number;
  /** A reliable stream to the peer of this name, whenever it is linked. Of several services, theirs is to be called. */
  stream<S extends StreamName<Asks>>(peer: string, name: S, options?: StreamOptions): Stream<Asks['streams'][S]>;
  /** End all links, and listen no more. Resolves when all is gone, within 5 seconds. */
  close(): Promise<void>;
  /** Resolves when no peer can link any more: after `close`, and at `parent:` when the only link has ended. */
  closed(): Promise<void>;
}
export interface Listening<Asks extends Declared = Declared>
  extends Emitter<{ link: [peer: Peer<Asks>]; loss: [peer: Peer<Asks>, reason: string]; fault: Fault }> {}

export interface StreamOptions {
  /** Where the items wait: a `MemoryOutbox` by default. */
  outbox?: Outbox;
  /** Called each time that the receiver refuses the stream, for a while or for good. */
  onRefused?: (refusal: StreamFailed) => void;
}

/** The sender's end of one stream. */
export class Stream<Item = any> {
  private constructor();
  readonly name: string;
  /** The outbox's identity. */
  readonly id: string;
  /** The number that the next item gets. */
  readonly next: number;
  /** All items below this number are kept at the other end. */
  readonly acknowledged: number;
  /** Why the receiver doesn't take the stream just now. */
  readonly refusal: StreamFailed | undefined;
  /** Add an item to the outbox, and resolve with its number. It waits while the outbox is full. */
  write(item: Item): Promise<number>;
  /** Write all items, as fast as they are taken. Resolves with the last number. */
  writeAll(items: Iterable<Item> | AsyncIterable<Item>): Promise<number>;
  /** Resolves when all that was written so far is kept at the other end. */
  flushed(): Promise<void>;
  /** Send no more, and close the outbox. */
  close(): void;
}

/** Keeps a stream's numbered items, each a line of JSON, until they are acknowledged. Its methods block. */
export interface Outbox {
  readonly id: string;
  readonly first: number;
  readonly next: number;
  readonly room: boolean;
  append(item: string): number;
  sync(): void;
  read(number: number, limit: number): string[];
  trim(next: number): void;
  close(): void;
}

/** An outbox that ends with the process. */
export class MemoryOutbox implements Outbox {
  constructor(options?: { limit?: number });
  readonly id: string;
  readonly first: number;
  readonly next: number;
  readonly room: boolean;
  append(item: string): number;
  sync(): void;
  read(number: number, limit: number): string[];
  trim(next: number): void;
  close(): void;
}

/** An outbox in a folder, from where items outlive the process, and with `durable` (the default) the machine's crash. */
export class FileOutbox extends MemoryOutbox {
  constructor(folder: string, options?: { limit?: number; durable?: boolean; segmentBytes?: number });
}

/** A key that says whose it is. */
export class NamedKey {
  constructor(id: string, secret: Uint8Array, bound?: { name?: string; role?: string; sole?: boolean });
  readonly id: string;
  readonly secret: Uint8Array;
  readonly name: string;
  readonly role: string;
  readonly sole: boolean;
}

/** The named keys that a side knows. */
export class Keys {
  constructor(...keys: NamedKey[]);
  add(key: NamedKey): void;
  /** End a key, and close the links that were made with it. */
  revoke(id: string): boolean;
  get(id: string): NamedKey | undefined;
}

/** Read a key's file: 64 hexadecimal digits. */
export function readKey(path: string | URL): Uint8Array;
/** Read a named key's file: its id, a colon, 64 hexadecimal digits. */
export function readNamedKey(path: string | URL, bound?: { name?: string; role?: string; sole?: boolean }): NamedKey;

/** One connection's conversation without the connection, for tests and other transports. */
export class Session {
  constructor(side: 'dialler' | 'listener', settings: SessionSettings, options: { nonce: string; now: number; address?: string });
  readonly state: 'connecting' | 'authenticating' | 'ready' | 'closing';
  readonly peer: PeerInfo | undefined;
  receive(chunk: Uint8Array, now: number): SessionEvent[];
  tick(now: number): SessionEvent[];
  nextDeadline(): number;
  dataToSend(): string;
  send(type: string, fields?: object): void;
  call(type: string, fields: object | undefined, deadline: number): number;
  callForItems(type: string, fields: object | undefined, credit: number): number;
  more(id: number, credit: number): void;
  answerItems(id: number, array: string): void;
  drop(id: number): void;
  answer(id: number, reply: unknown): void;
  refuse(id: number, code: string, message: string, data?: unknown): void;
  complain(code: string, message: string): void;
  close(code: string, reason: string, abrupt?: boolean): SessionEvent[];
}

export interface SessionSettings extends Required<Limits> {
  name: string;
  role: string;
  peerRole: string;
  incarnation: string;
  key?: Uint8Array;
  keys?: Keys;
  keysOptional?: boolean;
  accept?: (peer: PeerInfo) => string | null | undefined | false;
  messages: ReadonlySet<string>;
  answers: ReadonlySet<string>;
  streamed?: ReadonlySet<string>;
}

export type SessionEvent =
  | { event: 'ready'; peer: PeerInfo }
  | { event: 'message'; message: Record<string, any> }
  | { event: 'stream'; frame: Record<string, any>; size: number }
  | { event: 'call'; id: number; request: Record<string, any>; credit: number }
  | { event: 'items'; id: number; items: any[]; size: number }
  | { event: 'more'; id: number; credit: number }
  | { event: 'dropped'; id: number }
  | { event: 'replied'; id: number; reply: any }
  | { event: 'failed'; id: number; error: CallFailed | CallTimedOut }
  | { event: 'complaint'; code: string; message: string }
  | { event: 'refused'; message: string }
  | { event: 'closed'; code: string; reason: string; remote: boolean; abrupt: boolean };

/** The base of all errors of links and streams. */
export class LinkError extends Error {
  constructor(code: string, message: string);
  readonly code: string;
}
/** There is no link, or it has ended. What was sent may or may not have arrived. */
export class NotConnected extends LinkError {
  constructor(message: string, code?: string);
}
/** The two sides have met, and one of them refuses the other; with `failOnRefusal` only. */
export class LinkRefused extends NotConnected {}
/** There is no link, and no room for one more message that waits for the next. */
export class QueueFull extends NotConnected {}
/** There was no reply in time, or no link. */
export class CallTimedOut extends LinkError {}
/** A call was answered by an error. A handler throws it, and the caller gets it with the same fields. */
export class CallFailed extends LinkError {
  constructor(code: string, message: string, data?: unknown);
  readonly data: unknown;
}
/** This side has as many calls under way as it allows itself. */
export class TooManyCalls extends CallFailed {}
/** The receiver doesn't take a stream. With `retryAfter` (milliseconds) the sender tries again by itself. */
export class StreamFailed extends LinkError {
  constructor(code: string, message: string, retryAfter?: number);
  readonly retryAfter: number | undefined;
}
/** A receiver throws it to refuse its stream: for good, or with `retryAfter` (milliseconds) for a while. */
export class RefuseStream extends LinkError {
  constructor(code: string, message: string, retryAfter?: number);
  readonly retryAfter: number | undefined;
}
/** This side tried to send what can't be sent. */
export class LocalProtocolError extends LinkError {}
/** The peer said what the protocol doesn't have. */
export class RemoteProtocolError extends LinkError {}
/** An outbox has no room, can't be used, or is damaged. */
export class BadOutbox extends LinkError {}
/** An endpoint can't be used. */
export class BadEndpoint extends LinkError {}
/** A key, or a key file, can't be used. */
export class BadKey extends LinkError {}
/** A service lacks a handler of its interface, or has one that isn't of it. */
export class BadService extends LinkError {}
