'use strict';

const { dial, Remote } = require('./lib/dial.cjs');
const errors = require('./lib/errors.cjs');
const { FileOutbox } = require('./lib/file_outbox.cjs');
const { Keys, NamedKey, readKey, readNamedKey } = require('./lib/keys.cjs');
const { Peer } = require('./lib/link.cjs');
const { listen, Listening } = require('./lib/listen.cjs');
const { MemoryOutbox } = require('./lib/outbox.cjs');
const { Stream } = require('./lib/sender.cjs');
const { Session } = require('./lib/session.cjs');

module.exports = {
  dial,
  listen,
  Remote,
  Listening,
  Peer,
  Stream,
  MemoryOutbox,
  FileOutbox,
  Keys,
  NamedKey,
  readKey,
  readNamedKey,
  Session,
  ...errors,
};
