// Marks the matches of a search in rows, without a change of the rows: by the browser's own highlights.

/** @typedef {import("./finder.js").Hit} Hit */

/**
 * @param {Iterable<[import("./rows.js").Row, HTMLElement]>} rows
 * @param {(record: number) => Hit | undefined} hitOf
 * @param {number} current the record of the hit that was gone to last
 */
export function highlight(rows, hitOf, current) {
  if (!("highlights" in CSS)) return; // an older browser: its rows are marked all the same
  const found = [], now = [];
  for (const [row, element] of rows) {
    const hit = hitOf(row.number);
    if (hit) (current === row.number ? now : found).push(...rangesOf(hit, element));
  }
  CSS.highlights.set("found", new Highlight(...found));
  CSS.highlights.set("found-current", new Highlight(...now));
}

/** Where the matches of a hit are in its row. @param {Hit} hit @param {HTMLElement} element */
function rangesOf(hit, element) {
  const text = element.textContent;
  const places = [];
  let at = Math.max(0, text.indexOf(hit.parts.join("")));
  hit.parts.forEach((part, index) => {
    if (index % 2 && part && text.startsWith(part, at)) places.push([at, at + part.length]);
    at += part.length;
  });
  const ranges = [];
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  let begin = 0, next = 0;
  let open = /** @type {Range | null} */ (null);
  for (let node = walker.nextNode(); node && next < places.length; node = walker.nextNode()) {
    const end = begin + /** @type {Text} */ (node).data.length;
    while (next < places.length) {
      const [from, to] = places[next];
      if (!open && from < end) {
        open = document.createRange();
        open.setStart(node, from - begin);
      }
      if (!open || to > end) break;
      open.setEnd(node, to - begin);
      ranges.push(open);
      open = null;
      next += 1;
    }
    begin = end;
  }
  return ranges;
}
