/** Colours of numbers: from the paper for zero to blue below it and orange above, or to blue for amounts. */
import { colour } from "./dom.js";

const CLIPPED = 6; // a number this many times the root mean square takes no part in the range of the colours

function rgb(text) {
  const c = d3.rgb(text);
  return [c.r, c.g, c.b];
}

/** {limit, clipped, of(x) -> "rgb()", signed} for these numbers. */
export function scale(numbers, signed = true) {
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
  const [zero, below, above, amount, none] = ["heat-zero", "heat-below", "heat-above", "heat-amount", "heat-none"].map((name) => rgb(colour(name)));
  const of = (x) => {
    if (!Number.isFinite(x)) return `rgb(${none})`;
    const t = Math.min(1, Math.abs(x) / limit) ** 0.8;
    const far = signed ? (x < 0 ? below : above) : amount;
    return `rgb(${zero.map((from, i) => Math.round(from + t * (far[i] - from)))})`;
  };
  return { limit, clipped, of, signed };
}
