/** Elements, as a tree of calls: el("p", { class: "note" }, "text", el("b", {}, "bold")). */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else if (name === "style") Object.entries(value).forEach(([k, v]) => element.style.setProperty(k, v));
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A labelled select; `options` are [value, words]. */
export function select(label, options, value, onchange) {
  const chosen = el("select", { onchange: () => onchange(chosen.value) },
    options.map(([each, words]) => el("option", { value: each, selected: String(each) === String(value) }, words)));
  return el("label", { class: "field" }, el("span", {}, label), chosen);
}

/** A few choices, one of which is taken: radio buttons that look like a row of buttons. */
export function choice(label, options, value, onchange) {
  const name = `choice-${choice.count = (choice.count ?? 0) + 1}`;
  return el("fieldset", { class: "choice" }, el("legend", {}, label), el("div", {},
    options.map(([each, words]) => el("label", {},
      el("input", { type: "radio", name, value: each, checked: String(each) === String(value), onchange: () => onchange(each) }),
      el("span", {}, words)))));
}

export function check(label, value, onchange) {
  const box = el("input", { type: "checkbox", checked: value, onchange: () => onchange(box.checked) });
  return el("label", { class: "check" }, box, label);
}

export function button(words, onclick, attributes = {}) {
  return el("button", { type: "button", onclick, ...attributes }, words);
}

/** The colour behind a custom property of the style sheet. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Said to screen readers. */
export function speak(words) {
  document.getElementById("spoken").textContent = words;
}
