/** What comes next: the distribution with its settings turned live, a token drawn, many, or one chosen. */
import { post, trace as traced } from "../api.js";
import { button, el } from "../dom.js";
import { exact, share, visible } from "../numbers.js";
import { saving } from "../pictures.js";
import { tokenStrip } from "../tokens.js";
import { W } from "../words.js";

const N = W.next;
const STEPS = 40; // tokens of a run
const PAUSE = 90; // milliseconds between two of them
const kept = { branches: [], seed: 1 }; // as long as the page is open

export async function show(app) {
  const { model, trace, state } = app;
  const settings = {
    temperature: Number(state.temperature ?? 1), top_k: Number(state.top_k ?? 0), top_p: Number(state.top_p ?? 1), min_p: Number(state.min_p ?? 0),
  };
  const body = () => ({
    id: trace.id, temperature: settings.temperature, ...(settings.top_k > 0 && { top_k: settings.top_k }),
    ...(settings.top_p < 1 && { top_p: settings.top_p }), ...(settings.min_p > 0 && { min_p: settings.min_p }),
  });
  const list = el("div", { class: "later" }), said = el("p", { class: "sentence" });
  const draw = () => app.load(list, async () => {
    const found = await post("api/next", { ...body(), n: 20 });
    return [el("p", { class: "note" }, N.kept(found.kept, model.vocab_size, exact(found.entropy))), candidates(found), saved(found)];
  });
  said.append(N.says(visible(trace.next[0].token), share(trace.next[0].prob)));

  const slider = (name, label, attributes, words) => {
    const output = el("output", {}, words(settings[name]));
    const input = el("input", {
      type: "range", ...attributes, "aria-label": label, "aria-valuetext": words(settings[name]),
      oninput: () => {
        settings[name] = Number(input.value);
        output.textContent = words(settings[name]);
        input.setAttribute("aria-valuetext", words(settings[name]));
        clearTimeout(slider.waiting);
        slider.waiting = setTimeout(() => { app.note({ [name]: settings[name] }); draw(); }, 40);
      },
    });
    input.value = settings[name];
    return el("label", { class: "slider" }, el("span", {}, label), input, output);
  };
  const [none, number] = [(off) => (x) => (x === off ? N.off : x), (x) => x.toFixed(2)];

  const full = trace.ids.length >= model.context_length;
  const append = (id) => {
    keep();
    app.go({ ids: [...trace.ids, id].join(" "), text: null, seed: null });
  };
  function keep() {
    const same = kept.branches.findIndex((each) => each.ids.join() === trace.ids.join());
    if (same >= 0) kept.branches.splice(same, 1);
    kept.branches.unshift({ ids: trace.ids, text: trace.tokens.join("") });
    kept.branches.length = Math.min(kept.branches.length, 12);
  }
  const candidates = (found) => {
    const most = Math.max(...found.candidates.map((each) => Math.max(each.prob, each.prob_before)));
    return el("ol", { class: "choices" }, found.candidates.map((each) => el("li", {}, el("button", {
      type: "button", class: each.kept ? "" : "dropped", disabled: full, onclick: () => append(each.id), "aria-label": N.append(visible(each.token), share(each.prob)),
      title: `${N.id} ${each.id} · ${N.logit} ${exact(each.logit)} · ${N.prob} ${exact(each.prob)} · ${N.before} ${exact(each.prob_before)}`,
    }, el("code", {}, visible(each.token)),
    el("span", { class: "bar forward" }, el("i", { style: { width: `${(100 * each.prob) / most}%` } }), el("u", { style: { width: `${(100 * each.prob_before) / most}%` } })),
    el("span", { class: "number" }, each.kept ? share(each.prob) : "–")))));
  };
  const saved = (found) => saving("next token", {
    rows: () => [[N.token, N.id, N.prob, N.before, N.logit], ...found.candidates.map((each) => [each.token, each.id, each.prob, each.prob_before, each.logit])],
  });

  let running = false;
  const run = button(N.run, async () => {
    if (running) { running = false; return; }
    running = true;
    run.textContent = W.stop;
    keep();
    let { ids, id } = trace;
    const written = el("span", { class: "written" });
    strip.append(written);
    try {
      for (let i = 0; i < STEPS && running && ids.length < model.context_length; i += 1) {
        const drawn = await post("api/sample", { ...body(), id, seed: (kept.seed += 1) });
        ids = [...ids, drawn.id];
        written.textContent += visible(drawn.token);
        ({ id } = await traced(app.question({ ids: ids.join(" "), text: null })));
        await new Promise((done) => { setTimeout(done, PAUSE); });
      }
      if (strip.isConnected) app.go({ ids: ids.join(" "), text: null });
    } catch (error) {
      app.fail(error);
    }
    running = false;
  }, { disabled: full });
  app.onleave(() => { running = false; });

  const strip = el("div", {}, tokenStrip(trace.tokens));
  draw();
  return el("div", {}, el("section", { class: "card" }, strip, said, full && el("p", { class: "note" }, N.context(model.context_length)),
    el("div", { class: "controls" },
      button(N.best, () => append(trace.next[0].id), { disabled: full }),
      button(N.sample, async () => {
        try { append((await post("api/sample", { ...body(), seed: (kept.seed += 1) })).id); } catch (error) { app.fail(error); }
      }, { disabled: full, class: "main" }), run)),
  el("div", { class: "two next" },
    el("div", {}, el("section", { class: "card sliders", "aria-label": N.settings },
      slider("temperature", N.temperature, { min: 0, max: 2, step: 0.05 }, number),
      slider("top_k", N.topK, { min: 0, max: Math.min(100, model.vocab_size), step: 1 }, none(0)),
      slider("top_p", N.topP, { min: 0.05, max: 1, step: 0.01 }, (x) => (x === 1 ? N.off : x.toFixed(2))),
      slider("min_p", N.minP, { min: 0, max: 1, step: 0.01 }, (x) => (x === 0 ? N.off : x.toFixed(2))),
      button(N.reset, () => app.change({ temperature: null, top_k: null, top_p: null, min_p: null }), { class: "quiet" })),
    el("section", { class: "card" }, el("h3", {}, N.branches), kept.branches.length
      ? el("ul", { class: "branches" }, kept.branches.map((each) => el("li", {}, button(`…${visible(each.text).slice(-40)}`, () => { keep(); app.go({ ids: each.ids.join(" "), text: null }); }, { class: "link", "aria-label": `${N.back} ${visible(each.text)}` }))))
      : el("p", { class: "note" }, N.noBranches))),
    el("section", { class: "panel", "aria-label": N.chart }, el("p", { class: "note" }, N.bars), list)));
}
