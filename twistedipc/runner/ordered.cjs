"use strict";
// Run before each Node program of a build that is started by the platform's `node` (node.py): `process.send()` there
// marks its place in the output. Plain CommonJS, as old as Node 12; whatever goes wrong here, the program runs as if
// this weren't there.
//
// A message is written to a connection of our own, at once and whole, and then its mark to the step's output, if that is
// this program's (order.py says what marks are for). Where it isn't (it goes to a file, or through another program), we
// wait for the platform's answer instead, if the message's place matters.
(() => {
  const variable = "TWISTEDIPC_ORDERED_FD";
  const descriptor = Number(process.env[variable]);
  delete process.env[variable];
  // What started us isn't for this program's children: `fork()` gives them these options.
  const own = process.execArgv.findIndex((word, i, all) => word === "--require" && all[i + 1] === __filename);
  if (own >= 0) process.execArgv.splice(own, 2);
  // Yarn puts a `node` of its own before all else on the PATH of what it runs, which starts process.execPath.
  const command = process.env.TWISTEDIPC_NODE;
  if (command && /(^|\/)yarn([.-][\w.-]*)?\.c?js$/.test(process.argv[1] || "") && process.execPath !== command) {
    process.env.TWISTEDIPC_REAL_NODE = process.execPath;
    process.execPath = command;
  }
  const send = process.send;
  const marks = process.env.TWISTEDIPC_MARKS;
  if (!(descriptor > 2) || typeof send !== "function" || !marks) return;

  // Nothing that the program may change later is used: tests put file systems of their own in the place of `fs`.
  const { closeSync, fstatSync, readSync, writeSync } = require("fs");
  const { from, alloc } = Buffer;
  const { stringify, parse } = JSON;
  const { nextTick } = process;
  const sleep = new Int32Array(new SharedArrayBuffer(4));
  const [token, device, inode] = marks.split(":");
  const name = `${process.pid.toString(36)}-${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 10)}`;
  const placed = new Set(["annotation", "group", "mask"]);
  const used = new Map(); // the streams of standard output and errors that the program has: by property
  let count = 0;
  let open = true;

  const output = [["stdout", 1], ["stderr", 2]].find(([, fd]) => {
    try {
      // Numbers would be kept where Node looks when it resolves the program's own file: if the last thing that was
      // asked about is a pipe, it doesn't follow a symbolic link there, and npm, which is one, isn't found.
      const found = fstatSync(fd, { bigint: true });
      return String(found.dev) === device && String(found.ino) === inode;
    } catch {
      return false;
    }
  });

  // A stream may have something to write that the pipe had no room for; it isn't made just to ask it.
  if (output) {
    const [property] = output;
    const found = Object.getOwnPropertyDescriptor(process, property);
    if (found && found.get && found.configurable) {
      Object.defineProperty(process, property, {
        ...found,
        get() {
          const stream = found.get.call(process);
          used.set(property, stream);
          return stream;
        },
      });
    }
  }

  function writeAll(fd, data) {
    for (let at = 0; at < data.length; ) {
      try {
        at += writeSync(fd, data, at, data.length - at);
      } catch (error) {
        if (error.code !== "EAGAIN") throw error;
        Atomics.wait(sleep, 0, 0, 1);
      }
    }
  }

  function writeMark(id) {
    const [property, fd] = output;
    const mark = from(`\x1b_twistedipc;${token};${id}\x1b\\`);
    const stream = used.get(property);
    if (stream && stream.writableLength > 0) stream.write(mark);
    else writeAll(fd, mark);
  }

  function waitForAnswer(id) {
    const block = alloc(4096);
    let answers = "";
    for (;;) {
      const size = readSync(descriptor, block, 0, block.length, null); // node.py has set a time limit
      if (size === 0) return;
      answers += block.toString("latin1", 0, size);
      const lines = answers.split("\n");
      answers = lines.pop();
      if (lines.some((line) => parse(line).ack === id)) return;
    }
  }

  // Whether the message has been sent.
  function sendOrdered(message) {
    const json = stringify(message);
    if (json === undefined || json.length < 3 || json[0] !== "{") return false;
    if ("ack" in message || "mark" in message) return false; // it says itself how it is to be ordered
    if (typeof message.cmd === "string" && message.cmd.startsWith("NODE_")) return false;
    const id = `${name}.${++count}`;
    const mayWait = placed.has(message.type) && json.length < 16000; // there is no answer to one that is too long
    const wish = output ? `,"mark":"${id}"` : mayWait ? `,"ack":"${id}"` : "";
    writeAll(descriptor, from(`${json.slice(0, -1)}${wish}}\n`));
    try {
      if (output) writeMark(id);
      else if (wish) waitForAnswer(id);
    } catch {
      // It is sent; only its place isn't known.
    }
    return true;
  }

  process.send = function (message, handle, options, callback) {
    if (typeof handle === "function") callback = handle;
    else if (typeof options === "function") callback = options;
    const plain = typeof message === "object" && message !== null && (handle === undefined || handle === null || handle === callback);
    if (plain && open && process.connected) {
      let sent = false;
      try {
        sent = sendOrdered(message);
      } catch (error) {
        if (!error.code || error.syscall === undefined) throw error; // it has no JSON, as Node would say too
        close();
      }
      if (sent) {
        if (typeof callback === "function") nextTick(callback, null);
        return true;
      }
    }
    if (handle && typeof handle !== "function") {
      // All that follows a handle waits until it has been taken, so all that follows goes the same way.
      close();
    }
    return send.apply(process, arguments);
  };

  function close() {
    if (open) {
      open = false;
      closeSync(descriptor);
    }
  }

  const { disconnect } = process;
  process.disconnect = function () {
    close();
    return disconnect.apply(process, arguments);
  };
})();
