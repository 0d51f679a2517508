// Addresses of lines: "#/builds/7/1/L120-L140". Pure.

const LINES = /^L([1-9][0-9]{0,14})(?:-L([1-9][0-9]{0,14}))?$/;

/** The lines that the last part of an address names; null: it names none. @param {string} part @returns {[number, number] | null} */
export function linesOf(part) {
  const found = LINES.exec(part);
  if (!found) return null;
  const from = Number(found[1]), to = Number(found[2] ?? found[1]);
  return from <= to ? [from, to] : [to, from];
}

/** The address of an attempt, and of some of its lines. @param {number} build @param {number} attempt @param {[number, number] | null} [lines] */
export function addressOf(build, attempt, lines) {
  const where = `#/builds/${build}/${attempt}`;
  if (!lines) return where;
  return lines[0] === lines[1] ? `${where}/L${lines[0]}` : `${where}/L${lines[0]}-L${lines[1]}`;
}
