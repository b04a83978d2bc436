/** How numbers and tokens are written. */

/** Six digits, as many as float32 holds for certain. */
export function exact(x) {
  if (x === null || x === undefined) return "–";
  if (!Number.isFinite(x)) return String(x).replace("Infinity", "∞");
  if (x === 0) return "0";
  const size = Math.abs(x);
  return (size >= 1e-4 && size < 1e6 ? String(Number(x.toPrecision(6))) : x.toExponential(5)).replace("-", "−");
}

/** Three digits, for labels. */
export function rough(x) {
  if (x === null || x === undefined || !Number.isFinite(x)) return exact(x);
  if (x === 0) return "0";
  const size = Math.abs(x);
  const text = size >= 1e-3 && size < 1e5 ? String(Number(x.toPrecision(3))) : x.toExponential(1).replace("e-", "e−").replace("e+", "e");
  return text.replace(/^-/, "−");
}

export const share = (p) => (p >= 0.0995 ? `${(100 * p).toFixed(0)} %` : p >= 0.00095 ? `${(100 * p).toFixed(1)} %` : "< 0.1 %");
export const whole = (n) => n.toLocaleString("en");

/** A token as one can see it: its spaces and line ends too. */
export const visible = (token) =>
  token === "" ? "∅" : token.replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll("\r", "␍");

export const shortened = (text, n) => (text.length > n ? `${text.slice(0, n - 1)}…` : text);
