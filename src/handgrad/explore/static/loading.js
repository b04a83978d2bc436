/** Parts of a view that fill themselves: at once, or when asked. */
import { Failed } from "./api.js";
import { button, el } from "./dom.js";
import { W } from "./words.js";

const asking = new Map(); // for each holder that waits: what ends it,
const filled = new WeakMap(); // and the promise that it is filled

/**
 * Fill `holder` with what `make` promises; an error is said there. `make` gets {signal, onshare}, as
 * `experiment` takes them: how far it is stands in the holder meanwhile.
 */
export function load(holder, make) {
  const done = fill(holder, make);
  filled.set(holder, done);
  return done;
}

async function fill(holder, make) {
  asking.get(holder)?.abort();
  const stop = new AbortController(), mine = () => asking.get(holder) === stop;
  asking.set(holder, stop);
  holder.setAttribute("aria-busy", "true");
  let made;
  try {
    made = await make({ signal: stop.signal, onshare: (share) => { if (mine()) tell(holder, share, stop); } });
  } catch (error) {
    made = error.name === "AbortError" ? [el("p", { class: "note" }, W.stopped), button(W.compute, () => load(holder, make))] : el("p", { class: "problem" }, error.message);
    if (error.name !== "AbortError" && !(error instanceof Failed)) console.error(error);
  }
  if (!mine()) return holder;
  asking.delete(holder);
  holder.replaceChildren(...[made].flat().filter(Boolean));
  holder.removeAttribute("aria-busy");
  return holder;
}

/** A part of a view that fills itself. */
export function later(make, attributes = {}) {
  const holder = el("div", { class: "later", ...attributes }, working());
  load(holder, make);
  return holder;
}

/** The same where it takes long: a button computes it, beside which stands what it costs. */
export function whenAsked(isLight, make, cost = "") {
  if (isLight) return later(make);
  const holder = el("div", { class: "later" });
  holder.append(el("p", { class: "note" }, cost), button(W.compute, () => { holder.replaceChildren(working()); load(holder, make); }));
  return holder;
}

/** What nobody looks at any more is asked no longer. */
export function release() {
  for (const [holder, stop] of asking) if (!holder.isConnected) stop.abort();
}

/** When all that fills itself inside `element` has done so. */
export async function settled(element) {
  const waits = () => [element, ...element.querySelectorAll("[aria-busy]")].filter((each) => asking.has(each));
  while (waits().length) await Promise.all(waits().map((holder) => filled.get(holder)));
}

const working = () => el("p", { class: "note" }, W.working);

function tell(holder, share, stop) {
  let line = holder.querySelector(":scope > .progress");
  if (!line) {
    line = el("p", { class: "note progress" }, el("span", {}, W.working), el("progress", { max: 1, "aria-label": W.working }), button(W.stop, () => stop.abort(), { class: "quiet" }));
    holder.replaceChildren(line);
  }
  line.querySelector("progress").value = share;
}
