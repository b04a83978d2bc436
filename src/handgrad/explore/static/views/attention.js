/** Attention: every head small, one large; from a token and to a token; and why a head looks where it looks. */
import { array, post, smallHeads } from "../api.js";
import { check, choice, el } from "../dom.js";
import { palette, pixel, scale } from "../colours.js";
import { drawPixels, heatMap } from "../heat.js";
import { exact, share, visible } from "../numbers.js";
import { saving } from "../pictures.js";
import { MOST } from "../site_map.js";
import { tokenStrip } from "../tokens.js";
import { W } from "../words.js";

const A = W.attention;
const SHOWN = 262144; // numbers of an answer

export async function show(app) {
  const { model, trace, state } = app;
  const settings = {
    kind: state.kind === "scores" ? "scores" : "probs", what: state.what === "gradient" ? "gradient" : "value",
    mode: A.modes[state.mode] ? state.mode : "map", average: state.average === "1",
    layer: Math.min(Number(state.layer ?? 0), model.n_layers - 1), head: Math.min(Number(state.head ?? 0), model.n_heads - 1),
  };
  const n = trace.tokens.length, shown = Math.min(n, MOST, Math.floor(Math.sqrt(SHOWN / model.n_heads))), from = n - shown;
  const tokens = trace.tokens.slice(from);
  const chosen = new Set((state.chosen ?? String(shown - 1)).split(",").map(Number).filter((i) => i >= 0 && i < shown));
  const signed = settings.what === "gradient" || settings.kind === "scores";
  /** The numbers of the head that is shown large, or the mean of its layer's. */
  const current = async () => {
    const { layer, head, average, kind, what } = settings, part = `${from}:${n}`;
    const found = await array(trace.id, `blocks.${layer}.attention.${kind}`, `${average ? ":" : head},${part},${part}`, what);
    const numbers = found.values ?? found.gradients;
    return average ? mean(numbers, model.n_heads, shown * shown) : numbers;
  };
  const title = () => (settings.average ? A.mean(settings.layer) : A.head(settings.layer, settings.head));

  const last = shown - 1, named = (j) => `“${visible(tokens[j])}” (${from + j})`;
  const large = el("div", {}), sentence = el("p", { class: "sentence", "aria-live": "polite" }), why = el("div", { class: "later" });
  const anew = (name) => (value) => app.change({ [name]: value === true ? "1" : value === false ? null : value });
  const controls = el("div", { class: "controls" },
    choice(A.kind, Object.entries(A.kinds), settings.kind, anew("kind")),
    choice(A.what, Object.entries(A.whats), settings.what, anew("what")),
    choice(A.mode, Object.entries(A.modes), settings.mode, anew("mode")),
    check(A.average, settings.average, anew("average")));

  const drawLarge = () => app.load(large, async () => {
    const numbers = await current();
    say(numbers);
    return settings.mode === "map" ? drawMap(numbers) : drawTokens(numbers);
  });

  function drawMap(numbers) {
    return [heatMap({
      numbers, rowNames: tokens, columnNames: tokens, title: `${title()}: ${A.rows}`, name: `attention ${title()} ${settings.kind} ${settings.what}`,
      square: true, signed, cell: 30, least: shown > 64 ? 5 : 8, hidden: (i, j) => j > i,
      words: (i, j, x) => `${visible(tokens[i])} (${from + i}) → ${visible(tokens[j])} (${from + j}): ${exact(x)}`,
      onmove: (i) => { if (i !== null) say(numbers, i); },
      onpick: (i, j) => { if (j <= i && !settings.average) app.load(why, () => explained(app, settings, from + i, from + j)); },
    }), !settings.average && el("p", { class: "note" }, A.whyHint)];
  }

  function drawTokens(numbers) {
    const to = settings.mode === "to";
    const line = (i) => Float32Array.from(tokens, (_, j) => (to ? (i <= j ? numbers[j * shown + i] : NaN) : j <= i ? numbers[i * shown + j] : NaN));
    const lines = [...chosen].map(line);
    const together = Float32Array.from(tokens, (_, j) => {
      const seen = lines.map((each) => each[j]).filter((x) => !Number.isNaN(x));
      return seen.length ? seen.reduce((sum, x) => sum + x, 0) / seen.length : NaN;
    });
    const colours = scale(together.filter((x) => !Number.isNaN(x)), signed);
    const strip = tokenStrip(tokens, {
      chosen, colours: (j) => (Number.isNaN(together[j]) ? undefined : colours.of(together[j])), titles: (j) => (Number.isNaN(together[j]) ? "–" : exact(together[j])),
      onpick: async (i) => {
        if (chosen.has(i) && chosen.size > 1) chosen.delete(i);
        else chosen.add(i);
        app.note({ chosen: [...chosen].join(",") });
        await drawLarge();
        large.querySelector(`[data-i="${i}"]`)?.focus();
      },
    });
    strip.classList.add("roomy");
    const order = [...together.keys()].filter((j) => !Number.isNaN(together[j])).sort((a, b) => Math.abs(together[b]) - Math.abs(together[a])).slice(0, 12);
    return [el("p", { class: "note" }, `${title()}. ${A.choose[settings.mode]}`), strip,
      el("ol", { class: "candidates" }, order.map((j) => el("li", {}, el("code", {}, `${visible(tokens[j])} (${from + j})`),
        el("span", { class: "bar forward" }, el("i", { style: { width: `${(100 * Math.abs(together[j])) / (Math.abs(together[order[0]]) || 1)}%` } })), el("span", { class: "number" }, exact(together[j]))))),
      saving(`attention ${title()} ${settings.mode}`, { rows: () => [["position", "token", "attention"], ...tokens.map((token, j) => [from + j, token, together[j]])] })];
  }

  /** In a sentence: where the chosen token looks most. */
  function say(numbers, row = null) {
    if (settings.what === "gradient" || settings.kind === "scores") return sentence.replaceChildren();
    const to = settings.mode === "to", i = row ?? (settings.mode === "map" ? shown - 1 : [...chosen].at(-1));
    const places = tokens.map((_, j) => j).filter((j) => (to ? j >= i : j <= i));
    const at = (j) => (to ? numbers[j * shown + i] : numbers[i * shown + j]);
    const best = places.reduce((a, b) => (at(b) > at(a) ? b : a));
    return sentence.replaceChildren((to ? A.mostTo : A.most)(named(i), named(best), share(at(best)), title().toLowerCase()));
  }

  const drawn = drawLarge();
  const size = sizeOf(model, shown), small = await smallHeads(trace.id, settings.kind, settings.what, shown, size.cells);
  const grid = gridOf(model, small, size, signed, settings, (layer, head) => {
    Object.assign(settings, { layer, head });
    app.note({ layer, head });
    drawLarge();
  });
  const most = d3.maxIndex(small.mean);
  const overall = settings.kind === "probs" && settings.what === "value" && el("p", { class: "sentence" }, A.overall(named(last), named(most), share(small.mean[most])));
  await drawn;
  return el("div", {}, overall, controls, el("div", { class: "two attention" },
    el("section", { class: "card", "aria-label": A.all }, el("h3", {}, A.all), el("p", { class: "note" }, A.allHint, size.cells < shown && ` ${A.strongest}`), from > 0 && el("p", { class: "note" }, A.windowed(shown, n)), grid),
    el("section", { class: "panel", "aria-label": A.mode }, sentence, large, why)));
}

/** The mean over the heads of a layer. */
function mean(numbers, n, size) {
  const total = new Float32Array(size);
  for (let head = 0; head < n; head += 1) for (let k = 0; k < size; k += 1) total[k] += numbers[head * size + k] / n;
  return total;
}

/** Of a small picture: its side on the screen, and how many cells it has along it. */
function sizeOf(model, shown) {
  const side = Math.max(28, Math.min(110, Math.floor(Math.min(330, innerWidth - 130) / model.n_heads)));
  const most = Math.floor(Math.sqrt(SHOWN / (model.n_layers * model.n_heads)));
  return { side, cells: Math.min(shown, most, Math.round(side * (window.devicePixelRatio || 1))) };
}

function gridOf(model, small, { side, cells }, signed, settings, pick) {
  const numbers = small.values ?? small.gradients, name = () => `${settings.layer}.${settings.head}`;
  const grid = el("div", { class: "head-grid", style: { "grid-template-columns": `auto repeat(${model.n_heads}, auto)`, "--side": `${side}px` } },
    el("span"), Array.from({ length: model.n_heads }, (_, head) => el("span", {}, head)));
  const canvases = [];
  for (let layer = 0; layer < model.n_layers; layer += 1) {
    grid.append(el("span", { class: "layer-name" }, layer));
    for (let head = 0; head < model.n_heads; head += 1) {
      canvases.push(el("canvas", { width: cells, height: cells, "aria-hidden": "true" }));
      const isChosen = name() === `${layer}.${head}`;
      grid.append(el("button", {
        type: "button", class: "small-head", "data-head": `${layer}.${head}`, tabindex: isChosen ? 0 : -1, "aria-pressed": String(isChosen),
        "aria-label": A.head(layer, head), title: A.head(layer, head), onclick: () => {
          pick(layer, head);
          grid.querySelectorAll("button").forEach((each) => each.setAttribute("aria-pressed", String(each.dataset.head === name())));
        },
      }, canvases.at(-1)));
    }
  }
  grid.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const here = document.activeElement?.dataset?.head?.split(".").map(Number);
    if (!step || !here) return;
    event.preventDefault();
    const next = grid.querySelector(`[data-head="${here[0] + step[0]}.${here[1] + step[1]}"]`);
    if (next) { document.activeElement.tabIndex = -1; next.tabIndex = 0; next.focus(); }
  });
  const paintAll = () => {
    const colours = palette(), paper = pixel("paper");
    canvases.forEach((canvas, i) => paint(canvas, numbers.subarray(i * cells ** 2, (i + 1) * cells ** 2), cells, signed, colours, paper));
  };
  const themed = () => (grid.isConnected ? paintAll() : removeEventListener("theme", themed));
  addEventListener("theme", themed);
  paintAll();
  return el("div", { class: "grid-scroller" }, grid);
}

function paint(canvas, numbers, n, signed, colours, paper) {
  const seen = new Float32Array((n * (n + 1)) / 2); // no token looks at later ones
  for (let i = 0, at = 0; i < n; at += i + 1, i += 1) seen.set(numbers.subarray(i * n, i * n + i + 1), at);
  const shade = scale(seen, signed, colours).pixels();
  drawPixels(canvas, n, n, (i, j) => (j <= i ? shade(numbers[i * n + j]) : paper));
}

async function explained(app, { layer, head }, query, key) {
  const { trace } = app;
  const found = await post("api/score", { id: trace.id, layer, head, query, key, n: 8 });
  const short = (part) => part.replace("blocks.", "");
  return [el("h4", {}, A.why), el("p", {}, A.score(visible(trace.tokens[query]), visible(trace.tokens[key]), exact(found.score))),
    el("div", { class: "table" }, el("table", { class: "pairs" }, el("thead", {}, el("tr", {}, el("th", {}, A.part), el("th", {}, A.key), el("th", { class: "number" }, A.adds))),
      el("tbody", {}, found.pairs.map((pair) => el("tr", {}, el("td", {}, short(pair.query_part)), el("td", {}, short(pair.key_part)), el("td", { class: "number" }, exact(pair.share))))))),
    saving(`score ${layer}.${head} ${query} ${key}`, { rows: () => [["", ...found.key_parts], ...found.query_parts.map((part, i) => [part, ...found.shares[i]])] })];
}
