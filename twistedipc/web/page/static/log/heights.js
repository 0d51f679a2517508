// How high each block of a log is, and which one is at a height: both in a logarithmic number of steps, however long the
// log is. Pure.

/** A list of heights that knows the sum before each one (a Fenwick tree). */
export class Heights {
  #tree = new Float64Array(1024); // from 1; each node has the sum of as many heights as its lowest bit
  #own = new Float64Array(1024);
  #length = 0;

  get length() {
    return this.#length;
  }

  /** The sum of all. */
  get total() {
    return this.top(this.#length);
  }

  /** @param {number} index */
  get(index) {
    return index < this.#length ? this.#own[index] : 0;
  }

  /** The sum of those before this one. @param {number} index */
  top(index) {
    let sum = 0;
    for (let node = Math.min(index, this.#length); node > 0; node &= node - 1) sum += this.#tree[node];
    return sum;
  }

  /** @param {number} height */
  push(height) {
    const node = this.#length + 1;
    if (node >= this.#tree.length) this.#grow();
    let sum = height;
    for (let bit = 1; !(node & bit); bit <<= 1) sum += this.#tree[node - bit];
    this.#tree[node] = sum;
    this.#own[this.#length] = height;
    this.#length += 1;
  }

  /** Change one; whether it was another. @param {number} index @param {number} height */
  set(index, height) {
    const more = height - this.#own[index];
    if (!more) return false;
    this.#own[index] = height;
    for (let node = index + 1; node <= this.#length; node += node & -node) this.#tree[node] += more;
    return true;
  }

  /** The one that is at this height: the last whose top isn't below it, of those that have a height at all. @param {number} y */
  at(y) {
    let index = 0;
    let left = Math.max(0, y);
    let bit = 1;
    while (bit * 2 <= this.#length) bit *= 2;
    for (; bit; bit >>= 1) {
      const node = index + bit;
      if (node > this.#length || this.#tree[node] > left) continue;
      index = node;
      left -= this.#tree[node];
    }
    // Behind the end: the last one that is seen.
    if (index >= this.#length) for (index = this.#length - 1; index > 0 && !this.#own[index]; index--);
    return Math.max(0, index);
  }

  #grow() {
    for (const name of /** @type {const} */ (["tree", "own"])) {
      const old = name === "tree" ? this.#tree : this.#own;
      const larger = new Float64Array(old.length * 2);
      larger.set(old);
      if (name === "tree") this.#tree = larger;
      else this.#own = larger;
    }
  }
}
