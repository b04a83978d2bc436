/** Learning: losses with what is to beat, gradient norms by part, samples, and one text through training; live. */
import { array, getAnew, trace as traced } from "../api.js";
import { lineChart } from "../charts.js";
import { colour, el, select } from "../dom.js";
import { heatMap } from "../heat.js";
import { exact, visible } from "../numbers.js";
import { MOST } from "../site_map.js";
import { W } from "../words.js";
import { card } from "./backward.js";

const L = W.learning;
const REDRAWN = 1000; // milliseconds between two pictures of a run that goes on

export async function show(app) {
  if (!app.model.has_run) return el("p", {}, L.none);
  const run = await getAnew("api/run");
  app.model.checkpoints = run.checkpoints; // a run that trains has more by now
  const sentence = el("p", { class: "sentence" }), live = el("p", { class: "note" }, L.still);
  const loss = lineChart({ name: L.loss, series: losses(run), levels: Object.entries(run.baselines).map(([name, y]) => ({ name, y })), x: L.step, y: L.nats });
  const norms = lineChart({ name: L.norms, series: normsOf(run), x: L.step, y: L.norms, log: true });
  const samples = el("div");
  const say = () => {
    const last = run.evaluations.at(-1);
    if (last) sentence.textContent = L.sentence(run.steps, exact(last.validation_loss));
  };
  say();
  drawSamples(app, samples, run);
  listen(app, run, () => { live.textContent = L.live; loss.update(losses(run)); norms.update(normsOf(run)); say(); }, () => drawSamples(app, samples, run));
  return el("div", {}, el("section", { class: "card", "aria-label": L.loss }, el("h3", {}, L.loss), sentence, live, loss),
    el("div", { class: "halves" }, card(L.norms, "", run.diagnoses.length ? norms : el("p", { class: "note" }, L.none2)), card(L.samples, "", samples)),
    run.checkpoints.length > 1 && card(L.checkpoints, L.checkpointsHint, through(app, run.checkpoints)));
}

const losses = (run) => [
  { name: L.training, points: run.losses, colour: () => colour("forward"), wide: 1.2 },
  { name: L.validation, points: run.evaluations.map((row) => [row.step, row.validation_loss]), colour: () => colour("backward"), wide: 2.2, dots: true },
];

/** From the embedding to the head, from one colour to the other. */
function normsOf(run) {
  const parts = Object.keys(run.diagnoses[0]?.gradient_norms ?? {});
  return parts.map((part, i) => ({
    name: part.replace("blocks.", ""), points: run.diagnoses.map((row) => [row.step, row.gradient_norms[part]]), dash: part.endsWith("attention") ? "5 3" : null, dots: run.diagnoses.length < 3,
    colour: () => d3.interpolateHcl(colour("forward"), colour("backward"))(parts.length > 1 ? i / (parts.length - 1) : 0),
  }));
}

function drawSamples(app, holder, run) {
  if (!run.samples.length) return;
  const n = run.samples.length, at = Math.min(Number(app.state.sample ?? n - 1), n - 1);
  const text = el("pre", { class: "sample", tabindex: 0 }), words = el("output");
  const range = el("input", { type: "range", min: 0, max: n - 1, "aria-label": L.sample });
  const draw = () => {
    const chosen = run.samples[Number(range.value)];
    words.textContent = L.at(chosen.step.toLocaleString("en"));
    range.setAttribute("aria-valuetext", words.textContent);
    text.textContent = chosen.text;
  };
  range.value = at;
  range.addEventListener("input", () => { app.note({ sample: range.value }); draw(); });
  draw();
  holder.replaceChildren(el("label", { class: "slider wide" }, range, words), text);
}

/** New rows as they are written. */
function listen(app, run, redraw, resample) {
  const source = new EventSource("api/run/live");
  let waiting = null, drawn = 0;
  const now = () => { waiting = null; drawn = performance.now(); redraw(); };
  const soon = () => { waiting ??= setTimeout(now, Math.max(0, drawn + REDRAWN - performance.now())); };
  const on = (kind, take) => source.addEventListener(kind, (event) => { take(JSON.parse(event.data)); soon(); });
  on("step", (row) => { run.steps = row.step; run.losses.push([row.step, row.loss]); });
  on("evaluation", (row) => { run.evaluations.push(row); run.samples.push({ step: row.step, text: row.sample }); resample(); });
  on("diagnosis", (row) => run.diagnoses.push(row));
  app.onleave(() => { source.close(); clearTimeout(waiting); });
}

/** One head's look at the same text at two checkpoints, with a slider for each. */
function through(app, checkpoints) {
  const { model, state } = app;
  const order = [...checkpoints].sort((a, b) => place(a) - place(b));
  const layer = Math.min(Number(state.layer ?? 0), model.n_layers - 1), head = Math.min(Number(state.head ?? 0), model.n_heads - 1);
  const column = (key, otherwise) => {
    const chosen = order.includes(state[key]) ? state[key] : otherwise;
    const holder = el("div", { class: "later" }), words = el("output");
    const range = el("input", { type: "range", min: 0, max: order.length - 1, "aria-label": L.checkpoint });
    const draw = () => {
      const checkpoint = order[Number(range.value)];
      words.textContent = checkpoint;
      range.setAttribute("aria-valuetext", checkpoint);
      app.load(holder, async () => {
        const found = await traced(app.question({ checkpoint }));
        const n = found.tokens.length, from = Math.max(0, n - MOST), tokens = found.tokens.slice(from);
        const { values } = await array(found.id, `blocks.${layer}.attention.probs`, `${head},${from}:${n},${from}:${n}`, "value");
        return [el("p", {}, L.lossHere(W.objectiveIs(found.objective), exact(found.result))), heatMap({
          numbers: values, rowNames: tokens, columnNames: tokens, signed: false, square: true, cell: 22, hidden: (i, j) => j > i, name: `${L.checkpoints} ${checkpoint}`,
          words: (i, j, x) => `${visible(tokens[i])} (${from + i}) → ${visible(tokens[j])} (${from + j}): ${exact(x)}`,
        })];
      });
    };
    range.value = order.indexOf(chosen);
    range.addEventListener("input", () => { app.note({ [key]: order[Number(range.value)] }); clearTimeout(holder.waiting); holder.waiting = setTimeout(draw, 120); });
    draw();
    return el("div", {}, el("label", { class: "slider" }, el("span", {}, L.checkpoint), range, words), holder);
  };
  const numbers = (n) => Array.from({ length: n }, (_, i) => [i, String(i)]);
  return [el("div", { class: "controls" }, select(W.backward.layer, numbers(model.n_layers), layer, (value) => app.change({ layer: value })), select(W.axes.H, numbers(model.n_heads), head, (value) => app.change({ head: value }))),
    el("div", { class: "mirror" }, column("left", order[0]), column("right", order.at(-1)))];
}

const place = (name) => (/^\d+$/.test(name) ? Number(name) : name === "best" ? Number.MAX_SAFE_INTEGER : Infinity);
