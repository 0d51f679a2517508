// SHA-256, piece by piece (FIPS 180-4). The browser's own can't do that, and is missing on plain http.

export class SHA256 {
  static #K = new Uint32Array(64);
  static {
    // The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
    let found = 0;
    for (let number = 2; found < 64; number++) {
      let prime = true;
      for (let divisor = 2; divisor * divisor <= number; divisor++) if (number % divisor === 0) prime = false;
      if (prime) SHA256.#K[found++] = (Math.cbrt(number) % 1) * 2 ** 32;
    }
  }
  #state = Uint32Array.of(
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
  );
  #block = new Uint8Array(64);
  #view = new DataView(this.#block.buffer);
  #schedule = new Int32Array(64);
  #filled = 0;
  #length = 0;

  update(bytes) {
    this.#length += bytes.length;
    for (let offset = 0; offset < bytes.length; ) {
      const size = Math.min(64 - this.#filled, bytes.length - offset);
      this.#block.set(bytes.subarray(offset, offset + size), this.#filled);
      this.#filled += size;
      offset += size;
      if (this.#filled === 64) this.#compress();
    }
  }

  /** The digest in hexadecimal. Nothing can be added afterwards. */
  digest() {
    const bits = this.#length * 8;
    const padding = new Uint8Array(((this.#filled < 56 ? 56 : 120) - this.#filled) + 8);
    padding[0] = 0x80;
    const view = new DataView(padding.buffer);
    view.setUint32(padding.length - 8, Math.floor(bits / 2 ** 32));
    view.setUint32(padding.length - 4, bits >>> 0);
    this.update(padding);
    return Array.from(this.#state, (word) => word.toString(16).padStart(8, "0")).join("");
  }

  #compress() {
    const w = this.#schedule, k = SHA256.#K, state = this.#state;
    for (let i = 0; i < 16; i++) w[i] = this.#view.getInt32(i * 4);
    for (let i = 16; i < 64; i++) {
      const x = w[i - 15], y = w[i - 2];
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 64; i++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + k[i] + w[i]) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g; g = f; f = e; e = (d + t1) | 0; d = c; c = b; b = a; a = (t1 + t2) | 0;
    }
    [a, b, c, d, e, f, g, h].forEach((word, i) => { state[i] += word; });
    this.#filled = 0;
  }
}
