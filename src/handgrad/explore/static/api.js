/** The server, asked: JSON, and arrays in their binary form. What was asked before is remembered. */

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
  } catch {
    throw new Failed(W.noServer, 0);
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new Failed(body.error?.message ?? W.refused(response.status), response.status);
}

const asJson = (body) => ({
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
});

/** `ask`, and once more after the trace was made anew where the server no longer had it. */
async function withTrace(id, ask) {
  try {
    return await ask();
  } catch (error) {
    if (error.status !== 404 || !questions.has(id)) throw error;
    await fetched("api/trace", asJson(questions.get(id)));
    return ask();
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

export const get = (path) => remembered(path, () => json(path));
export const getTraced = (path) => remembered(path, () => withTrace(path.split("/")[2], () => json(path)));
/** Not remembered: it may change. */
export const getAnew = (path) => json(path);
export const post = (path, body) =>
  remembered(path + JSON.stringify(body), () => withTrace(body.id, () => json(path, asJson(body))));

export async function trace(asked) {
  const answer = await remembered(`trace${JSON.stringify(asked)}`, () => json("api/trace", asJson(asked)));
  questions.set(answer.id, asked);
  return answer;
}

/** The numbers at a site: {shape, min, max, rms, values, gradients}; `index` as the server takes it. */
export function array(id, site, index, what) {
  const path = `api/trace/${id}/array?${new URLSearchParams({ site, what, index })}`;
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
