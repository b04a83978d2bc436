/** Inside: the stream read after every layer, parts switched off, values of another text put in. */
import { experiment, getTraced, postAnew } from "../api.js";
import { button, check, choice, el, select } from "../dom.js";
import { heatMap } from "../heat.js";
import { exact, share, visible } from "../numbers.js";
import { MOST } from "../site_map.js";
import { W } from "../words.js";
import { card } from "./backward.js";

const I = W.inside;
const HEAVY = 1e9; // weights times tokens times runs that are computed before one is asked
const MANY = 3e7; // logits, likewise
const READ = 64; // last positions that the lens reads

const OFF = { head: (i) => `attention.heads|${i}`, neuron: (i) => `feed_forward.hidden|,${i}`, attention: () => "attention.output", feed_forward: () => "feed_forward.down" };

export async function show(app) {
  return el("div", {},
    card(I.lens, I.lensHint, app.whenAsked(Math.min(app.trace.tokens.length, READ) * app.model.vocab_size * app.model.stream.length < MANY, () => lens(app))),
    card(I.ablation, I.ablated(W.objectiveIs(app.trace.objective)), ablation(app)),
    card(I.patching, I.patchHint, patching(app)),
    app.model.has_run && card(I.neuron, I.neuronHint, neuron(app)));
}

async function lens(app) {
  const { trace, model } = app;
  const found = await getTraced(`api/trace/${trace.id}/lens?n=5&last=${READ}`);
  const tokens = trace.tokens.slice(-READ);
  const best = (i, j) => found.tokens[i][j];
  const picked = el("div", { class: "picked", "aria-live": "polite" });
  const stages = found.stages.map((name) => name.replace("blocks.", ""));
  const open = (i, j) => picked.replaceChildren(el("h4", {}, I.lensCell(found.stages[i], visible(tokens[j]))), el("ol", { class: "candidates" }, best(i, j).map((each) => el("li", {},
    el("code", {}, visible(each.token)), el("span", { class: "bar forward" }, el("i", { style: { width: `${100 * each.prob}%` } })), el("span", { class: "number" }, exact(each.prob))))),
  found.target_prob ? el("p", { class: "note" }, `${I.ofTarget}: ${exact(found.target_prob[i][j])}`) : "");
  const map = heatMap({
    numbers: Float32Array.from(stages.flatMap((_, i) => tokens.map((__, j) => best(i, j)[0].prob))), rowNames: stages, columnNames: tokens, signed: false, name: I.lens,
    end: true, cell: 64, least: model.vocab_size < 300 ? 22 : 50, texts: (i, j) => best(i, j)[0].token, onpick: open,
    words: (i, j) => `${I.lensCell(stages[i], visible(tokens[j]))}: ${best(i, j).map((each) => `${visible(each.token)} ${share(each.prob)}`).join(", ")}`,
  });
  open(stages.length - 1, tokens.length - 1);
  return [map, picked];
}

function ablation(app) {
  const { trace, model, state } = app;
  const each = I.eaches[state.each] ? state.each : "head", by = I.bys[state.by] ? state.by : "zero";
  const layer = Math.min(Number(state.ablateLayer ?? 0), model.n_layers - 1);
  const ask = async (asking) => {
    const found = await experiment("api/ablate", { id: trace.id, each, by, ...(each === "neuron" && { layers: [layer] }) }, asking);
    const rows = found.without.map((row) => [row].flat());
    const shown = each === "neuron" ? [layer] : rows.map((_, i) => i);
    const first = each === "neuron" ? Number(state.unitFrom ?? 0) : 0, width = Math.min(rows[shown[0]].length - first, MOST);
    const numbers = Float32Array.from(shown.flatMap((i) => rows[i].slice(first, first + width).map((x) => (x === null ? NaN : x - found.result))));
    const most = shown.flatMap((i) => rows[i].map((x, j) => [i, j, x - found.result])).reduce((a, b) => (Math.abs(b[2]) > Math.abs(a[2]) ? b : a));
    const map = heatMap({
      numbers, rowNames: shown.map(String), columnNames: each === "head" || each === "neuron" ? Array.from({ length: width }, (_, j) => String(first + j)) : [""], name: `${I.ablation} ${each}`,
      cell: each === "neuron" ? 18 : 56, words: (i, j, x) => `${I.part[each](shown[i], first + j)}: ${exact(x)}`,
      onpick: (i, j) => app.switch(`blocks.${shown[i]}.${OFF[each](first + j)}`),
    });
    const total = rows[shown[0]].length;
    const pages = total > MOST && el("div", { class: "controls" }, Array.from({ length: Math.ceil(total / MOST) }, (_, i) => button(String(i * MOST), () => app.change({ unitFrom: i * MOST }), { "aria-pressed": String(i * MOST === first), class: "pick" })));
    return [el("p", { class: "sentence" }, I.most(I.part[each](most[0], most[1]), exact(most[2]))), pages, map, el("p", { class: "note" }, W.off.stay)];
  };
  const runs = each === "head" ? model.n_layers * model.n_heads : each === "neuron" ? model.d_ff : model.n_layers;
  const holder = app.whenAsked(model.parameters * trace.tokens.length * runs < HEAVY, ask, W.cost(runs, trace.experiment_bytes));
  return [el("div", { class: "controls" },
    select(I.each, Object.entries(I.eaches), each, (value) => app.change({ each: value })),
    each === "neuron" && select(I.layer, Array.from({ length: model.n_layers }, (_, i) => [i, String(i)]), layer, (value) => app.change({ ablateLayer: value })),
    choice(I.by, Object.entries(I.bys), by, (value) => app.change({ by: value }))), holder];
}

function patching(app) {
  const { trace, model, state } = app;
  const each = I.patchEaches[state.patch] ? state.patch : "position", estimated = state.estimated === "1";
  const other = el("input", { value: state.other ?? "", placeholder: I.otherHint, autocomplete: "off" });
  const holder = el("div", { class: "later" });
  const ask = async (asking) => {
    const found = await experiment("api/patch", { id: trace.id, other: other.value, each, estimated }, asking);
    const width = found.recovered[0].length, from = each === "position" ? Math.max(0, width - MOST) : 0;
    const columnNames = each === "position" ? found.tokens.slice(from) : Array.from({ length: width }, (_, i) => String(i));
    const at = (i, j) => found.results[i][from + j];
    const both = (j) => (found.tokens[from + j] === found.other_tokens[from + j] ? visible(found.tokens[from + j]) : `${visible(found.tokens[from + j])} ← ${visible(found.other_tokens[from + j])}`);
    return [
      el("div", { class: "pair" }, [found.tokens, found.other_tokens].map((tokens, k) => el("p", { class: "tokens" }, tokens.map((token, i) =>
        el("span", { class: `token${found.tokens[i] === found.other_tokens[i] ? "" : " differs"}`, title: W.position(i), "data-k": k }, visible(token)))))),
      el("p", { class: "note" }, I.both(exact(found.result), exact(found.other))),
      heatMap({
        numbers: Float32Array.from(found.recovered.flatMap((row) => row.slice(from).map((x) => x ?? NaN))), rowNames: found.names.map((name) => name.replace("blocks.", "").replace(".attention.heads", "")), columnNames,
        end: true, name: I.patching, title: I.patched, cell: each === "position" ? 28 : 56, hidden: (i, j) => found.recovered[i][from + j] === null,
        words: (i, j, x) => `${found.names[i]}, ${each === "position" ? `${both(j)} (${from + j})` : W.attention.small(i, j)}: ${exact(x)} (${exact(at(i, j))})`,
      })];
  };
  const start = () => { app.note({ other: other.value }); app.load(holder, ask); };
  if (state.other && model.parameters * trace.tokens.length ** 2 * model.stream.length < 10 * HEAVY) start();
  const form = el("form", { class: "controls", onsubmit: (event) => { event.preventDefault(); start(); } },
    el("label", { class: "field grow" }, el("span", {}, I.other), other),
    choice(I.patchEach, Object.entries(I.patchEaches), each, (value) => app.change({ patch: value, other: other.value })),
    check(I.estimated, estimated, (value) => app.change({ estimated: value ? "1" : null, other: other.value })),
    el("button", { type: "submit", class: "main" }, W.compute));
  const runs = estimated ? 3 : each === "head" ? model.n_layers * model.n_heads : trace.tokens.length * model.stream.length;
  return [form, el("p", { class: "note" }, W.cost(runs, trace.experiment_bytes)), holder];
}

function neuron(app) {
  const { model, state } = app;
  const holder = el("div", { class: "later" });
  const layer = select(I.layer, Array.from({ length: model.n_layers }, (_, i) => [i, String(i)]), state.contextLayer ?? 0, () => {});
  const unit = el("input", { type: "number", min: 0, max: model.d_ff - 1, value: state.unit ?? 0 });
  const ask = () => {
    const asked = { layer: Number(layer.querySelector("select").value), unit: Number(unit.value) };
    app.note({ contextLayer: asked.layer, unit: asked.unit });
    app.load(holder, async () => {
      const found = await postAnew("api/neuron", { ...asked, n: 10 });
      return el("div", { class: "table" }, el("table", {}, el("thead", {}, el("tr", {}, el("th", { class: "number" }, I.activation), el("th", {}, I.context))),
        el("tbody", {}, found.map((each) => el("tr", {}, el("td", { class: "number" }, exact(each.activation)),
          el("td", {}, el("code", {}, each.context.map((token, i) => (i === each.at ? el("mark", {}, visible(token)) : visible(token))))))))));
    });
  };
  return [el("form", { class: "controls", onsubmit: (event) => { event.preventDefault(); ask(); } }, layer, el("label", { class: "field short" }, el("span", {}, I.unit), unit), el("button", { type: "submit" }, W.compute)), holder];
}
