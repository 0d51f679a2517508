// The bar beside a log: where its steps, its errors and a search's hits are, and what is seen of it now.

const WIDTH = 12;

export class Marks {
  #jump;
  #drawn = "";

  /** @param {(share: number) => void} jump goes to a place, by its share of the log */
  constructor(jump) {
    this.#jump = jump;
    this.element = document.createElement("canvas");
    this.element.className = "marks";
    this.element.width = WIDTH;
    this.element.setAttribute("aria-hidden", "true"); // all of it can be reached otherwise
    const go = (/** @type {PointerEvent} */ event) => {
      const { top, height } = this.element.getBoundingClientRect();
      this.#jump(Math.min(1, Math.max(0, (event.clientY - top) / height)));
    };
    this.element.addEventListener("pointerdown", (event) => {
      this.element.setPointerCapture(event.pointerId);
      go(event);
    });
    this.element.addEventListener("pointermove", (event) => {
      if (event.buttons & 1) go(event);
    });
  }

  /** A colour of the page's, as a canvas takes it: light or dark as the page is. @param {string} name */
  #colour(name) {
    this.element.style.color = `var(${name})`;
    return getComputedStyle(this.element).color;
  }

  /**
   * @param {{ steps: number[], errors: number[], hits: number[], picked: number | null, seen: { top: number, height: number } }} shares
   */
  draw({ steps, errors, hits, picked, seen }) {
    const height = Math.max(1, Math.round(this.element.clientHeight));
    const place = (/** @type {number} */ share) => Math.min(height - 2, Math.round(share * height));
    const layers = [["--soft", steps, 1], ["--warn", hits, 2], ["--bad", errors, 3], ["--accent", picked === null ? [] : [picked], 3]];
    const lines = layers.map(([colour, shares, thick]) => [colour, [...new Set(/** @type {number[]} */ (shares).map(place))], thick]);
    const now = JSON.stringify([height, this.#colour("--bad"), lines, place(seen.top), Math.round(seen.height * height)]);
    if (now === this.#drawn) return;
    this.#drawn = now;
    if (this.element.height !== height) this.element.height = height;
    const context = this.element.getContext("2d");
    context.clearRect(0, 0, WIDTH, height);
    context.fillStyle = this.#colour("--line");
    context.fillRect(0, place(seen.top), WIDTH, Math.max(8, seen.height * height));
    for (const [colour, places, thick] of /** @type {[string, number[], number][]} */ (lines)) {
      context.fillStyle = this.#colour(colour);
      for (const y of places) context.fillRect(thick === 1 ? 0 : 2, y, thick === 1 ? WIDTH : WIDTH - 4, thick);
    }
  }
}
