// A builder, written from docs/protocol.md, on the link of packages/node. README.md says how it is run.
import * as fs from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { CallFailed, Keys, dial, listen, readKey, readNamedKey } from "../../packages/node/index.mjs";
import { Attempt, key, shared } from "./attempt.mjs";

const KNOWN = new Set("root install build output annotate watch submodules lfs egress caches".split(" "));
const NEEDED = {
  offer: { attempt: "string", lease: "string", build: "number", project: "string",
           repository: "string", ref: "string" },
  go: { attempt: "string", lease: "string" },
  stop: { attempt: "string", lease: "string" },
  cancel: { attempt: "string", lease: "string", reason: "string" },
  ack: { attempt: "string", next: "number" },
  resend: { attempt: "string", next: "number" },
  final_ack: { attempt: "string", lease: "string" },
};

const names = ["dial", "listen", "key", "name", "data", "slots"];
const { values: options } = parseArgs({ options: Object.fromEntries(names.map((name) => [name, { type: "string" }])) });
const slots = Number(options.slots ?? 1);
const { attempts } = shared;
shared.data = options.data;

function whyNot(offer) {
  const other = (offer.targets ?? []).find((target) => target.type !== "static");
  const unknown = Object.keys(offer.settings ?? {}).find((name) => !KNOWN.has(name));
  if (other) return `this builder doesn't publish to ${other.type}`;
  if (unknown) return `this builder doesn't know the setting ${unknown}`;
  if ([...attempts.values()].some((each) => each.offer.attempt === offer.attempt)) return "it is held already";
  if ([...attempts.values()].filter((each) => !each.result).length >= slots) return "all slots are taken";
  if (!/^[0-9]+-[0-9]+$/.test(offer.attempt) || !/^[0-9a-f]{16,64}$/.test(offer.lease)) return "its name isn't one";
  return "";
}

function offered(to, offer) {
  let reason = whyNot(offer);
  const attempt = new Attempt(offer);
  try {
    if (!reason) {
      fs.mkdirSync(attempt.folder, { recursive: true });
      attempt.keep("offer.json", JSON.stringify(offer));
    }
  } catch (error) {
    reason = error.message;
  }
  if (reason) return to.send("decline", { ...attempt.about, reason });
  attempts.set(key(offer), attempt);
  attempt.from(1);
  to.send("accept", attempt.about);
}

const held = (frame) => attempts.get(key(frame));
const named = ({ attempt }) => [...attempts.values()].find((each) => each.offer.attempt === attempt && each.synced);
const OBEYED = {
  offer: (frame, to) => offered(to, frame),
  go: (frame) => held(frame)?.run(),
  stop: (frame) => held(frame)?.forget(),
  cancel: (frame) => held(frame)?.stop("cancelled", frame.reason),
  ack: (frame) => named(frame)?.acknowledged(frame.next),
  resend: (frame) => named(frame)?.from(frame.next),
  final_ack: (frame) => held(frame)?.forget(),
};

/** The handlers of the apiserver's messages, which look at the fields first. Nothing of theirs is waited for. */
const handlers = Object.fromEntries(Object.entries(NEEDED).map(([type, needed]) => [type, (frame, to) => {
  const wrong = Object.entries(needed).find(([name, kind]) => typeof frame[name] !== kind);
  if (wrong) throw new CallFailed("bad-message", `${wrong[0]} is no ${wrong[1]}`);
  OBEYED[type](frame, to);
}]));

async function linked(to) {
  for (const attempt of attempts.values()) attempt.synced = false;
  const list = [...attempts.values()].map((each) => ({ ...each.about, phase: each.phase, next: each.count + 1 }));
  try {
    const about = { version: "builder_in_node", isolation: null, features: ["caches", "settings"] };
    const said = await to.call("sync", { slots, attempts: list, ...about });
    shared.link?.close("superseded", "the same peer has linked again");
    Object.assign(shared, { link: to, credit: said.credit, uploads: said.uploads });
    for (const { attempt, lease, order, next = 1, cancel = "" } of said.orders) {
      const one = attempts.get(key({ attempt, lease }));
      if (!one) continue;
      if (order === "stop" || order === "forget") one.forget();
      else {
        one.from(next);
        if (cancel) one.stop("cancelled", cancel);
        else if (order === "go") one.run();
      }
    }
    console.error(`synced with ${to.info.name}`);
  } catch (error) {
    to.close("sync_failed", error.message);
  }
}

fs.mkdirSync(options.data, { recursive: true });
for (const name of fs.readdirSync(options.data)) {
  const attempt = Attempt.restored(path.join(options.data, name));
  attempts.set(key(attempt.about), attempt);
}
const service = {
  handlers,
  peerReady: linked,
  peerLost: (peer, why) => {
    console.error(`the link is lost: ${why}`);
    if (shared.link !== peer) return;
    shared.link = null;
    for (const attempt of attempts.values()) attempt.synced = false;
  },
};
const orders = { name: "builder", calls: [], messages: Object.keys(NEEDED) };
const own = { role: "builder", peerRole: "apiserver", name: options.name ?? "node" };
if (options.key) {
  if (fs.readFileSync(options.key, "latin1").includes(":")) own.keys = new Keys(readNamedKey(options.key));
  else own.key = readKey(options.key);
}
const end = options.dial
  ? dial(options.dial, "apiserver", { ...own, service: { ...service, interface: orders } })
  : await listen(options.listen, orders, service, own);
end.on("fault", (error, what) => console.error(`${what}: ${error.message}`));
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => {
    end.close();
    for (const attempt of attempts.values()) attempt.kill("SIGKILL");
    setTimeout(() => process.exit(0), 100);
  });
}
