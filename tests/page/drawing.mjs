import assert from "node:assert/strict";
import { test } from "node:test";

import { runsOf } from "./log/drawing.js";

for (const piece of ["x\x1b[2K", "x\x1b[A\x1b[J\x1b[B", "\u0301", "\x1b[500G\x1b[1K"]) {
  test(`a line of ${JSON.stringify(piece)} is drawn in linear time`, () => {
    const began = performance.now();
    runsOf("\rab" + piece.repeat(50_000));
    assert.ok(performance.now() - began < 4000);
  });
}
