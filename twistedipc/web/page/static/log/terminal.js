// Strangers' output as nodes of the page: texts, spans for their styles, and links.

import { address, withAddresses } from "./weblinks.js";
import { colourOf, css, GROUND, luminance, readable, SIXTEEN } from "./colours.js";
import { PLAIN, runsOf } from "./drawing.js";

export { clean, draw, movesUp } from "./drawing.js";

const CLASSES = { bold: "b", dim: "d", italic: "i", underline: "u", reverse: "v", hidden: "h", strike: "s", over: "over" };
const UNDERLINE_STYLES = { 21: "double", "4:3": "wavy", "4:4": "dotted", "4:5": "dashed" };
const LINES = { underline: "underline", strike: "line-through", over: "overline" };

/** A text in a style. One of the sixteen colours is a class, so that it fits light and dark. */
function node(text, style) {
  if (!style.key) return document.createTextNode(text);
  const span = document.createElement("span");
  span.textContent = text;
  for (const [slot, name] of Object.entries(CLASSES)) if (style[slot]) span.classList.add(name);
  const lines = Object.keys(LINES).filter((slot) => style[slot]);
  if (lines.length > 1) span.style.textDecorationLine = lines.map((slot) => LINES[slot]).join(" ");
  if (UNDERLINE_STYLES[style.underline]) span.style.textDecorationStyle = UNDERLINE_STYLES[style.underline];
  if (style.line && style.underline) {
    const colour = colourOf(style.line);
    span.style.textDecorationColor = css(typeof colour === "number" ? SIXTEEN[colour] : colour);
  }
  const front = style.front ? colourOf(style.front) : null;
  const back = style.back ? colourOf(style.back) : null;
  if (typeof front === "number") span.classList.add(`f${front}`);
  else if (front) span.style.color = css(front);
  if (typeof back === "number") span.classList.add(`g${back}`);
  else if (back) span.style.backgroundColor = css(back);
  if (Array.isArray(back) || Array.isArray(front)) {
    const ground = typeof back === "number" ? SIXTEEN[back] : back;
    const ink = typeof front === "number" ? SIXTEEN[front] : front;
    span.classList.add("ink");
    for (const [theme, own] of Object.entries(GROUND)) {
      // Without a colour of its own, the text is black or white on its ground.
      const on = ground ?? own;
      span.style.setProperty(`--on-${theme}`, css(readable(ink ?? (luminance(on) > 0.18 ? [0, 0, 0] : [255, 255, 255]), on)));
    }
  }
  return span;
}

/** Runs as nodes. A link shows where it leads: by its title, and by its host behind a text that isn't its address. */
export function nodesOfRuns(runs) {
  const nodes = [];
  let link = null;
  for (const run of withAddresses(runs)) {
    if (!run.link) {
      nodes.push(node(run.text, run.style));
      link = null;
      continue;
    }
    if (link?.href !== run.link) {
      link = document.createElement("a");
      Object.assign(link, { href: run.link, title: run.link, target: "_blank", rel: "noreferrer noopener", className: "link" });
      nodes.push(link);
    }
    link.append(node(run.text, run.style));
    if (address(link.textContent) === run.link) delete link.dataset.to;
    else link.dataset.to = new URL(run.link).host;
  }
  return nodes;
}

/** The style that goes on from line to line. */
export class Style {
  now = PLAIN;

  copy() {
    const copy = new Style();
    copy.now = this.now;
    return copy;
  }

  reset() {
    this.now = PLAIN;
  }

  /** Go on behind a line that isn't shown. @param {string} text */
  take(text) {
    this.now = runsOf(text, this.now).style;
  }
}

/** A line by itself as nodes, clean and in its colours. `style` is the one before it, and then the one after it. */
export function nodesOf(text, style) {
  const drawn = runsOf(text, style.now);
  style.now = drawn.style;
  return nodesOfRuns(drawn.runs);
}
