/** Pictures as files: SVG, PNG and CSV of one, or a whole view as an HTML page that opens without a server. */
import { button, colour, el } from "./dom.js";
import { W } from "./words.js";

export function download(name, content, type) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const link = el("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

const quoted = (cell) => (/[",\n\r]/.test(String(cell)) ? `"${String(cell).replaceAll('"', '""')}"` : String(cell));
export const csv = (rows) => rows.map((row) => row.map(quoted).join(",")).join("\n") + "\n";
export const escaped = (text) =>
  String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

/** What opens to three buttons; each function gives its file's content when asked. */
export function saving(name, { svg, canvas, rows }) {
  const file = name.replace(/[^\w.-]+/g, "-");
  const png = () => (canvas ? canvas() : rasterized(svg())).toBlob((blob) => download(`${file}.png`, blob));
  return el("details", { class: "saving" }, el("summary", { "aria-label": W.saveWhat(name) }, W.save), el("div", {},
    svg && button("SVG", () => download(`${file}.svg`, typeof svg() === "string" ? svg() : serialized(svg()), "image/svg+xml")),
    (canvas || svg) && button("PNG", png),
    rows && button("CSV", () => download(`${file}.csv`, csv(rows()), "text/csv"))));
}

export function serialized(svg) {
  const copy = svg.cloneNode(true);
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  return new XMLSerializer().serializeToString(copy);
}

/** A chart of lines, rectangles, circles, paths and text on a canvas: the page may load no picture but its own. */
function rasterized(svg) {
  const { width, height } = svg.viewBox.baseVal;
  const canvas = el("canvas", { width: 2 * width, height: 2 * height });
  const context = canvas.getContext("2d");
  context.scale(2, 2);
  context.fillStyle = colour("paper");
  context.fillRect(0, 0, width, height);
  for (const shape of svg.querySelectorAll("line, rect, circle, path, text")) {
    const number = (name) => Number(shape.getAttribute(name) ?? 0);
    const at = shape.getCTM(), base = svg.getCTM().inverse().multiply(at);
    const look = getComputedStyle(shape);
    context.save();
    context.transform(base.a, base.b, base.c, base.d, base.e, base.f);
    context.globalAlpha = Number(look.opacity);
    context.setLineDash(look.strokeDasharray === "none" ? [] : look.strokeDasharray.split(/[ ,]+/).map(parseFloat));
    [context.fillStyle, context.strokeStyle, context.lineWidth] = [look.fill, look.stroke, parseFloat(look.strokeWidth)];
    if (shape.tagName === "text") {
      context.font = `${look.fontWeight} ${look.fontSize} ${look.fontFamily}`;
      context.textAlign = { middle: "center", end: "right" }[look.textAnchor] ?? "left";
      if (look.stroke !== "none") context.strokeText(shape.textContent, number("x"), number("y"));
      context.fillText(shape.textContent, number("x"), number("y"));
    } else {
      const path = new Path2D(shape.tagName === "path" ? shape.getAttribute("d") ?? "" : undefined);
      if (shape.tagName === "line") { path.moveTo(number("x1"), number("y1")); path.lineTo(number("x2"), number("y2")); }
      if (shape.tagName === "rect") path.rect(number("x"), number("y"), number("width"), number("height"));
      if (shape.tagName === "circle") path.arc(number("cx"), number("cy"), number("r"), 0, 2 * Math.PI);
      if (look.fill !== "none") context.fill(path);
      if (look.stroke !== "none") context.stroke(path);
    }
    context.restore();
  }
  return canvas;
}

/** The view as it stands, without its server: pictures drawn in, nothing to press. */
export async function saveView(root, title) {
  const copy = root.cloneNode(true);
  const drawn = root.querySelectorAll("canvas");
  copy.querySelectorAll("canvas").forEach((canvas, i) => {
    const picture = el("img", { src: drawn[i].toDataURL(), alt: canvas.getAttribute("aria-label") ?? "", width: drawn[i].clientWidth });
    canvas.replaceWith(picture);
  });
  const fields = root.querySelectorAll("select");
  copy.querySelectorAll("select").forEach((field, i) => field.replaceWith(el("b", {}, fields[i].selectedOptions[0]?.textContent ?? "")));
  copy.querySelectorAll(".saving, input, .quiet, .pager button, script").forEach((part) => part.remove());
  const sheet = [...document.styleSheets].find((each) => each.href?.endsWith("/style.css"));
  const rules = [...sheet.cssRules].map((rule) => rule.cssText).join("\n");
  const mathml = "math[display=block] { display: block; margin-block: .5rem } .katex-html { display: none }"; // its fonts stay behind
  const page = `<!doctype html>\n<html lang="en" data-theme="${document.documentElement.dataset.theme ?? ""}"><meta charset="utf-8">` +
    `<meta name="viewport" content="width=device-width"><title>${escaped(title)}</title><style>${rules}\n${mathml}</style>` +
    `<body><header><h1>${escaped(title)}</h1></header><main>${copy.innerHTML}</main></body></html>`;
  download(`${title.replace(/[^\w.-]+/g, "-")}.html`, page, "text/html");
}
