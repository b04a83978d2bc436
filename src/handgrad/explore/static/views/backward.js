/** Backward: the token that should have come, and who is to blame that it did not. */
import { array, experiment, getTraced, post, postAnew } from "../api.js";
import { button, choice, el, select } from "../dom.js";
import { scale } from "../colours.js";
import { heatMap } from "../heat.js";
import { exact, share, visible } from "../numbers.js";
import { saving } from "../pictures.js";
import { MOST } from "../site_map.js";
import { tokenStrip } from "../tokens.js";
import { W } from "../words.js";

const B = W.backward;
const SUGGESTED = 6;
const HEAVY = 2e9; // weights times tokens times runs that are computed before one is asked
const MANY = 2e7; // logits that words are read from, likewise
const STEPS = 128; // runs of integrated gradients

export async function show(app) {
  const { trace, model, state } = app;
  const has = trace.objective.target !== null;
  return el("div", {},
    asked(app),
    attribution(app),
    el("div", { class: "halves" },
      el("div", {}, card(B.stream, B.streamHint, app.later(() => byStream(app))),
        card(B.words, B.wordsHint, words(app, Number(state.position ?? trace.tokens.length - 1)))),
      el("div", {}, card(B.heads, B.headsHint, app.later(() => byHead(app))), card(B.neurons, B.neuronsHint, neurons(app)),
        card(B.shares, B.sharesHint, has ? app.later(() => shares(app)) : el("p", { class: "note" }, B.needsTarget)))),
    model.has_run && card(B.why, B.whyHint, whyMoved(app)));
}

export const card = (title, hint, ...content) => el("section", { class: "card", "aria-label": title }, el("h3", {}, title), el("p", { class: "note" }, hint), content);

function asked(app) {
  const { trace } = app, { objective } = trace;
  const choose = (targetId) => app.go({ targetId, target: null });
  const other = el("input", { "aria-label": B.other, placeholder: B.other, autocomplete: "off" });
  const what = W.objectiveIs({ ...objective, target_token: objective.target === null ? null : visible(objective.target_token) });
  const suggested = trace.next.slice(0, SUGGESTED);
  if (objective.target !== null && !suggested.some((each) => each.id === objective.target))
    suggested.push({ id: objective.target, token: objective.target_token, prob: trace.target_prob });
  return el("section", { class: "card", "aria-label": B.choose }, el("h3", {}, B.choose),
    el("div", { class: "controls" },
      button(B.none, () => choose(null), { "aria-pressed": String(objective.target === null), class: "pick" }),
      suggested.map((each) => button(el("span", {}, el("code", {}, visible(each.token)), ` ${share(each.prob)}`), () => choose(each.id), { "aria-pressed": String(each.id === objective.target), class: "pick" })),
      el("form", { class: "other", onsubmit: (event) => { event.preventDefault(); if (other.value) app.go({ target: other.value, targetId: null }); } }, other, el("button", { type: "submit" }, B.use))),
    el("p", { class: "sentence" }, B.says(visible(trace.next[0].token), share(trace.next[0].prob)), " ",
      B.loss(what, `${exact(trace.result)}${objective.kind === "loss" ? ` ${W.nats}` : ""}`), " ", objective.target !== null && B.targetProb(visible(objective.target_token), share(trace.target_prob))));
}

function attribution(app) {
  const { trace, state } = app;
  const heavy = (runs) => app.model.parameters * trace.tokens.length * runs > HEAVY;
  const method = B.methods[state.method] ? state.method : heavy(STEPS) ? "gradient x input" : "integrated gradients";
  const fill = app.whenAsked(method === "gradient x input" || !heavy(STEPS), async (asking) => {
    const found = await experiment("api/attribute", { id: trace.id, method }, asking);
    const isLoss = trace.objective.kind === "loss", sign = isLoss ? 1 : -1;
    const worst = found.by_token.reduce((best, x, i) => (sign * x > sign * found.by_token[best] ? i : best), 0);
    const colours = scale(found.by_token), sum = found.by_token.reduce((total, x) => total + x, 0);
    const strip = tokenStrip(trace.tokens, {
      chosen: new Set([Number(state.position ?? trace.tokens.length - 1)]), colours: (i) => colours.of(found.by_token[i]), titles: (i) => exact(found.by_token[i]),
      onpick: (position) => app.change({ position }),
    });
    strip.classList.add("roomy");
    const what = W.objectives[isLoss ? "" : "logit"];
    return [el("p", { class: "sentence" }, B.blame(visible(trace.tokens[worst]), worst, exact(Math.abs(found.by_token[worst])), what, isLoss)), strip,
      ranked(trace.tokens.map((token, i) => `${visible(token)} (${i})`), found.by_token),
      el("div", { class: "controls" }, el("span", { class: "note" }, B.missing(exact(sum), exact(found.result), exact(found.baseline), exact(found.missing))),
        saving("attribution", { rows: () => [["position", "token", "attribution"], ...trace.tokens.map((token, i) => [i, token, found.by_token[i]])] }))];
  }, W.cost(STEPS, trace.experiment_bytes));
  return card(B.attribution, B.attributionHint, el("div", { class: "controls" }, choice(B.method, Object.entries(B.methods), method, (chosen) => app.change({ method: chosen }))), fill);
}

/** The strongest, with bars to both sides of zero. */
export function ranked(names, numbers, most = 8) {
  const order = [...names.keys()].sort((a, b) => Math.abs(numbers[b]) - Math.abs(numbers[a])).slice(0, most);
  const longest = Math.abs(numbers[order[0]]) || 1;
  return el("ol", { class: "candidates signed" }, order.map((i) => el("li", {}, el("span", { class: "part", title: names[i] }, names[i]),
    el("span", { class: `bar ${numbers[i] < 0 ? "below" : "above"}` }, el("i", { style: { width: `${(50 * Math.abs(numbers[i])) / longest}%` } })), el("span", { class: "number" }, exact(numbers[i])))));
}

/** How large a gradient is, for each head or, where there are none, each position. */
const sizes = (trace, site) => getTraced(`api/trace/${trace.id}/sizes?${new URLSearchParams({ site, gradient: 1 })}`);

async function byStream(app) {
  const { trace, model } = app, n = trace.tokens.length, from = Math.max(0, n - MOST);
  const rows = await Promise.all(model.stream.map((site) => sizes(trace, site)));
  const tokens = trace.tokens.slice(from);
  return heatMap({
    numbers: Float64Array.from(rows.flatMap((row) => row.slice(from))), rowNames: model.stream.map((name) => name.replace("blocks.", "")), columnNames: tokens,
    end: true, signed: false, name: B.stream, words: (i, j, x) => W.heat.cell(model.stream[i], `${visible(tokens[j])} (${from + j})`, exact(x)), cell: 24,
    onpick: (i) => app.go({ view: "prediction", site: model.stream[i] }),
  });
}

async function byHead(app) {
  const { trace, model } = app;
  const names = Array.from({ length: model.n_layers }, (_, layer) => `blocks.${layer}.attention.heads`);
  const rows = await Promise.all(names.map((site) => sizes(trace, site)));
  return heatMap({
    numbers: Float64Array.from(rows.flat()), rowNames: names.map((_, layer) => String(layer)), columnNames: Array.from({ length: model.n_heads }, (_, head) => String(head)),
    signed: false, name: B.heads, words: (i, j, x) => W.heat.cell(`${W.attention.head(i, j)}`, B.gradient, exact(x)), cell: 44,
    onpick: (layer, head) => app.go({ view: "attention", layer, head, what: "gradient" }),
  });
}

function words(app, position) {
  const { trace, model } = app, at = Math.min(position, trace.tokens.length - 1);
  const read = async () => {
    const found = await getTraced(`api/trace/${trace.id}/words?${new URLSearchParams({ position: at, n: 5 })}`);
    const chips = (list) => list.map((token) => el("code", { class: "word" }, visible(token)));
    return el("div", { class: "table" }, el("table", {}, el("caption", { class: "note" }, `“${visible(trace.tokens[at])}”, ${W.position(at)}`),
      el("thead", {}, el("tr", {}, el("th", {}, B.state), el("th", {}, B.raised), el("th", {}, B.lowered))),
      el("tbody", {}, found.map((each) => el("tr", {}, el("th", { scope: "row" }, each.site.replace("blocks.", "")), el("td", {}, chips(each.raised)), el("td", {}, chips(each.lowered)))))));
  };
  return app.whenAsked(model.vocab_size * model.stream.length < MANY, read);
}

function neurons(app) {
  const { trace, model, state } = app, layer = Math.min(Number(state.neuronLayer ?? model.n_layers - 1), model.n_layers - 1);
  return [el("div", { class: "controls" }, select(B.layer, Array.from({ length: model.n_layers }, (_, i) => [i, String(i)]), layer, (neuronLayer) => app.change({ neuronLayer }))),
    app.later(async () => {
      const { values, gradients } = await array(trace.id, `blocks.${layer}.feed_forward.hidden`, `${trace.tokens.length - 1},:`, "both");
      const order = [...gradients.keys()].sort((a, b) => Math.abs(gradients[b]) - Math.abs(gradients[a])).slice(0, 8);
      return el("div", { class: "table" }, el("table", {}, el("thead", {}, el("tr", {}, [B.neuron, B.value, B.gradient].map((name, i) => el("th", { class: i ? "number" : "" }, name)))),
        el("tbody", {}, order.map((unit) => el("tr", {}, el("td", {}, unit), el("td", { class: "number" }, exact(values[unit])), el("td", { class: "number" }, exact(gradients[unit])))))));
    })];
}

async function shares(app) {
  const { trace } = app;
  const found = await post("api/shares", { id: trace.id, target: trace.objective.target, ...(trace.objective.rival !== null && { rival: trace.objective.rival }) });
  const short = (part) => part.replace("blocks.", "").replace("attention.", "").replace("feed_forward", "feed-forward");
  return [ranked(found.map((each) => short(each.part)), found.map((each) => each.share), 10),
  saving("shares", { rows: () => [["part", "share"], ...found.map((each) => [each.part, each.share])] })];
}

function whyMoved(app) {
  const { model, state } = app;
  const names = Array.from({ length: model.n_layers }, (_, layer) => [
    ...["query", "key", "value", "output"].map((part) => `blocks.${layer}.attention.${part}.weight`),
    ...["up", "down", ...(model.config.gated ? ["gate"] : [])].map((part) => `blocks.${layer}.feed_forward.${part}.weight`)]).flat();
  const holder = el("div", { class: "later" });
  const parameter = select(B.parameter, ["embedding", ...names].map((name) => [name, name]), state.parameter ?? names[0], () => {});
  const number = (label, value) => el("label", { class: "field short" }, el("span", {}, label), el("input", { type: "number", min: 0, value }));
  const [row, column] = [number(B.row, state.weightRow ?? 0), number(B.column, state.weightColumn ?? 0)];
  const valueOf = (field) => field.querySelector("select, input").value;
  const ask = () => {
    app.note({ parameter: valueOf(parameter), weightRow: valueOf(row), weightColumn: valueOf(column) });
    app.load(holder, async () => {
      const found = await postAnew("api/why", { parameter: valueOf(parameter), index: [Number(valueOf(row)), Number(valueOf(column))] });
      return [el("p", { class: "sentence" }, B.whyStep(found)), el("dl", { class: "stats" }, Object.entries(B.whyRows).map(([key, label]) => el("div", {}, el("dt", {}, label), el("dd", {}, exact(found[key]))))),
        el("h4", {}, B.pushed), el("div", { class: "table" }, el("table", {}, el("tbody", {}, found.pushed_by.map((each) => el("tr", {}, el("td", { class: "number" }, exact(each.share)), el("td", {}, el("code", { class: "excerpt", title: each.text }, each.text.replaceAll("\n", " ↵ "))))))))];
    });
  };
  return [el("div", { class: "controls" }, parameter, row, column, button(B.ask, ask)), holder];
}
