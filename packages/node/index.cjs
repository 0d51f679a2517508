'use strict';

const { dial, dialPlain, Remote } = require('./lib/dial.cjs');
const errors = require('./lib/errors.cjs');
const { FileOutbox } = require('./lib/file_outbox.cjs');
const { Keys, NamedKey, readKey, readNamedKey } = require('./lib/keys.cjs');
const { listen, listenPlain, Listening } = require('./lib/listen.cjs');
const { MemoryOutbox } = require('./lib/outbox.cjs');
const { Peer } = require('./lib/peer.cjs');
const { Stream } = require('./lib/sender.cjs');
const { fromSchema } = require('./lib/schema.cjs');
const { Session } = require('./lib/session.cjs');

module.exports = {
  dial,
  dialPlain,
  listen,
  listenPlain,
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
  fromSchema,
  ...errors,
};
