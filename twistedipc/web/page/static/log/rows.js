// What is shown of a block's records: a row for each line, each heading and each remark. Pure.

import { draw, movesUp } from "./drawing.js";

/** @typedef {import("./blocks.js").Block} Block */
/** @typedef {import("./ranges.js").Ranges} Ranges */
/**
 * `number` is the row's (first) record, `last` its last one. Of a line `text` is what was printed, and `open` says that it
 * hasn't ended; of all others `event` is what it shows. `before` are lines with escape sequences that are folded away
 * between the row before and this one: a style that they set goes on. `runs` are how a line is drawn, where one of its block
 * draws on others; `redrawn` is then the record that drew over it, or 0. `level` is that of the remark that repeats a line.
 * @typedef {{ kind: "line" | "event" | "gap", number: number, last: number, text: string, event: any, open: boolean,
 *   time: number | undefined, before: string[], runs?: any[], redrawn?: number, level?: string }} Row
 */

const MAX_LINE = 256 * 1024; // characters of a row: fragments behind them are a row of their own

/** Events that are no rows: they are shown elsewhere, so that a line goes on behind them. */
const ELSEWHERE = new Set(["progress", "summary"]);
const SHOWN = new Set(["step_started", "step_ended", "notice", "annotation", "group"]);

/**
 * The rows of a block that aren't folded away. A line that began in the block before goes on in a row of its own.
 * @param {Block} block
 * @param {Ranges} folded
 * @returns {Row[]}
 */
export function rowsOf(block, folded) {
  const rows = /** @type {Row[]} */ ([]);
  let open = /** @type {Row | null} */ (null);
  let before = /** @type {string[]} */ ([]);
  const put = (/** @type {Row} */ row) => {
    const hidden = folded.empty ? 0 : folded.count(row.number, row.last);
    if (hidden < row.last - row.number + 1) {
      row.before = before;
      rows.push(row);
      before = [];
    } else if (row.text.includes("\x1b")) before.push(row.text);
  };
  const close = () => {
    if (open) put(open);
    open = null;
  };
  for (let at = 0; at < block.records.length; at++) {
    const record = block.records[at];
    const number = block.first + at;
    if (record === undefined) {
      close();
      continue;
    }
    if (typeof record === "string") {
      if (open && open.text.length + record.length > MAX_LINE) close();
      if (open) {
        open.text += record;
        open.last = number;
      } else {
        open = { kind: "line", number, last: number, text: record, event: null, open: true, time: block.timeOf(number), before };
      }
      if (!block.more.has(number)) {
        open.open = false;
        close();
      }
      continue;
    }
    if (ELSEWHERE.has(record.type)) continue;
    close();
    // In the first record of a block it has no line to be at, and a row of its own.
    if (record.type === "annotation" && record.repeats && rows.at(-1)?.kind === "line" && rows.at(-1).last === number - 1) {
      rows.at(-1).level = record.level;
      rows.at(-1).last = number; // who goes to the remark, goes to the line
      continue;
    }
    if (record.type === "gap") {
      const last = Math.min(record.to, block.first + block.records.length - 1);
      if (record.from === number) put({ kind: "gap", number, last, text: "", event: record, open: false, time: undefined, before });
    } else if (SHOWN.has(record.type) && !(record.type === "group" && !record.name)) {
      put({ kind: "event", number, last: number, text: "", event: record, open: false, time: block.timeOf(number), before });
    }
  }
  close();
  if (rows.some(({ text }) => movesUp(text))) redraw(rows);
  return rows;
}

/** Draw the lines of each step as a terminal would, in which some draw over others. @param {Row[]} rows */
function redraw(rows) {
  let style;
  let lines = /** @type {Row[]} */ ([]);
  const settle = () => {
    const done = draw(lines, { style });
    style = done.style;
    done.rows.forEach(({ runs, redrawn }, at) => Object.assign(lines[at], { runs, redrawn }));
    lines = [];
  };
  for (const row of rows) {
    if (row.kind === "line") lines.push(row);
    else if (row.kind === "event" && (row.event.type === "step_started" || row.event.type === "step_ended")) {
      settle();
      style = undefined;
    }
  }
  settle();
}

/** The position of the row that has a record, or of the last one before it; -1: there is none. @param {Row[]} rows @param {number} number */
export function rowAt(rows, number) {
  let low = 0, high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle].number <= number) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
