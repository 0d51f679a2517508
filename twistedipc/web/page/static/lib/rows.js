// Rows of a list that are asked for again one by one, and when a list is asked for again; and how many of a long list are
// drawn. No browser.

const TOGETHER = 500; // milliseconds in which rows that change are asked for together
const FEW = 3;

/** One pause at a time, after which something is done. */
export class Pause {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** Begin it, in place of one that goes on. @param {() => void} then @param {number} milliseconds */
  begin(then, milliseconds) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      then();
    }, milliseconds);
  }

  /** Begin it unless one goes on, which ends when it was to end. @param {() => void} then @param {number} milliseconds */
  ensure(then, milliseconds) {
    if (this.#timer === undefined) this.begin(then, milliseconds);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}

/**
 * Asks again for the rows of a list that have changed. Those that change within `TOGETHER` are asked for together: one by
 * one if they are few, since a build that ends somewhere mustn't cost the server a list of hundreds for each page that is
 * open; else the whole list. The next ones are asked for when these are there, so that no older row replaces a newer one.
 */
export class RowsAgain {
  #names = /** @type {Set<string>} */ (new Set());
  #pause = new Pause();
  #asks = false;
  #stopped = false;

  /**
   * @param {() => { data: { projects: any[] } | null, put: (data: any) => void, reload: () => Promise<void> }} list as it is now
   * @param {(name: string) => Promise<{ projects: any[] } | null>} ask a row in a list, which is empty where there is none;
   *   null: it was refused
   */
  constructor(list, ask) {
    this.list = list;
    this.ask = ask;
  }

  /** @param {string} name whose row has changed */
  changed(name) {
    this.#names.add(name);
    this.#next();
  }

  /** The list is no longer shown. */
  stop() {
    this.#stopped = true;
    this.#pause.stop();
  }

  #next() {
    if (this.#names.size && !this.#asks && !this.#stopped) this.#pause.ensure(() => this.#begin(), TOGETHER);
  }

  async #begin() {
    this.#asks = true;
    try {
      await this.#once();
    } finally {
      this.#asks = false;
      this.#next();
    }
  }

  async #once() {
    const wanted = [...this.#names];
    this.#names.clear();
    const before = this.list().data;
    if (!before || wanted.length > FEW) return this.list().reload();
    const found = await Promise.all(wanted.map(this.ask));
    if (this.#stopped) return;
    const { data, put, reload } = this.list();
    if (found.includes(null)) return reload(); // which says what is wrong, and asks until it is well
    if (data !== before) {
      // The list was answered meanwhile: which of both is newer isn't known.
      for (const name of wanted) this.#names.add(name);
      return;
    }
    const rows = new Map(found.flatMap((answer) => answer.projects).map((row) => [row.name, row]));
    if (wanted.some((name) => rows.has(name) !== data.projects.some((row) => row.name === name))) return reload();
    put({ projects: data.projects.map((row) => rows.get(row.name) ?? row) });
  }
}

export const PART = 20; // rows that come at a time: 50 of them, with their icons and times, keep a slow machine busy for over 100 ms

/**
 * How many rows may be drawn of a list that has this many now. One that a filter has made short, and that is long again,
 * comes part by part as at first: hundreds at once keep the page from answering.
 * @param {number} most that might be before
 * @param {number} length
 */
export const fewer = (most, length) => Math.max(PART, Math.min(most, length));

/**
 * Rows that are the same objects as before where nothing of them has changed, so that they aren't drawn again.
 * @template {{ name: string }} T
 * @param {T[]} before
 * @param {T[]} now
 * @returns {T[]}
 */
export function kept(before, now) {
  const known = new Map(before.map((row) => [row.name, row]));
  return now.map((row) => {
    const old = known.get(row.name);
    return old !== undefined && (old === row || JSON.stringify(old) === JSON.stringify(row)) ? old : row;
  });
}
