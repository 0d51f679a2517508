// The addresses in strangers' output that become links: those of the web, and no others. Pure.

const MAX_ADDRESS = 2000; // characters
const MAX_LINKS = 200; // plain addresses of one row that become links
const ADDRESS = /\bhttps?:\/\/[^\s<>"'`\\^{|}]+/gi;

/** The address of a link, if it is of the web; else "". */
export function address(text) {
  if (text.length > MAX_ADDRESS || !/^https?:\/\//i.test(text)) return "";
  try {
    return new URL(text).href;
  } catch {
    return "";
  }
}

/** How long an address is without what belongs to the sentence around it: "(see http://a.example/b)." Linear. */
function lengthOfAddress(text) {
  const open = { ")": surplus(text, "(", ")"), "]": surplus(text, "[", "]") };
  let end = text.length;
  for (;;) {
    const last = text[end - 1];
    if (".,;:!?*".includes(last)) end -= 1;
    else if (open[last] < 0) {
      open[last] += 1;
      end -= 1;
    } else return end;
  }
}

/** How many more brackets a text opens than it closes. */
const surplus = (text, open, close) => text.split(open).length - text.split(close).length;

/** The same runs, cut so that the plain addresses in them are runs with a `link`, also over changes of style. */
export function withAddresses(runs) {
  const whole = runs.map((run) => run.text).join("");
  if (!whole.includes("://")) return runs;
  const found = [];
  for (const match of whole.matchAll(ADDRESS)) {
    const end = match.index + lengthOfAddress(match[0]);
    const link = address(whole.slice(match.index, end));
    if (link) found.push({ start: match.index, end, link });
    if (found.length >= MAX_LINKS) break;
  }
  const cut = [];
  let offset = 0;
  let next = 0;
  for (const run of runs) {
    const end = offset + run.text.length;
    while (offset < end) {
      while (next < found.length && found[next].end <= offset) next += 1;
      const { start, end: stop, link } = found[next] ?? { start: end, end, link: "" };
      const until = Math.min(end, start > offset ? start : stop);
      const text = run.text.slice(run.text.length - (end - offset), run.text.length - (end - until));
      cut.push({ text, style: run.style, link: run.link || (start <= offset ? link : "") });
      offset = until;
    }
  }
  return cut;
}
