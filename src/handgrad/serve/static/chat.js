// The chat page: messages in, answers out as they are written. What a model says is text, never markup.

const $ = (id) => document.getElementById(id);
const KEPT = "handgrad.chat", SETTINGS = ["system", "temperature", "top_p", "max_tokens", "seed"];

let messages = [];       // {role, content, note}
let writing = null;      // the AbortController of the answer that is being written

// ---- what is kept in this browser: the conversation and the settings; the key only until the tab is closed

function keep() {
  const settings = Object.fromEntries(SETTINGS.map((id) => [id, $(id).value]));
  try {
    localStorage.setItem(KEPT, JSON.stringify({ messages, settings }));
    sessionStorage.setItem(KEPT, $("key").value);
  } catch { /* a browser may keep nothing */ }
}

function recall() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT)) ?? {};
    for (const id of SETTINGS) if (typeof kept.settings?.[id] === "string") $(id).value = kept.settings[id];
    if (Array.isArray(kept.messages)) messages = kept.messages.filter((m) => typeof m?.content === "string");
    $("key").value = sessionStorage.getItem(KEPT) ?? "";
  } catch { messages = []; }
}

// ---- what is seen

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

// A text, of which code between fences (```) is set as code; all of it stays text.
function fill(target, text) {
  const parts = text.split(/\n*^```.*\n*/m);
  const made = parts.map((part, i) => element(i % 2 ? "pre" : "span", "", part));
  target.replaceChildren(...made.filter((part, i) => part.textContent || i === made.length - 1));
}

function shown(message) {
  const article = element("article", message.role), text = element("div", "text");
  if (message.role === "user") text.textContent = message.content;
  else fill(text, message.content);
  article.append(element("h2", "", message.role === "user" ? "You" : "Answer"), text);
  if (message.note) article.append(element("p", "note", message.note));
  return article;
}

function show() {
  $("empty").hidden = messages.length > 0;
  for (const old of document.querySelectorAll("article")) old.remove();
  $("conversation").append(...messages.map(shown));
  const last = document.querySelector("article.assistant:last-child");
  if (last && !writing) last.append(actions());
  $("conversation").scrollTop = $("conversation").scrollHeight;
}

function actions() {
  const row = element("div", "actions");
  const again = element("button", "", "Another answer"), copy = element("button", "", "Copy");
  again.type = copy.type = "button";
  again.onclick = () => { messages.pop(); answer(); };
  copy.onclick = async () => {
    await navigator.clipboard.writeText(messages.at(-1).content);
    copy.textContent = "Copied";
  };
  row.append(again, ...(navigator.clipboard ? [copy] : []));  // without HTTPS only this machine has one
  return row;
}

function problem(sentence) {
  $("problem").textContent = sentence;
  $("problem").hidden = !sentence;
}

function busy(controller) {
  writing = controller;
  $("send").hidden = Boolean(controller);
  $("stop").hidden = !controller;
}

// ---- asking the server

function number(id) {
  const value = $(id).value.trim();
  return value === "" ? {} : { [id]: Number(value) };
}

function request() {
  const system = $("system").value.trim();
  const asked = messages.map(({ role, content }) => ({ role, content }));
  return {
    messages: system ? [{ role: "system", content: system }, ...asked] : asked,
    stream: true,
    ...number("temperature"), ...number("top_p"), ...number("max_tokens"), ...number("seed"),
  };
}

function ask(path, settings = {}) {
  const key = $("key").value.trim();
  const headers = { "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
  return fetch(path, { ...settings, headers });
}

async function reason(response) {
  const body = await response.json().catch(() => ({}));
  if (response.status === 401) $("settings").open = true;
  return body.error?.message ?? `The server answers ${response.status}.`;
}

// The data of server-sent events: lines "data: ..." between blank lines.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data: ") && line !== "data: [DONE]") yield JSON.parse(line.slice(6));
  }
}

async function receive(message, target) {
  const response = await ask("v1/chat/completions", { method: "POST", body: JSON.stringify(request()), signal: writing.signal });
  if (!response.ok) throw new Error(await reason(response));
  messages.push(message);
  for await (const event of events(response)) {
    if (event.error) throw new Error(event.error.message);
    const [choice] = event.choices;
    if (!choice) continue;
    message.content += choice.delta.content ?? "";
    if (choice.finish_reason === "length") message.note = "It ends here, at the limit of tokens.";
    const log = $("conversation"), below = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
    fill(target, message.content);
    if (below) log.scrollTop = log.scrollHeight;
  }
}

async function answer() {
  const message = { role: "assistant", content: "" };
  problem("");
  busy(new AbortController());
  show();
  const article = shown(message);
  article.classList.add("writing");
  $("conversation").append(article);
  $("conversation").scrollTop = $("conversation").scrollHeight;
  try {
    await receive(message, article.querySelector(".text"));
  } catch (error) {
    const stopped = error.name === "AbortError";
    message.note = stopped ? "Stopped." : "Broken off.";
    if (!stopped) problem(error instanceof TypeError ? "The server cannot be reached." : error.message);
  }
  message.content = message.content.trim();
  if (!message.content) giveBack(message);
  busy(null);
  keep();
  show();
}

// A question that got no answer is back where it was typed.
function giveBack(message) {
  if (messages.at(-1) === message) messages.pop();
  if (messages.at(-1)?.role === "user" && !$("question").value) $("question").value = messages.pop().content;
  grow();
}

// ---- what one can do

function send() {
  const question = $("question").value.trim();
  if (!question || writing) return;
  messages.push({ role: "user", content: question });
  $("question").value = "";
  $("settings").open = false;
  grow();
  answer();
}

function grow() {
  $("question").style.height = "auto";
  $("question").style.height = `${$("question").scrollHeight + 2}px`;
}

function restart() {
  writing?.abort();
  messages = [];
  problem("");
  keep();
  show();
  $("question").focus();
}

async function name() {
  const response = await ask("v1/models").catch(() => null);
  if (!response?.ok) return problem(response ? await reason(response) : "The server cannot be reached.");
  $("model").textContent = $("model").title = (await response.json()).data[0].id;
  document.title = `${$("model").textContent} · handgrad`;
  problem("");
}

$("ask").onsubmit = (event) => { event.preventDefault(); send(); };
$("question").oninput = grow;
$("question").onkeydown = (event) => {
  const sends = event.key === "Enter" && !event.shiftKey && !event.isComposing;
  if (sends) { event.preventDefault(); send(); }
};
document.onkeydown = (event) => { if (event.key === "Escape") { writing?.abort(); $("settings").open = false; } };
$("conversation").onclick = () => { $("settings").open = false; };
$("stop").onclick = () => writing?.abort();
$("new").onclick = restart;
$("options").onsubmit = (event) => event.preventDefault();
$("options").onchange = keep;
$("key").onchange = () => { keep(); name(); };

recall();
show();
name();
