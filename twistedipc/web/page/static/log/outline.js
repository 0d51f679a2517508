// Where things are in a log: its steps, groups and errors, by the server's outline and by what has come since. Pure.

import { Ranges } from "./ranges.js";

/**
 * @typedef {{ index: number, name: string, outcome: string, started: number, ended: number | null,
 *   first: number | null, last: number | null, exit_code?: number | null }} Step times in milliseconds
 * @typedef {{ record: number, step: number, name: string, folded?: boolean }} Group
 */

const MAX_GROUPS = 1000; // that can be folded; further groups are plain headings
const MAX_TOLD = 50; // whose words are kept
const MAX_TEXT = 300; // characters of these
const MAX_ERRORS = 1000; // that are found one after the other

export class Outline {
  /** By index. @type {Map<number, Step>} */
  steps = new Map();
  /** In the log's order; one without a name ends the one before. @type {Group[]} */
  groups = [];
  /** Records that say that something has failed, in order. @type {number[]} */
  errors = [];
  /** The first of them, in words. @type {{ record: number, what: string, message: string }[]} */
  told = [];
  #step = -1; // that goes on now
  #until = 0; // events up to this record are known

  /** Take over what the server says of the log up to a record. @param {any} said */
  begin(said) {
    for (const step of said.steps) {
      this.steps.set(step.index, { ...step, started: Date.parse(step.started), ended: step.ended ? Date.parse(step.ended) : null });
      if (step.first !== null && step.last === null) this.#step = step.index;
    }
    this.groups = said.groups.slice(0, MAX_GROUPS);
    this.errors = said.errors.map((/** @type {{ record: number }} */ { record }) => record);
    this.told = said.errors.slice(0, MAX_TOLD);
    this.#until = said.records;
  }

  /** Take a message of the log into account, behind all before it; whether that changed anything. @param {any} message */
  add(message) {
    if (message.type !== "lines") return false;
    let changed = false;
    message.lines.forEach((/** @type {any} */ record, /** @type {number} */ index) => {
      if (typeof record === "string" || message.first + index <= this.#until) return;
      changed = this.#event(record, message.first + index, message.time) || changed;
    });
    return changed;
  }

  /** @param {any} event @param {number} record @param {number} time */
  #event(event, record, time) {
    if (event.type === "step_started") {
      this.#step = event.index;
      this.steps.set(event.index, { index: event.index, name: event.name, outcome: "running", started: time, ended: null, first: record, last: null });
    } else if (event.type === "step_ended") {
      const known = this.steps.get(event.index);
      this.#step = -1;
      const name = known?.name ?? `step ${event.index + 1}`;
      this.steps.set(event.index, { index: event.index, name, outcome: event.outcome, started: time - event.milliseconds, ended: time,
        first: known?.first ?? null, last: record, exit_code: event.exit_code });
      if (event.outcome !== "succeeded") this.#error(record, "step", "");
    } else if (event.type === "group") {
      if (this.groups.length < MAX_GROUPS) this.groups.push({ record, step: this.#step, name: event.name, folded: event.folded === true });
    } else if ((event.type === "annotation" || event.type === "notice") && event.level === "error") {
      this.#error(record, event.type, String(event.message ?? ""));
    } else return false;
    return true;
  }

  #error(/** @type {number} */ record, /** @type {string} */ what, /** @type {string} */ message) {
    if (this.told.length < MAX_TOLD) this.told.push({ record, what, message: message.slice(0, MAX_TEXT) });
    if (this.errors.length < MAX_ERRORS) this.errors.push(record);
  }

  /** The step that has failed; undefined if none has. */
  get failed() {
    return [...this.steps.values()].find(({ outcome }) => outcome !== "succeeded" && outcome !== "running");
  }

  /** Where to look first: an error of the step that failed, before its end; else the first error. @returns {number | undefined} */
  get cause() {
    const step = this.failed;
    return this.errors.find((record) => step && record >= (step.first ?? 0) && record <= (step.last ?? Infinity)) ?? this.errors[0];
  }

  /** The records below a step's heading. @param {Step} step @returns {[number, number] | null} */
  stepRange({ first, last }) {
    return first === null ? null : [first + 1, last ?? Infinity];
  }

  /** The records below a group's heading. @param {number} record @returns {[number, number] | null} */
  groupRange(record) {
    const at = this.groups.findIndex((group) => group.record === record);
    if (at < 0 || !this.groups[at].name) return null;
    const { step } = this.groups[at];
    const next = this.groups[at + 1];
    const last = this.steps.get(step)?.last ?? null;
    const end = last !== null && last > record ? last : Infinity; // it may come behind its step
    return [record + 1, Math.min(end, next ? next.record : Infinity) - 1];
  }

  /** What is folded away. @param {Set<number>} steps by index @param {Set<number>} groups by record */
  folded(steps, groups) {
    const pairs = [...steps].map((index) => this.steps.get(index)).map((step) => step && this.stepRange(step));
    return new Ranges([...pairs, ...[...groups].map((record) => this.groupRange(record))].filter((pair) => pair !== null && pair !== undefined));
  }
}

export const NAMED = 3; // errors, and new lines, of a failure's card

/**
 * The errors that the card names: what the server has found to be wrong, and what was said to be. An annotation is also in
 * the list of them: beside the server's word it would only be the same once more.
 * @param {{ record: number, what: string, message: string }[]} told
 * @param {{ record: number, text: string } | null} error
 * @returns {{ record: number, text: string }[]}
 */
export function named(told, error) {
  const said = told.filter(({ what, record }) => what !== "step" && !(error && (what === "annotation" || record === error.record)));
  return [...(error ? [error] : []), ...said.map(({ record, message }) => ({ record, text: message }))].slice(0, NAMED);
}
