// A build's gist: its progress, its annotations, its summary. Shown above its log.
//
// All of it comes from strangers, at any rate: it becomes text, what is kept is bounded, and elements are made once a
// frame, by `settle`.

import { count, counted, el, percent } from "../lib/elements.js";
import { markdown } from "./markdown.js";
import { clean } from "./terminal.js";

const LEVELS = ["error", "warning", "notice"];
const MAX_LISTED = 100; // remarks of a level that are listed; all are in the log

/** "a.ts:12", "a.ts" or "". */
const placeOf = ({ file, line }) => (file ? clean(file) + (line ? `:${line}` : "") : "");
const levelOf = ({ level }) => (LEVELS.includes(level) ? level : "notice");

/** The gist of a build in a list: a bar while there is progress, and how many remarks there are. */
export function briefly({ progress, annotations }) {
  const said = el("span", { class: "said" });
  if (progress) {
    const share = percent(progress.value);
    const label = clean(progress.label);
    const meter = el("progress", { max: "1", value: progress.value, "aria-label": "Progress", "aria-valuetext": `${share} ${label}`.trim() });
    said.append(meter, el("span", { class: "share" }, share), el("span", { class: "label", title: label }, label));
  }
  for (const level of LEVELS) {
    const found = annotations[`${level}s`];
    if (found) said.append(el("span", { class: "remarked", "data-level": level }, counted(found, level)));
  }
  return said;
}

/** A remark as a line of the log. */
export function remarkNode(event, number) {
  const place = placeOf(event);
  return el("span", { class: "remark", "data-level": levelOf(event), "data-record": number, tabindex: "-1" },
    place ? el("b", {}, `${place}: `) : null, `${levelOf(event)}: ${clean(event.message)}`);
}

/** What is above a log. `jump(number)` shows that record in the log, and tells whether it could. */
export class Said {
  #jump;
  #step = null; // the newest progress
  #stepDrawn = null;
  #counts = { error: 0, warning: 0, notice: 0 };
  #fresh = []; // remarks that have yet to be listed
  #countsDrawn = 0;
  #summary = null;
  #summaryDrawn = null;

  constructor(jump) {
    this.#jump = jump;
    this.meter = el("progress", { max: "1", "aria-label": "Progress" });
    this.label = el("span", { class: "label" });
    this.share = el("span", { class: "share" });
    /** For the head of the log; hidden while there is no progress. */
    this.bar = el("div", { class: "progress", hidden: true }, this.label, this.meter, this.share);
    this.counts = el("summary");
    this.lists = Object.fromEntries(LEVELS.map((level) => [level, el("ul", { "data-level": level, hidden: true })]));
    this.remarks = el("details", { class: "card remarks", open: "", hidden: true }, this.counts,
      el("div", { class: "scroll" }, ...LEVELS.map((level) => this.lists[level])));
    this.text = el("div", { class: "scroll markdown" });
    this.summary = el("details", { class: "card", open: "", hidden: true }, el("summary", {}, "Summary"), this.text);
  }

  /** Take over how many remarks there are, and the first of them: of a log that isn't read from its beginning. */
  begin(counts, remarks) {
    for (const level of LEVELS) this.#counts[level] = counts[`${level}s`];
    for (const remark of remarks) this.#fresh.push([levelOf(remark), remark, remark.record]);
  }

  progress(event) {
    this.#step = event;
  }

  /** Forget the progress of the step, which has ended. */
  stepOver() {
    this.#step = null;
  }

  annotation(event, number) {
    const level = levelOf(event);
    this.#counts[level] += 1;
    if (this.#counts[level] <= MAX_LISTED) this.#fresh.push([level, event, number]);
  }

  summarised(event) {
    this.#summary = event.markdown;
  }

  /** Show what has come since the last frame. */
  settle() {
    if (this.#step !== this.#stepDrawn) this.#drawProgress((this.#stepDrawn = this.#step));
    const total = LEVELS.reduce((sum, level) => sum + this.#counts[level], 0);
    if (total !== this.#countsDrawn) {
      this.#countsDrawn = total;
      this.#drawRemarks();
    }
    if (this.#summary !== this.#summaryDrawn) {
      this.#summaryDrawn = this.#summary;
      this.text.replaceChildren(markdown(this.#summary));
      this.summary.hidden = !this.text.textContent.trim();
    }
  }

  #drawProgress(event) {
    this.bar.hidden = !event;
    if (!event) return;
    const share = percent(event.value);
    const label = clean(event.label ?? "");
    this.meter.value = event.value;
    this.meter.setAttribute("aria-valuetext", `${share} ${label}`.trim());
    this.share.textContent = share;
    this.label.textContent = this.label.title = label;
  }

  #drawRemarks() {
    for (const [level, event, number] of this.#fresh) {
      const place = placeOf(event);
      const button = el("button", { type: "button" }, el("span", {}, place ? el("code", {}, place) : null, clean(event.message)));
      button.addEventListener("click", () => {
        if (this.#jump(number)) return;
        button.disabled = true;
        button.title = "This part of the log isn't shown here any more";
      });
      this.lists[level].append(el("li", {}, button));
    }
    this.#fresh = [];
    this.counts.replaceChildren();
    for (const level of LEVELS) {
      const found = this.#counts[level];
      if (!found) continue;
      this.lists[level].hidden = false;
      this.counts.append(el("span", { "data-level": level }, counted(found, level)));
      const rest = this.lists[level].querySelector(".rest");
      if (found <= MAX_LISTED) continue;
      const text = `and ${count(found - MAX_LISTED)} more in the log`;
      if (rest) rest.textContent = text;
      else this.lists[level].append(el("li", { class: "rest" }, text));
    }
    this.remarks.hidden = false;
  }
}
