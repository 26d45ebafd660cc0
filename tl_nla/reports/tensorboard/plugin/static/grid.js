/** Layers by components as a table of which only the cells in sight are in the page. */

import { element, onNextFrame } from "./dom.js";
import { NAMES, SUMS } from "./report.js";
import { colourOf, css, inkOn } from "./values.js";

const WIDE = 58;
const HIGH = 27;
const AROUND = 2;
const SINGLE = ["block", "attn", "mixer", "mlp", "ple", "bias"];

/** Rows and columns of a report: embedding, one row a layer, final bias; sums of parts first, heads last. */
export function tableOf(report) {
  const known = new Set(report.components.filter((component, c) => worthAColumn(report, component, c)).map(({ component }) => component));
  const heads = [];
  for (const { component, part, head } of report.components) {
    if (component === "head" && !heads.some(([, mixed, number]) => mixed === part && number === head)) heads.push([component, part, head]);
  }
  heads.sort((x, y) => String(x[1]).localeCompare(String(y[1])) || x[2] - y[2]);
  const columns = [...SINGLE.filter((name) => known.has(name)).map((name) => [name, "attn", null]), ...heads];
  const place = (layer, [component, part, head]) => report.components.findIndex((found) => found.layer === layer && found.component === component
    && found.head === head && (component !== "head" || found.part === part));
  const lookup = new Map(report.components.map((found, c) => [`${found.layer}/${found.component}/${found.component === "head" ? found.part : ""}/${found.head}`, c]));
  const at = (layer, [component, part, head]) => lookup.get(`${layer}/${component}/${component === "head" ? part : ""}/${head}`) ?? -1;
  const rows = [{ name: "embed", cells: [place(-1, ["embed", "attn", null])] }];
  for (let layer = 0; layer < report.n_layers; layer++) rows.push({ name: String(layer), cells: columns.map((column) => at(layer, column)) });
  rows.push({ name: "final bias", cells: [place(report.n_layers, ["bias", "attn", null])] });
  const rounding = place(report.n_layers, ["rounding", "attn", null]);
  if (rounding >= 0 && seen(report, rounding)) rows.push({ name: "rounding", cells: [rounding] });
  return { rows, columns: columns.map(([component, part, head]) => ({ sum: SUMS.includes(component), name: head === null ? NAMES[component] : part === "mixer" ? `M${head}` : `H${head}` })) };
}

/** Biases get a column only where some of them is seen: most models of today have none. */
function worthAColumn(report, { component, part, layer }, c) {
  if (component !== "bias") return true;
  return layer < report.n_layers && part !== "mixer" && seen(report, c);
}

/** Whether a component is other than 0.00 anywhere. */
function seen(report, c) { return report.positions.some((_, p) => Math.abs(report.value("direct", c, p)) >= 0.005); }

export class Grid {
  /** @param choose - called with a component's number. */
  constructor(choose) {
    this.choose = choose;
    this.corner = element("div", { class: "grid-corner", text: "layer" });
    this.head = element("div", { class: "grid-head", role: "row" });
    this.side = element("div", { class: "grid-side", "aria-hidden": "true" });
    this.body = element("div", { class: "grid-body" });
    this.node = element("div", { class: "grid", role: "grid", "aria-label": "Layer by component" }, this.corner, this.head, this.side, this.body);
    this.node.onscroll = onNextFrame(() => { this.fill(); this.scrolled?.(); });
    this.node.onkeydown = (event) => this.move(event);
    new ResizeObserver(onNextFrame(() => this.fill())).observe(this.node);
  }

  show(scene, chosen) {
    if (scene.report !== this.report) {
      this.report = scene.report;
      this.table = tableOf(scene.report);
      const { rows, columns } = this.table;
      const [wide, high] = [columns.length * WIDE, rows.length * HIGH];
      this.head.style.width = this.body.style.width = `${wide}px`;
      this.side.style.height = this.body.style.height = `${high}px`;
      this.node.setAttribute("aria-rowcount", rows.length);
      this.node.setAttribute("aria-colcount", columns.length);
      this.homes = new Map(rows.flatMap(({ cells }, row) => cells.map((c, column) => [c, [row, column]])));
    }
    Object.assign(this, { scene, chosen });
    this.fill(true);
  }

  /** Rows and columns in sight, with a few around them. */
  sight() {
    const { scrollTop, scrollLeft, clientHeight, clientWidth } = this.node;
    const range = (from, size, step, count) => [Math.max(0, Math.floor(from / step) - AROUND), Math.min(count, Math.ceil((from + size) / step) + AROUND)];
    return [...range(scrollTop, clientHeight, HIGH, this.table.rows.length), ...range(scrollLeft, clientWidth, WIDE, this.table.columns.length)];
  }

  /** Put the cells in sight into the page; those that stay are kept while nothing but the sight changes. */
  fill(anew = false) {
    if (!this.scene) return;
    const sight = this.sight();
    if (!anew && String(sight) === String(this.seen)) return;
    const [top, bottom, left, right] = this.seen = sight;
    const focused = this.body.contains(document.activeElement);
    if (anew) {
      this.body.replaceChildren();
      this.shown = new Map();
    }
    for (const [row, node] of this.shown) {
      if (row >= top && row < bottom) continue;
      node.remove();
      this.shown.delete(row);
    }
    const fresh = [];
    for (let row = top; row < bottom; row++) {
      if (this.shown.has(row)) this.mend(this.shown.get(row), row, left, right);
      else fresh.push(this.row(row, left, right));
    }
    this.body.append(...fresh);
    this.head.replaceChildren(...this.table.columns.slice(left, right).map(({ name, sum }, number) => placed(
      element("span", { role: "columnheader", class: sum ? "sum" : "", text: name }), (left + number) * WIDE, 0)));
    this.side.replaceChildren(...this.table.rows.slice(top, bottom).map(({ name }, number) => placed(element("span", { text: name }), 0, (top + number) * HIGH)));
    if (focused) this.body.querySelector("[tabindex='0']")?.focus({ preventScroll: true });
  }

  row(row, left, right) {
    const node = element("div", { role: "row", "aria-rowindex": row + 1 });
    this.mend(node, row, left, right);
    this.shown.set(row, node);
    return node;
  }

  /** Take cells out of sight from a row, and add those that came into it. */
  mend(node, row, left, right) {
    const { cells } = this.table.rows[row];
    const kept = new Set();
    for (const cell of [...node.children]) {
      const column = Number(cell.getAttribute("aria-colindex")) - 1;
      if (column < left || column >= right) cell.remove();
      else kept.add(column);
    }
    const fresh = [];
    for (let column = left; column < Math.min(right, cells.length); column++) {
      const c = cells[column];
      if (!kept.has(column) && c >= 0 && this.report.has(c, this.scene.a.p)) fresh.push(this.cell(c, row, column));
    }
    node.append(...fresh);
  }

  cell(c, row, column) {
    const { report, scene } = this;
    const component = report.components[c];
    const chosen = c === this.chosen;
    const flips = report.flips(c, scene.a.p) ? "; without it another token becomes the likeliest" : "";
    const name = `${report.nameOf(component)}: ${scene.shown(c)}${flips}`;
    const node = element("div", {
      role: "gridcell", "aria-colindex": column + 1, tabindex: chosen ? "0" : "-1", "aria-selected": String(chosen),
      "data-key": component.key, "aria-label": name, title: name, text: scene.shown(c),
    });
    node.classList.toggle("flips", Boolean(flips));
    node.classList.toggle("sum", SUMS.includes(component.component));
    node.classList.toggle("unfound", !scene.found(c));
    const colour = colourOf(scene.share(c), scene.oneSided);
    node.style.backgroundColor = css(colour);
    node.style.color = inkOn(colour);
    node.onclick = () => this.choose(c);
    return placed(node, column * WIDE, row * HIGH);
  }

  /** Scroll the chosen cell into sight, clear of the names at the edges. */
  reveal() {
    const [row, column] = this.homes?.get(this.chosen) ?? [0, 0];
    const { node, side, head } = this;
    const [wide, high] = [node.clientWidth - side.offsetWidth, node.clientHeight - head.offsetHeight];
    const nearest = (scroll, from, size, room) => (from < scroll ? from : from + size > scroll + room ? from + size - room : scroll);
    node.scrollLeft = nearest(node.scrollLeft, column * WIDE, WIDE, wide);
    node.scrollTop = nearest(node.scrollTop, row * HIGH, HIGH, high);
    this.fill();
  }

  /** Arrow keys, Home and End move and choose. */
  move(event) {
    const [row, column] = this.homes.get(this.chosen) ?? [0, 0];
    const { rows } = this.table;
    const last = (at) => (rows[at]?.cells.length ?? 0) - 1;
    const goals = {
      ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1], ArrowUp: [row - 1, column], ArrowDown: [row + 1, column],
      PageUp: [Math.max(0, row - 10), column], PageDown: [Math.min(rows.length - 1, row + 10), column],
      Home: [event.ctrlKey ? 0 : row, 0], End: [event.ctrlKey ? rows.length - 1 : row, Infinity],
    };
    const goal = goals[event.key];
    if (!goal) return;
    event.preventDefault();
    const [toRow, toColumn] = goal;
    if (!rows[toRow] || toColumn < 0) return;
    const c = rows[toRow].cells[Math.min(toColumn, last(toRow))];
    if (c === undefined || c < 0 || (toRow === row && toColumn > last(row) && toColumn !== Infinity)) return;
    this.choose(c);
    this.body.querySelector("[tabindex='0']")?.focus({ preventScroll: true });
  }
}

function placed(node, x, y) {
  node.style.left = `${x}px`;
  node.style.top = `${y}px`;
  return node;
}
