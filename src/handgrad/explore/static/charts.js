/** Lines over steps, with their numbers at the pointer or by arrow keys, and files to save. */
import { colour, el, speak } from "./dom.js";
import { exact, rough } from "./numbers.js";
import { saving } from "./pictures.js";
import { W } from "./words.js";

const [HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [280, 48, 14, 10, 34];

/** `series`: {name, points: [[x, y]], colour, dash}; `levels`: {name, y} are lines across; `log`: of y. */
export function lineChart({ name, series, levels = [], x: xName, y: yName, log = false }) {
  const holder = el("div", { class: "chart" }), reading = el("output", { class: "reading" }, W.chart.hint);
  const key = el("ul", { class: "key" });
  const figure = el("figure", {}, holder, key, el("div", { class: "under" }, reading, el("span"), saving(name, {
    svg: () => holder.firstChild, rows: () => [["series", xName, yName], ...figure.data.flatMap((each) => each.points.map(([a, b]) => [each.name, a, b]))],
  })));
  figure.data = series;
  let at = null;

  function draw() {
    const width = Math.max(280, holder.clientWidth || 600);
    const points = figure.data.flatMap((each) => each.points).filter(([, b]) => Number.isFinite(b) && (!log || b > 0));
    const paint = Object.fromEntries(["ink", "soft", "line", "paper"].map((each) => [each, colour(each)]));
    if (!points.length) { holder.replaceChildren(); return; }
    const ys = points.map(([, b]) => b), most = quantile(ys.toSorted((a, b) => a - b));
    const xs = d3.scaleLinear().domain(d3.extent(points, ([a]) => a)).range([LEFT, width - RIGHT]);
    const floor = Math.min(...ys, ...levels.map((each) => each.y));
    const y = (log ? d3.scaleLog().domain([Math.max(floor, 1e-12), Math.max(...ys)]) : d3.scaleLinear().domain([Math.min(floor, ...ys), most])).nice().range([HEIGHT - BOTTOM, TOP]).clamp(true);
    const svg = d3.create("svg").attr("viewBox", `0 0 ${width} ${HEIGHT}`).attr("width", width).attr("height", HEIGHT)
      .attr("tabindex", 0).attr("role", "application").attr("aria-label", `${name}. ${yName} / ${xName}`).attr("font-family", "system-ui, sans-serif").attr("font-size", 11);
    svg.append("rect").attr("width", width).attr("height", HEIGHT).attr("fill", paint.paper);
    let below = Infinity;
    for (const tick of y.ticks(5)) {
      if (below - y(tick) < 18) continue;
      below = y(tick);
      svg.append("line").attr("x1", LEFT).attr("x2", width - RIGHT).attr("y1", y(tick)).attr("y2", y(tick)).attr("stroke", paint.line);
      svg.append("text").attr("x", LEFT - 6).attr("y", y(tick) + 4).attr("text-anchor", "end").attr("fill", paint.soft).text(rough(tick));
    }
    for (const tick of xs.ticks(Math.max(2, Math.floor(width / 90))).filter(Number.isInteger))
      svg.append("text").attr("x", xs(tick)).attr("y", HEIGHT - BOTTOM + 16).attr("text-anchor", "middle").attr("fill", paint.soft).text(tick.toLocaleString("en"));
    svg.append("text").attr("x", width - RIGHT).attr("y", HEIGHT - 4).attr("text-anchor", "end").attr("fill", paint.soft).text(xName);
    let above = -Infinity;
    for (const level of levels.filter((each) => each.y <= y.domain()[1]).sort((a, b) => y(a.y) - y(b.y))) {
      svg.append("line").attr("x1", LEFT).attr("x2", width - RIGHT).attr("y1", y(level.y)).attr("y2", y(level.y)).attr("stroke", paint.soft).attr("stroke-dasharray", "2 4");
      if (y(level.y) - above < 12) continue;
      above = y(level.y);
      svg.append("text").attr("x", width - RIGHT).attr("y", y(level.y) + (y(level.y) < TOP + 6 ? 12 : -3)).attr("text-anchor", "end").attr("fill", paint.soft).attr("stroke", paint.paper).attr("stroke-width", 3).attr("paint-order", "stroke").attr("class", "above").text(`${level.name} ${rough(level.y)}`);
    }
    const line = d3.line(([a]) => xs(a), ([, b]) => y(b)).defined(([, b]) => Number.isFinite(b) && (!log || b > 0));
    for (const each of figure.data) {
      svg.append("path").attr("d", line(each.points)).attr("fill", "none").attr("stroke", each.colour()).attr("stroke-width", each.wide ?? 1.5).attr("stroke-dasharray", each.dash ?? null);
      if (each.dots) for (const [a, b] of each.points) svg.append("circle").attr("cx", xs(a)).attr("cy", y(b)).attr("r", 3).attr("fill", each.colour());
    }
    svg.selectAll(".above").raise();
    const cursor = svg.append("line").attr("y1", TOP).attr("y2", HEIGHT - BOTTOM).attr("stroke", paint.ink).attr("opacity", at === null ? 0 : 1);
    const steps = [...new Set(points.map(([a]) => a))].sort((a, b) => a - b);
    const to = (place, said) => {
      at = steps[Math.max(0, Math.min(steps.length - 1, place))];
      cursor.attr("x1", xs(at)).attr("x2", xs(at)).attr("opacity", 0.6);
      const words = `${xName} ${at}: ${figure.data.map((each) => [each.name, nearest(each.points, at)]).filter(([, b]) => b !== null).map(([who, b]) => `${who} ${exact(b)}`).join(" · ")}`;
      reading.textContent = words;
      svg.attr("aria-label", `${name}. ${words}`);
      if (said) speak(words);
    };
    if (at !== null) to(steps.indexOf(at), false);
    svg.on("pointermove", (event) => to(d3.bisectCenter(steps, xs.invert(d3.pointer(event)[0])), false));
    svg.on("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20, Home: -1e9, End: 1e9 }[event.key];
      if (!step) return;
      event.preventDefault();
      to((at === null ? steps.length - 1 : steps.indexOf(at)) + step, true);
    });
    const had = holder.contains(document.activeElement);
    holder.replaceChildren(svg.node());
    if (had) svg.node().focus();
    key.replaceChildren(...figure.data.map((each) => el("li", {}, el("i", { style: { background: each.colour() } }), each.name)));
  }

  let seen = 0;
  new ResizeObserver(() => { if (holder.clientWidth !== seen) { seen = holder.clientWidth; draw(); } }).observe(holder);
  const themed = () => (figure.isConnected ? draw() : removeEventListener("theme", themed));
  addEventListener("theme", themed);
  figure.update = (data) => { figure.data = data; draw(); };
  return figure;
}

/** The top of the axis: spikes may stand out of it. */
const quantile = (sorted) => Math.max(d3.quantileSorted(sorted, 0.99) * 1.02, sorted[Math.floor(sorted.length / 2)] * 1.2);

function nearest(points, x) {
  if (!points.length) return null;
  const found = points[d3.bisectCenter(points.map(([a]) => a), x)];
  return found[0] === x || points.length > 50 ? found[1] : null;
}
