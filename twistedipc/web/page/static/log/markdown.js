// Strangers' Markdown as elements. A part of Markdown, made of nodes and never of markup: the rest (HTML, images) stays
// text. Links lead to http: and https: alone, and open in a tab without a referrer or opener.
//
// Everything takes linear time for any input: no pattern can match one place in two ways, and nesting is bounded.

import { el } from "../lib/elements.js";
import { clean } from "./terminal.js";

const MAX_TEXT = 64 * 1024; // characters; the protocol allows half of it
const MAX_NODES = 4000; // of one text; the rest is shown as it was written
const MAX_DEPTH = 5; // lists and quotes within one another
const MAX_OPEN = 8; // emphasis within emphasis
const MAX_COLUMNS = 40;
const MAX_ADDRESS = 2000;

const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]|$)/;
const UNDERLINE = /^ {0,3}(?:=+|-+)[ \t]*$/;
const RULE = /^ {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|[0-9]{1,9}[.)])([ \t]|$)/;
const CODE = /^(?: {4}|\t)/;
const DASHES = /^:?-+:?$/;

const SPECIAL = /[\\`*_~[!<\n]|https?:\/\//g;
const LINK = /!?\[([^[\]]*)\]\(<?((?:[^\s<>()]|\([^\s<>()]*\))*)>?(?:[ \t]+"[^"]*")?\)/y;
const ADDRESS = /<(https?:\/\/[^\s<>]+)>/y;
const BARE = /https?:\/\/[^\s<>()[\]`*"']+/y;
const BACKTICKS = /`+/y;
const WORD = /[\p{L}\p{N}]/u;

/** `text` as nodes. */
export function markdown(text) {
  const lines = text.slice(0, MAX_TEXT).split(/\r\n|\r|\n/).map(clean);
  const fragment = document.createDocumentFragment();
  fragment.append(...new Writer().blocks(lines, 0));
  return fragment;
}

/** The address if it may be linked to; null if not. Not "https://known.example@other.example/", which misleads readers. */
function safe(address) {
  if (address.length > MAX_ADDRESS || !URL.canParse(address)) return null;
  const url = new URL(address);
  return ["http:", "https:"].includes(url.protocol) && !url.username && !url.password ? url.href : null;
}

const blank = (line) => line.trim() === "";
const begins = (line) => FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || ITEM.test(line);

/** The cells of a table's row. A bar in a cell is written \| */
function cellsOf(line) {
  const cells = [""];
  let row = line.trim();
  if (row.startsWith("|")) row = row.slice(1);
  if (row.endsWith("|") && !row.endsWith("\\|")) row = row.slice(0, -1);
  for (let index = 0; index < row.length; index++) {
    if (row[index] === "\\" && row[index + 1] === "|") cells[cells.length - 1] += row[++index];
    else if (row[index] !== "|") cells[cells.length - 1] += row[index];
    else if (cells.length < MAX_COLUMNS) cells.push("");
    else break;
  }
  return cells.map((cell) => cell.trim());
}

/** Whether a table begins here: a row, and below it a row of as many cells of dashes. */
function tableAt(lines, index) {
  const below = lines[index + 1];
  if (!lines[index].includes("|") || !below?.includes("-")) return false;
  const dashes = cellsOf(below);
  return dashes.every((cell) => DASHES.test(cell)) && cellsOf(lines[index]).length === dashes.length;
}

class Writer {
  #left = MAX_NODES;

  #el(name, properties, ...children) {
    this.#left -= 1;
    return el(name, properties, ...children);
  }

  /** Lines as block elements. */
  blocks(lines, depth) {
    const nodes = [];
    let index = 0;
    const take = (belongs) => {
      const from = index;
      while (index < lines.length && belongs(lines[index])) index++;
      return lines.slice(from, index);
    };
    while (index < lines.length) {
      const line = lines[index];
      if (blank(line)) {
        index++;
        continue;
      }
      if (this.#left <= 0) {
        nodes.push(el("pre", {}, lines.slice(index).join("\n")));
        break;
      }
      const fence = FENCE.exec(line);
      const heading = HEADING.exec(line);
      if (fence) {
        index++;
        const body = take((each) => !(each.trim().startsWith(fence[1]) && each.trim().replaceAll(fence[1][0], "") === ""));
        index++;
        nodes.push(this.#code(body));
      } else if (heading) {
        index++;
        const words = line.slice(heading[0].length).trim().replace(/(?:^|[ \t])#+$/, "");
        nodes.push(this.#heading(heading[1].length, words));
      } else if (RULE.test(line)) {
        index++;
        nodes.push(this.#el("hr", {}));
      } else if (QUOTE.test(line) && depth < MAX_DEPTH) {
        const body = take((each) => QUOTE.test(each)).map((each) => each.replace(QUOTE, ""));
        nodes.push(this.#el("blockquote", {}, ...this.blocks(body, depth + 1)));
      } else if (ITEM.test(line) && depth < MAX_DEPTH) {
        index = this.#list(lines, index, depth, nodes);
      } else if (CODE.test(line)) {
        nodes.push(this.#code(take((each) => CODE.test(each)).map((each) => each.replace(CODE, ""))));
      } else if (tableAt(lines, index)) {
        const [head, dashes] = [lines[index++], lines[index++]];
        nodes.push(this.#table(head, dashes, take((each) => each.includes("|"))));
      } else {
        const from = index++;
        while (index < lines.length && !blank(lines[index]) && !UNDERLINE.test(lines[index]) && !begins(lines[index]) && !tableAt(lines, index)) index++;
        const body = lines.slice(from, index).map((each) => each.trimStart()).join("\n");
        if (index < lines.length && UNDERLINE.test(lines[index])) nodes.push(this.#heading(lines[index++].includes("=") ? 1 : 2, body));
        else nodes.push(this.#el("p", {}, ...this.#inline(body)));
      }
    }
    return nodes;
  }

  #code(lines) {
    return this.#el("pre", {}, this.#el("code", {}, lines.join("\n")));
  }

  /** The level of a heading: the page has its own first heading. */
  #heading(level, text) {
    return this.#el(`h${Math.min(6, level + 1)}`, {}, ...this.#inline(text.trim()));
  }

  /** Add the list that begins at a line; return where it ends. */
  #list(lines, from, depth, nodes) {
    const kind = (marker) => (/[0-9]/.test(marker) ? marker.at(-1) : marker);
    const first = ITEM.exec(lines[from]);
    const ordered = /[0-9]/.test(first[2]);
    const start = ordered ? parseInt(first[2], 10) : 1;
    const list = this.#el(ordered ? "ol" : "ul", { start: start === 1 ? null : start });
    let index = from;
    while (index < lines.length && this.#left > 0) {
      const item = ITEM.exec(lines[index]);
      if (!item || kind(item[2]) !== kind(first[2]) || RULE.test(lines[index])) break;
      let text = lines[index].slice(item[0].length);
      const indent = item[0].length || 1;
      const task = /^\[([ xX])\] /.exec(text);
      if (task) text = `${task[1] === " " ? "☐" : "☑"} ${text.slice(4)}`;
      const body = [text];
      let loose = false, gap = false;
      for (index++; index < lines.length; index++) {
        const line = lines[index];
        if (blank(line)) {
          gap = true;
          body.push("");
          continue;
        }
        const deep = line.length - line.trimStart().length >= Math.min(indent, 2);
        if (!deep && (gap || begins(line))) break;
        if (gap) loose = true;
        gap = false;
        body.push(deep ? line.replace(/^(?:\t| +)/, (space) => (space === "\t" ? "" : space.slice(indent))) : line);
      }
      let content = this.blocks(body, depth + 1);
      // Items without a blank line in them don't become paragraphs.
      if (!loose) content = content.flatMap((node) => (node.nodeName === "P" ? [...node.childNodes] : [node]));
      list.append(this.#el("li", {}, ...content));
    }
    nodes.push(list);
    return index;
  }

  #table(head, dashes, rows) {
    const sides = cellsOf(dashes).map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "middle" : "right") : null));
    const row = (line, name) => {
      const cells = cellsOf(line);
      return this.#el("tr", {}, ...sides.map((side, column) => this.#el(name, { class: side }, ...this.#inline(cells[column] ?? ""))));
    };
    const body = this.#el("tbody", {});
    let shown = 0;
    while (shown < rows.length && this.#left > 0) body.append(row(rows[shown++], "td"));
    const table = this.#el("table", {}, this.#el("thead", {}, row(head, "th")), body);
    const frame = this.#el("div", { class: "wide-table" }, table);
    if (shown < rows.length) frame.append(el("pre", {}, rows.slice(shown).join("\n")));
    return frame;
  }

  /** Text as inline nodes. */
  #inline(text, links = true) {
    const stack = [{ mark: "", nodes: [] }]; // emphasis that is open
    const unclosed = new Set(); // lengths of backticks that nothing closes any more
    let plain = "";
    let position = 0;
    const push = (node) => {
      settle();
      stack.at(-1).nodes.push(node);
    };
    const settle = () => {
      if (!plain) return;
      this.#left -= 1;
      stack.at(-1).nodes.push(document.createTextNode(plain));
      plain = "";
    };
    /** Make the marks of emphasis that nothing closes text. */
    const flatten = () => {
      settle();
      const { mark, nodes } = stack.pop();
      plain = mark;
      settle();
      for (const node of nodes) stack.at(-1).nodes.push(node);
    };
    /** Take text up to the next special character. */
    const skip = () => {
      SPECIAL.lastIndex = position;
      const found = SPECIAL.exec(text);
      const end = found ? found.index : text.length;
      plain += text.slice(position, end);
      position = end;
      return found !== null;
    };
    const matched = (pattern) => {
      pattern.lastIndex = position;
      return pattern.exec(text);
    };
    while (this.#left > 0 && skip()) {
      const letter = text[position];
      let found;
      if (letter === "\\" && /[!-/:-@[-`{-~]/.test(text[position + 1] ?? "")) {
        plain += text[position + 1];
        position += 2;
      } else if (letter === "\n" || (letter === "\\" && text[position + 1] === "\n")) {
        const breaks = letter === "\\" || plain.endsWith("  ");
        plain = plain.trimEnd();
        if (breaks) push(this.#el("br", {}));
        plain += "\n";
        position += letter === "\\" ? 2 : 1;
      } else if (letter === "`") {
        const mark = matched(BACKTICKS)[0];
        const end = unclosed.has(mark.length) ? -1 : this.#closing(text, position + mark.length, mark.length);
        if (end < 0) {
          unclosed.add(mark.length);
          plain += mark;
          position += mark.length;
        } else {
          let code = text.slice(position + mark.length, end).replaceAll("\n", " ");
          if (code.startsWith(" ") && code.endsWith(" ") && !blank(code)) code = code.slice(1, -1);
          push(this.#el("code", {}, code));
          position = end + mark.length;
        }
      } else if ((letter === "[" || letter === "!") && links && (found = matched(LINK))) {
        // An image becomes a link: the page shows nothing from elsewhere.
        const href = safe(found[2]);
        const inner = this.#inline(found[1] || found[2], false);
        if (href) push(this.#anchor(href, inner));
        else for (const node of inner) push(node);
        position += found[0].length;
      } else if (letter === "<" && links && (found = matched(ADDRESS)) && safe(found[1])) {
        push(this.#anchor(safe(found[1]), [found[1]]));
        position += found[0].length;
      } else if (letter === "h" && links && !WORD.test(text[position - 1] ?? "") && (found = matched(BARE))) {
        const address = found[0].replace(/[.,;:!?]$/, "");
        const href = safe(address);
        if (href) push(this.#anchor(href, [address]));
        else plain += address;
        position += address.length;
      } else if (letter === "*" || letter === "_" || letter === "~") {
        position = this.#emphasis(text, position, stack, { push, flatten, settle, literal: (mark) => (plain += mark) });
      } else {
        plain += letter;
        position += 1;
      }
    }
    plain += text.slice(position);
    while (stack.length > 1) flatten();
    settle();
    return stack[0].nodes;
  }

  /** Where as many backticks as have opened code close it; -1 if nowhere. */
  #closing(text, from, length) {
    for (let at = text.indexOf("`", from); at >= 0; ) {
      BACKTICKS.lastIndex = at;
      const run = BACKTICKS.exec(text)[0].length;
      if (run === length) return at;
      at = text.indexOf("`", at + run);
    }
    return -1;
  }

  #anchor(href, children) {
    return this.#el("a", { href, rel: "noopener noreferrer nofollow", target: "_blank" }, ...children);
  }

  /** Have a run of marks close what it can, then open; the rest of it is text. Return where it ends. */
  #emphasis(text, position, stack, { push, flatten, settle, literal }) {
    const letter = text[position];
    let end = position;
    while (text[end] === letter) end++;
    const before = text[position - 1] ?? " ", after = text[end] ?? " ";
    let run = end - position;
    let closes = !/\s/.test(before), opens = !/\s/.test(after);
    if (letter === "_") {
      // Within a word it is an ordinary character.
      if (WORD.test(after)) closes = false;
      if (WORD.test(before)) opens = false;
    }
    if (letter === "~" && run !== 2) closes = opens = false;
    while (closes && run > 0) {
      const open = stack.findLastIndex(({ mark }) => mark[0] === letter && mark.length <= run);
      if (open < 1) break;
      while (stack.length - 1 > open) flatten();
      settle();
      const { mark, nodes } = stack.pop();
      push(this.#el(letter === "~" ? "del" : mark.length === 2 ? "strong" : "em", {}, ...nodes));
      run -= mark.length;
    }
    while (opens && run > 0 && stack.length <= MAX_OPEN) {
      settle();
      const length = Math.min(run, 2);
      stack.push({ mark: letter.repeat(length), nodes: [] });
      run -= length;
    }
    literal(letter.repeat(run));
    return end;
  }
}
