// The log of one attempt: follows it, shows any part of it, searches it, and says whether it is complete.
//
// The server's outline says at once how long the log is and where things are in it. What is seen is asked for by range,
// and what comes live is added at the end. A short log is taken as a whole, so that its digest is checked here; of a long
// one the server's word is shown, and the digest is checked when somebody wants it.

import { api } from "../lib/api.js";
import { count, counted, el } from "../lib/elements.js";
import { addShortcuts } from "../lib/keys.js";
import { here } from "../lib/router.js";
import { addressOf } from "./address.js";
import { Blocks, firstOf } from "./blocks.js";
import { drawn, passed, TIMES, timeText } from "./draw.js";
import { Finder } from "./finder.js";
import { Folding } from "./folding.js";
import { frameOf, press, pressed } from "./frame.js";
import { highlight } from "./highlight.js";
import { Marks } from "./marks.js";
import { Outline } from "./outline.js";
import { Reading } from "./reading.js";
import { rowsOf } from "./rows.js";
import { Said } from "./said.js";
import { Style } from "./terminal.js";
import { Hashing, verdict, verify } from "./verify.js";
import { LogWindow } from "./window.js";

const WHOLE = 5000; // records of a log that is taken as a whole
const PATIENCE = 700; // milliseconds for which a failure's cause is waited for
const AGAIN = 2000; // milliseconds until what couldn't be read is asked for again
const FILL_TRIES = 40; // times that it is looked whether a short log is drawn, until its end is told all the same
const TYPING = 40; // milliseconds without a key until what is typed is searched
const MAX_COPY = 10_000; // records that are copied

/** What a person wants of all logs, kept in the browser. */
const wishes = {
  get: (/** @type {string} */ name, /** @type {string} */ otherwise) => {
    try {
      return localStorage.getItem(`log-${name}`) ?? otherwise;
    } catch {
      return otherwise; // the browser keeps nothing
    }
  },
  set: (/** @type {string} */ name, /** @type {string} */ value) => {
    try {
      localStorage.setItem(`log-${name}`, value);
    } catch {
      // likewise
    }
  },
};

export class LogView {
  #stream;
  #build;
  #attempt;
  #topic;
  #changed;
  #cause;
  #blocks = new Blocks();
  #outline = new Outline();
  #total = 0;
  #digits = 5; // of the numbers before the lines
  #end = null;
  #begun = 0; // when the log begins, in milliseconds
  /** Of a log that is taken as a whole. @type {Hashing | null} */
  #hashing = null;
  #tries = 0; // to find the end drawn
  #finishing = 0;
  #opened = false; // the outline is here, and the first place is found
  #folding = new Folding(this.#outline);
  /** @type {Map<number, { version: string, rows: import("./rows.js").Row[] }>} */
  #rows = new Map();
  #saving = 0;
  #typing = 0;
  #stopping = new AbortController();
  #forget = () => {}; // the shortcuts
  /** @type {[number, number] | null} */
  #picked = null;
  #current = 0; // the record of the hit that was gone to last
  /** @type {string} */
  #time = TIMES.find((each) => each === wishes.get("time", "off")) ?? "off";
  #said;
  #finder;
  #marks;
  #reading;
  #on; // the frame's elements

  /**
   * @param {{ stream: import("../lib/stream.js").Stream, build: number, attempt: number, lines: [number, number] | null,
   *   cause?: Promise<any> | null, changed: (outline: Outline, over: boolean) => void }} about
   *   `lines`: that are picked at first; `cause`: what the server says of a failure; `changed`: the outline has, or the log
   *   is over
   */
  constructor({ stream, build, attempt, lines, cause = null, changed }) {
    this.#stream = stream;
    this.#build = build;
    this.#attempt = attempt;
    this.#changed = changed;
    this.#cause = cause;
    this.#picked = lines;
    this.#said = new Said((number) => this.go(number));
    this.summary = this.#said.summary;
    this.remarks = this.#said.remarks;
    this.#finder = new Finder(this.#path("/search", ""), () => this.#found());
    this.window = new LogWindow({
      total: () => this.#total,
      version: (block) => `${this.#blocks.peek(block)?.version ?? "-"}/${this.#folding.version}/${this.#total < firstOf(block + 1) ? this.#total : ""}`,
      rows: (block) => this.#rowsOf(block),
      visible: (from, to) => Math.max(0, to - from + 1 - this.#folding.ranges.count(from, to)),
      style: () => new Style(),
      draw: (row, style) => this.#draw(row, style),
      pass: passed,
      want: (blocks) => this.#reading.want(blocks),
      moved: () => this.#moved(),
    });
    this.#reading = new Reading({ build, attempt, blocks: this.#blocks, total: () => this.#total, came: () => this.window.update() });
    this.#marks = new Marks((share) => this.window.toShare(share));
    this.#on = this.#framed();
    this.frame = this.#on.element;
    this.element = el("div", { class: "log-side" }, this.frame);
    this.#topic = {
      request: () => ({ topic: "log", build, attempt, after: this.#total }),
      concerns: (/** @type {any} */ message) => message.build === build && (message.attempt === attempt || message.type === "error"),
      heard: (/** @type {any} */ message) => this.#heard(message),
    };
    this.window.wrap = wishes.get("wrap", "off") === "on";
    press(this.#on.wrap, this.window.wrap);
  }

  #framed() {
    const on = frameOf({
      path: (query) => this.#path("", query),
      progress: this.#said.bar,
      window: this.window.element,
      marks: this.#marks.element,
      typed: () => {
        clearTimeout(this.#typing);
        this.#typing = setTimeout(() => this.#search(), TYPING);
      },
      chosen: () => this.#search(),
      filter: () => this.#filter(!this.#folding.onlyHits),
      hit: (way) => this.toHit(way),
      error: () => this.toError(),
      times: (form) => {
        this.#time = form;
        wishes.set("time", form);
        this.window.element.dataset.time = form;
        this.window.redraw();
      },
      wrap: () => this.#wrap(),
      fold: () => this.#foldAll(),
      full: () => this.#fullScreen(),
      verify: () => this.#verify(),
      end: () => this.window.toEnd(),
      copy: (numbers) => this.#copy(numbers),
      link: () => this.#give(location.href),
    });
    on.times.value = this.window.element.dataset.time = this.#time;
    this.window.element.addEventListener("click", (event) => this.#clicked(event));
    on.element.addEventListener("keydown", (event) => this.#key(event));
    return on;
  }

  #path(/** @type {string} */ what, /** @type {string} */ query) {
    return `/api/v1/builds/${this.#build}/log${what}?attempt=${this.#attempt}${query ? `&${query}` : ""}`;
  }

  /** The name of the project, for a search in all its builds. @param {string} project */
  set project(project) {
    this.projectName = project;
    this.#showPicked();
  }

  projectName = "";

  // -- its life

  async start() {
    this.#forget = addShortcuts(this.#shortcuts);
    for (;;) {
      try {
        const late = new Promise((resolve) => setTimeout(resolve, PATIENCE, null));
        const cause = Promise.race([Promise.resolve(this.#cause), late]);
        const said = await api("GET", `/builds/${this.#build}/log/outline?attempt=${this.#attempt}`);
        const failure = await cause;
        if (this.#stopping.signal.aborted) return;
        this.#open(said, this.#placeKept(), failure?.error?.record ?? null);
        return;
      } catch (error) {
        if (this.#stopping.signal.aborted) return;
        if (error.status && error.status < 500) {
          this.#say(error.message, "bad");
          return;
        }
        await new Promise((resolve) => setTimeout(resolve, AGAIN));
        if (this.#stopping.signal.aborted) return;
      }
    }
  }

  /** The outline is here: find the first place, and follow what comes. */
  #open(said, /** @type {number | null} */ place, /** @type {number | null} */ known) {
    this.#begun = said.steps.length ? Date.parse(said.steps[0].started) : 0;
    const whole = said.records <= WHOLE;
    if (!whole) {
      this.#total = said.records;
      this.#said.begin(said.annotation_counts, said.annotations);
    } else this.#hashing = new Hashing(() => this.#end && this.#finish());
    this.#outline.begin(whole ? { ...said, groups: [], errors: [], records: 0 } : said);
    this.#opened = true;
    const failed = this.#outline.failed;
    this.#folding.came();
    if (failed) this.#folding.allBut(failed);
    if (this.#picked) this.#folding.unfold(this.#picked[0]);
    if (place !== null) this.#folding.unfold(place);
    const told = new Outline();
    told.begin(said);
    const cause = known ?? (failed ? told.cause ?? null : null);
    if (cause !== null) this.#folding.unfold(cause);
    this.#refold();
    this.#first = this.#picked?.[0] ?? place ?? cause;
    if (this.#first !== null) this.window.following = false;
    this.#toFirst(said.records);
    this.#stream.follow(this.#topic);
    this.#changed(this.#outline, false);
    this.#count();
    this.#showPicked();
    this.window.update();
  }

  #first = null; // the record that is to be seen first, once it is known where it is

  #toFirst(/** @type {number} */ records) {
    if (this.#first === null || this.#first > Math.max(this.#total, 0)) return;
    if (records && this.#total < records) return; // of a log that is taken as a whole: not all of it is here
    const first = this.#first;
    this.#first = null;
    this.window.reveal(first);
    this.#emphasise();
  }

  stop() {
    this.#stopping.abort();
    this.#forget();
    this.#stream.leave(this.#topic);
    this.#finder.stop();
    this.window.stop();
    this.#reading.stop();
    this.#hashing?.stop();
    clearTimeout(this.#finishing);
    clearTimeout(this.#saving);
    clearTimeout(this.#typing);
  }

  /** What is known of the attempt apart from its log. @param {any} attempt */
  know(attempt) {
    if (attempt.summary) this.#said.summarised({ markdown: attempt.summary });
    if (attempt.progress) this.#said.progress(attempt.progress);
    this.#said.settle();
  }

  // -- what comes live

  #heard(/** @type {any} */ message) {
    if (message.type === "error") {
      this.#say(message.message, "bad");
      return;
    }
    if (message.type === "end") {
      this.#end = message;
      this.#finish();
      return;
    }
    if (message.type !== "lines" && message.type !== "gap") return;
    const first = message.type === "gap" ? message.from : message.first;
    const last = message.type === "gap" ? message.to : first + message.lines.length - 1;
    if (last <= this.#total) return; // seen already
    if (first > this.#total + 1) {
      // Records are missing in between, or this is left of an earlier subscription: subscribe again.
      this.#stream.leave(this.#topic);
      this.#stream.follow(this.#topic);
      return;
    }
    const fresh = trimmed(message, this.#total + 1);
    if (!this.#begun && fresh.time) this.#begun = fresh.time;
    this.#total = last;
    this.#blocks.take(fresh);
    this.#hashing?.add(fresh);
    if (this.#outline.add(fresh)) {
      this.#changed(this.#outline, false);
      this.#on.error.hidden = this.#outline.errors.length === 0;
      this.#on.fold.hidden = this.#outline.groups.length + this.#outline.steps.size === 0;
      this.#folding.came();
      if (this.#folding.any) this.#refold();
    }
    if (fresh.type === "lines") this.#overhear(fresh);
    if (this.#folding.onlyHits) this.#refold();
    this.#toFirst(0);
    this.#finder.grown(this.#total);
    this.window.update();
  }

  /** What a build says of itself, which is shown beside the log. */
  #overhear(/** @type {any} */ { lines, first }) {
    for (let index = 0; index < lines.length; index++) {
      const record = lines[index];
      if (typeof record === "string") continue;
      if (record.type === "progress") this.#said.progress(record);
      else if (record.type === "summary") this.#said.summarised(record);
      else if (record.type === "annotation") this.#said.annotation(record, first + index);
      else if (record.type === "step_started" || record.type === "step_ended") this.#said.stepOver();
    }
  }

  #finish() {
    if (this.#hashing?.busy) return; // it calls this again
    this.#stream.leave(this.#topic);
    // Who reads that it is complete may search it, or copy it.
    if (!this.window.filled && this.#tries < FILL_TRIES) {
      this.#tries += 1;
      clearTimeout(this.#finishing);
      this.#finishing = setTimeout(() => this.#finish(), 25);
      return;
    }
    this.#said.stepOver();
    this.#said.settle();
    const digest = this.#hashing?.digest ?? null;
    this.#say(...verdict(this.#end, digest));
    this.#on.verify.hidden = digest !== null || !this.#end.complete;
    this.#count();
    if (this.#first !== null) {
      const [from] = this.#picked ?? [this.#first];
      this.#first = null;
      this.#warn(`Line ${count(from)} isn't in this log, which has ${counted(this.#total, "line")}.`);
    }
    this.#changed(this.#outline, true);
    this.window.update();
  }

  async #verify() {
    this.#on.verify.disabled = true;
    try {
      const read = (/** @type {number} */ records) => this.#say(`${count(records)} of ${counted(this.#end.lines, "line")} verified`);
      this.#say(...(await verify(this.#path("", "format=json&follow=1"), this.#stopping.signal, read)));
      this.#on.verify.hidden = true;
    } catch (error) {
      if (!this.#stopping.signal.aborted) this.#say(`not verified: ${error.message}`, "bad");
    } finally {
      this.#on.verify.disabled = false;
    }
  }

  #say(/** @type {string} */ text, kind = "") {
    if (this.#on.status.textContent !== text) this.#on.status.textContent = text;
    this.#on.status.className = kind;
  }

  #warn(/** @type {string} */ text) {
    this.#on.trouble.textContent = text;
    this.#on.trouble.hidden = !text;
  }

  #count() {
    const digits = Math.max(5, String(this.#total).length);
    if (digits !== this.#digits) {
      this.#digits = digits;
      this.window.element.style.setProperty("--digits", String(digits));
      if (this.window.wrap) this.window.redraw(); // there is less room for the lines
    }
    this.#on.counted.textContent = this.#end ? "" : counted(this.#total, "line");
    if (!this.#end && this.#opened) {
      this.#say(this.#total ? (this.window.following ? "following" : "the log goes on") : "waiting for the first line");
    }
  }

  // -- what is seen

  #rowsOf(/** @type {number} */ index) {
    const block = this.#blocks.peek(index);
    if (!block?.has(this.#total)) return null;
    const version = `${block.version}/${this.#folding.version}`;
    let kept = this.#rows.get(index);
    if (kept?.version !== version) {
      kept = { version, rows: rowsOf(block, this.#folding.ranges) };
      if (this.#rows.size > 64) this.#rows.clear();
      this.#rows.set(index, kept);
    }
    return kept.rows;
  }

  #draw(/** @type {import("./rows.js").Row} */ row, /** @type {any} */ style) {
    const element = drawn(row, style, { stepOf: (index) => this.#outline.steps.get(index), isFolded: ({ event, number }) => this.#folding.of(event, number) });
    element.dataset.n = String(row.number);
    if (this.#time !== "off" && row.time !== undefined) element.dataset.t = timeText(row.time, this.#time, this.#begun);
    if (this.#folding.onlyHits && this.#folding.ranges.has(row.number - 1)) element.classList.add("apart");
    this.#mark(row, element);
    return element;
  }

  /** Show what a row is beside what it says: picked, a hit. */
  #mark(/** @type {import("./rows.js").Row} */ row, /** @type {HTMLElement} */ element) {
    const picked = this.#picked !== null && row.last >= this.#picked[0] && row.number <= this.#picked[1];
    element.classList.toggle("picked", picked);
    if (picked) element.setAttribute("aria-current", "true");
    else element.removeAttribute("aria-current");
    element.classList.toggle("hit", this.#finder.at(row.number) !== undefined);
    element.classList.toggle("current", this.#current === row.number);
  }

  #emphasise() {
    for (const [row, element] of this.window.elements()) this.#mark(row, element);
    this.#highlight();
  }

  #highlight() {
    highlight(this.window.elements(), (record) => (this.#finder.asked ? this.#finder.at(record) : undefined), this.#current);
  }

  #moved() {
    this.#on.end.hidden = this.window.following;
    this.#count();
    this.#said.settle();
    const shares = (/** @type {Iterable<number>} */ records) => [...records].map((record) => this.window.shareOf(record));
    const steps = [...this.#outline.steps.values()].map(({ first }) => first).filter((first) => first !== null);
    const hits = this.#finder.hits.length > 2000 ? every(this.#finder.hits, 2000) : this.#finder.hits;
    this.#marks.draw({ steps: shares(steps), errors: shares(this.#outline.errors), hits: shares(hits.map(({ record }) => record)),
      picked: this.#picked ? this.window.shareOf(this.#picked[0]) : null, seen: this.window.share });
    if (this.#finder.asked) this.#highlight();
    this.#save();
  }

  /** Keep the place in the browser's history, so that it is found again by Back and after a reload. */
  #save() {
    if (this.#saving || !this.#opened || this.#first !== null) return;
    this.#saving = setTimeout(() => {
      this.#saving = 0;
      const place = this.window.following ? null : { build: this.#build, attempt: this.#attempt, number: middle(this.window.seen) };
      if (history.state?.place?.number !== place?.number) history.replaceState({ ...history.state, place }, "");
    }, 300);
  }

  /** The record that was in the middle of the window when this entry of the history was left. @returns {number | null} */
  #placeKept() {
    const place = history.state?.place;
    return place?.build === this.#build && place.attempt === this.#attempt ? place.number : null;
  }

  // -- folding

  #refold() {
    this.#folding.settle(this.#finder.hits);
    this.#on.fold.hidden = this.#outline.groups.length + this.#outline.steps.size === 0;
    this.#on.error.hidden = this.#outline.errors.length === 0;
    press(this.#on.fold, this.#folding.all);
    this.window.refold();
  }

  #foldAll() {
    this.#folding.toggleAll();
    this.#refold();
    this.window.redraw();
  }

  #toggle(/** @type {HTMLElement} */ row) {
    const number = Number(row.dataset.n);
    this.window.hold(number);
    if (row.dataset.step !== undefined) this.#folding.toggleStep(Number(row.dataset.step));
    else this.#folding.toggleGroup(number);
    this.#refold();
    this.window.redraw();
    requestAnimationFrame(() => requestAnimationFrame(() => /** @type {HTMLElement} */ (this.window.rowOf(number)?.querySelector(".fold"))?.focus({ preventScroll: true })));
  }

  /** Show a record. @param {number} number */
  go(number) {
    if (number > this.#total) return false;
    if (this.#folding.ranges.has(number)) {
      if (this.#folding.onlyHits) this.#filter(false);
      this.#folding.unfold(number);
      this.#refold();
      this.window.redraw();
    }
    this.window.reveal(number);
    this.frame.scrollIntoView({ block: "nearest" });
    requestAnimationFrame(() => requestAnimationFrame(() => {
      const row = this.window.rowOf(number);
      (/** @type {HTMLElement} */ (row?.querySelector("[tabindex]")) ?? this.window.element).focus({ preventScroll: true });
    }));
    return true;
  }

  /** Go to the first record of a step. @param {number} index */
  toStep(index) {
    const step = this.#outline.steps.get(index);
    if (!step?.first) return;
    this.#folding.unfold(step.first);
    this.#refold();
    this.window.redraw();
    this.window.reveal(step.first, "top");
    this.frame.scrollIntoView({ block: "nearest" });
  }

  /** Go to the error behind the one that was gone to last, or to the first one. */
  toError() {
    const errors = this.#outline.errors;
    if (!errors.length) return;
    const from = this.#picked?.[0] ?? 0;
    const next = errors.find((record) => record > from) ?? errors[0];
    this.pick([next, next]);
    this.go(next);
  }

  // -- picking lines

  /** Pick lines, and have the address say so. @param {[number, number] | null} lines @param {boolean} [again] in the place of the last ones */
  pick(lines, again = false) {
    const address = addressOf(this.#build, this.#attempt, lines);
    this.#picked = lines;
    if (location.hash !== address) {
      // The new entry of the history has no place of its own: its lines are its place.
      if (again) history.replaceState(history.state, "", address);
      else history.pushState({ place: null }, "", address);
      here.set(location.hash);
    }
    this.#warn("");
    this.#showPicked();
    this.#emphasise();
    this.#moved();
  }

  /** An address of this view names these lines now. @param {[number, number] | null} lines */
  show(lines) {
    if (String(lines) === String(this.#picked)) return; // it comes from here
    this.#picked = lines;
    this.#showPicked();
    this.#emphasise();
    if (!lines) {
      const place = this.#placeKept();
      if (place !== null) this.window.reveal(place);
      return;
    }
    if (lines[0] > this.#total && this.#end) this.#warn(`Line ${count(lines[0])} isn't in this log, which has ${counted(this.#total, "line")}.`);
    else this.go(lines[0]);
  }

  #showPicked() {
    const lines = this.#picked;
    this.#on.picks.hidden = lines === null;
    if (!lines) return;
    this.#on.picked.textContent = lines[0] === lines[1] ? `line ${count(lines[0])}` : `lines ${count(lines[0])} to ${count(lines[1])}`;
    const text = lines[0] === lines[1] ? this.#textOf(lines[0]).trim().slice(0, 500) : "";
    this.#on.first.hidden = !text || !this.projectName;
    this.#on.first.href = `#/projects/${encodeURIComponent(this.projectName)}/search/${encodeURIComponent(text)}/oldest`;
  }

  #textOf(/** @type {number} */ number) {
    return this.window.rowOf(number)?.textContent ?? "";
  }

  #clicked(/** @type {MouseEvent} */ event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const row = /** @type {HTMLElement | null} */ (target.closest(".record"));
    if (!row) return;
    if (target.closest(".fold")) {
      this.#toggle(row);
      return;
    }
    const gutter = parseFloat(getComputedStyle(row, "::before").width);
    if (event.clientX - this.window.element.getBoundingClientRect().left > gutter) return;
    const number = Number(row.dataset.n);
    if (event.shiftKey && this.#picked) {
      getSelection()?.removeAllRanges(); // the browser has selected what is between
      this.pick([Math.min(this.#picked[0], number), Math.max(this.#picked[1], number)]);
    } else if (this.#picked?.[0] === number && this.#picked[1] === number) this.pick(null);
    else this.pick([number, number]);
    this.window.following = false;
  }

  async #copy(/** @type {boolean} */ numbers) {
    const [from, to] = this.#picked;
    const limit = Math.min(to - from + 1, MAX_COPY);
    const query = `format=text&after=${from - 1}&limit=${limit}${numbers ? "&numbers=true" : ""}`;
    const response = await fetch(this.#path("", query), { credentials: "same-origin" });
    if (!response.ok) {
      this.#warn(`These lines couldn't be read: the server answered ${response.status}.`);
      return;
    }
    // The sentence on the log's end isn't one of them.
    const lines = (await response.text()).split("\n");
    await this.#give(lines.filter((line, index) => index < lines.length - 2 || !line.startsWith("==> ") || !/ records, .*sha256 /.test(line)).join("\n"));
  }

  async #give(/** @type {string} */ text) {
    try {
      await navigator.clipboard.writeText(text);
      this.#warn("");
    } catch {
      this.#warn("The browser doesn't let this page copy. Over https, or at localhost, it does.");
    }
  }

  // -- searching

  #search() {
    clearTimeout(this.#typing);
    this.#typing = 0;
    this.#current = 0;
    this.#wanted = 0;
    if (this.#folding.onlyHits) this.#filter(false);
    this.#finder.ask({ text: this.#on.input.value, kind: pressed(this.#on.regex) ? "regex" : "text", exact: pressed(this.#on.exact) }, this.#total);
  }

  /** Search for something. @param {string} text */
  search(text) {
    this.#on.input.value = text;
    this.#search();
  }

  #found() {
    const finder = this.#finder;
    const known = finder.hits.length;
    const none = finder.asked === null;
    for (const button of [this.#on.next, this.#on.previous, this.#on.filter]) {
      button.hidden = none;
      button.disabled = known === 0;
    }
    const all = finder.matches === null ? `${count(known)}+` : `${count(finder.matches)}${finder.complete ? "" : "+"}`;
    const place = this.#current ? finder.placeOf(this.#current) : 0;
    const more = finder.error || (none ? "" : finder.matches === 0 ? "nothing found" : !known ? "searching" : place ? `${count(place)} of ${all}` : `${all} found`);
    if (this.#on.found.textContent !== more) this.#on.found.textContent = more;
    this.#on.found.classList.toggle("bad", finder.error !== "");
    if (this.#wanted && known) {
      const way = this.#wanted;
      this.#wanted = 0;
      this.toHit(way);
    }
    if (!this.#redrawing) {
      this.#redrawing = true;
      requestAnimationFrame(() => {
        this.#redrawing = false;
        if (this.#folding.onlyHits) this.#refold();
        this.#emphasise();
        this.#moved();
      });
    }
  }

  #redrawing = false;
  #wanted = /** @type {0 | 1 | -1} */ (0); // which hit is gone to when there is one

  /** Go to the next hit, or the one before. @param {1 | -1} way */
  async toHit(way) {
    if (this.#typing) this.#search();
    if (this.#finder.busy && !this.#finder.hits.length) {
      this.#wanted = way; // who types and presses Enter at once is led there when it is found
      return;
    }
    const seen = this.window.seen;
    const from = this.#current || (way > 0 ? seen.first - 1 : seen.last + 1);
    const hit = await this.#finder.beside(from, way);
    if (!hit || this.#stopping.signal.aborted) return;
    this.#current = hit.record;
    if (this.#folding.ranges.has(hit.record)) {
      this.#folding.unfold(hit.record);
      this.#refold();
      this.window.redraw();
    }
    this.window.reveal(hit.record);
    this.#found();
  }

  async #filter(/** @type {boolean} */ on) {
    if (on) await this.#finder.all();
    this.#folding.onlyHits = on;
    press(this.#on.filter, on);
    const { first } = this.window.seen;
    this.#refold();
    this.window.element.classList.toggle("only-hits", on);
    this.window.redraw();
    this.window.reveal(this.#current || first);
    if (on && this.#finder.more) this.#warn(`These are the first ${count(this.#finder.hits.length)} of ${counted(this.#finder.matches ?? 0, "hit")}.`);
    else this.#warn("");
  }

  // -- keys

  /** The shortcuts that hold while this log is shown. */
  get #shortcuts() {
    return [
      { keys: "/", what: "Search in the log", run: () => this.#on.input.select() },
      { keys: "n", what: "Next hit", run: () => this.toHit(1) },
      { keys: "N", what: "The hit before", run: () => this.toHit(-1) },
      { keys: "e", what: "Next error", run: () => this.toError() },
      { keys: "j", what: "Pick the next line", run: () => this.#step(1, false) },
      { keys: "k", what: "Pick the line before", run: () => this.#step(-1, false) },
      { keys: "J", what: "Pick one more line below", run: () => this.#step(1, true) },
      { keys: "K", what: "Pick one more line above", run: () => this.#step(-1, true) },
      { keys: "g g", what: "Beginning of the log", run: () => this.#toStart() },
      { keys: "G", what: "End of the log, and stay there", run: () => this.window.toEnd() },
      { keys: "w", what: "Break long lines", run: () => this.#wrap() },
      { keys: "f", what: "The log alone, on the whole page", run: () => this.#fullScreen() },
    ];
  }

  /** Keys that mean this only in the log's frame. @param {KeyboardEvent} event */
  #key(event) {
    const inLog = event.target === this.window.element;
    if (event.key === "Escape") {
      if (event.target === this.#on.input && this.#on.input.value) this.search("");
      else if (this.frame.classList.contains("full")) this.#fullScreen();
      else if (!inLog) this.window.element.focus();
      else if (this.#picked) this.pick(null);
    } else if (event.key === "Home" && inLog) this.#toStart();
    else if (event.key === "End" && inLog) this.window.toEnd();
    else return;
    event.preventDefault();
  }

  #toStart() {
    this.window.reveal(1, "top");
    this.#moved();
  }

  /** Pick the next line, or the one before; or one more. */
  #step(/** @type {1 | -1} */ way, /** @type {boolean} */ extend) {
    if (!this.#total) return;
    const picked = this.#picked;
    if (!picked) {
      const { first } = this.window.seen;
      this.pick([first, first]);
      return;
    }
    const next = this.window.next(way > 0 ? picked[1] : picked[0], way);
    if (extend) this.pick(way > 0 ? [picked[0], next] : [next, picked[1]], true);
    else this.pick([next, next], true);
    this.window.reveal(next, "nearest");
  }

  #wrap() {
    this.window.wrap = !this.window.wrap;
    wishes.set("wrap", this.window.wrap ? "on" : "off");
    press(this.#on.wrap, this.window.wrap);
  }

  #fullScreen() {
    const full = this.frame.classList.toggle("full");
    press(this.#on.full, full);
    this.window.element.focus({ preventScroll: true });
    this.window.update();
  }
}

const middle = (/** @type {{ first: number, last: number }} */ { first, last }) => Math.round((first + last) / 2);

/** So many of a list, evenly. */
const every = (/** @type {any[]} */ list, /** @type {number} */ most) => Array.from({ length: most }, (_, index) => list[Math.floor((index * list.length) / most)]);

/** A message without the records before one. @param {any} message @param {number} next */
function trimmed(message, next) {
  if (message.type === "gap") return { ...message, from: Math.max(message.from, next) };
  const skip = next - message.first;
  if (skip <= 0) return message;
  const more = (message.more ?? []).map((/** @type {number} */ index) => index - skip).filter((/** @type {number} */ index) => index >= 0);
  return { ...message, first: next, lines: message.lines.slice(skip), more };
}
