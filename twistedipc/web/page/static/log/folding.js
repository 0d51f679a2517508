// What is folded away of a log: steps, groups, or all that isn't near a search's hit. Pure.

import { Ranges } from "./ranges.js";

/** @typedef {import("./outline.js").Outline} Outline */

const CONTEXT = 3; // records around a hit, where only hits are shown

export class Folding {
  #outline;
  #steps = new Set(); // by index
  #groups = new Set(); // by record
  #known = 0; // the last group that has come
  /** The records that are folded away. */
  ranges = new Ranges();
  /** Rises whenever others are. */
  version = 0;
  /** Whether what comes is folded, too. */
  all = false;
  /** Whether only hits are shown. */
  onlyHits = false;

  /** @param {Outline} outline which changes */
  constructor(outline) {
    this.#outline = outline;
  }

  /** Whether anything is folded by hand, so that what comes may be folded away with it. */
  get any() {
    return this.all || this.#steps.size > 0 || this.#groups.size > 0;
  }

  /** Groups have come: some begin folded, and all do where all are. */
  came() {
    for (const { record, name, folded } of this.#outline.groups) {
      if (record > this.#known && name && (folded || this.all)) this.#groups.add(record);
    }
    this.#known = Math.max(this.#known, this.#outline.groups.at(-1)?.record ?? 0);
  }

  /** Find out what is folded away now. @param {{ record: number }[]} hits */
  settle(hits) {
    this.ranges = this.onlyHits
      ? new Ranges(hits.map(({ record }) => [record - CONTEXT, record + CONTEXT])).rest
      : this.#outline.folded(this.#steps, this.#groups);
    this.version += 1;
  }

  /** Whether a heading's lines are folded away; null: it can't be folded. @param {any} event @param {number} record */
  of(event, record) {
    if (this.onlyHits) return null;
    if (event.type === "step_started") return this.#steps.has(event.index);
    return this.#outline.groupRange(record) ? this.#groups.has(record) : null;
  }

  /** @param {number} index */
  toggleStep(index) {
    if (!this.#steps.delete(index)) this.#steps.add(index);
  }

  /** @param {number} record */
  toggleGroup(record) {
    if (!this.#groups.delete(record)) this.#groups.add(record);
  }

  toggleAll() {
    this.all = !this.all;
    this.#steps.clear();
    this.#groups.clear();
    if (!this.all) return;
    for (const { record, name } of this.#outline.groups) if (name) this.#groups.add(record);
    for (const step of this.#outline.steps.values()) if (step.ended) this.#steps.add(step.index);
  }

  /** Fold all steps but one. @param {import("./outline.js").Step} kept */
  allBut(kept) {
    for (const step of this.#outline.steps.values()) if (step !== kept) this.#steps.add(step.index);
  }

  /** Have a record be seen: what is around it is unfolded. @param {number} number */
  unfold(number) {
    const within = (/** @type {[number, number] | null} */ range) => range !== null && number >= range[0] && number <= range[1];
    for (const index of this.#steps) {
      const step = this.#outline.steps.get(index);
      if (step && (step.first === number || within(this.#outline.stepRange(step)))) this.#steps.delete(index);
    }
    for (const record of this.#groups) if (within(this.#outline.groupRange(record))) this.#groups.delete(record);
  }
}
