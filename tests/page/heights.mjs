import assert from "node:assert/strict";
import { test } from "node:test";

import { Heights } from "./log/heights.js";

/** Numbers that look like chance, the same each time. */
function draws(seed) {
  return (below) => (seed = (seed * 1103515245 + 12345) % 2147483648) % below;
}

test("sums and places are those of a plain list", () => {
  const draw = draws(7);
  const heights = new Heights();
  const plain = [];
  for (let step = 0; step < 5000; step++) {
    if (plain.length < 2000 && draw(3)) {
      const height = draw(4) ? draw(500) : 0;
      heights.push(height);
      plain.push(height);
    } else if (plain.length) {
      const index = draw(plain.length), height = draw(5) ? draw(500) : 0;
      assert.equal(heights.set(index, height), plain[index] !== height);
      plain[index] = height;
    }
    const index = draw(plain.length + 1);
    const sum = plain.slice(0, index).reduce((one, other) => one + other, 0);
    assert.equal(heights.top(index), sum);
    assert.equal(heights.get(index), plain[index] ?? 0);
    const total = heights.total;
    if (!total) continue;
    const y = draw(total);
    const at = heights.at(y);
    assert.ok(heights.top(at) <= y && y < heights.top(at) + plain[at], `${y} is in ${at}`);
    const last = plain.findLastIndex((height) => height > 0);
    assert.equal(heights.at(total + draw(100)), last, "behind the end it is the last that is seen");
  }
});

test("nothing has no place, and a million blocks are no work", () => {
  const heights = new Heights();
  assert.equal(heights.total, 0);
  assert.equal(heights.at(100), 0);
  for (let index = 0; index < 1_000_000; index++) heights.push(20);
  const began = performance.now();
  for (let index = 0; index < 10_000; index++) assert.equal(heights.at(heights.top(index * 99)), index * 99);
  assert.ok(performance.now() - began < 1000);
});
