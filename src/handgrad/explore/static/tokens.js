/** A text as its tokens: one Tab stop, arrow keys from one to the next. */
import { el } from "./dom.js";
import { visible } from "./numbers.js";
import { W } from "./words.js";

/** `chosen`: a set of positions; `onpick(i)`; `colours(i)`: a ground; `titles(i)`: said of a token beside it. */
export function tokenStrip(tokens, { chosen = new Set(), onpick, colours, titles, label = W.tokens, role = "group" } = {}) {
  const first = Math.min(chosen.size ? Math.min(...chosen) : 0, tokens.length - 1);
  const chips = tokens.map((token, i) => {
    const ground = colours?.(i);
    return el("button", {
      type: "button", class: "token", "data-i": i, tabindex: i === first ? 0 : -1, title: titles?.(i) ?? W.position(i),
      "aria-pressed": onpick ? String(chosen.has(i)) : undefined, "aria-label": `${visible(token)}, ${W.position(i)}${titles ? `, ${titles(i)}` : ""}`,
      style: ground ? { background: ground, color: legible(ground) } : {}, onclick: () => onpick?.(i),
    }, visible(token));
  });
  const strip = el("div", { class: "tokens", role, "aria-label": label }, chips);
  strip.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9 }[event.key];
    const here = chips.indexOf(document.activeElement);
    if (!step || here < 0) return;
    event.preventDefault();
    const to = chips[Math.max(0, Math.min(chips.length - 1, here + step))];
    chips[here].tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  });
  return strip;
}

/** Black or white, whichever one can read on that ground. */
export function legible(ground) {
  const [r, g, b] = ground.match(/\d+(\.\d+)?/g)?.map(Number) ?? [255, 255, 255];
  return 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#111" : "#fff";
}
