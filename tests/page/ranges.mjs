import assert from "node:assert/strict";
import { test } from "node:test";

import { linesOf, addressOf } from "./log/address.js";
import { Ranges } from "./log/ranges.js";

test("ranges are the numbers that they are made of", () => {
  let seed = 3;
  const draw = (below) => (seed = (seed * 1103515245 + 12345) % 2147483648) % below;
  for (let round = 0; round < 300; round++) {
    const numbers = new Set();
    const pairs = Array.from({ length: draw(8) }, () => {
      const from = 1 + draw(60), to = from + draw(12) - 2;
      for (let number = from; number <= to; number++) numbers.add(number);
      return [from, to];
    });
    const ranges = new Ranges(pairs);
    const rest = ranges.rest;
    assert.equal(ranges.empty, numbers.size === 0);
    for (let number = 1; number < 80; number++) {
      assert.equal(ranges.has(number), numbers.has(number));
      assert.equal(rest.has(number), !numbers.has(number));
      const to = number + draw(20);
      const count = [...numbers].filter((each) => each >= number && each <= to).length;
      assert.equal(ranges.count(number, to), count);
      assert.equal(rest.count(number, to), to - number + 1 - count);
    }
    const list = [...ranges];
    for (let at = 1; at < list.length; at++) assert.ok(list[at - 1][1] + 1 < list[at][0], "they don't touch");
  }
  assert.equal(new Ranges([[5, Infinity]]).count(1, 10), 6);
  assert.equal(new Ranges([[5, Infinity]]).rest.has(4), true);
});

test("addresses of lines", () => {
  assert.deepEqual(linesOf("L120"), [120, 120]);
  assert.deepEqual(linesOf("L120-L140"), [120, 140]);
  assert.deepEqual(linesOf("L140-L120"), [120, 140]);
  for (const bad of ["", "L", "L0", "L01", "120", "L1-", "L1-2", "L1-L", "L1-L2-L3", "l1", "L1 ", "L-1", "L1.5", "L1234567890123456", "step"]) {
    assert.equal(linesOf(bad), null, bad);
  }
  for (const lines of [null, [7, 7], [7, 9]]) {
    const address = addressOf(7, 1, lines);
    assert.deepEqual(linesOf(address.split("/")[4] ?? ""), lines, address);
  }
});
