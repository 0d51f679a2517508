// Strangers' output for a page: lines of a terminal as text nodes and spans.
//
// As in twistedipc/terminal/escapes.py, everything that a terminal would obey is removed, but for colours and styles; so
// are characters that turn the order of letters around.
const SUSPECT = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/;
const SEQUENCE = new RegExp(
  "\\x1b\\[([0-9;:]{0,64})m" +
    "|(?:\\x1b\\[|\\x9b)[0-?]*[ -/]*[@-~]" +
    "|(?:\\x1b[\\]PX^_]|[\\x90\\x98\\x9d-\\x9f])[^\\x07\\x1b\\x90\\x98\\x9c-\\x9f\\n]*(?:\\x07|\\x1b\\\\|\\x9c)" +
    "|\\x1b[ -/]*[0-~]",
  "g",
);
const CONTROLS = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g; // all but \r

/** The style that SGR sequences have set so far. */
export class Style {
  constructor() {
    this.reset();
  }

  copy() {
    const copy = new Style();
    copy.flags = new Set(this.flags);
    copy.front = this.front;
    copy.back = this.back;
    return copy;
  }

  reset() {
    this.flags = new Set();
    this.front = this.back = null;
  }

  get plain() {
    return this.flags.size === 0 && this.front === null && this.back === null;
  }

  apply(parameters) {
    const codes = parameters.split(/[;:]/).map(Number);
    for (let i = 0; i < codes.length; i++) {
      const code = codes[i];
      if (code === 0) this.reset();
      else if (code < 10) {
        const flag = { 1: "b", 2: "d", 3: "i", 4: "u", 7: "v", 8: "h", 9: "s" }[code];
        if (flag) this.flags.add(flag);
      } else if (code === 22) {
        this.flags.delete("b");
        this.flags.delete("d");
      } else if (code > 22 && code < 30) {
        this.flags.delete({ 23: "i", 24: "u", 27: "v", 28: "h", 29: "s" }[code]);
      } else if (code < 38) this.front = code - 30;
      else if (code === 39) this.front = null;
      else if (code >= 40 && code < 48) this.back = code - 40;
      else if (code === 49) this.back = null;
      else if (code >= 90 && code < 98) this.front = code - 82;
      else if (code >= 100 && code < 108) this.back = code - 92;
      else if (code === 38 || code === 48) {
        let colour = null;
        if (codes[i + 1] === 5) {
          colour = palette(codes[i + 2]);
          i += 2;
        } else if (codes[i + 1] === 2) {
          colour = rgb(codes[i + 2], codes[i + 3], codes[i + 4]);
          i += 4;
        }
        if (code === 38) this.front = colour;
        else this.back = colour;
      }
    }
  }

  /** `text` in this style. */
  node(text) {
    if (this.plain) return document.createTextNode(text);
    const span = document.createElement("span");
    span.textContent = text;
    span.classList.add(...this.flags);
    // One of the sixteen colours is a class, so that it fits light and dark; any other is used as it is.
    if (typeof this.front === "number") span.classList.add(`f${this.front}`);
    else if (this.front) span.style.color = this.front;
    if (typeof this.back === "number") span.classList.add(`g${this.back}`);
    else if (this.back) span.style.backgroundColor = this.back;
    return span;
  }
}

const byte = (value) => Math.min(255, Math.max(0, Math.trunc(value) || 0));
const rgb = (r, g, b) => `rgb(${byte(r)} ${byte(g)} ${byte(b)})`;

/** Number `n` of a terminal's 256 colours. */
function palette(n) {
  n = byte(n);
  if (n < 16) return n;
  if (n >= 232) return rgb(8 + (n - 232) * 10, 8 + (n - 232) * 10, 8 + (n - 232) * 10);
  const level = (step) => (step ? 55 + step * 40 : 0);
  return rgb(level(Math.floor((n - 16) / 36)), level(Math.floor((n - 16) / 6) % 6), level((n - 16) % 6));
}

/** A line as nodes, clean and in its colours; `style` goes on from line to line. */
export function nodesOf(text, style) {
  if (!SUSPECT.test(text)) return text ? [style.node(text)] : [];
  const pieces = []; // texts, and between each two the sequence that sets a style (or undefined)
  let position = 0;
  for (const found of text.matchAll(SEQUENCE)) {
    pieces.push(text.slice(position, found.index).replace(CONTROLS, ""), found[1]);
    position = found.index + found[0].length;
  }
  pieces.push(text.slice(position).replace(CONTROLS, ""));
  // Of a progress line the last drawing is shown; colours that were set before stay.
  const drawn = pieces.filter((_, index) => index % 2 === 0).join("").replace(/\r+$/, "");
  const start = drawn.lastIndexOf("\r") + 1;
  const nodes = [];
  let offset = 0;
  pieces.forEach((piece, index) => {
    if (index % 2) {
      if (piece !== undefined) style.apply(piece);
      return;
    }
    const shown = piece.slice(Math.max(0, start - offset), Math.max(0, drawn.length - offset));
    if (shown) nodes.push(style.node(shown));
    offset += piece.length;
  });
  return nodes;
}

/** A name or a message on one line, without any control. */
export const clean = (text) => text.replace(SEQUENCE, "").replace(CONTROLS, "").replace(/[\r\n]+/g, " ");
