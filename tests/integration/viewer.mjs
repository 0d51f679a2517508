// A viewer in Node, written from docs/protocol.md alone: it reads a live log by the `ws` package, breaks off after every
// `BREAK` records, resumes by `after`, and prints what it has seen and its own digest as JSON.
import { createHash } from "node:crypto";
import { createRequire } from "node:module";

const require = createRequire(process.env.MODULES + "/");
const WebSocket = require("ws");
const { URL_BASE, TOKEN, BUILD, COMPRESS } = process.env;
const breakAfter = Number(process.env.BREAK);

const numbers = [];
const lines = [];
const digest = createHash("sha256");
let connections = 0;

function connect() {
  connections += 1;
  let seen = 0;
  const after = numbers.length;
  const socket = new WebSocket(`${URL_BASE}/api/v1/builds/${BUILD}/log/stream?after=${after}&compress=${COMPRESS}`, {
    headers: { Authorization: `Bearer ${TOKEN}` },
  });
  socket.on("message", (data) => {
    if (seen >= breakAfter) return; // broken off: what still comes is not read
    const message = JSON.parse(data);
    if (message.type === "lines") {
      message.lines.forEach((record, index) => {
        if (seen >= breakAfter) return;
        seen += 1;
        numbers.push(message.first + index);
        digest.update((typeof record === "string" ? record : JSON.stringify(record)) + "\n");
        if (typeof record === "string") lines.push(record);
      });
      if (seen >= breakAfter) socket.terminate();
    } else if (message.type === "end") {
      const seen = JSON.stringify({ numbers, lines, connections, sha256: digest.digest("hex"), end: message });
      process.stdout.write(seen, () => process.exit(0));
    }
  });
  socket.on("close", () => setTimeout(connect, 10));
  socket.on("error", () => {});
}

connect();
