'use strict';
// A place for a test's listeners and diallers, which are closed at its end.

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { dial, dialPlain, listen, listenPlain } = require('../index.cjs');

function place(t) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'twistedipc-'));
  const made = [];
  t.after(async () => {
    await Promise.all(made.map((each) => each.close()));
    fs.rmSync(folder, { recursive: true });
  });
  const endpoint = `unix:${folder}/socket`;
  const keep = (each) => {
    each.on('fault', () => {});
    made.push(each);
    return each;
  };
  return {
    folder,
    endpoint,
    listen: async (service, options, described = 'calc') => keep(await listen(endpoint, described, service, options)),
    dial: (options, described = 'calc') => keep(dial(endpoint, described, { random: () => 0.01, ...options })),
    listenPlain: async (service, options, described = 'calc') => keep(await listenPlain(endpoint, described, service, options)),
    dialPlain: (options, described = 'calc') => keep(dialPlain(endpoint, described, { random: () => 0.01, ...options })),
  };
}

module.exports = { place };
