// The message and the counting of bench/ipc/message.py, for the programs for Node.
'use strict';

const FIRST = 1_000_000;
const TEXT_SIZE = Number(process.env.BENCH_TEXT_SIZE ?? 115);

class Tally {
  constructor(warm, count) {
    this.warm = warm;
    this.total = warm + count;
    this.received = 0;
    this.sum = 0;
  }

  took(seq) {
    this.sum += seq;
    this.received += 1;
    if (this.received === this.warm) {
      this.started = process.hrtime.bigint();
      this.cpu = cpu();
    } else if (this.received === this.total) {
      const seconds = Number(process.hrtime.bigint() - this.started) / 1e9;
      say({ received: this.received, sum: this.sum, measured: this.total - this.warm, seconds, cpu: cpu() - this.cpu });
    }
  }
}

function say(what) {
  process.stdout.write(`${JSON.stringify(what)}\n`);
}

function cpu() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

function latencies(times) {
  const ordered = Float64Array.from(times).sort();
  return { median: ordered[ordered.length >> 1], p99: ordered[Math.floor((ordered.length * 99) / 100)] };
}

module.exports = {
  FIRST,
  BATCH: Math.max(1, Math.floor((500 * 115) / Math.max(115, TEXT_SIZE))),
  BUILD: '01K9Z3N5C8V2QW7R',
  AT: 1_795_500_000_123,
  TEXT: 'npm: transformed module '.padEnd(TEXT_SIZE, 'x'),
  Tally,
  cpu,
  latencies,
  say,
};
