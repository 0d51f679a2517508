// The bar beside a log: where its steps, its errors and a search's hits are, and what is seen of it now.

const WIDTH = 12;
const COLOURS = 1000; // milliseconds for which the page's colours are taken to stay

export class Marks {
  #jump;
  #drawn = "";
  #height = 0; // 0: it isn't known. To ask makes the browser lay out all that was drawn just before
  /** The page's colours as a canvas takes them, and until when they are taken to be so. */
  #colours = new Map();
  #until = 0;

  /** @param {(share: number) => void} jump goes to a place, by its share of the log */
  constructor(jump) {
    this.#jump = jump;
    this.element = document.createElement("canvas");
    this.element.className = "marks";
    this.element.width = WIDTH;
    this.element.setAttribute("aria-hidden", "true"); // all of it can be reached otherwise
    new ResizeObserver(() => (this.#height = this.element.clientHeight)).observe(this.element);
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
    // To ask makes the browser find out the styles of all that was drawn just before.
    if (performance.now() > this.#until) {
      this.#colours.clear();
      this.#until = performance.now() + COLOURS;
    }
    if (!this.#colours.has(name)) {
      this.element.style.color = `var(${name})`;
      this.#colours.set(name, getComputedStyle(this.element).color);
    }
    return this.#colours.get(name);
  }

  /**
   * @param {{ steps: number[], errors: number[], hits: number[], picked: number | null, seen: { top: number, height: number } }} shares
   */
  draw({ steps, errors, hits, picked, seen }) {
    const height = Math.max(1, Math.round((this.#height ||= this.element.clientHeight)));
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
