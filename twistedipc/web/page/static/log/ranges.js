// Sets of records, as ranges: what is folded away, and what is picked. Pure.

/** Numbers, as ranges in order that neither overlap nor touch. Both ends of a range are in it. */
export class Ranges {
  #list;

  /** @param {Iterable<[number, number]>} pairs in any order; they may overlap */
  constructor(pairs = []) {
    /** @type {[number, number][]} */
    const list = [];
    for (const [from, to] of [...pairs].filter(([a, b]) => a <= b).sort((one, other) => one[0] - other[0])) {
      const last = list.at(-1);
      if (last && from <= last[1] + 1) last[1] = Math.max(last[1], to);
      else list.push([from, to]);
    }
    this.#list = list;
  }

  /** The position of the first range that ends at or behind a number. @param {number} number */
  #find(number) {
    let low = 0, high = this.#list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#list[middle][1] < number) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  get empty() {
    return this.#list.length === 0;
  }

  /** @param {number} number */
  has(number) {
    const range = this.#list[this.#find(number)];
    return range !== undefined && range[0] <= number;
  }

  /** How many of the numbers from one to another are in it. @param {number} from @param {number} to */
  count(from, to) {
    let found = 0;
    for (let index = this.#find(from); index < this.#list.length && this.#list[index][0] <= to; index++) {
      found += Math.min(to, this.#list[index][1]) - Math.max(from, this.#list[index][0]) + 1;
    }
    return found;
  }

  /** All other numbers from 1 on. */
  get rest() {
    const pairs = /** @type {[number, number][]} */ ([]);
    let next = 1;
    for (const [from, to] of this.#list) {
      pairs.push([next, from - 1]);
      next = to + 1;
    }
    pairs.push([next, Infinity]);
    return new Ranges(pairs);
  }

  [Symbol.iterator]() {
    return this.#list[Symbol.iterator]();
  }
}
