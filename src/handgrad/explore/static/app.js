/** The page: its state in the URL, the text and its trace, and one view at a time. */
import * as api from "./api.js";
import { button, el, select } from "./dom.js";
import { later, load, release, settled, whenAsked } from "./loading.js";
import { exact, visible } from "./numbers.js";
import { saveView } from "./pictures.js";
import * as attention from "./views/attention.js";
import * as backward from "./views/backward.js";
import * as inside from "./views/inside.js";
import * as learning from "./views/learning.js";
import * as next from "./views/next.js";
import * as prediction from "./views/prediction.js";
import { W } from "./words.js";

const VIEWS = { prediction, attention, next, backward, inside, learning };
const QUESTION = ["text", "ids", "target", "targetId", "rival", "objective", "checkpoint", "off"];
const WITHOUT_TRACE = ["learning"];
const root = document.getElementById("view-root");
const place = (id) => document.getElementById(id);
let turn = 0; // of what is drawn: an answer to an earlier one is dropped
let leave = null; // what the view before wants done

export const app = {
  model: null, trace: null, state: {},
  /** Another state, drawn anew, which Back undoes. */
  go(changes) { write(changes, true); render(); },
  /** Another state of the same view, drawn anew. */
  change(changes) { write(changes, false); render(); },
  /** Another state that the view has drawn itself. */
  note(changes) { write(changes, false); },
  say(words) { place("status").className = ""; place("status").textContent = words; },
  fail(error) {
    if (!(error instanceof api.Failed)) console.error(error);
    place("status").className = "problem";
    place("status").textContent = error.message;
  },
  load, later, settled, whenAsked,
  /** Switch a part off, or on again. */
  switch(key) {
    const others = offs(app.state.off).map((each) => each.key).filter((each) => each !== key);
    const was = offs(app.state.off).length !== others.length;
    app.go({ off: (was ? others : [...others, key]).join(";") });
  },
  isOff: (key) => offs(app.state.off).some((each) => each.key === key),
  onleave(what) { leave = what; },
  question,
};

function write(changes, remember) {
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === undefined || value === "") delete app.state[name];
    else app.state[name] = String(value);
  }
  const hash = `#${new URLSearchParams(app.state)}`;
  if (remember && hash !== location.hash) history.pushState(null, "", hash);
  else history.replaceState(history.state, "", hash);
}

function read() {
  app.state = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  if (!(app.state.view in VIEWS)) app.state.view = "prediction";
}

/** The current question as the server takes it; `changes` as in the URL. */
function question(changes = {}) {
  const { text, ids, target, targetId, rival, objective, checkpoint, off } = { ...app.state, ...changes };
  const asked = ids || !app.model.has_tokenizer ? { ids: (ids ?? W.exampleIds).split(/[^\d]+/).filter(Boolean).map(Number) } : { text: text ?? (app.model.example || W.example) };
  if (targetId) asked.target = Number(targetId);
  else if (target) asked.target = target;
  if (objective && asked.target !== undefined) asked.objective = objective;
  if (objective === "logit" && asked.target !== undefined && rival) asked.rival = rival;
  if (off) asked.edits = offs(off).map(({ site, where }) => ({ site, kind: "zero", where }));
  if (checkpoint) asked.checkpoint = checkpoint;
  return asked;
}

/** What is switched off, from its form in the URL: "blocks.0.attention.heads|1;blocks.1.feed_forward.hidden|,34". */
const offs = (text) => (text ?? "").split(";").filter(Boolean).map((each) => {
  const [site, places = ""] = each.split("|");
  return { key: each, site, where: places ? places.split(",").map((place) => (place === "" ? null : Number(place))) : [] };
});

async function drawEdits() {
  const off = offs(app.state.off), holder = place("edits");
  holder.hidden = !off.length || WITHOUT_TRACE.includes(app.state.view);
  if (holder.hidden) return;
  const changed = el("span"), now = app.trace;
  holder.setAttribute("aria-label", W.off.label);
  holder.replaceChildren(el("b", {}, W.off.label), ...off.map(({ key, site, where }) => button(`${W.off.part(site, where)} ✕`, () => app.switch(key), { "aria-label": W.off.on(W.off.part(site, where)), class: "pick" })), changed);
  const before = await api.trace(question({ off: null })).catch(() => null);
  if (before && now === app.trace) changed.textContent = W.off.changed(W.objectiveIs(now.objective), exact(before.result), exact(now.result), visible(before.next[0].token), visible(now.next[0].token));
}

async function render() {
  const mine = turn += 1;
  const view = app.state.view;
  document.title = W.title(`${W.views[view]} · ${app.model.name.split("/").at(-1)}`);
  drawViews();
  root.setAttribute("aria-busy", "true");
  const slow = setTimeout(() => { if (mine === turn) app.say(W.working); }, 150);
  try {
    if (!WITHOUT_TRACE.includes(view)) {
      const trace = await api.trace(question(), app.model.has_run);
      if (mine !== turn) return;
      app.trace = trace;
    }
    drawQuestion();
    drawEdits();
    leave?.();
    leave = null;
    const content = await VIEWS[view].show(app);
    if (mine !== turn) return;
    const same = root.dataset.view === view;
    const [scroll, focus] = [scrollY, focused()];
    root.dataset.view = view;
    root.replaceChildren(el("div", { class: "about" }, el("h2", {}, W.views[view]), el("p", {}, W.about[view]),
      button(W.saveView, () => saveView(root, `${W.views[view]} ${app.model.name.split("/").at(-1)}`), { class: "quiet" })), content);
    if (same) { scrollTo(0, scroll); refocus(focus); }
    release();
    app.say("");
  } catch (error) {
    if (mine === turn) app.fail(error);
    if (mine === turn && !root.childElementCount) drawQuestion();
  } finally {
    clearTimeout(slow);
    if (mine === turn) root.removeAttribute("aria-busy");
  }
}

/** Where the focus is, in words that hold when the view is drawn anew. */
const nameOf = (element) => element.getAttribute("aria-label") ?? (element.closest("label") ?? element).textContent;

function focused() {
  const at = document.activeElement;
  if (!at || !root.contains(at) || at === root) return null;
  return { tag: at.tagName, name: nameOf(at), n: [...root.querySelectorAll(at.tagName)].indexOf(at) };
}

function refocus(focus) {
  if (!focus) return;
  const alike = [...root.querySelectorAll(focus.tag)];
  const same = alike.find((each) => nameOf(each) === focus.name) ?? alike[focus.n];
  same?.focus({ preventScroll: true });
}

function drawViews() {
  const kept = Object.fromEntries(QUESTION.filter((name) => app.state[name]).map((name) => [name, app.state[name]]));
  place("views").setAttribute("aria-label", "Views");
  const links = Object.entries(W.views).filter(([view]) => view !== "learning" || app.model.has_run).map(([view, words]) =>
    el("a", {
      href: `#${new URLSearchParams({ view, ...kept })}`, "aria-current": app.state.view === view ? "page" : undefined,
      onclick: (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        app.state = { ...kept };
        app.go({ view });
      },
    }, words));
  const had = [...place("views").children].indexOf(document.activeElement);
  place("views").replaceChildren(...links);
  if (had >= 0) links[had]?.focus();
  place("views").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
}

function drawQuestion() {
  const { model, state } = app, form = place("question");
  form.hidden = WITHOUT_TRACE.includes(state.view);
  const asked = question();
  const reading = model.has_tokenizer ? "text" : "ids";
  const textWas = asked.text ?? (reading === "text" && app.trace ? app.trace.tokens.join("") : asked.ids.join(" "));
  const text = el("textarea", { id: "text", rows: 1, spellcheck: "false", value: textWas });
  const known = app.trace?.objective, isId = state.targetId && known?.target === Number(state.targetId);
  const target = el("input", { id: "target", placeholder: W.targetHint, autocomplete: "off", value: state.target ?? (isId ? known.target_token : state.targetId ? `#${state.targetId}` : "") });
  const objective = select(W.objective, Object.entries(W.objectives), state.objective ?? "", submit);
  const rival = state.objective === "logit" ? el("input", { id: "rival", placeholder: W.rivalHint, autocomplete: "off", value: state.rival ?? "" }) : null;
  const checkpoint = model.checkpoints.length ? select(W.checkpoint, [["", W.finished], ...model.checkpoints.map((name) => [name, name])], state.checkpoint ?? "", submit) : null;
  const fieldOf = (label) => label?.querySelector("select").value ?? "";
  const targetWas = target.value;
  function submit() {
    if (!text.value.trim() && !text.value.length) return app.fail(new api.Failed(W.needsText));
    const of = { objective: fieldOf(objective), checkpoint: fieldOf(checkpoint), rival: rival?.value ?? "" };
    const said = target.value === targetWas ? {} : { target: target.value, targetId: null };
    const read = text.value === textWas ? {} : reading === "ids" ? { ids: text.value, text: null } : { text: text.value, ids: null };
    return app.go({ ...of, ...said, ...read });
  }
  form.onsubmit = (event) => { event.preventDefault(); submit(); };
  text.addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); submit(); } });
  const had = form.contains(document.activeElement) ? document.activeElement.id : null;
  form.replaceChildren(...[
    el("label", { class: "field wide" }, el("span", {}, W[reading]), text),
    el("label", { class: "field" }, el("span", {}, W.target), target), objective,
    rival && el("label", { class: "field" }, el("span", {}, W.rival), rival), checkpoint,
    el("button", { class: "main", type: "submit" }, W.show)].filter(Boolean));
  const grow = () => { text.style.height = "auto"; text.style.height = `${Math.min(text.scrollHeight + 2, 160)}px`; };
  text.addEventListener("input", grow);
  grow();
  if (had) place(had)?.focus();
}

function drawTools() {
  const themes = select(W.theme, Object.entries(W.themes), localStorage.getItem("theme") ?? "", (theme) => {
    localStorage.setItem("theme", theme);
    dress(theme);
  });
  place("tools").replaceChildren(themes);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("theme")));
}

function dress(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  dispatchEvent(new Event("theme"));
}

async function start() {
  dress(localStorage.getItem("theme") ?? "");
  place("skip").textContent = W.skip;
  place("skip").addEventListener("click", (event) => { event.preventDefault(); root.focus(); root.scrollIntoView(); });
  try {
    app.model = await api.get("api/model");
  } catch (error) {
    return app.fail(error);
  }
  place("model-name").textContent = app.model.name.split("/").at(-1);
  place("model-name").title = app.model.name;
  place("model-size").textContent = W.size(app.model);
  drawTools();
  read();
  addEventListener("popstate", () => { read(); render(); });
  addEventListener("stale", render);
  return render();
}

start();
