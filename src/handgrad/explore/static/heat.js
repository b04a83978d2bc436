/** Heat maps: a canvas whose cells one reads by pointer or arrow keys, with names, a legend and files to save. */
import { el, colour, speak } from "./dom.js";
import { pixel, scale } from "./colours.js";
import { exact, rough, shortened, visible } from "./numbers.js";
import { escaped, saving } from "./pictures.js";
import { legible } from "./tokens.js";
import { W } from "./words.js";

const FONT = "11px ui-monospace, 'DejaVu Sans Mono', monospace";
const LETTER = 6.7; // its width
const LONGEST = 12; // letters of a name beside a map

/**
 * `numbers` (rows x columns, row-major), `rowNames`, `columnNames` (arrays of text), `title`.
 * `signed`: diverging colours. `square`: cells as high as wide. `cell`: their largest width.
 * `hidden(i, j)`: a cell that means nothing. `onpick(i, j)`: pressed or entered. `words(i, j, x)`: what is read.
 * `end`: scrolled to its last column. `texts(i, j)`: what stands in a cell.
 * `onmove(i, j)`: another cell is read. The figure's `point([i, j])` reads one without telling.
 */
export function heatMap(options) {
  const canvas = el("canvas", { tabindex: 0, role: "application", "aria-roledescription": W.heat.role });
  const reading = el("output", { class: "reading" });
  const legend = el("canvas", { class: "legend", "aria-hidden": "true" });
  const limits = el("span", { class: "limits" });
  const scroller = el("div", { class: "scroller" }, canvas);
  const caption = el("figcaption", {}, options.title);
  const figure = el("figure", { class: "heat" }, options.title && caption, scroller,
    el("div", { class: "under" }, reading, el("span", { class: "legend-box" }, legend, limits),
      saving(options.name ?? options.title ?? "picture", { svg: () => drawnAsSvg(map), canvas: () => canvas, rows: () => table(map) })));
  const map = { ...options, at: options.at ?? null };

  function draw() {
    layOut(map, scroller.clientWidth || figure.parentElement?.clientWidth || 600);
    paint(map, canvas);
    if (map.end && !map.at) scroller.scrollLeft = scroller.scrollWidth;
    paintLegend(map.colours, legend, limits);
    read();
  }

  function cellUnder(event) {
    const box = canvas.getBoundingClientRect();
    const j = Math.floor((event.clientX - box.left - map.left) / map.width);
    const i = Math.floor((event.clientY - box.top - map.top) / map.height);
    return i >= 0 && j >= 0 && i < map.rows && j < map.columns ? [i, j] : null;
  }

  function read(said = false) {
    if (!map.at) {
      reading.textContent = W.heat.hint;
      canvas.setAttribute("aria-label", `${map.title ?? map.name}. ${W.heat.keys(map.rows, map.columns)}`);
      return;
    }
    const words = wordsOf(map, ...map.at);
    reading.textContent = words;
    canvas.setAttribute("aria-label", `${map.title ?? map.name}. ${words}`);
    if (said) speak(words);
  }

  function move(at, said) {
    if (String(at) === String(map.at)) return;
    figure.point(at, said);
    options.onmove?.(...at);
  }

  canvas.addEventListener("pointermove", (event) => { const at = cellUnder(event); if (at) move(at, false); });
  canvas.addEventListener("pointerdown", (event) => { const at = cellUnder(event); if (at) { move(at, false); options.onpick?.(...at); } });
  canvas.addEventListener("focus", () => { if (!map.at) move([map.rows - 1, 0], true); });
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -1e9], End: [0, 1e9], PageUp: [-10, 0], PageDown: [10, 0] };
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); if (map.at) options.onpick?.(...map.at); }
    const step = steps[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const [i, j] = map.at ?? [0, 0];
    const within = (x, n) => Math.max(0, Math.min(n - 1, x));
    move([within(i + step[0], map.rows), within(j + step[1], map.columns)], true);
    const x = map.left + map.at[1] * map.width;
    if (x < scroller.scrollLeft || x + map.width > scroller.scrollLeft + scroller.clientWidth) scroller.scrollLeft = x - scroller.clientWidth / 2;
  });

  let seen = 0; // drawn when it has a width, and again when that changes or the theme does
  new ResizeObserver(() => { if (scroller.clientWidth !== seen) { seen = scroller.clientWidth; draw(); } }).observe(scroller);
  const themed = () => (figure.isConnected ? draw() : removeEventListener("theme", themed));
  addEventListener("theme", themed);
  figure.point = (at, said = false) => {
    map.at = at;
    if (!map.colours) return;
    paint(map, canvas);
    read(said);
  };
  return figure;
}

function wordsOf(map, i, j) {
  const x = map.numbers[i * map.columns + j];
  if (map.hidden?.(i, j)) return W.heat.masked(visible(map.rowNames[i]), visible(map.columnNames[j]));
  if (map.words) return map.words(i, j, x);
  return W.heat.cell(visible(map.rowNames[i]), visible(map.columnNames[j]), exact(x));
}

function layOut(map, room) {
  map.cells = null;
  map.rows = map.rowNames.length;
  map.columns = map.columnNames.length;
  map.colours = scale(map.hidden ? map.numbers.filter((_, k) => !map.hidden(Math.floor(k / map.columns), k % map.columns)) : map.numbers, map.signed ?? true);
  const longest = (names) => Math.min(LONGEST, Math.max(1, ...names.map((name) => visible(name).length)));
  map.left = Math.ceil(longest(map.rowNames) * LETTER) + 10;
  const widest = map.cell ?? 26;
  map.width = Math.max(map.least ?? 4, Math.min(widest, Math.floor((room - map.left - 2) / map.columns)));
  const letters = longest(map.columnNames);
  const lying = letters * LETTER + 4 <= map.width || letters === 1;
  map.lying = lying;
  map.need = lying ? letters * LETTER + 2 : 11;
  map.top = lying ? 18 : Math.ceil(longest(map.columnNames) * LETTER) + 10;
  map.height = map.square ? map.width : map.texts ? 22 : Math.max(14, Math.min(22, Math.round(330 / map.rows)));
}

/** Of names that would overlap only every so manyth is written; numbers that count up in round steps. */
function every(names, room, need) {
  const skip = Math.ceil(need / room);
  if (skip <= 1) return () => true;
  const round = [2, 4, 8, 16, 32, 64, 128].find((step) => step >= skip) ?? skip;
  const counts = names.every((name, i) => name === String(Number(names[0]) + i));
  return counts ? (i) => Number(names[i]) % round === 0 : (i) => i % skip === 0;
}

/** A picture of one pixel a cell. */
export function drawPixels(canvas, rows, columns, pixelOf) {
  const context = canvas.getContext("2d"), picture = context.createImageData(columns, rows);
  const pixels = new Uint32Array(picture.data.buffer);
  for (let i = 0; i < rows; i += 1) for (let j = 0; j < columns; j += 1) pixels[i * columns + j] = pixelOf(i, j);
  context.putImageData(picture, 0, 0);
}

/** The cells, drawn once; what moves is drawn over them. */
function paintCells(map, ratio, w, h) {
  const cells = el("canvas", { width: w * ratio, height: h * ratio }), context = cells.getContext("2d");
  context.scale(ratio, ratio);
  context.fillStyle = colour("paper");
  context.fillRect(0, 0, w, h);
  const [gap, line] = [map.width >= 8 ? 1 : 0, map.height >= 8 ? 1 : 0];
  if (!gap && !line) {
    const one = el("canvas", { width: map.columns, height: map.rows }), shade = map.colours.pixels(), paper = pixel("paper");
    drawPixels(one, map.rows, map.columns, (i, j) => (map.hidden?.(i, j) ? paper : shade(map.numbers[i * map.columns + j])));
    context.imageSmoothingEnabled = false;
    context.drawImage(one, map.left, map.top, map.columns * map.width, map.rows * map.height);
  } else for (let i = 0; i < map.rows; i += 1)
    for (let j = 0; j < map.columns; j += 1) {
      if (map.hidden?.(i, j)) continue;
      context.fillStyle = map.colours.of(map.numbers[i * map.columns + j]);
      context.fillRect(map.left + j * map.width, map.top + i * map.height, map.width - gap, map.height - line);
    }
  context.font = FONT;
  if (map.texts) inCells(map, context);
  return cells;
}

function paint(map, canvas) {
  const [w, h] = [map.left + map.columns * map.width + 2, map.top + map.rows * map.height + 2];
  const ratio = window.devicePixelRatio || 1;
  map.cells ??= paintCells(map, ratio, w, h);
  [canvas.width, canvas.height] = [map.cells.width, map.cells.height];
  [canvas.style.width, canvas.style.height] = [`${w}px`, `${h}px`];
  const context = canvas.getContext("2d");
  context.drawImage(map.cells, 0, 0);
  context.scale(ratio, ratio);
  context.font = FONT;
  labels(map, (text, x, y, align, turned, strong) => {
    context.save();
    context.fillStyle = colour(strong ? "ink" : "soft");
    context.textAlign = align;
    context.translate(x, y);
    if (turned) context.rotate(-Math.PI / 2);
    context.fillText(text, 0, 0);
    context.restore();
  });
  if (map.at) {
    context.strokeStyle = colour("ink");
    context.lineWidth = 2;
    context.strokeRect(map.left + map.at[1] * map.width - 0.5, map.top + map.at[0] * map.height - 0.5, map.width, map.height);
  }
}

/** Text in the cells, black or white as one can read it. */
function inCells(map, context) {
  context.textAlign = "center";
  for (let i = 0; i < map.rows; i += 1)
    for (let j = 0; j < map.columns; j += 1) {
      context.fillStyle = legible(map.colours.of(map.numbers[i * map.columns + j]));
      const text = shortened(visible(map.texts(i, j)), Math.max(1, Math.floor((map.width - 4) / LETTER)));
      context.fillText(text, map.left + (j + 0.5) * map.width, map.top + (i + 0.5) * map.height + 4);
    }
}

function labels(map, write) {
  const [row, column] = [every(map.rowNames, map.height, 12), every(map.columnNames, map.width, map.need)];
  map.rowNames.forEach((name, i) => {
    const here = map.at?.[0] === i;
    if (row(i) || here) write(shortened(visible(name), LONGEST), map.left - 6, map.top + (i + 0.5) * map.height + 4, "right", false, here);
  });
  map.columnNames.forEach((name, j) => {
    const text = shortened(visible(name), LONGEST), here = map.at?.[1] === j;
    const near = map.at && Math.abs(map.at[1] - j) * map.width < map.need;
    if (!here && (near || !column(j))) return;
    const x = map.left + (j + 0.5) * map.width;
    if (map.lying) write(text, x, map.top - 6, "center", false, here);
    else write(text, x + 4, map.top - 5, "left", true, here);
  });
}

function paintLegend(colours, canvas, limits) {
  const [w, h] = [72, 10];
  [canvas.width, canvas.height] = [w, h];
  const context = canvas.getContext("2d");
  for (let x = 0; x < w; x += 1) {
    context.fillStyle = colours.of(colours.signed ? (2 * x / (w - 1) - 1) * colours.limit : (x / (w - 1)) * colours.limit);
    context.fillRect(x, 0, 1, h);
  }
  limits.textContent = W.heat.legend(rough(colours.limit), colours.signed, colours.clipped);
}

function drawnAsSvg(map) {
  const parts = [];
  for (let i = 0; i < map.rows; i += 1)
    for (let j = 0; j < map.columns; j += 1)
      if (!map.hidden?.(i, j))
        parts.push(`<rect x="${map.left + j * map.width}" y="${map.top + i * map.height}" width="${map.width}" height="${map.height}" fill="${map.colours.of(map.numbers[i * map.columns + j])}"><title>${escaped(wordsOf(map, i, j))}</title></rect>`);
  labels({ ...map, at: null }, (text, x, y, align, turned) => {
    const anchor = { right: "end", center: "middle", left: "start" }[align];
    parts.push(`<text transform="translate(${x} ${y})${turned ? " rotate(-90)" : ""}" text-anchor="${anchor}" fill="${colour("soft")}">${escaped(text)}</text>`);
  });
  const [w, h] = [map.left + map.columns * map.width + 2, map.top + map.rows * map.height + 2];
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${w} ${h}" width="${w}" height="${h}" font-family="monospace" font-size="11"><rect width="${w}" height="${h}" fill="${colour("paper")}"/>${parts.join("")}</svg>`;
}

function table(map) {
  return [["", ...map.columnNames], ...map.rowNames.map((name, i) => [name, ...map.numbers.slice(i * map.columns, (i + 1) * map.columns)])];
}
