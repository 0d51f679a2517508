// One end of a link: docs/protocol.md, "The link". It dials or listens, and makes the link again when it is lost.
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { EventEmitter } from "node:events";
import { readFileSync, rmSync } from "node:fs";
import net from "node:net";

const LIMIT = 1024 * 1024; // of a line on a ready link
const FIRST = 4096; // of a line before that
const DEADLINE = 10_000;
const INCARNATION = randomBytes(8).toString("hex");
const LONE = /(?<!\\)(?:\\\\)*\\ud[89a-f]/; // what JSON.stringify makes of half a surrogate pair

/** A shared key (64 digits) or a named one (ID:DIGITS) from its file; null without a file. */
export function readKey(path) {
  if (!path) return null;
  const [, id, digits] = /^(?:([A-Za-z0-9._-]{1,64}):)?([0-9a-fA-F]{64})\s*$/.exec(readFileSync(path, "latin1"));
  return { id, secret: Buffer.from(digits, "hex") };
}

function mac(key, fields) {
  const hmac = createHmac("sha256", key.secret);
  for (const field of fields) {
    const bytes = Buffer.from(String(field));
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    hmac.update(length).update(bytes);
  }
  return hmac.digest("hex");
}

const equal = (a, b) => a.length === b?.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));

export class CallFailed extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** One connection. Emits `ready`, `message` (a frame), `call` (id, request) and `lost` (why). */
class Link extends EventEmitter {
  constructor(socket, own, dials) {
    super();
    Object.assign(this, { socket, own, dials, ready: false, ended: "", rest: [], size: 0, most: FIRST });
    Object.assign(this, { calls: new Map(), number: 0, silent: 0, heartbeat: 0 });
    this.deadline = setTimeout(() => this.close("handshake-timeout", "not ready within 10 seconds"), DEADLINE);
    socket.on("data", (data) => this.received(data));
    socket.on("error", (error) => (this.ended ||= error.message));
    socket.on("close", () => this.over());
    if (!dials) {
      this.challenge = { type: "challenge", versions: [1], role: own.role, name: own.name, nonce: nonce() };
      Object.assign(this.challenge, { frame_limit: LIMIT, ...(own.key?.id ? { keys: true } : {}) });
      this.write(this.challenge);
    }
  }

  write(frame) {
    if (!this.ended) this.socket.write(JSON.stringify(frame) + "\n");
  }

  send(frame) {
    if (!this.ready || this.ended) return false;
    this.write(frame);
    return true;
  }

  call(request) {
    return new Promise((resolve, reject) => {
      const id = ++this.number;
      this.calls.set(id, { resolve, reject });
      if (!this.send({ type: "call", id, request })) reject(new CallFailed("gone", "the link is lost"));
    });
  }

  close(code, reason) {
    if (this.ended) return;
    this.write({ type: "bye", code, reason });
    this.ended = `${code}: ${reason}`;
    this.socket.end();
    setTimeout(() => this.socket.destroy(), 1000).unref();
  }

  over() {
    clearTimeout(this.deadline);
    clearInterval(this.timer);
    this.ended ||= "the connection was closed";
    for (const { reject } of this.calls.values()) reject(new CallFailed("gone", this.ended));
    this.emit("lost", this.ended, this.ready);
  }

  received(data) {
    this.silent = 0;
    let end;
    while (!this.ended && (end = data.indexOf(10)) >= 0) {
      const line = Buffer.concat([...this.rest, data.subarray(0, end)]);
      [this.rest, this.size, data] = [[], 0, data.subarray(end + 1)];
      if (line.length > this.most) return this.close("frame-too-long", `a line of more than ${this.most} bytes`);
      this.line(line);
    }
    this.rest.push(data);
    this.size += data.length;
    if (this.size > this.most) this.close("frame-too-long", `a line of more than ${this.most} bytes`);
  }

  line(line) {
    const bad = this.ready ? "bad-message" : "bad-handshake";
    let frame;
    try {
      if (!this.ready && line[0] !== 0x7b) throw new Error("a line that doesn't begin with {");
      frame = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(line));
      if (typeof frame !== "object" || typeof frame?.type !== "string") throw new Error("no object with a type");
      if (line.includes("\\u") && LONE.test(JSON.stringify(frame))) throw new Error("a lone surrogate");
    } catch (error) {
      return this.close(bad, error.message.slice(0, 200));
    }
    if (frame.type === "bye") {
      this.ended = `it said ${frame.code}: ${frame.reason}`;
      return this.socket.end();
    }
    if (this.ready) return this.frame(frame);
    try {
      const wanted = this.dials ? (this.hello ? "welcome" : "challenge") : "hello";
      if (frame.type !== wanted) throw new CallFailed(bad, `${wanted} is expected, and this is ${frame.type}`);
      this[`take_${wanted}`](frame);
    } catch (error) {
      this.close(error.code ?? bad, error.message);
    }
  }

  // -- the handshake

  take_challenge(challenge) {
    const { own } = this;
    if (!challenge.versions.includes(1)) throw new CallFailed("version", "only version 1 is spoken here");
    this.checkRole(challenge);
    this.challenge = challenge;
    const hello = { type: "hello", version: 1, role: own.role, name: own.name, incarnation: INCARNATION };
    hello.nonce = nonce();
    if (challenge.frame_limit) hello.frame_limit = LIMIT;
    const named = own.key?.id && challenge.keys;
    if (named) hello.keys = [{ id: own.key.id }];
    this.fields = this.agreed(hello);
    if (named) hello.keys[0].mac = mac(own.key, ["twistedipc link hello", ...this.fields]);
    hello.mac = own.key && !own.key.id ? mac(own.key, ["twistedipc link hello", ...this.fields]) : "";
    this.hello = hello;
    this.write(hello);
  }

  take_welcome(welcome) {
    const { key } = this.own;
    const fields = ["twistedipc link welcome", ...this.fields, welcome.incarnation, welcome.heartbeat];
    if (welcome.key !== undefined) fields.push(`key ${welcome.key}`);
    if (welcome.key !== (key?.id && this.challenge.keys ? key.id : undefined)) throw unauthorized();
    if (!equal(key ? mac(key, fields) : "", welcome.mac)) throw unauthorized();
    this.begin(this.challenge, welcome.heartbeat);
  }

  take_hello(hello) {
    const { key } = this.own;
    if (hello.version !== 1) throw new CallFailed("version", "only version 1 is spoken here");
    this.fields = this.agreed(hello);
    const right = key ? mac(key, ["twistedipc link hello", ...this.fields]) : "";
    const given = key?.id ? hello.keys?.find((each) => each.id === key.id)?.mac : hello.mac;
    if (!equal(right, given)) throw unauthorized();
    this.checkRole(hello);
    const welcome = { type: "welcome", incarnation: INCARNATION, heartbeat: 8000 };
    const fields = ["twistedipc link welcome", ...this.fields, INCARNATION, 8000];
    if (key?.id) fields.push(`key ${(welcome.key = key.id)}`);
    this.write({ ...welcome, mac: key ? mac(key, fields) : "" });
    this.begin(hello, 8000);
  }

  /** The fields of both codes that follow the label. */
  agreed(hello) {
    const { versions, role, name, nonce, frame_limit } = this.challenge;
    const fields = [versions.join(","), role, name, nonce, hello.version, hello.role, hello.name, hello.incarnation];
    fields.push(hello.nonce);
    if (hello.frame_limit !== undefined) fields.push(frame_limit, hello.frame_limit);
    if (hello.keys !== undefined) fields.push(`keys ${hello.keys.map((each) => each.id).join(",")}`);
    return fields;
  }

  checkRole({ role }) {
    if (role !== this.own.peer) throw new CallFailed("refused", `a link to ${this.own.peer} is wanted, not to ${role}`);
  }

  begin(peer, heartbeat) {
    clearTimeout(this.deadline);
    Object.assign(this, { ready: true, most: LIMIT, peer: peer.name, heartbeat });
    this.timer = setInterval(() => {
      this.silent += 1;
      if (this.silent > 3) this.close("silent", "nothing was received for three heartbeats");
      else this.write({ type: "ping" });
    }, heartbeat);
    this.emit("ready");
  }

  // -- when it is ready

  frame(frame) {
    const { type, id } = frame;
    if (["call", "reply", "drop"].includes(type) && !(Number.isSafeInteger(id) && id > 0)) {
      return this.close("bad-message", `${type}: its id is no number`);
    }
    if (type === "ping") this.write({ type: "pong" });
    else if (type === "reply" || (type === "error" && id !== undefined)) {
      const waiting = this.calls.get(id);
      if (!waiting) return this.close("bad-message", `an answer to a call that was never made: ${id}`);
      this.calls.delete(id);
      if (type === "reply") waiting.resolve(frame.reply);
      else waiting.reject(new CallFailed(String(frame.code), String(frame.message)));
    } else if (type === "call") {
      const request = frame.request;
      if (typeof request?.type !== "string") this.write({ type: "error", id, code: "bad-request", message: "no request" });
      else this.write({ type: "error", id, code: "unknown-type", message: `${request.type} isn't answered here` });
    } else if (["hello", "challenge", "welcome"].includes(type)) {
      this.close("bad-message", `a second ${type}`);
    } else if (type === "error") console.error(`told: ${frame.code}: ${frame.message}`);
    else if (!["pong", "drop"].includes(type)) this.emit("message", frame);
  }

  complain(code, message) {
    this.write({ type: "error", code, message });
  }
}

const nonce = () => randomBytes(32).toString("hex");
const unauthorized = () => new CallFailed("unauthorized", "authentication failed: do both sides have the same key?");

/** `unix:PATH` or `tcp:HOST:PORT`, as net has it. */
function place(address) {
  const [kind, ...rest] = address.split(":");
  return kind === "unix" ? { path: rest.join(":") } : { host: rest[0], port: Number(rest[1]) };
}

/** Dial for ever: after a random part of 0.5 s, 1 s, 2 s … 30 s (2 s on a UNIX socket). */
export function dial(address, own, use) {
  const where = place(address);
  let [delay, since, stopped, timer, link] = [500, 0, false];
  const again = (why) => {
    if (stopped) return;
    if (since && Date.now() - since > 5000) delay = 500;
    console.error(`${address}: ${why}`);
    timer = setTimeout(connect, Math.random() * delay);
    delay = Math.min(delay * 2, where.path ? 2000 : 30_000);
  };
  const connect = () => {
    since = 0;
    link = new Link(net.connect(where), own, true);
    link.on("ready", () => (since = Date.now()));
    link.on("lost", again);
    use(link);
  };
  connect();
  return () => {
    stopped = true;
    clearTimeout(timer);
    link.close("closed", "the builder ends");
  };
}

/** Listen; the newest link counts. */
export function listen(address, own, use) {
  const links = new Set();
  const server = net.createServer((socket) => {
    const link = new Link(socket, own, false);
    links.add(link);
    link.on("lost", (why) => links.delete(link) && console.error(`${address}: ${why}`));
    use(link);
  });
  const where = place(address);
  if (where.path) rmSync(where.path, { force: true });
  const before = process.umask(0o177);
  server.listen(where, () => process.umask(before));
  return () => {
    server.close();
    for (const link of links) link.close("closed", "the builder ends");
  };
}
