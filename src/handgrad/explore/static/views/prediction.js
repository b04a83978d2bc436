/** The way of a prediction: tokens in, the stream as a spine, each block opening in place, logits out. */
import { get, getTraced } from "../api.js";
import { button, el } from "../dom.js";
import { inline, markdown } from "../formula.js";
import { exact, rough, share, visible } from "../numbers.js";
import { siteMaps } from "../site_map.js";
import { inputs, layerOf, onSpine, outputs, partOf, siteOf } from "../sites.js";
import { tokenStrip } from "../tokens.js";
import { W } from "../words.js";

const P = W.prediction;
const NEXT = 5;

export async function show(app) {
  const { model, trace, state } = app;
  const site = siteOf(model, state.site ?? "")?.name ?? `blocks.0.attention.probs`;
  const panel = el("section", { class: "panel", "aria-label": site });
  const spine = el("div", { class: "spine" });
  const open = new Set((state.open ?? String(layerOf(site) ?? "")).split(",").filter(Boolean).map(Number));
  const stats = { forward: null, backward: null, when: {}, come: {} };
  for (const which of ["forward", "backward"]) stats.when[which] = new Promise((come) => { stats.come[which] = come; });
  const chosen = { site };

  function pick(name) {
    chosen.site = name;
    app.note({ site: name });
    spine.querySelectorAll("[data-site]").forEach((each) => each.setAttribute("aria-pressed", String(each.dataset.site === name)));
    if (layerOf(name) !== null && !open.has(layerOf(name))) { open.add(layerOf(name)); draw(); }
    panel.setAttribute("aria-label", name);
    place();
    app.load(panel, () => opened(app, name, pick, stats));
  }

  /** Beside the spine; on a narrow page, under the part that was chosen. */
  function place() {
    const at = spine.querySelector(`[data-site="${CSS.escape(chosen.site)}"]`)?.closest("li");
    panel.hidden = narrow.matches && !app.state.site; // there it would stand in the middle of the way
    if (narrow.matches && at) at.append(panel);
    else layout.append(panel);
  }

  function draw() {
    const focus = document.activeElement?.dataset?.site;
    layout.append(panel);
    spine.replaceChildren(...way(app, stats, open, chosen, pick, (layer) => {
      if (open.has(layer)) open.delete(layer);
      else open.add(layer);
      app.note({ open: [...open].join(",") || "none" });
      draw();
    }));
    place();
    if (focus) spine.querySelector(`[data-site="${CSS.escape(focus)}"]`)?.focus();
  }

  const narrow = matchMedia("(max-width: 62rem)");
  const layout = el("div", { class: "two prediction" }, el("section", { class: "way", "aria-label": P.way }, spine), panel);
  const widened = () => { place(); if (!panel.hidden && !panel.childElementCount) app.load(panel, () => opened(app, chosen.site, pick, stats)); };
  narrow.addEventListener("change", widened);
  app.onleave(() => narrow.removeEventListener("change", widened));
  draw();
  measure();
  return layout;

  /** The part that is open comes first, then the bars: the server computes one answer after the other. */
  async function measure() {
    try {
      if (!panel.hidden) await app.load(panel, () => opened(app, site, pick, stats));
      await app.settled(panel);
      for (const [which, gradient] of [["forward", 0], ["backward", 1]]) {
        if (!layout.isConnected && stats.forward) return;
        stats[which] = await getTraced(`api/trace/${trace.id}/stats?gradient=${gradient}`);
        stats.come[which](stats[which]);
        draw();
      }
    } catch (error) {
      app.fail(error);
    }
  }
}

/** The list of all parts, with bars of their sizes. */
function way(app, stats, open, chosen, pick, toggle) {
  const { model, trace } = app;
  const bars = { forward: ruler(stats.forward), backward: ruler(stats.backward) };
  const row = (site) => {
    const spine = onSpine(model, site.name);
    const [forward, backward] = [stats.forward?.[site.name].rms, stats.backward?.[site.name].rms];
    return el("li", { class: spine ? "on-spine" : "branch" }, el("div", { class: "row" },
      el("button", {
        type: "button", "data-site": site.name, "aria-pressed": String(chosen.site === site.name), title: site.meaning,
        "aria-label": P.row(site.name, exact(forward), exact(backward)), onclick: () => pick(site.name),
      }, shortName(partOf(site.name))),
      bar(bars.forward, forward, "forward"), bar(bars.backward, backward, "backward")));
  };
  const inBlock = (layer) => model.sites.filter((site) => layerOf(site.name) === layer);
  const blocks = Array.from({ length: model.n_layers }, (_, layer) => {
    const isOpen = open.has(layer), sites = inBlock(layer), last = sites.at(-1);
    const [forward, backward] = [stats.forward?.[last.name].rms, stats.backward?.[last.name].rms];
    return el("li", { class: "block" }, el("div", { class: "row" },
      el("button", { type: "button", class: "block-button", "data-block": layer, "aria-expanded": String(isOpen), onclick: () => toggle(layer) }, P.block(layer)),
      isOpen ? el("span") : bar(bars.forward, forward, "forward"), isOpen ? el("span") : bar(bars.backward, backward, "backward")),
    isOpen && el("ol", {}, sites.map(row)));
  });
  const outside = model.sites.filter((site) => layerOf(site.name) === null);
  const before = outside.filter((site) => ["embedding", "positions"].includes(site.name));
  const after = outside.filter((site) => !before.includes(site));
  const allOpen = open.size === model.n_layers;
  return [
    tokenStrip(trace.tokens.slice(-64)),
    el("div", { class: "row heads", "aria-hidden": "true" }, el("span"), el("span", { class: "forward" }, `◂ ${P.rmsForward}`), el("span", { class: "backward" }, `${P.rmsBackward} ▸`)),
    el("ol", { class: "stations" }, before.map(row), blocks, after.map(row)),
    el("div", { class: "result" }, el("h3", {}, P.next), nextTokens(trace)),
    el("p", { class: "note" }, P.bars, " ", P.gradient, " ", el("b", {}, W.objectiveIs(trace.objective)), `: ${exact(trace.result)} ${trace.objective.kind === "loss" ? W.nats : ""}`),
    el("p", { class: "note" }, W.holds(trace.bytes)),
    button(allOpen ? P.close : P.open, () => {
      const all = Array.from({ length: model.n_layers }, (_, i) => i);
      all.forEach((layer) => (allOpen === open.has(layer) && toggle(layer)));
    }, { class: "quiet" }),
  ];
}

const shortName = (part) => part.replace("attention.", "").replace("feed_forward.", "").replaceAll("_", " ").replace(/^residual([12])$/, (_, i) => (i === "1" ? "+ attention" : "+ feed-forward"));

/** From the smallest to the largest root mean square, on a logarithmic scale. */
function ruler(stats) {
  if (!stats) return null;
  const sizes = Object.values(stats).map((each) => each.rms).filter((x) => x > 0);
  if (!sizes.length) return () => 0;
  return d3.scaleLog().domain([Math.min(...sizes) / 1.5, Math.max(...sizes) * 1.0001]).range([0, 100]).clamp(true);
}

function bar(size, x, which) {
  const width = size && x > 0 ? size(x) : 0;
  return el("span", { class: `bar ${which}` }, el("i", { style: { width: `${width}%` } }), el("b", {}, x === undefined ? "" : rough(x)));
}

function nextTokens(trace) {
  const best = trace.next[0].prob;
  return el("ol", { class: "candidates" }, trace.next.slice(0, NEXT).map((each) => el("li", {},
    el("code", {}, visible(each.token)), el("span", { class: "bar forward" }, el("i", { style: { width: `${(100 * each.prob) / best}%` } })),
    el("span", { class: "number", title: exact(each.prob) }, share(each.prob)))));
}

/** A part: forward and, as its mirror image, backward; then its formula and code. */
async function opened(app, name, pick, stats) {
  const { model, trace } = app;
  const site = siteOf(model, name), shape = trace.shapes[name], axes = site.axes.split(" ");
  const { controls, map, head } = await siteMaps(app, name);
  const where = head === null ? [] : [head], key = where.length ? `${name}|${where.join(",")}` : name;
  const links = (label, names, end) => el("p", { class: "links" }, el("span", {}, label), names.length
    ? names.map((each) => button(each.replace("blocks.", ""), () => pick(each), { class: "link", "aria-label": each })) : el("span", {}, end));
  const [from, to] = [inputs(model, name), outputs(model, name)];
  return [
    el("h3", {}, name), el("p", { class: "meaning" }, `${site.meaning[0].toUpperCase()}${site.meaning.slice(1)}.`),
    el("p", { class: "note" }, `${P.shape}: `, el("code", {}, `(${axes.map((axis, i) => `${axis} = ${shape[i]}`).join(", ")})`), ` ${axes.map((axis) => W.axisNames[axis]).join(" × ")}`),
    el("div", { class: "controls" }, controls, button((app.isOff(key) ? W.off.switchOn : W.off.switchOff)(W.off.part(name, where)), () => app.switch(key), { class: "quiet" })),
    el("div", { class: "mirror" },
      side(P.forward, "forward", () => map("value"), links(P.takes, from, P.text), links(P.gives, to, P.objective)),
      side(P.backward, "backward", () => map("gradient"), links(P.comes, to, P.objective), links(P.goesOn, from, P.text))),
    app.later(() => formulaOf(siteOf(model, name).op)),
  ];

  function side(title, which, make, first, second) {
    const numbers = el("dl", { class: "stats" });
    const fill = (found) => numbers.replaceChildren(...Object.entries(W.stats).map(([key, words]) => el("div", {}, el("dt", {}, words), el("dd", {}, exact(found[key])))));
    stats.when[which].then((found) => fill(found[name]));
    return el("section", { class: which, "aria-label": title }, el("h4", {}, title), first, app.later(make), numbers, second);
  }
}

async function formulaOf(op) {
  const found = await get(`api/formula/${op}`);
  const code = (title, source) => el("figure", { class: "code" }, el("figcaption", {}, title), el("pre", { tabindex: 0 }, el("code", {}, source)));
  return el("div", {}, el("section", { "aria-label": P.formula, class: "formula" }, el("h4", {}, P.formula), el("p", { class: "formula-title" }, inline(found.title)), markdown(found.text ?? "")),
    el("section", { "aria-label": P.code }, el("h4", {}, P.code), el("div", { class: "mirror codes" }, code(P.codeForward, found.forward), code(P.codeBackward, found.backward)),
      el("p", { class: "note" }, el("code", {}, found.path), found.proof ? ` · ${found.proof}` : "")));
}
