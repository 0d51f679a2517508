// Colours of a terminal as they can be read on the page's ground, light or dark. Pure.

// The grounds of lines as the page has them: those that leave the least room, of a line that is picked. Any other colour
// is mended until it has enough contrast: with these where it stands on the page's own ground, and with what it stands on
// where that has a colour too.
export const GROUND = { light: [226, 230, 248], dark: [40, 46, 64] };
const CONTRAST = 4.5; // WCAG 2.2, 1.4.3
export const SIXTEEN = [
  [0, 0, 0], [179, 38, 30], [26, 127, 55], [185, 137, 0], [31, 95, 196], [139, 59, 176], [11, 114, 133], [208, 213, 224],
  [107, 115, 133], [255, 123, 114], [86, 211, 140], [242, 204, 96], [121, 184, 255], [210, 168, 255], [86, 212, 221],
  [255, 255, 255],
];
const MAX_MENDED = 5000;
const mended = new Map();

/** A colour as SGR parameters -> one of the sixteen by its number, or red, green and blue. */
export function colourOf(parameters) {
  const values = parameters.split(/[;:]/).map(Number);
  if (values.length === 1) {
    const [code] = values;
    return code >= 90 ? (code % 10) + 8 : code % 10;
  }
  if (values[1] === 2) return values.slice(-3);
  const n = values[2];
  if (n < 16) return n;
  if (n >= 232) return [8 + (n - 232) * 10, 8 + (n - 232) * 10, 8 + (n - 232) * 10];
  const level = (step) => (step ? 55 + step * 40 : 0);
  return [level(Math.floor((n - 16) / 36)), level(Math.floor((n - 16) / 6) % 6), level((n - 16) % 6)];
}

export function luminance(colour) {
  const [r, g, b] = colour.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

export function contrast(one, other) {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

/** The colour nearest to `ink` on the way to black or white that can be read on `ground`. */
export function readable(ink, ground) {
  const key = `${ink} ${ground}`;
  let found = mended.get(key);
  if (!found) {
    const end = luminance(ground) > 0.18 ? 0 : 255;
    found = ink;
    for (let step = 1; step <= 20 && contrast(found, ground) < CONTRAST; step++) {
      found = ink.map((value) => Math.round(value + ((end - value) * step) / 20));
    }
    if (mended.size >= MAX_MENDED) mended.clear();
    mended.set(key, found);
  }
  return found;
}

/** A colour for a style. */
export const css = (colour) => `rgb(${colour.join(", ")})`;
