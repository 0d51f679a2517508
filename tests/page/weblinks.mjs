import assert from "node:assert/strict";
import { test } from "node:test";

import { address, withAddresses } from "./log/weblinks.js";

const linked = (text) => withAddresses([{ text, style: null, link: "" }]).filter((run) => run.link).map((run) => run.text);

test("an address ends before what belongs to the sentence", () => {
  assert.deepEqual(linked("(see http://a.example/b)."), ["http://a.example/b"]);
  assert.deepEqual(linked("http://a.example/b_(c) [http://a.example/[d]]"), ["http://a.example/b_(c)", "http://a.example/[d]"]);
  assert.deepEqual(linked("((http://a.example/)))...]"), ["http://a.example/"]);
  assert.deepEqual(linked("http://a.example/(])"), ["http://a.example/(])"]);
});

test("only addresses of the web are any", () => {
  for (const other of ["javascript:alert(1)", "JAVASCRIPT://a.example/%0Aalert(1)", "data:text/html,x", "file:///etc/passwd", " http://a.example", "http:a.example"]) {
    assert.equal(address(other), "");
  }
  assert.deepEqual(linked("javascript:alert(1)//http://"), []);
});

test("closing brackets without number take linear time", () => {
  const began = performance.now();
  withAddresses([{ text: "http://a.example/" + ")]".repeat(100_000), style: null, link: "" }]);
  assert.ok(performance.now() - began < 1000);
});
