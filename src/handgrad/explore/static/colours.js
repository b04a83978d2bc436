/** Colours of numbers: from the paper for zero to blue below it and orange above, or to blue for amounts. */
import { colour } from "./dom.js";

const CLIPPED = 6; // a number this many times the root mean square takes no part in the range of the colours

const SHADES = 512; // of a ramp, where a picture is made pixel by pixel

function rgb(text) {
  const c = d3.rgb(text);
  return [c.r, c.g, c.b];
}

const mixed = (zero, far, t) => zero.map((from, i) => Math.round(from + t ** 0.8 * (far[i] - from)));
const packed = ([r, g, b]) => (255 << 24 | b << 16 | g << 8 | r) >>> 0; // as a canvas has it, byte by byte
const ramps = new Map();

function ramp(zero, far) {
  const key = `${zero} ${far}`;
  if (!ramps.has(key)) ramps.set(key, Uint32Array.from({ length: SHADES + 1 }, (_, k) => packed(mixed(zero, far, k / SHADES))));
  return ramps.get(key);
}

/** The pixel of a colour of the style sheet. */
export const pixel = (name) => packed(rgb(colour(name)));

/** The colours of the style sheet as they are now: asked for once where many pictures are drawn. */
export const palette = () => ["heat-zero", "heat-below", "heat-above", "heat-amount", "heat-none"].map((name) => rgb(colour(name)));

/** {limit, clipped, of(x) -> "rgb()", pixels() -> x -> its pixel, signed} for these numbers. */
export function scale(numbers, signed = true, colours = palette()) {
  let most = 0, square = 0, n = 0;
  for (const x of numbers) {
    if (!Number.isFinite(x)) continue;
    most = Math.max(most, Math.abs(x));
    square += x * x;
    n += 1;
  }
  const rms = Math.sqrt(square / Math.max(n, 1));
  const clipped = signed && n > 64 && most > CLIPPED * rms * 1.5;
  const limit = (clipped ? CLIPPED * rms : most) || 1;
  const [zero, below, above, amount, none] = colours;
  const of = (x) => {
    if (!Number.isFinite(x)) return `rgb(${none})`;
    return `rgb(${mixed(zero, signed ? (x < 0 ? below : above) : amount, Math.min(1, Math.abs(x) / limit))})`;
  };
  const pixels = () => {
    const [lower, upper, nothing] = [ramp(zero, signed ? below : amount), ramp(zero, signed ? above : amount), packed(none)];
    return (x) => (Number.isFinite(x) ? (x < 0 ? lower : upper)[Math.round(Math.min(1, Math.abs(x) / limit) * SHADES)] : nothing);
  };
  return { limit, clipped, of, pixels, signed };
}
