// The log of one attempt: follows it, shows it, and checks that it is complete.

import { count, el, words } from "../lib/elements.js";
import { duration } from "../lib/times.js";
import { remarkNode, Said } from "./said.js";
import { SHA256 } from "./sha256.js";
import { clean, nodesOf, Style } from "./terminal.js";

const MAX_ROWS = 200_000; // lines of one log that the page keeps; a link leads to the whole log
const CHUNK_ROWS = 400; // lines of one piece of the log, which the browser lays out only when it is in view
const LINE_HEIGHT = 20; // as in log.css
const FRAME_BUDGET = 10; // milliseconds of work on the log between two frames
const MAX_QUEUED = 50_000; // lines that wait to be shown; with more, the log is unsubscribed, and resumed later
const MAX_OPEN_LINE = 256 * 1024; // characters of a line that hasn't ended
const MAX_GROUPS = 1000; // groups of one log that can be folded; further groups are plain lines

/** Follows the log of one attempt, shows it, and checks that it is complete. */
export class LogView {
  #stream;
  #stepSeen;
  #next = 1; // the number of the next record
  #missing = 0;
  #digest = new SHA256();
  #encoder = new TextEncoder();
  #queue = [];
  #queued = 0; // lines in the queue
  #unschedule = null;
  #away = false; // the queue was too long: not subscribed until it is empty
  #end = null;
  #style = new Style();
  #names = new Map(); // step index -> name
  #open = ""; // a line that hasn't ended, and its first record's number
  #openNumber = 0;
  #openNodes = [];
  #said = new Said((number) => this.#toRecord(number));
  #group = null; // the group that is open
  #groups = 0;
  #folded = false; // whether a new group begins folded
  #chunk = null; // where lines go now
  #plain = ""; // text and numbers that will be put into it
  #numbers = "";
  #rows = 0;
  #dropped = 0;
  #topic;

  constructor(stream, build, attempt, stepSeen) {
    this.#stream = stream;
    this.#stepSeen = stepSeen;
    this.lines = el("div", { class: "log", tabindex: "0", role: "log", "aria-label": "Log" });
    this.status = el("span", { role: "status" }, "waiting for the first line");
    this.bottom = el("button", { class: "quiet", type: "button", hidden: true, onclick: () => this.#toBottom() }, "To the end");
    this.fold = el("button", { class: "quiet", type: "button", hidden: true, onclick: () => this.#foldAll() }, "Fold groups");
    const whole = `/api/v1/builds/${build}/log?format=text&attempt=${attempt}&follow=1`;
    const frame = el("div", { class: "log-frame" }, this.#said.bar, this.lines,
      el("div", { class: "log-foot" }, this.status, this.fold, this.bottom, el("a", { href: whole }, "as text")));
    this.element = el("div", { class: "log-side" }, this.#said.summary, this.#said.remarks, frame);
    this.following = true;
    let top = 0;
    this.lines.addEventListener("scroll", () => {
      const { scrollTop, clientHeight, scrollHeight } = this.lines;
      // Only a person scrolls up. The end may also be out of view because lines have come.
      if (scrollHeight - scrollTop - clientHeight < 3 * LINE_HEIGHT) this.following = true;
      else if (scrollTop < top) this.following = false;
      top = scrollTop;
      this.bottom.hidden = this.following;
    }, { passive: true });
    this.#topic = {
      request: () => ({ topic: "log", build, attempt, after: this.#next - 1 + this.#queued }),
      concerns: (message) => message.build === build && (message.attempt === attempt || message.type === "error"),
      heard: (message) => this.#heard(message),
    };
  }

  start() {
    this.#stream.follow(this.#topic);
  }

  stop() {
    this.#stream.leave(this.#topic);
    this.#unschedule?.();
    this.#queue = [];
  }

  scrollToStep(index) {
    const heading = this.lines.querySelector(`[data-step="${index}"]`);
    if (heading) this.lines.scrollTop = heading.offsetTop - this.lines.offsetTop;
  }

  #heard(message) {
    if (message.type === "error") {
      this.#say(message.message, "bad");
      return;
    }
    if (message.type !== "lines" && message.type !== "gap" && message.type !== "end") return;
    if (this.#away) return; // sent before the server knew of the unsubscription
    const next = this.#next + this.#queued;
    if ((message.type === "lines" ? message.first : message.from) > next) {
      // Records are missing in between, or this is left of an earlier subscription: subscribe again.
      this.#stream.leave(this.#topic);
      this.#stream.follow(this.#topic);
      return;
    }
    if (message.type === "lines") {
      const skip = next - message.first;
      if (skip >= message.lines.length) return; // seen already
      if (skip > 0) {
        message.more = (message.more ?? []).map((index) => index - skip).filter((index) => index >= 0);
        message.lines = message.lines.slice(skip);
        message.first = next;
      }
      this.#queued += message.lines.length;
    } else if (message.type === "gap") {
      if (message.to < next) return;
      this.#queued += message.to - next + 1;
    }
    this.#queue.push(message);
    if (this.#queued > MAX_QUEUED && message.type === "lines") {
      this.#stream.leave(this.#topic);
      this.#away = true;
    }
    this.#schedule();
  }

  /** Show what is queued with the next frame, or by a timer in the background, where there are no frames. */
  #schedule() {
    if (this.#unschedule) return;
    const work = (budget) => {
      this.#unschedule = null;
      this.#work(budget);
    };
    if (document.hidden) {
      const timer = setTimeout(work, 250, 10 * FRAME_BUDGET);
      this.#unschedule = () => clearTimeout(timer);
    } else {
      const frame = requestAnimationFrame(() => work(FRAME_BUDGET));
      this.#unschedule = () => cancelAnimationFrame(frame);
    }
  }

  #work(budget) {
    const until = performance.now() + budget;
    while (this.#queue.length && performance.now() < until) {
      const message = this.#queue.shift();
      if (message.type === "lines") this.#show(message);
      else if (message.type === "gap") this.#gap(message);
      else this.#end = message;
    }
    this.#showOpen();
    this.#settle();
    this.#said.settle();
    while (this.#rows > MAX_ROWS) this.#drop();
    if (this.following) this.#toBottom();
    if (this.#queue.length) this.#schedule();
    else if (this.#away) {
      this.#away = false;
      this.#stream.follow(this.#topic);
    }
    if (this.#end && !this.#queue.length) this.#finish();
    else if (this.#missing) this.#say(`${count(this.#next - 1)} lines, ${count(this.#missing)} of them missing`, "bad");
    else this.#say(`${count(this.#next - 1)} lines`);
  }

  #show(message) {
    const { lines, first } = message;
    const more = message.more?.length ? new Set(message.more) : null;
    let hashed = "";
    for (let index = 0; index < lines.length; index++) {
      const record = lines[index];
      if (typeof record === "string") {
        hashed += record + "\n";
        this.#line(record, first + index, more?.has(index));
      } else {
        hashed += JSON.stringify(record) + "\n";
        this.#event(record, first + index, message.time);
      }
    }
    this.#digest.update(this.#encoder.encode(hashed));
    this.#queued -= lines.length;
    this.#next = first + lines.length;
  }

  #line(text, number, goesOn) {
    if (this.#open) {
      text = this.#open + text;
      number = this.#openNumber;
      this.#open = "";
    }
    if (goesOn && text.length < MAX_OPEN_LINE) {
      this.#open = text;
      this.#openNumber = number;
      return;
    }
    this.#takeOpenAway();
    this.#row(number, nodesOf(text, this.#style));
  }

  /** Show a line that hasn't ended; it is replaced when more of it comes. */
  #showOpen() {
    this.#takeOpenAway();
    if (!this.#open) return;
    this.#settle();
    const nodes = [...nodesOf(this.#open, this.#style.copy()), document.createTextNode("\n")];
    const chunk = this.#chunkForLines();
    const gutter = document.createTextNode(`${this.#openNumber}\n`);
    chunk.gutter.append(gutter);
    chunk.text.append(...nodes);
    this.#openNodes = [gutter, ...nodes];
  }

  #takeOpenAway() {
    for (const node of this.#openNodes) node.remove();
    this.#openNodes = [];
  }

  #row(number, nodes) {
    const chunk = this.#chunkForLines();
    chunk.rows += 1;
    this.#rows += 1;
    this.#numbers += `${number}\n`;
    // Neighbouring lines without colours become one text node: most logs have hardly anything else.
    if (nodes.every((node) => node.nodeType === Node.TEXT_NODE)) {
      for (const node of nodes) this.#plain += node.data;
      this.#plain += "\n";
    } else {
      chunk.text.append(this.#plain, ...nodes);
      this.#plain = "\n";
    }
    if (chunk.rows >= CHUNK_ROWS) this.#closeChunk();
  }

  /** Put the gathered text into the chunk. */
  #settle() {
    const chunk = this.#chunk;
    if (!chunk || !this.#numbers) return;
    chunk.text.append(this.#plain);
    chunk.gutter.append(this.#numbers);
    this.#plain = this.#numbers = "";
    chunk.element.style.containIntrinsicSize = `auto 60rem auto ${chunk.rows * LINE_HEIGHT}px`;
  }

  #closeChunk() {
    this.#settle();
    this.#chunk = null;
  }

  #chunkForLines() {
    if (!this.#chunk) {
      const gutter = el("pre", { class: "gutter", "aria-hidden": "true" });
      const text = el("pre", { class: "text" });
      this.#chunk = { element: el("div", { class: "chunk" }, gutter, text), gutter, text, rows: 0 };
      this.#chunk.element.rows = this.#chunk;
      (this.#group ?? this.lines).append(this.#chunk.element);
    }
    return this.#chunk;
  }

  /** Put an element between the lines. It counts as a line. */
  #put(element) {
    this.#closeOpen();
    this.#closeChunk();
    element.rows = { rows: 1 };
    this.#rows += 1;
    (this.#group ?? this.lines).append(element);
  }

  /** Show an event. One of a newer version, with other fields than those known here, is skipped. */
  #event(event, number, time) {
    try {
      this.#known(event, number, time);
    } catch (error) {
      console.warn("an event that isn't known", event, error);
    }
  }

  #known(event, number, time) {
    // These two are shown elsewhere, so a line that hasn't ended goes on after them.
    if (event.type === "progress") this.#said.progress(event);
    else if (event.type === "summary") this.#said.summarised(event);
    else if (event.type === "step_started") {
      this.#stepOver();
      this.#names.set(event.index, event.name);
      this.#style.reset();
      this.#put(el("div", { class: "step-line", "data-step": event.index }, `${clean(event.name)} `,
        event.command && event.command !== event.name ? el("code", {}, clean(event.command)) : null));
      this.#stepSeen({ index: event.index, name: event.name, outcome: "running", started: time, ended: null });
    } else if (event.type === "step_ended") {
      this.#stepOver();
      const name = this.#names.get(event.index) ?? `step ${event.index + 1}`;
      const code = event.exit_code ? `, exit code ${event.exit_code}` : "";
      const took = duration(event.milliseconds);
      const text = event.outcome === "succeeded" ? `✓ ${took}` : `✗ ${clean(name)} ${words(event.outcome)} after ${took}${code}`;
      this.#put(el("div", { class: `step-line ${event.outcome}` }, text));
      this.#stepSeen({ index: event.index, name, outcome: event.outcome, started: time - event.milliseconds, ended: time });
    } else if (event.type === "notice") {
      this.#put(el("div", { class: `notice ${event.level}` }, clean(event.message)));
    } else if (event.type === "annotation") {
      this.#closeOpen();
      this.#said.annotation(event, number);
      this.#row(number, [remarkNode(event, number)]);
    } else if (event.type === "group") {
      this.#beginGroup(event.name, number);
    }
  }

  /** End what belongs to a step: progress and a group. */
  #stepOver() {
    this.#said.stepOver();
    this.#endGroup();
  }

  #endGroup() {
    this.#closeOpen();
    this.#closeChunk();
    this.#group = null;
  }

  /** Begin a group, which can be folded under its heading; after `MAX_GROUPS` the heading is a plain line. */
  #beginGroup(name, number) {
    this.#endGroup();
    if (!name) return;
    this.#groups += 1;
    if (this.#groups > MAX_GROUPS) {
      this.#row(number, [el("b", {}, `▾ ${clean(name)}`)]);
      return;
    }
    const group = el("details", { class: "group" }, el("summary", {}, clean(name)));
    group.open = !this.#folded;
    this.#put(group);
    this.#group = group;
    this.fold.hidden = false;
  }

  #foldAll() {
    this.#folded = !this.#folded;
    this.fold.textContent = this.#folded ? "Unfold groups" : "Fold groups";
    for (const group of this.lines.querySelectorAll(".group")) group.open = !this.#folded;
    if (this.following) this.#toBottom();
  }

  /** Show a record that has an element of its own. */
  #toRecord(number) {
    const target = this.lines.querySelector(`[data-record="${number}"]`);
    if (!target) return false;
    const group = target.closest(".group");
    if (group) group.open = true;
    this.following = false;
    target.scrollIntoView({ block: "center", inline: "nearest" });
    this.lines.scrollLeft = 0;
    target.focus({ preventScroll: true });
    return true;
  }

  #gap(message) {
    const lost = message.to - this.#next + 1;
    const what = lost === 1 ? "1 line is" : `${count(lost)} lines are`;
    this.#put(el("div", { class: "gap" }, `… ${what} missing here: ${clean(message.reason)}`));
    this.#missing += lost;
    this.#queued -= lost;
    this.#next = message.to + 1;
  }

  #closeOpen() {
    if (!this.#open) return;
    const text = this.#open;
    this.#open = "";
    this.#takeOpenAway();
    this.#row(this.#openNumber, nodesOf(text, this.#style));
  }

  /** Remove the oldest lines. */
  #drop() {
    let oldest = this.lines.firstElementChild;
    if (oldest?.classList.contains("dropped")) oldest = oldest.nextElementSibling;
    // Of a group, its lines go first, and its heading last.
    if (oldest.classList.contains("group")) oldest = oldest.children[1] ?? oldest;
    const rows = oldest.rows?.rows ?? 0;
    this.#rows -= rows;
    this.#dropped += rows;
    oldest.remove();
    const text = `${count(this.#dropped)} earlier lines aren't shown here; all are in the log as text`;
    let note = this.lines.querySelector(".dropped");
    if (!note) this.lines.prepend((note = el("div", { class: "notice dropped" })));
    note.textContent = text;
  }

  #finish() {
    const { lines, sha256, complete } = this.#end;
    this.#closeOpen();
    this.#settle();
    this.#said.stepOver();
    this.#said.settle();
    this.#stream.leave(this.#topic);
    if (this.#missing) this.#say(`incomplete: ${count(this.#missing)} of ${count(lines)} lines are missing`, "bad");
    else if (this.#next - 1 !== lines) this.#say(`incomplete: ${count(this.#next - 1)} of ${count(lines)} lines came`, "bad");
    else if (!complete) this.#say(`incomplete: the server couldn't verify these ${count(lines)} lines`, "bad");
    else if (this.#digest.digest() !== sha256) this.#say("not what the build wrote: the SHA-256 differs", "bad");
    else this.#say(`complete, verified (${count(lines)} lines)`, "good");
    if (this.following) this.#toBottom();
  }

  #say(text, kind = "") {
    this.status.textContent = text;
    this.status.className = kind;
  }

  #toBottom() {
    this.following = true;
    this.bottom.hidden = true;
    this.lines.scrollTop = this.lines.scrollHeight;
  }
}
