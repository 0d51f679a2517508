import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import { fewer, kept, PART, Pause, RowsAgain } from "./lib/rows.js";

beforeEach(() => {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout"] });
});

const settled = () => new Promise((resolve) => setImmediate(resolve));

/** A list with the rows a to e, and requests for rows that are answered by hand. */
function world() {
  const asked = [];
  const list = {
    data: { projects: [..."abcde"].map((name) => ({ name, is: "old" })) },
    put: (data) => (list.data = data),
    reloads: 0,
    reload: async () => void (list.reloads += 1),
  };
  const rows = new RowsAgain(() => list, (name) => new Promise((answer) => {
    asked.push({ name, answer: (is) => answer(is && { projects: is === "gone" ? [] : [{ name, is }] }) });
  }));
  const is = (name) => list.data.projects.find((row) => row.name === name).is;
  return { asked, list, rows, is };
}

test("what is put again and again doesn't put off the next answer", () => {
  const pause = new Pause();
  let times = 0;
  for (let second = 0; second < 90; second++) {
    pause.ensure(() => (times += 1), 30_000);
    mock.timers.tick(1_000);
  }
  assert.equal(times, 3);
  pause.begin(() => (times += 1), 30_000);
  mock.timers.tick(20_000);
  pause.begin(() => (times += 1), 30_000);
  mock.timers.tick(20_000);
  assert.equal(times, 3, "a later beginning takes its place");
  pause.stop();
  mock.timers.tick(60_000);
  assert.equal(times, 3);
});

test("an older row never replaces a newer one", async () => {
  const { asked, rows, is } = world();
  rows.changed("a");
  mock.timers.tick(500);
  assert.deepEqual(asked.map(({ name }) => name), ["a"]);
  rows.changed("a");
  rows.changed("b");
  mock.timers.tick(5_000);
  assert.equal(asked.length, 1, "one request at a time");
  asked[0].answer("newer");
  await settled();
  assert.equal(is("a"), "newer");
  mock.timers.tick(500);
  assert.deepEqual(asked.map(({ name }) => name), ["a", "a", "b"]);
  asked[1].answer("newest");
  asked[2].answer("newest");
  await settled();
  assert.deepEqual([is("a"), is("b"), is("c")], ["newest", "newest", "old"]);
});

test("rows are asked for again where the list was answered meanwhile", async () => {
  const { asked, list, rows, is } = world();
  rows.changed("a");
  mock.timers.tick(500);
  list.data = { projects: list.data.projects.map((row) => ({ ...row, is: "of the list" })) };
  asked[0].answer("older, perhaps");
  await settled();
  assert.equal(is("a"), "of the list");
  mock.timers.tick(500);
  asked[1].answer("new");
  await settled();
  assert.equal(is("a"), "new");
});

test("the whole list is asked for where rows are many, new, gone or refused", async () => {
  const { asked, list, rows } = world();
  for (const name of "abcd") rows.changed(name);
  mock.timers.tick(500);
  await settled();
  assert.deepEqual([asked.length, list.reloads], [0, 1]);
  for (const [name, answer] of [["new", "there"], ["a", "gone"], ["b", null]]) {
    const before = list.reloads;
    rows.changed(name);
    mock.timers.tick(500);
    asked.at(-1).answer(answer);
    await settled();
    assert.equal(list.reloads, before + 1, name);
  }
  rows.changed("a");
  rows.stop();
  mock.timers.tick(500);
  assert.equal(asked.length, 3);
});

test("a list that was short for a while comes part by part again", () => {
  assert.equal(fewer(500, 500), 500);
  assert.equal(fewer(500, 499), 499);
  const after = fewer(500, 7);
  assert.equal(after, PART);
  assert.equal(fewer(after, 500), PART);
});

test("rows of which nothing has changed are the objects that they were", () => {
  const before = [{ name: "a", newest: { id: 1 } }, { name: "b", newest: null }, { name: "c", newest: null }];
  const now = kept(before, [{ name: "b", newest: null }, { name: "a", newest: { id: 2 } }, { name: "d", newest: null }]);
  assert.equal(now[0], before[1]);
  assert.deepEqual(now[1], { name: "a", newest: { id: 2 } });
  assert.notEqual(now[1], before[0]);
  assert.equal(now.length, 3);
});
