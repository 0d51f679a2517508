// Has publint look at packages. On standard input is one package a line, {files: [{name, data}]}; on standard output
// is a line for each, {messages: [{type, text}], more} or {failed}. Run by `linting` with the condition "browser": what
// publint has for Node would pack by itself.
import { createInterface } from "node:readline";

import { publint } from "publint";
import { formatMessage } from "publint/utils";

const MOST = 50, LONGEST = 400;

async function look({ files }) {
  const { messages, pkg } = await publint({ pack: { files }, pkgDir: "package" });
  const texts = messages.map((each) => ({ type: each.type, text: (formatMessage(each, pkg, { color: false }) ?? each.code).slice(0, LONGEST) }));
  return { messages: texts.slice(0, MOST), more: Math.max(0, texts.length - MOST) };
}

for await (const line of createInterface({ input: process.stdin })) {
  let said;
  try {
    said = await look(JSON.parse(line));
  } catch (error) {
    said = { failed: String(error?.message ?? error).slice(0, LONGEST) };
  }
  process.stdout.write(`${JSON.stringify(said)}\n`);
}
