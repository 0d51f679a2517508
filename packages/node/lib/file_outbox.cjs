'use strict';
// An outbox in a folder, from where a stream's items outlive the process. The folder's form is that of the Python
// library's FileOutbox: `id`, and segments, each named by the number of its first item and `.log`. An item is a line:
// eight hexadecimal digits of the CRC-32 of its JSON, a space, the JSON.
//
// Node has no flock. So an owner has a file of its own, `owner.N`, which says who it is. To take the folder over from an
// owner that is dead is to make `owner.N+1`, which only one can. Whoever isn't the highest after that withdraws.

const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const zlib = require('node:zlib');
const { BadOutbox } = require('./errors.cjs');
const { MemoryOutbox, OUTBOX_LIMIT } = require('./outbox.cjs');

const SEGMENT_BYTES = 4 << 20;
const DIGITS = 16;
const HEAD = 9; // bytes of a line before its item

class FileOutbox extends MemoryOutbox {
  /**
   * @param {string} folder is made if need be, and belongs to one process at a time
   * @param {{ limit?: number, durable?: boolean, segmentBytes?: number }} [options] `durable`: items are forced to the
   *   disk at the end of each turn of the event loop, so that they outlive the machine's crash too
   */
  constructor(folder, { limit = OUTBOX_LIMIT, durable = true, segmentBytes = SEGMENT_BYTES } = {}) {
    super({ limit });
    this._folder = path.resolve(folder);
    this._durable = durable;
    this._segmentBytes = segmentBytes;
    /** @type {Map<number, number>} the first number of each segment, the oldest first, and its bytes */
    this._segments = new Map();
    this._bytes = 0;
    this._last = 1;
    this._file = -1; // of the last segment
    this._unsynced = false;
    fs.mkdirSync(this._folder, { recursive: true, mode: 0o700 });
    this._owner = takeOver(this._folder);
    try {
      this.id = this._identity();
      this._open();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  get room() {
    return this._bytes < this._limit;
  }

  /** @param {string} item */
  append(item) {
    if (this._file < 0) throw new BadOutbox(`${this._folder} is closed`);
    if (!this.room) throw new BadOutbox(`${this._folder} has ${this._bytes} bytes that wait to be acknowledged`, 'outbox-full');
    if (this._sizeOf(this._last) >= this._segmentBytes) this._begin(this.next);
    const bytes = Buffer.from(item, 'utf8');
    const line = Buffer.concat([Buffer.from(`${crc(bytes)} `), bytes, NEWLINE]);
    const size = this._sizeOf(this._last);
    try {
      for (let written = 0; written < line.length; ) {
        written += fs.writeSync(this._file, line, written, line.length - written, size + written);
      }
    } catch (error) {
      fs.ftruncateSync(this._file, size);
      throw error;
    }
    this._segments.set(this._last, size + line.length);
    this._bytes += line.length;
    this._unsynced = true;
    return this._keep(item); // the disk has it, so it has its number, also if it has taken the last of the room
  }

  sync() {
    if (this._unsynced && this._durable) fs.fdatasyncSync(this._file);
    this._unsynced = false;
  }

  /** @param {number} next only whole segments leave the disk */
  trim(next) {
    super.trim(next);
    if (this.first === this.next && this._sizeOf(this._last) > Math.min(this._segmentBytes, this._limit) / 4) {
      this._begin(this.next); // all is acknowledged: so is the last segment
    }
    const firsts = [...this._segments.keys()];
    for (let index = 0; index + 1 < firsts.length && firsts[index + 1] <= this.first; index++) {
      fs.rmSync(this._path(firsts[index]), { force: true });
      this._bytes -= this._sizeOf(firsts[index]);
      this._segments.delete(firsts[index]);
    }
  }

  /** What is kept stays in the folder. */
  close() {
    if (this._file >= 0) fs.closeSync(this._file);
    this._file = -1;
    if (this._owner) fs.truncateSync(this._owner);
    this._owner = '';
  }

  /** @param {number} first */
  _path(first) {
    return path.join(this._folder, `${String(first).padStart(DIGITS, '0')}.log`);
  }

  /** @param {number} first */
  _sizeOf(first) {
    return this._segments.get(first) ?? 0;
  }

  _identity() {
    const file = path.join(this._folder, 'id');
    let found = '';
    try {
      found = fs.readFileSync(file, 'latin1').trim();
    } catch (error) {
      if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ENOENT') throw error;
    }
    if (!found) {
      if (this._firsts().length) throw new BadOutbox(`${this._folder} has items, but its file \`id\` is missing`);
      found = crypto.randomBytes(16).toString('hex');
      const made = fs.openSync(path.join(this._folder, '.id'), 'w', 0o600);
      try {
        fs.writeSync(made, `${found}\n`);
        fs.fsyncSync(made); // or after the machine's crash it could be empty
      } finally {
        fs.closeSync(made);
      }
      fs.renameSync(path.join(this._folder, '.id'), file);
    }
    return found.slice(0, 64);
  }

  _firsts() {
    const names = fs.readdirSync(this._folder).filter((name) => /^\d+\.log$/.test(name));
    return names.map((name) => Number.parseInt(name, 10)).sort((a, b) => a - b);
  }

  _open() {
    const firsts = this._firsts();
    if (!firsts.length) return this._begin(1);
    this.first = this.next = firsts[0];
    for (const first of firsts) {
      if (first !== this.next) throw new BadOutbox(`${this._path(first)}: item ${this.next} is missing`);
      const isLast = first === firsts[firsts.length - 1];
      const { items, good } = read(this._path(first), first, isLast);
      for (const item of items) {
        this._items.push(item);
        this._size += Buffer.byteLength(item);
      }
      this.next += items.length;
      this._segments.set(first, good);
      this._bytes += good;
      if (isLast) {
        this._last = first;
        this._file = fs.openSync(this._path(first), 'r+');
        fs.ftruncateSync(this._file, good); // a line that was being written: its number was never given out
        if (this._durable) {
          fs.fdatasyncSync(this._file); // what the process before wrote at its end, perhaps
          this._syncFolder(); // and the files' names
        }
      }
    }
  }

  /** @param {number} first */
  _begin(first) {
    // The one before is whole on the disk before there is another: only the last may end with half a line.
    if (this._file >= 0 && this._durable) fs.fdatasyncSync(this._file);
    const file = fs.openSync(this._path(first), fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
    if (this._file >= 0) fs.closeSync(this._file);
    this._file = file;
    this._last = first;
    this._segments.set(first, 0);
    this._syncFolder();
  }

  _syncFolder() {
    const folder = fs.openSync(this._folder, 'r');
    try {
      fs.fsyncSync(folder);
    } finally {
      fs.closeSync(folder);
    }
  }
}

const NEWLINE = Buffer.from('\n');

/** @param {Buffer} bytes */
function crc(bytes) {
  // Younger than the types that this is checked with.
  return /** @type {any} */ (zlib).crc32(bytes).toString(16).padStart(8, '0');
}

/**
 * The items of a segment.
 *
 * @param {string} file
 * @param {number} first
 * @param {boolean} isLast a line may have been being written, and is left out
 */
function read(file, first, isLast) {
  const data = fs.readFileSync(file);
  /** @type {string[]} */
  const items = [];
  let good = 0;
  for (let end; (end = data.indexOf(10, good)) >= 0; good = end + 1) {
    const item = data.subarray(good + HEAD, end);
    if (data.toString('latin1', good, good + HEAD) !== `${crc(item)} `) {
      if (isLast && end === data.length - 1) break;
      throw new BadOutbox(`${file}: item ${first + items.length} is damaged`);
    }
    items.push(item.toString('utf8'));
  }
  if (!isLast && good !== data.length) throw new BadOutbox(`${file}: item ${first + items.length} is damaged`);
  return { items, good };
}

// -- who owns a folder ------------------------------------------------------------------------------------------------

/**
 * Take a folder that no living process has.
 *
 * @param {string} folder
 * @returns {string} the owner's file
 */
function takeOver(folder) {
  const taken = () => new BadOutbox(`${folder} is open already, in this process or another one`, 'outbox-taken');
  const before = highest(folder);
  if (before && isAlive(fs.readFileSync(ownerFile(folder, before), 'latin1'))) throw taken();
  const own = ownerFile(folder, before + 1);
  const made = path.join(folder, `.owner-${crypto.randomBytes(8).toString('hex')}`);
  fs.writeFileSync(made, identity(process.pid), { mode: 0o600 });
  try {
    fs.linkSync(made, own); // with its content, at once, and only if there is none
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === 'EEXIST') throw taken();
    throw error;
  } finally {
    fs.rmSync(made, { force: true });
  }
  if (highest(folder) !== before + 1) {
    fs.truncateSync(own);
    throw taken();
  }
  for (const number of owners(folder)) if (number <= before) fs.rmSync(ownerFile(folder, number), { force: true });
  return own;
}

/**
 * @param {string} folder
 * @param {number} number
 */
const ownerFile = (folder, number) => path.join(folder, `owner.${number}`);

/** @param {string} folder */
function owners(folder) {
  const names = fs.readdirSync(folder).filter((name) => /^owner\.\d+$/.test(name));
  return names.map((name) => Number(name.slice('owner.'.length)));
}

/** @param {string} folder */
const highest = (folder) => Math.max(0, ...owners(folder));

/**
 * A process, told from others that had its number before it. Without /proc, the number alone.
 *
 * @param {number} pid
 */
function identity(pid) {
  let started = '';
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
    started = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
    started += ` ${fs.readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()}`;
  } catch {
    // there is no /proc, or no such process
  }
  return `${pid} ${started}`.trim();
}

/** @param {string} owner what its file says; nothing, if it has closed the folder */
function isAlive(owner) {
  const pid = Number.parseInt(owner, 10);
  if (!(pid > 0)) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === 'ESRCH') return false;
  }
  return identity(pid) === owner.trim();
}

module.exports = { FileOutbox };
