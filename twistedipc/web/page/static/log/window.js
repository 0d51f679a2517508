// A window on rows in blocks, of any number: only the blocks near what is seen are elements.
//
// A block's place is its top, by the heights of all before it (`Heights`), which are guesses for those that nobody has
// looked at. What stands still when one of them turns out to be higher is the row at the top: the anchor. An element can't
// be higher than some ten million pixels, so a longer log is scrolled in a shorter space: small movements are the same in
// both, and large ones go in proportion.
//
// Where the end is followed, lines may come faster than anybody reads. Then those that are out of view by the next frame
// never become elements: the rows at a block's beginning are left out, and made once somebody scrolls there.

import { BLOCK, blockOf, firstOf } from "./blocks.js";
import { Heights } from "./heights.js";
import { rowAt } from "./rows.js";

/** @typedef {import("./rows.js").Row} Row */

const MAX_SPACE = 8_000_000; // pixels
const MAX_MOUNTED = 24; // blocks that are elements; a log that has no more than these is there as a whole
const FAR = 4000; // pixels at once that no wheel scrolls, but a bar
const SETTLE = 200; // milliseconds after the last movement
const FILL_BUDGET = 8; // milliseconds at a time for what isn't seen
const NEAR_END = 3; // rows from the end that count as the end

/** Shows what `source` has; tells what it lacks. */
export class LogWindow {
  #source;
  #heights = new Heights();
  /**
   * `skipped`: so many of its first rows are no elements.
   * @type {Map<number, { element: HTMLElement, version: string, rows: Row[], drawn: string[], styles: any[], waiting: boolean, skipped: number }>}
   */
  #mounted = new Map();
  #space = document.createElement("div");
  #top = 0; // the row space's pixel at the top of the window
  #shift = 0; // what is between a place in the row space and its element's
  #scrolled = 0; // as the browser has it
  /** What stands still: this row, so far from the top, or in the middle. @type {{ number: number, offset: number | "middle" }} */
  #anchor = { number: 1, offset: 0 };
  #frame = 0;
  #timer = 0;
  #line = 20;
  #wrap = false;
  #idle = 0;
  #stopped = false;
  #client = 0; // the element's height; 0: it isn't known

  /**
   * @param {{ total: () => number, version: (block: number) => string, rows: (block: number) => Row[] | null,
   *   visible: (from: number, to: number) => number, style: () => any, draw: (row: Row, style: any) => HTMLElement,
   *   pass: (row: Row, style: any) => void, want: (blocks: number[]) => void,
   *   moved: () => void }} source
   *   `rows(block)`: null while they aren't here; `version(block)`: changes when they do; `visible(from, to)`: how many of
   *   these records aren't folded away; `want(blocks)`: these are seen, and aren't here; `style()`: with what a block
   *   begins, and which `draw` changes from row to row, as `pass` does without an element
   */
  constructor(source) {
    this.#source = source;
    this.#space.className = "space";
    this.element = document.createElement("div");
    this.element.className = "log";
    this.element.tabIndex = 0;
    this.element.setAttribute("role", "region");
    this.element.setAttribute("aria-label", "Log");
    this.element.append(this.#space);
    this.element.addEventListener("scroll", () => this.#onScroll(), { passive: true });
    this.#resized = new ResizeObserver(() => this.#onResize());
    this.#resized.observe(this.element);
    /** Whether the end stays in view as it grows. */
    this.following = true;
  }

  #resized;

  /** How much is seen. The browser isn't asked: behind rows that were just made, it would have to lay them out first. */
  get #height() {
    return (this.#client ||= this.element.clientHeight);
  }

  stop() {
    this.#stopped = true;
    this.#resized.disconnect();
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#timer);
    clearTimeout(this.#idle);
  }

  get wrap() {
    return this.#wrap;
  }

  set wrap(on) {
    this.#wrap = on;
    this.element.classList.toggle("wrapped", on);
    this.redraw();
  }

  /** The record at the top of the window, and the one at its bottom. */
  get seen() {
    const height = this.#height;
    return { first: this.#numberAt(this.#top), last: this.#numberAt(this.#top + Math.max(0, height - 1)) };
  }

  /** Where a record is, as a share of all that is seen of the log. @param {number} number */
  shareOf(number) {
    const total = Math.max(this.#heights.total, this.#height);
    return total ? Math.min(1, this.#topOf(number) / total) : 0;
  }

  /** Where the window is, likewise. */
  get share() {
    const total = Math.max(this.#heights.total, this.#height);
    return total ? { top: this.#top / total, height: this.#height / total } : { top: 0, height: 1 };
  }

  /** Records have come, or others are folded: show it with the next frame. */
  update() {
    if (this.#frame || this.#stopped) return;
    const work = () => {
      this.#frame = 0;
      this.#update();
    };
    // A hidden tab has no frames, and nobody looks at it.
    if (document.hidden) this.#frame = -1, setTimeout(work, 250);
    else this.#frame = requestAnimationFrame(work);
  }

  /** Draw all rows again: they look otherwise now. */
  redraw() {
    for (const index of [...this.#mounted.keys()]) this.#unmount(index);
    this.refold();
  }

  /** Other records are folded away: all heights are guessed again. */
  refold() {
    for (let index = 0; index < this.#heights.length; index++) this.#heights.set(index, this.#guess(index));
    this.update();
  }

  /** Bring a record into view. @param {number} number @param {"center" | "top" | "nearest"} [where] */
  reveal(number, where = "center") {
    this.#grow();
    const height = this.#height;
    if (where === "nearest") {
      const top = this.#topOf(number);
      if (top >= this.#top && top + this.#line <= this.#top + height) return;
      where = "center";
    }
    this.following = false;
    // However high the window is by then: it may not have been laid out yet.
    this.#anchor = { number, offset: where === "center" ? "middle" : 0 };
    this.#toAnchor();
    this.element.scrollLeft = 0;
    this.update();
  }

  /** Have this row stand still, whatever is folded around it. @param {number} number */
  hold(number) {
    this.following = false;
    this.#anchor = { number, offset: this.#top - this.#topOf(number) };
  }

  /** Go to a place by its share of the log: a click on the bar beside it. @param {number} share */
  toShare(share) {
    this.following = false;
    this.#top = this.#clamped(share * this.#heights.total - this.#height / 2);
    this.#anchorHere();
    this.#place(true);
    this.update();
  }

  toEnd() {
    this.following = true;
    this.update();
    this.#source.moved();
  }

  /** The row element of a record, if it is there. @param {number} number */
  rowOf(number) {
    const mounted = this.#mounted.get(blockOf(number));
    const at = mounted ? rowAt(mounted.rows, number) - mounted.skipped : -1;
    return /** @type {HTMLElement | null} */ (at < 0 ? null : mounted.element.children[at]);
  }

  /** The rows that are elements now, with them. @returns {Iterable<[Row, HTMLElement]>} */
  *elements() {
    for (const { rows, element, waiting, skipped } of this.#mounted.values()) {
      if (waiting) continue;
      for (let at = skipped; at < rows.length; at++) yield [rows[at], /** @type {HTMLElement} */ (element.children[at - skipped])];
    }
  }

  /** The record of the next row that is seen, from one on: forwards or backwards. @param {number} number @param {1 | -1} way */
  next(number, way) {
    const rows = this.#rows(blockOf(number));
    const at = rows ? rowAt(rows, number) : -1;
    const next = rows?.[at + way];
    if (next) return next.number;
    // Into the neighbouring block that has any rows.
    const block = blockOf(number);
    const y = way > 0 ? this.#heights.top(block) + this.#heights.get(block) : this.#heights.top(block) - 1;
    if (y < 0 || y >= this.#heights.total) return number;
    const other = this.#heights.at(y);
    const others = this.#rows(other);
    if (others?.length) return (way > 0 ? others[0] : others.at(-1)).number;
    return way > 0 ? firstOf(other) : Math.min(firstOf(other + 1) - 1, this.#source.total());
  }

  // -- where things are

  #guess(/** @type {number} */ index) {
    const rows = this.#source.rows(index);
    if (rows && !this.#wrap) return rows.length * this.#line;
    const first = firstOf(index);
    return this.#source.visible(first, Math.min(first + BLOCK - 1, this.#source.total())) * this.#line;
  }

  /** Have a height for each block that the log has by now. */
  #grow() {
    const blocks = Math.ceil(this.#source.total() / BLOCK);
    const last = this.#heights.length - 1;
    // Where lines aren't wrapped this is no guess: what is drawn then has this height, and nothing is placed twice.
    if (last >= 0 && !(this.#wrap && this.#mounted.has(last))) this.#heights.set(last, this.#guess(last));
    while (this.#heights.length < blocks) this.#heights.push(this.#guess(this.#heights.length));
  }

  #rows(/** @type {number} */ index) {
    const mounted = this.#mounted.get(index);
    return mounted && !mounted.waiting ? mounted.rows : this.#source.rows(index);
  }

  #topOf(/** @type {number} */ number) {
    const index = blockOf(number);
    const top = this.#heights.top(index);
    const rows = this.#rows(index);
    if (!rows) return top + Math.min(this.#heights.get(index), this.#source.visible(firstOf(index), number - 1) * this.#line);
    const at = Math.max(0, rowAt(rows, number));
    if (!this.#wrap) return top + at * this.#line;
    const mounted = this.#mounted.get(index);
    const element = /** @type {HTMLElement | undefined} */ (mounted && !mounted.waiting ? mounted.element.children[at] : undefined);
    return top + (element ? element.offsetTop : (this.#heights.get(index) * at) / Math.max(1, rows.length));
  }

  #numberAt(/** @type {number} */ y) {
    if (!this.#heights.length) return 1;
    const index = this.#heights.at(y);
    const within = Math.max(0, y - this.#heights.top(index));
    const rows = this.#rows(index);
    if (!rows?.length) return Math.min(firstOf(index) + Math.floor(within / this.#line), this.#source.total());
    return rows[this.#rowAtHeight(index, rows, within)].number;
  }

  #rowAtHeight(/** @type {number} */ index, /** @type {Row[]} */ rows, /** @type {number} */ within) {
    const mounted = this.#mounted.get(index);
    if (!this.#wrap || !mounted || mounted.waiting) return Math.min(rows.length - 1, Math.floor(within / this.#line));
    let low = 0, high = rows.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (/** @type {HTMLElement} */ (mounted.element.children[middle]).offsetTop <= within) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #clamped(/** @type {number} */ top) {
    return Math.max(0, Math.min(top, this.#heights.total - this.#height));
  }

  #anchorHere() {
    const number = this.#numberAt(this.#top);
    this.#anchor = { number, offset: this.#top - this.#topOf(number) };
  }

  #toAnchor() {
    const { number, offset } = this.#anchor;
    const middle = -Math.floor(this.#height / 2 / this.#line) * this.#line;
    this.#top = this.#clamped(this.#topOf(number) + (offset === "middle" ? middle : offset));
    this.#place(true);
  }

  // -- the browser's space

  /** Have the browser's scroll position say where the window is. @param {boolean} exact also if it is only near */
  #place(exact) {
    const total = this.#heights.total, height = this.#height;
    const space = Math.min(total, MAX_SPACE);
    // What is asked comes before what is written, or all would be laid out once more in between.
    const scrolled = exact ? this.element.scrollTop : 0;
    const high = `${Math.ceil(space)}px`;
    if (this.#space.style.height !== high) this.#space.style.height = high;
    if (exact) {
      const wanted = space === total ? this.#top : (this.#top * (space - height)) / Math.max(1, total - height);
      if (Math.abs(scrolled - wanted) >= 1) this.element.scrollTop = Math.round(wanted);
      this.#scrolled = this.element.scrollTop;
      if (space === total) this.#top = this.#clamped(this.#top);
    }
    this.#shift = this.#top - this.#scrolled;
    for (const [index, { element }] of this.#mounted) {
      const top = `${this.#heights.top(index) - this.#shift}px`;
      if (element.style.top !== top) element.style.top = top;
    }
  }

  #onScroll() {
    const now = this.element.scrollTop, moved = now - this.#scrolled;
    if (!moved) return;
    this.#scrolled = now;
    const total = this.#heights.total, height = this.#height;
    const space = Math.min(total, MAX_SPACE);
    const ended = now >= space - height - 1;
    if (space < total && (Math.abs(moved) > FAR || now <= 0 || ended)) {
      this.#top = (now * (total - height)) / (space - height);
    } else {
      this.#top = space === total ? now : this.#clamped(this.#top + moved);
    }
    // Only a person scrolls up. The end may also be out of view because lines have come.
    if (this.#top + height > total - NEAR_END * this.#line) this.following = true;
    else if (moved < 0) this.following = false;
    this.#anchorHere();
    this.#source.moved();
    this.update();
    clearTimeout(this.#timer);
    // Small movements have led away from where the browser's bar should be.
    if (space < total) this.#timer = setTimeout(() => this.#place(true), SETTLE);
  }

  #onResize() {
    this.#client = this.element.clientHeight;
    const line = parseFloat(getComputedStyle(this.element).lineHeight);
    if (line && line !== this.#line) {
      this.#line = line;
      this.refold();
    }
    if (this.#wrap) for (const [index, each] of this.#mounted) if (!each.waiting) this.#measure(index);
    this.update();
  }

  // -- drawing

  #update() {
    if (this.#stopped) return;
    this.#grow();
    const height = this.#height;
    if (!height) return;
    // What is drawn first may be higher than was guessed, so that something else is seen then.
    for (let round = 0; round < 4; round++) {
      if (this.following) {
        this.#top = this.#clamped(this.#heights.total);
        this.#place(true);
      } else this.#toAnchor();
      if (!this.#draw(this.#top - height / 2, this.#top + 1.5 * height)) break;
    }
    if (this.following) this.#anchorHere();
    this.#place(false);
    this.#shed();
    this.#source.moved();
    if (!this.#idle) this.#idle = setTimeout(() => this.#fill());
  }

  /** Have elements for what is between two heights; whether a height has changed by that. @param {number} from @param {number} to */
  #draw(from, to) {
    const wanted = [];
    let changed = false;
    for (let y = Math.max(0, from); y < Math.min(to, this.#heights.total);) {
      const index = this.#heights.at(y);
      if (this.#mount(index, this.#outOfView(index, from))) changed = true;
      if (this.#mounted.get(index).waiting || this.#source.rows(index) === null) wanted.push(index);
      const next = this.#heights.top(index) + this.#heights.get(index);
      if (next <= y) {
        if (changed) break; // it had a height before
        y += this.#line;
      } else y = next;
    }
    this.#source.want(wanted);
    return changed;
  }

  /** How many of a block's first rows are above a height, and so needn't be elements while the end is followed. */
  #outOfView(/** @type {number} */ index, /** @type {number} */ height) {
    if (!this.following || this.#wrap) return 0;
    return Math.max(0, Math.min(BLOCK, Math.floor((height - this.#heights.top(index)) / this.#line)));
  }

  /**
   * Have an element for a block, as it is now; whether its height has changed.
   * @param {number} index
   * @param {number} [unseen] so many of its first rows needn't be elements
   */
  #mount(index, unseen = 0) {
    const version = this.#source.version(index);
    let mounted = this.#mounted.get(index);
    if (mounted?.version === version && mounted.skipped <= unseen) return false;
    const rows = this.#source.rows(index);
    if (!mounted) {
      mounted = { element: document.createElement("div"), version: "", rows: [], drawn: [], styles: [], waiting: false, skipped: 0 };
      mounted.element.className = "block";
      // In the order of the log, so that it is read and copied in that.
      const behind = [...this.#mounted.keys()].filter((other) => other > index);
      this.#space.insertBefore(mounted.element, behind.length ? this.#mounted.get(Math.min(...behind)).element : null);
      this.#mounted.set(index, mounted);
    }
    mounted.version = version;
    mounted.waiting = rows === null;
    mounted.element.classList.toggle("waiting", rows === null);
    if (rows === null) {
      mounted.element.replaceChildren();
      mounted.drawn = [];
      mounted.rows = [];
      mounted.styles = [];
      this.#skip(mounted, 0);
      mounted.element.style.height = `${this.#heights.get(index)}px`;
      return false;
    }
    const keys = rows.map((row) => `${row.number} ${row.last} ${row.text.length} ${row.redrawn} ${row.level} ${row.event ? row.event.outcome ?? "" : ""}`);
    let same = 0;
    while (same < mounted.drawn.length && same < keys.length && mounted.drawn[same] === keys[same]) same += 1;
    // The elements stay of the rows that are the same, unless what is to be seen doesn't follow them.
    if (mounted.skipped <= unseen && unseen <= same) {
      while (mounted.element.children.length > same - mounted.skipped) mounted.element.lastElementChild.remove();
    } else {
      mounted.element.replaceChildren();
      this.#skip(mounted, Math.min(unseen, rows.length));
    }
    const first = mounted.skipped + mounted.element.children.length;
    // A line's style goes on in the next one. It is kept for rows that come behind.
    const begin = Math.min(same, first);
    const style = mounted.styles[begin]?.copy() ?? this.#source.style();
    mounted.styles.length = begin;
    const elements = [];
    for (let at = begin; at < rows.length; at++) {
      mounted.styles.push(style.copy());
      if (at < first) this.#source.pass(rows[at], style);
      else elements.push(this.#source.draw(rows[at], style));
    }
    mounted.styles.push(style);
    mounted.element.append(...elements);
    mounted.rows = rows;
    mounted.drawn = keys;
    return this.#measure(index);
  }

  /** Leave so many of a block's first rows out, and their place empty. @param {{ element: HTMLElement, skipped: number }} mounted @param {number} rows */
  #skip(mounted, rows) {
    mounted.skipped = rows;
    mounted.element.style.paddingTop = rows ? `${rows * this.#line}px` : "";
  }

  /** Take a block's height over from its element; whether it was another. @param {number} index */
  #measure(index) {
    const mounted = this.#mounted.get(index);
    let height = mounted.rows.length * this.#line;
    if (this.#wrap) {
      mounted.element.style.height = "";
      height = mounted.element.offsetHeight;
    }
    mounted.element.style.height = `${height}px`;
    return this.#heights.set(index, height);
  }

  #unmount(/** @type {number} */ index) {
    this.#mounted.get(index).element.remove();
    this.#mounted.delete(index);
  }

  /** Keep no more elements than may be, those that are farthest away go first. */
  #shed() {
    if (this.#mounted.size <= MAX_MOUNTED) return;
    const here = this.#heights.at(this.#top);
    const far = [...this.#mounted.keys()].sort((one, other) => Math.abs(other - here) - Math.abs(one - here));
    for (const index of far.slice(0, this.#mounted.size - MAX_MOUNTED)) this.#unmount(index);
  }

  #isWhole(/** @type {number} */ index) {
    const mounted = this.#mounted.get(index);
    return mounted?.version === this.#source.version(index) && !mounted.skipped;
  }

  /** Whether there is an element for all that a short log has; a long one never has that. */
  get filled() {
    if (this.#heights.length > MAX_MOUNTED) return true;
    for (let index = 0; index < this.#heights.length; index++) {
      if (!this.#isWhole(index)) return false;
    }
    return this.#heights.length * BLOCK >= this.#source.total();
  }

  /** While there is nothing else to do, have a short log there as a whole: for the browser's own search, and to be copied. */
  #fill() {
    this.#idle = 0;
    if (this.#stopped || this.#heights.length > MAX_MOUNTED) return;
    const until = performance.now() + FILL_BUDGET;
    let changed = false, left = false;
    for (let index = this.#heights.length - 1; index >= 0; index--) {
      if (this.#isWhole(index)) continue;
      if (this.#source.rows(index) === null) {
        this.#source.want([index]);
        break;
      }
      if (performance.now() > until) {
        left = true;
        break;
      }
      changed = this.#mount(index) || changed;
    }
    if (changed) this.update(); // what stands still has moved
    else this.#place(false);
    if (left) this.#idle = setTimeout(() => this.#fill());
  }
}
