/** A site's numbers as a heat map: tokens down, the last axis across; no more than is on screen is asked for. */
import { array } from "./api.js";
import { button, el, select } from "./dom.js";
import { heatMap } from "./heat.js";
import { exact, visible } from "./numbers.js";
import { siteOf } from "./sites.js";
import { W } from "./words.js";

export const MOST = 128;

/** A part of an axis, and buttons to its neighbours; nothing where all of it fits. */
export function pager(what, first, n, onmove) {
  if (n <= MOST) return null;
  const last = Math.min(first + MOST, n);
  const to = (start) => onmove(Math.max(0, Math.min(start, n - MOST)));
  return el("span", { class: "pager" },
    button("‹", () => to(first - MOST), { "aria-label": W.heat.earlier(what), disabled: first === 0 }),
    el("span", {}, W.heat.from(first, last - 1, n, what)),
    button("›", () => to(first + MOST), { "aria-label": W.heat.later(what), disabled: last === n }));
}

/** Two maps, of the value and of its gradient, that show the same part; settings are kept in the URL. */
export async function siteMaps(app, name) {
  const { model, trace, state } = app;
  const axes = siteOf(model, name).axes.split(" "), shape = trace.shapes[name];
  const [rowAxis, columnAxis] = axes.slice(-2), [rows, columns] = shape.slice(-2);
  const within = (text, n, otherwise) => Math.max(0, Math.min(Number.parseInt(text ?? otherwise, 10) || 0, Math.max(0, n - MOST)));
  const at = {
    head: Math.min(Number(state.head ?? 0), shape[0] - 1),
    row: within(state.row, rows, Math.max(0, rows - MOST)),
    column: within(state.column, columns, columnAxis === "S" ? Math.max(0, columns - MOST) : 0),
  };
  const part = (first, n) => `${first}:${Math.min(first + MOST, n)}`;
  const index = [...(axes.length === 3 ? [at.head] : []), part(at.row, rows), part(at.column, columns)].join(",");
  const names = (axis, first, n) => Array.from({ length: Math.min(MOST, n - first) }, (_, i) =>
    "TS".includes(axis) ? trace.tokens[first + i] : String(first + i));
  const rowNames = names(rowAxis, at.row, rows), columnNames = names(columnAxis, at.column, columns);
  const masked = columnAxis === "S" ? (i, j) => at.column + j > at.row + i : undefined;
  const isAmount = /attention\.probs$/.test(name);
  const read = (i, j, x) => W.heat.cell(
    visibleAt(rowNames[i], at.row + i), "TS".includes(columnAxis) ? visibleAt(columnNames[j], at.column + j) : `${W.axisOne[columnAxis]} ${columnNames[j]}`, exact(x));
  const controls = el("div", { class: "controls inner" },
    axes.length === 3 && shape[0] > 1 && select(axes[0] === "G" ? W.axes.G : W.axes.H, Array.from({ length: shape[0] }, (_, i) => [i, String(i)]), at.head, (head) => app.change({ head })),
    pager(W.axes[rowAxis], at.row, rows, (row) => app.change({ row })),
    pager(W.axes[columnAxis], at.column, columns, (column) => app.change({ column })));
  const drawn = {};
  const map = async (what) => {
    const { values, gradients } = await array(trace.id, name, index, what);
    drawn[what] = heatMap({
      onmove: (i, j) => drawn[what === "value" ? "gradient" : "value"]?.point([i, j]),
      numbers: what === "value" ? values : gradients, rowNames, columnNames, hidden: masked, signed: what === "gradient" || !isAmount,
      square: columnAxis === "S", name: `${name} ${what}`, words: read, cell: columnAxis === "S" ? 22 : 18,
      least: columnNames.length > 64 ? 5 : 4,
    });
    return drawn[what];
  };
  return { controls: controls.childElementCount ? controls : null, map, head: axes.length === 3 ? at.head : null };
}

const visibleAt = (token, i) => `${visible(token)} (${i})`;
