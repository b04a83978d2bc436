/** A formula's derivation: Markdown of a few kinds, and LaTeX between dollars, set by KaTeX. */
import { el } from "./dom.js";

export function markdown(text) {
  const parts = text.split(/\$\$([\s\S]+?)\$\$/);
  const blocks = parts.flatMap((part, i) => (i % 2 ? [math(part, true)] : part.split(/\n\s*\n/).filter((each) => each.trim()).map(paragraph)));
  return el("div", { class: "derivation" }, blocks);
}

function paragraph(text) {
  const lines = text.trim().split("\n");
  if (lines.every((line) => /^([-*] |\s)/.test(line)) && /^[-*] /.test(lines[0])) {
    const items = text.trim().split(/\n(?=[-*] )/).map((item) => item.replace(/^[-*] /, ""));
    return el("ul", {}, items.map((item) => el("li", {}, inline(item))));
  }
  if (lines.every((line) => line.startsWith("    "))) return el("pre", {}, text);
  return el("p", {}, inline(text.trim()));
}

/** Text with `code` and $formulas$. */
export function inline(text) {
  return text.split(/(\$[^$]+\$|`[^`]+`)/).map((part) => {
    if (/^\$[^$]+\$$/.test(part)) return math(part.slice(1, -1), false);
    if (/^`[^`]+`$/.test(part)) return el("code", {}, part.slice(1, -1));
    return part;
  });
}

function math(source, displayMode) {
  const place = el(displayMode ? "div" : "span", displayMode ? { class: "display", tabindex: 0, role: "group", "aria-label": source.trim() } : {});
  katex.render(source, place, { displayMode, throwOnError: false, trust: false, strict: "ignore" });
  return place;
}
