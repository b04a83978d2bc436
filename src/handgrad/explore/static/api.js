/** The server, asked: JSON, and arrays in their binary form. What a trace's id names is remembered. */

import { W } from "./words.js";

const REMEMBERED = 80;
const answers = new Map();
const questions = new Map(); // of each trace by its id: asked again where the server has forgotten it

export class Failed extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function fetched(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : new Failed(W.noServer, 0);
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new Failed(body.error?.message ?? W.refused(response.status), response.status);
}

const asJson = (body) => ({
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
});

/**
 * `ask`, and once more after the trace was made anew where the server no longer had it. Of a run that has
 * trained on it is another: then the page is drawn anew.
 */
async function withTrace(id, ask) {
  try {
    return await ask();
  } catch (error) {
    if (error.status !== 404 || !questions.has(id)) throw error;
    const made = await json("api/trace", asJson(questions.get(id)));
    if (made.id === id) return ask();
    dispatchEvent(new Event("stale"));
    throw new Failed(W.stale, 404);
  }
}

function remembered(key, ask) {
  if (!answers.has(key)) {
    const answer = ask();
    answer.catch(() => answers.delete(key));
    answers.set(key, answer);
    if (answers.size > REMEMBERED) answers.delete(answers.keys().next().value);
  }
  return answers.get(key);
}

const json = (path, options) => fetched(path, options).then((response) => response.json());

/** Not remembered, since it may change: `getAnew`, `postAnew` and `trace`. */
export const getAnew = (path) => json(path);
export const postAnew = (path, body) => json(path, asJson(body));
export const get = (path) => remembered(path, () => json(path));
export const getTraced = (path) => remembered(path, () => withTrace(path.split("/")[2], () => json(path)));
export const post = (path, body) =>
  remembered(path + JSON.stringify(body), () => withTrace(body.id, () => json(path, asJson(body))));

/** The server has the same answer as before, unless the model is another by now: one that learns `changes`. */
export async function trace(asked, changes = true) {
  const ask = () => json("api/trace", asJson(asked));
  const answer = await (changes ? ask() : remembered(`api/trace${JSON.stringify(asked)}`, ask));
  questions.set(answer.id, asked);
  return answer;
}

const experiments = new Map(); // those that go on: who is told, and what ends them

/**
 * What takes many runs. `onshare` is told how much is done. By `signal` who asked says that it has left: when
 * all have, the server is told to end it.
 */
export function experiment(path, body, { signal, onshare }) {
  const key = path + JSON.stringify(body);
  if (!answers.has(key)) {
    const going = { told: new Set(), stop: new AbortController() };
    experiments.set(key, going);
    remembered(key, () => withTrace(body.id, () => lines(path, body, going)).finally(() => experiments.delete(key)));
  }
  const going = experiments.get(key);
  going?.told.add(onshare);
  signal.addEventListener("abort", () => {
    going?.told.delete(onshare);
    if (!going?.told.size) going?.stop.abort();
  });
  return remembered(key);
}

/** The last line of an answer; those before it say how much is done. */
async function lines(path, body, { told, stop }) {
  const response = await fetched(path, { ...asJson(body), signal: stop.signal });
  if (!response.headers.get("Content-Type").includes("ndjson")) return response.json();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "", answer = null;
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    const whole = (text + read.value).split("\n");
    text = whole.pop();
    for (const line of whole.map((each) => JSON.parse(each))) {
      if (Object.keys(line).join() === "share") told.forEach((tell) => tell(line.share));
      else answer = line;
    }
  }
  if (!answer || answer.error) throw new Failed(answer?.error.message ?? W.noServer, 400);
  return answer;
}

/** The numbers at a site: {shape, min, max, rms, values, gradients}; `index` as the server takes it. */
export const array = (id, site, index, what) => binary(id, "array", { site, what, index });

/** All heads' attention among the `last` tokens as pictures of `side` cells: {shape, values or gradients, mean}. */
export const smallHeads = (id, kind, what, last, side) => binary(id, "heads", { kind, what, last, side });

function binary(id, name, asked) {
  const path = `api/trace/${id}/${name}?${new URLSearchParams(asked)}`;
  return remembered(path, () => withTrace(id, async () => decoded(await (await fetched(path)).arrayBuffer())));
}

function decoded(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const n = header.shape.reduce((product, size) => product * size, 1);
  const first = new Float32Array(buffer, 4 + length, n);
  const second = header.count === 2 ? new Float32Array(buffer, 4 + length + 4 * n, n) : null;
  return header.what === "gradient" ? { ...header, gradients: first } : { ...header, values: first, gradients: second };
}
