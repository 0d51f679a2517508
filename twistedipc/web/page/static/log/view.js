// The log of one attempt: follows it, shows any part of it, searches it, and says whether it is complete.
//
// The server's outline says at once how long the log is and where things are in it. What is seen is asked for by range,
// and what comes live is added at the end. A short log is taken as a whole, so that its digest is checked here; of a long
// one the server's word is shown, and the digest is checked when somebody wants it.

import { api } from "../lib/api.js";
import { count, el } from "../lib/elements.js";
import { addShortcuts } from "../lib/keys.js";
import { here } from "../lib/router.js";
import { addressOf } from "./address.js";
import { blockOf, Blocks, firstOf } from "./blocks.js";
import { drawn, TIMES, timeText } from "./draw.js";
import { Finder } from "./finder.js";
import { Marks } from "./marks.js";
import { Outline } from "./outline.js";
import { Ranges } from "./ranges.js";
import { rowsOf } from "./rows.js";
import { Said } from "./said.js";
import { Style } from "./terminal.js";
import { LogDigest, verdict, verify } from "./verify.js";
import { LogWindow } from "./window.js";

const WHOLE = 5000; // records of a log that is taken as a whole
const TOGETHER = 4; // blocks that are asked for at once
const REQUESTS = 3; // that go on at once
const PATIENCE = 700; // milliseconds for which a failure's cause is waited for
const AGAIN = 2000; // milliseconds until what couldn't be read is asked for again
const CONTEXT = 3; // records around a hit, where only hits are shown
const FILL_TRIES = 40; // times that it is looked whether a short log is drawn, until its end is told all the same
const TYPING = 40; // milliseconds without a key until what is typed is searched
const MAX_COPY = 10_000; // records that are copied
const HASH_AHEAD = 50_000; // records that wait to be hashed; with more, the digest isn't checked here

const NOTHING = new Ranges();

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
  #end = null;
  #begun = 0; // when the log begins, in milliseconds
  /** @type {LogDigest | null} */
  #digest = null;
  #tries = 0; // to find the end drawn
  #unhashed = []; // messages
  #waiting = 0; // records in them
  #hashing = 0;
  #opened = false; // the outline is here, and the first place is found
  /** Steps by index, and groups by record. */
  #foldedSteps = new Set();
  #foldedGroups = new Set();
  #folds = NOTHING;
  #foldVersion = 0;
  #filtered = false;
  #onlyHits = false;
  /** @type {Map<number, { version: string, rows: import("./rows.js").Row[] }>} */
  #rows = new Map();
  #wanted = [];
  #asking = new Set(); // blocks
  #requests = 0;
  #timer = 0;
  #saving = 0;
  #typing = 0;
  #stopping = new AbortController();
  #forget = () => {}; // the shortcuts
  /** @type {[number, number] | null} */
  #picked = null;
  #current = 0; // the record of the hit that was gone to last
  #time = wishes.get("time", "off");
  #said;
  #finder;
  #marks;

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
      version: (block) => `${this.#block(block)?.version ?? "-"}/${this.#foldVersion}/${this.#total < firstOf(block + 1) ? this.#total : ""}`,
      rows: (block) => this.#rowsOf(block),
      visible: (from, to) => Math.max(0, to - from + 1 - this.#folds.count(from, to)),
      style: () => new Style(),
      draw: (row, style) => this.#draw(row, style),
      want: (blocks) => this.#want(blocks),
      moved: () => this.#moved(),
    });
    this.#marks = new Marks((share) => this.window.toShare(share));
    this.#make();
    this.#topic = {
      request: () => ({ topic: "log", build, attempt, after: this.#total }),
      concerns: (/** @type {any} */ message) => message.build === build && (message.attempt === attempt || message.type === "error"),
      heard: (/** @type {any} */ message) => this.#heard(message),
    };
    this.window.wrap = wishes.get("wrap", "off") === "on";
    this.#pressed(this.wrapButton, this.window.wrap);
  }

  // -- the frame around the window

  #make() {
    const button = (/** @type {string} */ label, /** @type {string} */ title, /** @type {() => void} */ onclick, more = {}) =>
      // A name without the words that are seen would be another for somebody who speaks to the browser; a sign is no name.
      el("button", { class: "quiet", type: "button", title, "aria-label": /^\w{3}/.test(label) && !title.toLowerCase().includes(label.toLowerCase()) ? null : title, onclick, ...more }, label);
    this.input = el("input", { type: "search", placeholder: "Search", "aria-label": "Search in this log", spellcheck: "false", autocomplete: "off", maxlength: "1000" });
    this.input.addEventListener("input", () => {
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.#search(), TYPING);
    });
    this.caseButton = button("Aa", "Capital and small letters differ", () => this.#press(this.caseButton), { "aria-pressed": "false" });
    this.regexButton = button(".*", "A regular expression (RE2)", () => this.#press(this.regexButton), { "aria-pressed": "false" });
    this.filterButton = button("Only hits", "Show only lines that match, and some around each", () => this.#filter(!this.#onlyHits), { "aria-pressed": "false", hidden: true });
    this.previous = button("↑", "The hit before (N)", () => this.toHit(-1), { hidden: true });
    this.next = button("↓", "The next hit (n)", () => this.toHit(1), { hidden: true });
    this.found = el("span", { class: "found", role: "status" });
    const find = el("form", { class: "find", role: "search" }, this.input, this.caseButton, this.regexButton, this.previous, this.next, this.filterButton, this.found);
    find.addEventListener("submit", (event) => {
      event.preventDefault();
      this.toHit(1);
    });
    this.errorButton = button("Next error", "Go to the next error (e)", () => this.toError(), { hidden: true });
    this.times = el("select", { "aria-label": "Times of lines" }, el("option", { value: "off" }, "No times"), el("option", { value: "clock" }, "Clock"), el("option", { value: "since" }, "Since start"));
    this.times.value = TIMES.find((each) => each === this.#time) ?? "off";
    this.times.addEventListener("change", () => {
      this.#time = this.times.value;
      wishes.set("time", this.#time);
      this.window.element.dataset.time = this.#time;
      this.window.redraw();
    });
    this.wrapButton = button("Wrap", "Break long lines", () => {
      this.window.wrap = !this.window.wrap;
      wishes.set("wrap", this.window.wrap ? "on" : "off");
      this.#pressed(this.wrapButton, this.window.wrap);
    });
    this.fold = button("Fold", "Fold all steps and groups", () => this.#foldAll(), { hidden: true });
    this.full = button("Full screen", "The log alone, on the whole page (f)", () => this.#fullScreen());
    const file = (/** @type {string} */ label, /** @type {string} */ form) => el("a", { href: this.#path("", `format=${form}&download=1`), download: "" }, label);
    const files = el("details", { class: "menu" }, el("summary", {}, "Download"), el("div", {}, file("As it came, with colours", "ansi"), file("As text", "text"),
      el("a", { href: this.#path("", "format=text&download=1&numbers=true"), download: "" }, "As text with numbers"), file("As JSON", "json")));
    const tools = el("div", { class: "tools" }, this.errorButton, this.times, this.wrapButton, this.fold, files, this.full);
    this.status = el("span", { role: "status" }, "waiting for the first line");
    this.counted = el("span", { class: "counted" });
    this.verifying = button("Verify here", "Read all of the log, and check its SHA-256 in this browser", () => this.#verify(), { hidden: true });
    this.bottom = button("To the end", "Go to the end, and stay there (G)", () => this.window.toEnd(), { hidden: true });
    this.pickedSaid = el("b");
    this.picks = el("span", { class: "picks", hidden: true }, this.pickedSaid, button("Copy", "Copy these lines", () => this.#copy(false)),
      button("with numbers", "Copy these lines with their numbers", () => this.#copy(true)), button("Link", "Copy the address of these lines", () => this.#give(location.href)));
    this.firstBuild = el("a", { class: "first", hidden: true, title: "Search all builds of the project for this line, the oldest first" }, "First build with it");
    this.picks.append(this.firstBuild);
    this.trouble = el("p", { class: "log-trouble", role: "alert", hidden: true });
    this.frame = el("div", { class: "log-frame" }, el("div", { class: "log-bar" }, find, tools), this.#said.bar, this.trouble,
      el("div", { class: "log-place" }, this.window.element, this.#marks.element),
      el("div", { class: "log-foot" }, this.status, this.counted, this.verifying, this.picks, this.bottom));
    this.element = el("div", { class: "log-side" }, this.frame);
    this.window.element.dataset.time = this.#time;
    this.window.element.addEventListener("click", (event) => this.#clicked(event));
    this.frame.addEventListener("keydown", (event) => this.#key(event));
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
    } else this.#digest = new LogDigest();
    this.#outline.begin(whole ? { ...said, groups: [], errors: [], records: 0 } : said);
    this.#opened = true;
    const failed = this.#outline.failed;
    if (failed) {
      for (const step of this.#outline.steps.values()) if (step !== failed) this.#foldedSteps.add(step.index);
    }
    this.#foldThoseThatWant();
    if (this.#picked) this.#unfold(this.#picked[0]);
    if (place !== null) this.#unfold(place);
    const told = new Outline();
    told.begin(said);
    const cause = known ?? (failed ? told.cause ?? null : null);
    if (cause !== null) this.#unfold(cause);
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
    clearTimeout(this.#timer);
    clearTimeout(this.#hashing);
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
    if (this.#digest) this.#hash(fresh);
    if (this.#outline.add(fresh)) {
      this.#changed(this.#outline, false);
      this.errorButton.hidden = this.#outline.errors.length === 0;
      this.fold.hidden = this.#outline.groups.length + this.#outline.steps.size === 0;
      this.#foldThoseThatWant();
      if (this.#foldedSteps.size || this.#foldedGroups.size || this.#foldNew) this.#foldWhatIsNew();
    }
    if (fresh.type === "lines") this.#overhear(fresh);
    if (this.#onlyHits) this.#refold();
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

  #hash(/** @type {any} */ message) {
    this.#unhashed.push(message);
    this.#waiting += message.type === "lines" ? message.lines.length : 0;
    if (this.#waiting > HASH_AHEAD) {
      this.#digest = null;
      this.#unhashed = [];
      this.#waiting = 0;
    } else if (!this.#hashing) this.#hashing = setTimeout(() => this.#hashOn());
  }

  #hashOn() {
    this.#hashing = 0;
    const until = performance.now() + 8;
    while (this.#unhashed.length && performance.now() < until) {
      const message = this.#unhashed.shift();
      this.#waiting -= message.type === "lines" ? message.lines.length : 0;
      this.#digest.add(message);
    }
    if (this.#unhashed.length) this.#hashing = setTimeout(() => this.#hashOn());
    else if (this.#end) this.#finish();
  }

  #finish() {
    if (this.#unhashed.length) return;
    this.#stream.leave(this.#topic);
    // Who reads that it is complete may search it, or copy it.
    if (!this.window.filled && this.#tries < FILL_TRIES) {
      this.#tries += 1;
      clearTimeout(this.#hashing);
      this.#hashing = setTimeout(() => this.#finish(), 25);
      return;
    }
    this.#said.stepOver();
    this.#said.settle();
    this.#say(...verdict(this.#end, this.#digest));
    this.verifying.hidden = this.#digest !== null || !this.#end.complete;
    this.#count();
    if (this.#first !== null) {
      const [from] = this.#picked ?? [this.#first];
      this.#first = null;
      this.#warn(`Line ${count(from)} isn't in this log, which has ${count(this.#total)} lines.`);
    }
    this.#changed(this.#outline, true);
    this.window.update();
  }

  async #verify() {
    this.verifying.disabled = true;
    try {
      const read = (/** @type {number} */ records) => this.#say(`${count(records)} of ${count(this.#end.lines)} lines verified`);
      this.#say(...(await verify(this.#path("", "format=json&follow=1"), this.#stopping.signal, read)));
      this.verifying.hidden = true;
    } catch (error) {
      if (!this.#stopping.signal.aborted) this.#say(`not verified: ${error.message}`, "bad");
    } finally {
      this.verifying.disabled = false;
    }
  }

  #say(/** @type {string} */ text, kind = "") {
    if (this.status.textContent !== text) this.status.textContent = text;
    this.status.className = kind;
  }

  #warn(/** @type {string} */ text) {
    this.trouble.textContent = text;
    this.trouble.hidden = !text;
  }

  #count() {
    this.counted.textContent = this.#end ? "" : `${count(this.#total)} lines`;
    if (!this.#end && this.#opened) {
      this.#say(this.#total ? (this.window.following ? "following" : "the log goes on") : "waiting for the first line");
    }
  }

  // -- what is seen

  #block(/** @type {number} */ index) {
    return this.#blocks.peek(index);
  }

  #rowsOf(/** @type {number} */ index) {
    const block = this.#blocks.peek(index);
    if (!block?.has(this.#total)) return null;
    const version = `${block.version}/${this.#foldVersion}`;
    let kept = this.#rows.get(index);
    if (kept?.version !== version) {
      kept = { version, rows: rowsOf(block, this.#folds) };
      if (this.#rows.size > 64) this.#rows.clear();
      this.#rows.set(index, kept);
    }
    return kept.rows;
  }

  #draw(/** @type {import("./rows.js").Row} */ row, /** @type {any} */ style) {
    const element = drawn(row, style, { stepOf: (index) => this.#outline.steps.get(index), isFolded: (each) => this.#isFolded(each) });
    element.dataset.n = String(row.number);
    if (this.#time !== "off" && row.time !== undefined) element.dataset.t = timeText(row.time, this.#time, this.#begun);
    if (this.#onlyHits && this.#folds.has(row.number - 1)) element.classList.add("apart");
    this.#mark(row, element);
    return element;
  }

  #isFolded(/** @type {import("./rows.js").Row} */ row) {
    if (this.#onlyHits) return null;
    if (row.event.type === "step_started") return this.#foldedSteps.has(row.event.index);
    return this.#outline.groupRange(row.number) ? this.#foldedGroups.has(row.number) : null;
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

  /** Mark the matches themselves, without a change of the rows. */
  #highlight() {
    if (!("highlights" in CSS)) return;
    const ranges = [];
    const current = [];
    if (this.#finder.asked) {
      for (const [row, element] of this.window.elements()) {
        const hit = this.#finder.at(row.number);
        if (hit) (this.#current === row.number ? current : ranges).push(...rangesOf(hit, element));
      }
    }
    CSS.highlights.set("found", new Highlight(...ranges));
    CSS.highlights.set("found-current", new Highlight(...current));
  }

  #want(/** @type {number[]} */ blocks) {
    for (const block of blocks) this.#blocks.get(block); // they are looked at
    this.#wanted = blocks.filter((block) => !this.#block(block)?.has(this.#total));
    this.#ask();
  }

  #ask() {
    if (this.#timer) return;
    while (this.#requests < REQUESTS) {
      const first = this.#wanted.find((block) => !this.#asking.has(block));
      if (first === undefined) return;
      let last = first;
      while (last - first + 1 < TOGETHER && this.#wanted.includes(last + 1) && !this.#asking.has(last + 1)) last += 1;
      this.#read(first, last);
    }
  }

  async #read(/** @type {number} */ first, /** @type {number} */ last) {
    this.#requests += 1;
    for (let block = first; block <= last; block++) this.#asking.add(block);
    const end = Math.min(firstOf(last + 1) - 1, this.#total);
    let got = false;
    try {
      let after = firstOf(first) - 1;
      while (after < end) {
        const page = await api("GET", `/builds/${this.#build}/log?attempt=${this.#attempt}&after=${after}&limit=${end - after}`);
        if (this.#stopping.signal.aborted) return;
        if (page.after <= after) break;
        for (const batch of page.batches) this.#blocks.take(batch, (number) => blockOf(number) >= first && blockOf(number) <= last);
        after = page.after;
        got = true;
        this.window.update();
      }
    } catch {
      // asked for again below
    } finally {
      this.#requests -= 1;
      for (let block = first; block <= last; block++) this.#asking.delete(block);
    }
    if (this.#stopping.signal.aborted) return;
    if (got) this.#ask();
    else if (!this.#timer) {
      this.#timer = setTimeout(() => {
        this.#timer = 0;
        this.window.update();
        this.#ask();
      }, AGAIN);
    }
  }

  #moved() {
    this.bottom.hidden = this.window.following;
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
    if (this.#onlyHits) {
      this.#folds = new Ranges(this.#finder.hits.map(({ record }) => [record - CONTEXT, record + CONTEXT])).rest;
    } else this.#folds = this.#outline.folded(this.#foldedSteps, this.#foldedGroups);
    this.#foldVersion += 1;
    this.fold.hidden = this.#outline.groups.length + this.#outline.steps.size === 0;
    this.errorButton.hidden = this.#outline.errors.length === 0;
    this.#pressed(this.fold, this.#foldNew);
    this.window.refold();
  }

  #foldNew = false; // what comes is folded, too

  #wishesHeard = 0; // groups whose wish has been heard

  /** Fold the groups that want to begin so. */
  #foldThoseThatWant() {
    const { groups } = this.#outline;
    for (const { record, name, folded } of groups.slice(this.#wishesHeard)) if (name && folded) this.#foldedGroups.add(record);
    this.#wishesHeard = groups.length;
  }

  #foldWhatIsNew() {
    if (this.#foldNew) for (const { record, name } of this.#outline.groups) if (name) this.#foldedGroups.add(record);
    this.#refold();
  }

  #foldAll() {
    this.#foldNew = !this.#foldNew;
    this.#foldedGroups.clear();
    this.#foldedSteps.clear();
    if (this.#foldNew) {
      for (const { record, name } of this.#outline.groups) if (name) this.#foldedGroups.add(record);
      for (const step of this.#outline.steps.values()) if (step.ended) this.#foldedSteps.add(step.index);
    }
    this.#refold();
    this.window.redraw();
  }

  #toggle(/** @type {HTMLElement} */ row) {
    const [set, key] = row.dataset.step !== undefined ? [this.#foldedSteps, Number(row.dataset.step)] : [this.#foldedGroups, Number(row.dataset.group)];
    const number = Number(row.dataset.n);
    this.window.hold(number);
    if (!set.delete(key)) set.add(key);
    this.#refold();
    this.window.redraw();
    requestAnimationFrame(() => requestAnimationFrame(() => /** @type {HTMLElement} */ (this.window.rowOf(number)?.querySelector(".fold"))?.focus({ preventScroll: true })));
  }

  /** Have a record be seen: what is around it is unfolded. @param {number} number */
  #unfold(number) {
    for (const index of this.#foldedSteps) {
      const range = this.#outline.stepRange(this.#outline.steps.get(index));
      if (range && number >= range[0] && number <= range[1]) this.#foldedSteps.delete(index);
    }
    for (const record of this.#foldedGroups) {
      const range = this.#outline.groupRange(record);
      if (range && number >= range[0] && number <= range[1]) this.#foldedGroups.delete(record);
    }
  }

  /** Show a record. @param {number} number */
  go(number) {
    if (number > this.#total) return false;
    if (this.#folds.has(number)) {
      if (this.#onlyHits) this.#filter(false);
      this.#unfold(number);
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
    this.#foldedSteps.delete(index);
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
    if (lines[0] > this.#total && this.#end) this.#warn(`Line ${count(lines[0])} isn't in this log, which has ${count(this.#total)} lines.`);
    else this.go(lines[0]);
  }

  #showPicked() {
    const lines = this.#picked;
    this.picks.hidden = lines === null;
    if (!lines) return;
    this.pickedSaid.textContent = lines[0] === lines[1] ? `line ${count(lines[0])}` : `lines ${count(lines[0])} to ${count(lines[1])}`;
    const text = lines[0] === lines[1] ? this.#textOf(lines[0]).trim().slice(0, 500) : "";
    this.firstBuild.hidden = !text || !this.projectName;
    this.firstBuild.href = `#/projects/${encodeURIComponent(this.projectName)}/search/${encodeURIComponent(text)}/oldest`;
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

  #press(/** @type {HTMLElement} */ button) {
    this.#pressed(button, button.getAttribute("aria-pressed") !== "true");
    this.#search();
  }

  #pressed(/** @type {HTMLElement} */ button, /** @type {boolean} */ on) {
    button.setAttribute("aria-pressed", String(on));
  }

  #search() {
    clearTimeout(this.#typing);
    const pressed = (/** @type {HTMLElement} */ button) => button.getAttribute("aria-pressed") === "true";
    this.#current = 0;
    if (this.#onlyHits) this.#filter(false);
    this.#finder.ask({ text: this.input.value, kind: pressed(this.regexButton) ? "regex" : "text", exact: pressed(this.caseButton) }, this.#total);
  }

  /** Search for something: from an address. @param {string} text */
  search(text) {
    this.input.value = text;
    this.#search();
  }

  #found() {
    const finder = this.#finder;
    const known = finder.hits.length;
    const none = finder.asked === null;
    for (const button of [this.next, this.previous, this.filterButton]) {
      button.hidden = none;
      button.disabled = known === 0;
    }
    const all = finder.matches === null ? `${count(known)}+` : `${count(finder.matches)}${finder.complete ? "" : "+"}`;
    const place = this.#current ? finder.placeOf(this.#current) : 0;
    const more = finder.error || (none ? "" : finder.matches === 0 ? "nothing found" : !known ? "searching" : place ? `${count(place)} of ${all}` : `${all} found`);
    if (this.found.textContent !== more) this.found.textContent = more;
    this.found.classList.toggle("bad", finder.error !== "");
    if (!this.#redrawing) {
      this.#redrawing = true;
      requestAnimationFrame(() => {
        this.#redrawing = false;
        if (this.#onlyHits) this.#refold();
        this.#emphasise();
        this.#moved();
      });
    }
  }

  #redrawing = false;

  /** Go to the next hit, or the one before. @param {1 | -1} way */
  async toHit(way) {
    const seen = this.window.seen;
    const from = this.#current || (way > 0 ? seen.first - 1 : seen.last + 1);
    const hit = await this.#finder.beside(from, way);
    if (!hit || this.#stopping.signal.aborted) return;
    this.#current = hit.record;
    if (this.#folds.has(hit.record)) {
      this.#unfold(hit.record);
      this.#refold();
      this.window.redraw();
    }
    this.window.reveal(hit.record);
    this.#found();
  }

  async #filter(/** @type {boolean} */ on) {
    if (on) await this.#finder.all();
    this.#onlyHits = on;
    this.#pressed(this.filterButton, on);
    const { first } = this.window.seen;
    this.#refold();
    this.window.element.classList.toggle("only-hits", on);
    this.window.redraw();
    this.window.reveal(this.#current || first);
    if (on && this.#finder.more) this.#warn(`These are the first ${count(this.#finder.hits.length)} of ${count(this.#finder.matches ?? 0)} hits.`);
    else this.#warn("");
  }

  // -- keys

  /** The shortcuts that hold while this log is shown. */
  get #shortcuts() {
    return [
      { keys: "/", what: "Search in the log", run: () => this.input.select() },
      { keys: "n", what: "Next hit", run: () => this.toHit(1) },
      { keys: "N", what: "The hit before", run: () => this.toHit(-1) },
      { keys: "e", what: "Next error", run: () => this.toError() },
      { keys: "j", what: "Pick the next line", run: () => this.#step(1, false) },
      { keys: "k", what: "Pick the line before", run: () => this.#step(-1, false) },
      { keys: "J", what: "Pick one more line below", run: () => this.#step(1, true) },
      { keys: "K", what: "Pick one more line above", run: () => this.#step(-1, true) },
      { keys: "g g", what: "Beginning of the log", run: () => this.#toStart() },
      { keys: "G", what: "End of the log, and stay there", run: () => this.window.toEnd() },
      { keys: "w", what: "Break long lines", run: () => this.wrapButton.click() },
      { keys: "f", what: "The log alone, on the whole page", run: () => this.#fullScreen() },
    ];
  }

  /** Keys that mean this only in the log's frame. @param {KeyboardEvent} event */
  #key(event) {
    const inLog = event.target === this.window.element;
    if (event.key === "Escape") {
      if (event.target === this.input && this.input.value) this.search("");
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

  #fullScreen() {
    const full = this.frame.classList.toggle("full");
    this.#pressed(this.full, full);
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

/** Where the matches of a hit are in its row. @param {import("./finder.js").Hit} hit @param {HTMLElement} element */
function rangesOf(hit, element) {
  const text = element.textContent;
  const ranges = [];
  let at = text.startsWith(hit.parts.join("")) ? 0 : Math.max(0, text.indexOf(hit.parts.join("")));
  const places = [];
  hit.parts.forEach((part, index) => {
    if (index % 2 && part && text.startsWith(part, at)) places.push([at, at + part.length]);
    at += part.length;
  });
  if (!places.length) return ranges;
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  let begin = 0;
  let next = 0;
  let open = null;
  for (let node = walker.nextNode(); node && next < places.length; node = walker.nextNode()) {
    const end = begin + /** @type {Text} */ (node).data.length;
    while (next < places.length) {
      const [from, to] = places[next];
      if (!open && from < end) {
        open = document.createRange();
        open.setStart(node, from - begin);
      }
      if (!open || to > end) break;
      open.setEnd(node, to - begin);
      ranges.push(open);
      open = null;
      next += 1;
    }
    begin = end;
  }
  return ranges;
}
