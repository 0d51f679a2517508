// Addresses: what stands behind the "#" of the page's address.

const NUMBER = /^[1-9][0-9]{0,14}$/;

/**
 * Read an address: `{ view, … }` with what it names, or `{ view: "unknown" }`.
 * @param {string} hash
 */
export function parse(hash) {
  const path = hash.replace(/^#\/?/, "");
  let parts;
  try {
    parts = path.split("/").map(decodeURIComponent);
  } catch {
    return { view: "unknown" }; // a "%" that begins no character
  }
  const [what, first, second, third, fourth, ...more] = parts;
  if (path === "" || path === "builds") return { view: "builds" };
  if (what === "builds" && NUMBER.test(first) && (second === undefined || NUMBER.test(second)) && third === undefined) {
    return { view: "build", id: Number(first), attempt: second ? Number(second) : null };
  }
  if (what === "projects" && first && second === "packages" && third && fourth === undefined) return { view: "package", project: first, name: third };
  if (what === "projects" && first && second === undefined) return { view: "project", project: first };
  if (what === "visit" && first && fourth !== undefined && !more.length) return { view: "visit", project: first, host: second, challenge: third, path: fourth };
  if (path === "audit" || path === "you") return { view: path };
  return { view: "unknown" };
}
