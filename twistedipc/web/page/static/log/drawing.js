// What a terminal would show of a log's lines: rows of text in their styles. Pure.
//
// As in twistedipc/terminal/drawing.py, of what a terminal would obey only this is obeyed: colours and styles (SGR), \r,
// \b, tabs, moves of the cursor (up, down, right, left, next and previous line, column), erasing in a line and below it,
// and links (OSC 8). All else is dropped, and so are characters that turn the order of letters around. Here, lines are
// also drawn over earlier ones. tests/fixtures/terminal.json has cases that both files are tested with.

import { address } from "./weblinks.js";

const SUSPECT = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/;
const TEXT_END = "[^\\x07\\x1b\\x90\\x98\\x9c-\\x9f\\n]*(?:\\x07|\\x1b\\\\|\\x9c)";
// What moves the cursor, or erases: a line without it is drawn from left to right.
const MOVES = /[\r\b]|\x1b\[[0-9;]{0,16}[A-GJK]/;
const UP_OR_DOWN = /\x1b\[[0-9;]{0,16}[ABEF]/;
const SEQUENCE = new RegExp(
  "\\x1b\\[(?<sgr>[0-9;:]{0,64})m" +
    "|\\x1b\\[(?<by>[0-9;]{0,16})(?<move>[A-GJK])" +
    `|(?:\\x1b\\]|\\x9d)8;[^;\\x07\\x1b\\x90\\x98\\x9c-\\x9f\\n]{0,250};(?<link>${TEXT_END})` +
    "|(?:\\x1b\\[|\\x9b)[0-?]*[ -/]*[@-~]" +
    `|(?:\\x1b[\\]PX^_]|[\\x90\\x98\\x9d-\\x9f])${TEXT_END}` +
    "|\\x1b[ -/]*[0-~]",
  "g",
);
const CONTROLS = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g; // all but \r
const CONTROLS_BUT_BACKSPACE = new RegExp(CONTROLS.source.replace("\\x00-\\x08", "\\x00-\\x07"), "g");

/** So many rows up the cursor can reach at most, and so many columns right of what is on a row. */
export const REACH = 200;
const FAR = 500;

// The most cells that one line's moves may erase or skip, all together. What would erase more is dropped, and what would
// stand behind more that were skipped moves up to the text.
const MAX_WORK = 1_000_000;

// The most characters of a cell: one, and what is written over it.
const MAX_STACKED = 32;

// -- styles ----------------------------------------------------------------------------------------------------------

/**
 * A style, as SGR parameters by what they set. `key` has them all, in this order, as one sequence would set them.
 * @typedef {{ key: string, bold?: string, dim?: string, italic?: string, underline?: string, reverse?: string,
 *   hidden?: string, strike?: string, over?: string, front?: string, back?: string, line?: string }} Rendition
 */
const SLOTS = ["bold", "dim", "italic", "underline", "reverse", "hidden", "strike", "over", "front", "back", "line"];

/** @type {Rendition} */
export const PLAIN = Object.freeze({ key: "" });

const SETS = {
  1: ["bold", "1"], 2: ["dim", "2"], 3: ["italic", "3"], 4: ["underline", "4"], 7: ["reverse", "7"],
  8: ["hidden", "8"], 9: ["strike", "9"], 21: ["underline", "21"], 53: ["over", "53"],
};
const UNSETS = {
  22: ["bold", "dim"], 23: ["italic"], 24: ["underline"], 27: ["reverse"], 28: ["hidden"], 29: ["strike"],
  39: ["front"], 49: ["back"], 55: ["over"], 59: ["line"],
};
const UNDERLINES = { 1: "4", 2: "21", 3: "4:3", 4: "4:4", 5: "4:5" };
const EXTENDED = { 38: "front", 48: "back", 58: "line" };

const byte = (text) => Math.min(255, Number(text) || 0);

/** A colour of the forms `5, N` and `2, R, G, B`, as SGR parameters for one of `EXTENDED`. */
function extended(code, mode, values) {
  const [by, start] = code === 58 ? [":", "58:"] : [";", `${code};`];
  if (mode === 5) return `${start}5${by}${byte(values[0])}`;
  return `${start}2${by}${code === 58 ? ":" : ""}${values.slice(0, 3).map(byte).join(by)}`;
}

/** @returns {Rendition} the style that these parameters of an SGR sequence make of `style` */
export function styled(style, parameters) {
  const next = { ...style };
  const items = parameters.split(";");
  for (let i = 0; i < items.length; i++) {
    const parts = items[i].split(":");
    const code = Number(parts[0]) || 0;
    if (parts.length > 1) {
      const [, mode, ...values] = parts;
      if (code === 4) next.underline = UNDERLINES[mode] ?? undefined;
      else if (EXTENDED[code] && mode === "5" && values.length) next[EXTENDED[code]] = extended(code, 5, values);
      else if (EXTENDED[code] && mode === "2" && values.length >= 3) {
        // With four values, the first is a colour space.
        next[EXTENDED[code]] = extended(code, 2, values.length > 3 ? values.slice(1) : values);
      }
    } else if (code === 0) {
      for (const slot of SLOTS) next[slot] = undefined;
    } else if (SETS[code]) next[SETS[code][0]] = SETS[code][1];
    else if (UNSETS[code]) for (const slot of UNSETS[code]) next[slot] = undefined;
    else if ((code >= 30 && code < 38) || (code >= 90 && code < 98)) next.front = String(code);
    else if ((code >= 40 && code < 48) || (code >= 100 && code < 108)) next.back = String(code);
    else if (EXTENDED[code]) {
      const size = { 5: 1, 2: 3 }[items[i + 1]];
      if (!size || items.length < i + 2 + size) break; // what follows can't be told apart
      next[EXTENDED[code]] = extended(code, Number(items[i + 1]), items.slice(i + 2, i + 2 + size));
      i += 1 + size;
    }
  }
  next.key = SLOTS.map((slot) => next[slot]).filter(Boolean).join(";");
  return next.key ? next : PLAIN;
}

// -- cells -----------------------------------------------------------------------------------------------------------

// Characters that take two columns (Unicode's East Asian Width W and F), and those that take none.
const WIDE = new RegExp(
  "(?![\\u{1f1e6}-\\u{1f1ff}])\\p{Emoji_Presentation}|[\\u1100-\\u115f\\u2329\\u232a\\u2e80-\\u303e\\u3041-\\u4dbf" +
    "\\u4e00-\\ua4cf\\ua960-\\ua97c\\uac00-\\ud7a3\\uf900-\\ufaff\\ufe10-\\ufe19\\ufe30-\\ufe6f\\uff01-\\uff60\\uffe0-\\uffe6" +
    "\\u{16fe0}-\\u{18dff}\\u{1aff0}-\\u{1b2ff}\\u{1f200}-\\u{1f2ff}\\u{20000}-\\u{3fffd}]",
  "u",
);
const NONE = /[\p{Mn}\p{Me}\p{Cf}]/u;

/** How many columns a character takes: 0, 1 or 2. */
export function widthOf(character) {
  if (character < "\u0300") return 1;
  return NONE.test(character) ? 0 : WIDE.test(character) ? 2 : 1;
}

const HALF = { text: "", style: PLAIN, link: "" }; // the right half of a wide character
const BLANK = { text: " ", style: PLAIN, link: "" };

/** Rows of cells, on which records are drawn one after the other. */
class Screen {
  constructor(style) {
    this.rows = [{ cells: [], first: 0, last: 0, touched: false }];
    this.row = 0;
    this.column = 0;
    this.style = style;
    this.link = "";
    this.number = 0; // of the record that is drawn
    this.work = 0;
  }

  /** Draw a record. Each begins at the left of the row that the one before it has left the cursor on. */
  draw(number, text) {
    this.number = number;
    this.work = 0;
    this.column = 0;
    this.link = "";
    let position = 0;
    for (const found of text.matchAll(SEQUENCE)) {
      this.#texts(text.slice(position, found.index));
      position = found.index + found[0].length;
      const { sgr, by, move, link } = found.groups;
      if (sgr !== undefined) this.style = styled(this.style, sgr);
      else if (move !== undefined) this.#move(move, by);
      else if (link !== undefined) this.link = address(link.replace(/(?:\x07|\x1b\\|\x9c)$/, ""));
    }
    this.#texts(text.slice(position));
  }

  /** End the record's line. */
  newline() {
    this.#touch();
    this.row += 1;
    if (this.row === this.rows.length) this.rows.push({ cells: [], first: 0, last: 0, touched: false });
  }

  #touch() {
    const row = this.rows[this.row];
    if (!row.touched) row.first = this.number;
    row.touched = true;
    row.last = this.number;
    return row;
  }

  #texts(text) {
    for (const piece of text.replace(CONTROLS_BUT_BACKSPACE, "").split(/([\r\b\t])/)) {
      if (piece === "\r") this.column = 0;
      else if (piece === "\b") this.column = Math.max(0, this.column - 1);
      else if (piece === "\t") this.#right(8 - (this.column % 8));
      else if (piece) this.#put(piece);
    }
  }

  #put(text) {
    const { cells } = this.#touch();
    for (const character of text) {
      const width = widthOf(character);
      if (width === 0) {
        let at = this.column - 1;
        if (cells[at] === HALF) at -= 1;
        if (cells[at] && [...cells[at].text].length < MAX_STACKED) cells[at] = { ...cells[at], text: cells[at].text + character };
        continue;
      }
      if (cells.length < this.column) {
        if ((this.work += this.column - cells.length) > MAX_WORK) this.column = cells.length;
        while (cells.length < this.column) cells.push(BLANK);
      }
      this.#split(cells, this.column);
      this.#split(cells, this.column + width);
      cells[this.column] = { text: character, style: this.style, link: this.link };
      if (width === 2) cells[this.column + 1] = HALF;
      this.column += width;
    }
  }

  /** Of a wide character that goes over the left edge of a column nothing is left when one half is drawn over. */
  #split(cells, column) {
    if (cells[column] === HALF) cells[column - 1] = cells[column] = BLANK;
  }

  #right(by) {
    this.column = Math.min(this.column + by, Math.max(FAR, this.rows[this.row].cells.length, this.column));
  }

  #move(move, parameters) {
    const by = parameters === "" || !/^[0-9]+$/.test(parameters) ? null : Number(parameters);
    const count = Math.max(1, by ?? 1);
    if (move === "A" || move === "F") this.row = Math.max(0, this.rows.length - REACH, this.row - count);
    else if (move === "B" || move === "E") this.row = Math.min(this.rows.length - 1, this.row + count);
    else if (move === "C") this.#right(count);
    else if (move === "D") this.column = Math.max(0, this.column - count);
    else if (move === "G") {
      this.column = 0;
      this.#right(count - 1);
    } else if (move === "K") this.#erase(by ?? 0);
    else if (move === "J" && !by) this.#eraseBelow();
    if (move === "E" || move === "F") this.column = 0;
  }

  #erase(what) {
    const { cells } = this.#touch();
    if (what === 2) cells.length = 0;
    else if (what === 0) {
      this.#split(cells, this.column);
      cells.length = Math.min(cells.length, this.column);
    } else if (what === 1 && (this.work += this.column) <= MAX_WORK) {
      this.#split(cells, this.column + 1);
      cells.fill(BLANK, 0, this.column + 1);
    }
  }

  #eraseBelow() {
    this.#erase(0);
    if ((this.work += this.rows.length - this.row) > MAX_WORK) return;
    for (const row of this.rows.slice(this.row + 1)) {
      if (!row.touched) continue;
      row.cells.length = 0;
      row.last = this.number;
    }
  }
}

const isBlank = (row) => row.cells.every((cell) => cell.text === " " || cell === HALF);

function runsOfCells(cells) {
  const runs = [];
  for (const { text, style, link } of cells) {
    const last = runs.at(-1);
    if (text === "") continue;
    if (last && last.style.key === style.key && last.link === link) last.text += text;
    else runs.push({ text, style, link });
  }
  return runs;
}

/** A record that moves nothing. */
function runsOfText(text, style) {
  if (!SUSPECT.test(text)) return { runs: text ? [{ text, style, link: "" }] : [], style };
  const runs = [];
  let position = 0;
  let link = "";
  const put = (piece) => {
    const shown = piece.replace(CONTROLS, "");
    if (shown) runs.push({ text: shown, style, link });
  };
  for (const found of text.matchAll(SEQUENCE)) {
    put(text.slice(position, found.index));
    position = found.index + found[0].length;
    if (found.groups.sgr !== undefined) style = styled(style, found.groups.sgr);
    else if (found.groups.link !== undefined) link = address(found.groups.link.replace(/(?:\x07|\x1b\\|\x9c)$/, ""));
  }
  put(text.slice(position));
  return { runs, style };
}

/** A record drawn by itself. If nothing is left on the row on which it ends, it is the lowest row that has something. */
export function runsOf(text, style = PLAIN) {
  const still = text.endsWith("\r") ? text.replace(/\r+$/, "") : text;
  if (!MOVES.test(still)) return runsOfText(still, style);
  const screen = new Screen(style);
  // It may draw on rows above the one on which it begins.
  for (let i = 1; i < REACH && UP_OR_DOWN.test(still); i++) screen.newline();
  screen.draw(1, still);
  let row = screen.rows[screen.row];
  if (isBlank(row)) row = screen.rows.findLast((other) => !isBlank(other)) ?? row;
  return { runs: runsOfCells(row.cells), style: screen.style };
}

/** Whether a record may change how earlier ones are shown. */
export const movesUp = (text) => UP_OR_DOWN.test(text);

/**
 * What a terminal would show of consecutive lines of one step: one row for each record, in the same order.
 *
 * `redrawn` is 0, or the number of the record that drew over this one, so that a terminal shows nothing of it any more;
 * its `runs` are then what it drew by itself. Each row of the screen belongs to the newest record that drew on it, as
 * far as the records' order allows; or else to an earlier one.
 *
 * @param {{ number: number, text: string }[]} records
 * @param {{ style?: Rendition }} [begin] the style that an earlier call ended with
 */
export function draw(records, { style = PLAIN } = {}) {
  if (!records.some((record) => UP_OR_DOWN.test(record.text))) {
    const rows = records.map(({ number, text }) => {
      const drawn = runsOf(text, style);
      style = drawn.style;
      return { number, runs: drawn.runs, redrawn: 0 };
    });
    return { rows, style };
  }
  const screen = new Screen(style);
  const own = records.map(({ number, text }) => {
    const { runs } = runsOf(text, screen.style);
    screen.draw(number, text.replace(/\r+$/, ""));
    screen.newline();
    return { number, runs, end: screen.row - 1, redrawn: 0 };
  });
  // What is blank below the cursor isn't there. From the bottom up, each row goes to the newest record that it may.
  const shown = new Map();
  let before = Infinity;
  for (let at = screen.rows.length - 1; at >= 0; at--) {
    const row = screen.rows[at];
    if (!row.touched || (at >= screen.row && isBlank(row))) continue;
    before = row.last < before ? row.last : row.first;
    shown.set(before, row);
  }
  const rows = own.map(({ number, runs, end }) => {
    const row = shown.get(number);
    if (row) return { number, runs: runsOfCells(row.cells), redrawn: 0 };
    return { number, runs, redrawn: Math.max(screen.rows[end].last, number) };
  });
  return { rows, style: screen.style };
}

/** A name or a message on one line, without any control. */
export const clean = (text) => text.replace(SEQUENCE, "").replace(CONTROLS, "").replace(/[\r\n]+/g, " ");
