import assert from "node:assert/strict";
import { test } from "node:test";

import { BLOCK, Blocks, blockOf, firstOf } from "./log/blocks.js";
import { Folding } from "./log/folding.js";
import { named, Outline } from "./log/outline.js";
import { Ranges } from "./log/ranges.js";
import { rowAt, rowsOf } from "./log/rows.js";

const lines = (first, records, more = [], time = 1000) => ({ type: "lines", first, time, step: 0, lines: records, more });
const shown = (blocks, index, folded = new Ranges()) => rowsOf(blocks.get(index), folded).map((row) => [row.number, row.last, row.text || row.event?.type || ""]);

test("fragments are one row; progress and a summary break none, every other event does", () => {
  const blocks = new Blocks();
  const records = ["compil", { type: "progress", value: 0.5 }, { type: "summary", markdown: "x" }, "ing", "dangl", { type: "notice", level: "info", message: "n" }, "ing", ""];
  blocks.take(lines(1, records, [0, 4]));
  assert.deepEqual(shown(blocks, 0), [[1, 4, "compiling"], [5, 5, "dangl"], [6, 6, "notice"], [7, 7, "ing"], [8, 8, ""]]);
  assert.equal(rowsOf(blocks.get(0), new Ranges())[1].open, true);
});

test("what isn't known, ends groups, or is of a newer version has no row", () => {
  const blocks = new Blocks();
  blocks.take(lines(1, ["a", { type: "group", name: "g" }, { type: "group", name: "" }, { type: "weather", sun: true }, "b"]));
  assert.deepEqual(shown(blocks, 0), [[1, 1, "a"], [2, 2, "group"], [5, 5, "b"]]);
});

test("records come in any order and more than once, and each is in its block", () => {
  const blocks = new Blocks();
  const total = 3 * BLOCK + 5;
  const all = Array.from({ length: total }, (_, index) => `line ${index + 1}`);
  blocks.take(lines(500, all.slice(499)));
  assert.equal(blocks.get(0), undefined);
  assert.equal(blocks.get(1).has(total), false);
  blocks.take(lines(1, all.slice(0, 600)));
  for (const index of [0, 1, 2, 3]) {
    assert.equal(blocks.get(index).has(total), true);
    const rows = rowsOf(blocks.get(index), new Ranges());
    assert.equal(rows[0].text, `line ${firstOf(index)}`);
    assert.equal(rows.length, Math.min(BLOCK, total - firstOf(index) + 1));
  }
  assert.equal(blocks.get(3).has(total + 1), false, "one more is missing now");
  assert.deepEqual([1, BLOCK, BLOCK + 1].map(blockOf), [0, 0, 1]);
});

test("only what is wanted is kept, also of a gap of a thousand million records", () => {
  const blocks = new Blocks();
  blocks.take(lines(1, Array(1000).fill("x")), (number) => blockOf(number) === 1);
  assert.equal(blocks.count, 1);
  blocks.take({ type: "gap", from: 300, to: 1_000_000_000, reason: "lost" });
  assert.ok(blocks.count < 6);
  assert.deepEqual(shown(blocks, 2), [[513, 768, "gap"]]);
});

test("those that weren't looked at for longest go first, and what is shown stays", () => {
  const blocks = new Blocks(2_000_000);
  for (let index = 0; index < 200; index++) {
    blocks.take(lines(firstOf(index), Array(BLOCK).fill("x".repeat(100))));
    blocks.get(0);
  }
  assert.ok(blocks.size <= 2_000_000);
  assert.ok(blocks.get(0));
  assert.equal(blocks.get(5), undefined);
  assert.ok(blocks.get(199));
  for (let index = 0; index < 30; index++) blocks.take(lines(firstOf(index), ["x".repeat(400_000)]));
  assert.equal(blocks.count, 8, "however large they are");
});

test("a row of a folded line has what its escape sequences have set", () => {
  const blocks = new Blocks();
  blocks.take(lines(1, ["a", "\x1b[31mb", "c", "d"]));
  const rows = rowsOf(blocks.get(0), new Ranges([[2, 3]]));
  assert.deepEqual(rows.map(({ number, before }) => [number, before]), [[1, []], [4, ["\x1b[31mb"]]]);
  assert.deepEqual([0, 1, 2, 3, 4, 9].map((number) => rowAt(rows, number)), [-1, 0, 0, 0, 1, 1]);
});

test("lines that draw over others are drawn as a terminal would, step by step", () => {
  const blocks = new Blocks();
  const step = (index) => ({ type: "step_started", index, name: "x", command: "" });
  blocks.take(lines(1, [step(0), "first", "1%", "\x1b[1A\x1b[2K2%", step(1), "other", "\x1b[1A\x1b[2Kdone"]));
  const rows = rowsOf(blocks.get(0), new Ranges()).filter(({ kind }) => kind === "line");
  assert.deepEqual(rows.map(({ number, redrawn, runs }) => [number, redrawn, runs.map(({ text }) => text).join("")]),
    [[2, 0, "first"], [3, 4, "1%"], [4, 0, "2%"], [6, 7, "other"], [7, 0, "done"]]);
});

test("an annotation that repeats the line before marks it", () => {
  const blocks = new Blocks();
  const remark = { type: "annotation", level: "error", message: "a.ts: no", repeats: true };
  blocks.take(lines(1, ["a.ts: no", remark, { type: "notice", level: "info", message: "x" }, remark]));
  const rows = rowsOf(blocks.get(0), new Ranges());
  assert.deepEqual(rows.map(({ number, level }) => [number, level]), [[1, "error"], [3, undefined], [4, undefined]]);
});

test("what is folded: by hand, all, what begins so, and what is new", () => {
  const outline = new Outline();
  const folding = new Folding(outline);
  outline.add(lines(1, [{ type: "step_started", index: 0, name: "s", command: "" }, { type: "group", name: "one" }, "a",
    { type: "group", name: "two", folded: true }, "b"]));
  folding.came();
  const now = () => (folding.settle([{ record: 3 }]), [...folding.ranges]);
  assert.deepEqual(now(), [[5, Infinity]]);
  folding.unfold(5);
  assert.deepEqual(now(), []);
  folding.came();
  assert.deepEqual(now(), [], "what was unfolded stays so");
  folding.toggleAll();
  assert.deepEqual(now(), [[3, 3], [5, Infinity]]);
  folding.unfold(3);
  outline.add(lines(6, [{ type: "group", name: "three" }, "c"]));
  folding.came();
  assert.deepEqual(now(), [[5, 5], [7, Infinity]]);
  assert.equal(folding.of({ type: "group" }, 6), true);
  folding.onlyHits = true;
  assert.deepEqual(now(), [[7, Infinity]], "all but the hit and 3 around it");
  assert.equal(folding.of({ type: "group" }, 6), null);
});

test("times are those of the batch", () => {
  const blocks = new Blocks();
  blocks.take(lines(3, ["c"], [], 30));
  blocks.take(lines(1, ["a", "b"], [], 10));
  assert.deepEqual(rowsOf(blocks.get(0), new Ranges()).map(({ time }) => time), [10, 10, 30]);
});

test("an outline is the same from the server and from what has come", () => {
  const events = [
    { type: "step_started", index: 0, name: "install", command: "npm ci" }, "x", { type: "step_ended", index: 0, outcome: "succeeded", milliseconds: 5, exit_code: 0 },
    { type: "step_started", index: 1, name: "build", command: "" }, { type: "group", name: "one" }, "y", { type: "group", name: "two" }, "z",
    { type: "annotation", level: "error", message: "no" }, { type: "group", name: "" }, "w", { type: "step_ended", index: 1, outcome: "failed", milliseconds: 5, exit_code: 1 },
  ];
  const live = new Outline();
  assert.equal(live.add(lines(1, events, [], 2000)), true);
  assert.equal(live.add(lines(13, ["x"])), false);
  const told = new Outline();
  told.begin({
    records: 12,
    steps: [{ index: 0, name: "install", outcome: "succeeded", exit_code: 0, started: "1970-01-01T00:00:01.995Z", ended: "1970-01-01T00:00:02Z", first: 1, last: 3 },
      { index: 1, name: "build", outcome: "failed", exit_code: 1, started: "1970-01-01T00:00:01.995Z", ended: "1970-01-01T00:00:02Z", first: 4, last: 12 }],
    groups: [{ record: 5, step: 1, name: "one" }, { record: 7, step: 1, name: "two" }, { record: 10, step: 1, name: "" }],
    errors: [{ record: 9, what: "annotation", message: "no" }, { record: 12, what: "step", message: "" }],
  });
  assert.equal(told.add(lines(1, events, [], 2000)), false, "it is known already");
  for (const outline of [live, told]) {
    assert.deepEqual(outline.errors, [9, 12]);
    assert.deepEqual(outline.told.map(({ record, message }) => [record, message]), [[9, "no"], [12, ""]]);
    assert.equal(outline.failed.name, "build");
    assert.equal(outline.cause, 9);
    assert.deepEqual([5, 7, 10, 6].map((record) => outline.groupRange(record)), [[6, 6], [8, 9], null, null]);
    assert.deepEqual([...outline.folded(new Set([0]), new Set([7]))], [[2, 3], [8, 9]]);
    assert.deepEqual(outline.stepRange(outline.steps.get(1)), [5, 12]);
  }
});

test("a remark that repeats the line before it has no row, and marks that line", () => {
  const blocks = new Blocks();
  const remark = { type: "annotation", level: "error", message: "TS1: no", file: "a.ts", line: 1, repeats: true };
  blocks.take(lines(1, ["ok", "a.ts(1,2): error TS1: no", remark, "b", { ...remark, repeats: undefined }]));
  assert.deepEqual(shown(blocks, 0), [[1, 1, "ok"], [2, 3, "a.ts(1,2): error TS1: no"], [4, 4, "b"], [5, 5, "annotation"]]);
  const rows = rowsOf(blocks.get(0), new Ranges());
  assert.deepEqual(rows.map(({ level }) => level), [undefined, "error", undefined, undefined]);
  assert.equal(rowAt(rows, 3), 1, "a link to the remark leads to the line");
});

test("the card of a failure names no error twice", () => {
  const told = [{ record: 62, what: "annotation", message: "TS2322: no" }, { record: 64, what: "annotation", message: "TS2304: no" },
    { record: 65, what: "notice", message: "the heap is exhausted" }, { record: 66, what: "step", message: "" }];
  const error = { record: 61, text: "src/cart.ts(3,29): error TS2322: no" };
  assert.deepEqual(named(told, error).map(({ record }) => record), [61, 65]);
  assert.deepEqual(named(told, { record: 65, text: "the heap is exhausted" }).map(({ record }) => record), [65]);
  assert.deepEqual(named(told, null).map(({ record, text }) => [record, text]), [[62, "TS2322: no"], [64, "TS2304: no"], [65, "the heap is exhausted"]]);
});
