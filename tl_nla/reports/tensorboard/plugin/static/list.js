/** What the search found, as a sorted list of which only the rows in sight are in the page. */

import { element, onNextFrame } from "./dom.js";
import { SUMS } from "./report.js";
import { DASH, plain, signed, visible } from "./values.js";

const HIGH = 26;
const AROUND = 6;
const COLUMNS = [
  { name: "component", title: "Component" },
  { name: "direct", title: "Direct" },
  { name: "kl", title: "Skip KL" },
  { name: "change", title: "Δ log p" },
  { name: "strength", title: "Strength" },
];

export class List {
  /** @param choose - called with a component's number and the number of a position. */
  constructor(choose) {
    this.choose = choose;
    this.sorted = { name: "", up: false };
    this.head = element("div", { class: "list-row list-head", role: "row" });
    this.inner = element("div", { class: "list-rows" });
    this.node = element("div", { class: "list", role: "grid", "aria-label": "Components found", tabindex: "0" }, this.head, this.inner);
    this.node.onscroll = onNextFrame(() => this.fill());
    this.node.onkeydown = (event) => this.move(event);
    new ResizeObserver(onNextFrame(() => this.fill())).observe(this.node);
  }

  /** Show what a scene found, at its position or (`everywhere`) at all of them. */
  show(scene, chosen, everywhere) {
    const key = [scene.find.text, scene.name, everywhere, this.sorted.name, this.sorted.up].join("\n");
    const same = key === this.key && this.scene?.report === scene.report && (everywhere || this.scene.a.p === scene.a.p) && this.scene?.b === scene.b;
    Object.assign(this, { scene, chosen, everywhere, key });
    if (!same) {
      this.rows = this.order();
      this.inner.style.height = `${this.rows.length * HIGH}px`;
      this.node.scrollTop = 0;
      this.drawHead();
    }
    this.fill(true);
  }

  get count() { return this.rows.length; }

  /** Pairs of component and position in the order asked for; by default the strongest first. */
  order() {
    const { scene } = this;
    const { report } = scene;
    const positions = report.positions.length;
    const rows = [];
    for (let c = 0; c < report.components.length; c++) {
      if (SUMS.includes(report.components[c].component) && !scene.find.asksForSums) continue;
      for (let p = this.everywhere ? 0 : scene.a.p; p < (this.everywhere ? positions : scene.a.p + 1); p++) {
        if (report.has(c, p) && scene.test(c, p)) rows.push(c * positions + p);
      }
    }
    const { name, up } = this.sorted;
    if (name === "component") return up ? rows : rows.reverse();
    const column = name || scene.measure.column;
    const values = report.columns[column];
    const single = scene.b && !name;
    const worth = (row) => {
      const value = single ? Math.abs(scene.raw(Math.floor(row / positions))) : name ? values[row] : Math.abs(values[row]);
      return Number.isNaN(value) ? (up ? Infinity : -Infinity) : value;
    };
    const keys = Float64Array.from(rows, worth);
    const order = keys.map((_, place) => place).sort((x, y) => (up && name ? keys[x] - keys[y] : keys[y] - keys[x]) || x - y);
    return Array.from(order, (place) => rows[place]);
  }

  drawHead() {
    const buttons = COLUMNS.map(({ name, title }) => {
      const chosen = this.sorted.name === name;
      const node = element("button", { type: "button", role: "columnheader", "data-sort": name, "aria-sort": chosen ? (this.sorted.up ? "ascending" : "descending") : "none", text: chosen ? `${title} ${this.sorted.up ? "▲" : "▼"}` : title });
      node.onclick = () => {
        this.sorted = chosen ? { name, up: !this.sorted.up } : { name, up: name === "component" };
        this.show(this.scene, this.chosen, this.everywhere);
      };
      return node;
    });
    this.head.replaceChildren(...buttons, element("span", { text: "Promotes" }), element("span", { text: "Reads" }));
  }

  fill(anew = false) {
    if (!this.rows) return;
    const first = Math.max(0, Math.floor(this.node.scrollTop / HIGH) - AROUND);
    const last = Math.min(this.rows.length, Math.ceil((this.node.scrollTop + this.node.clientHeight) / HIGH) + AROUND);
    if (!anew && first === this.first && last === this.last) return;
    Object.assign(this, { first, last });
    this.inner.replaceChildren(...this.rows.slice(first, last).map((row, number) => this.row(row, first + number)));
  }

  row(row, place) {
    const { report } = this.scene;
    const [c, p] = [Math.floor(row / report.positions.length), row % report.positions.length];
    const cell = report.cell(c, p);
    const where = this.everywhere ? ` @${cell.position} ${visible(report.tokens[cell.position])}` : "";
    const short = report.nameOf(cell).replace("Layer ", "L").replace(", head ", " head ").replace(", ", " ");
    const values = COLUMNS.slice(1).map(({ name }) => (name === "kl" || name === "strength" ? plain(cell[name]) : signed(cell[name])));
    const words = (texts) => texts.map((text) => visible(text).trim()).join(" ") || DASH;
    const selected = c === this.chosen && p === this.scene.a.p;
    const node = element("div", { class: "list-row", role: "row", "aria-selected": String(selected), "data-key": cell.key, "data-position": cell.position },
      element("span", { role: "gridcell", text: short + where, title: short + where }),
      ...values.map((text) => element("span", { role: "gridcell", class: "number", text })),
      element("span", { role: "gridcell", class: "words", text: words(cell.promoted) }),
      element("span", { role: "gridcell", class: "words", text: words(cell.sources.map(([token]) => token)) }));
    node.classList.toggle("flips", cell.flips);
    node.style.top = `${place * HIGH}px`;
    node.onclick = () => this.choose(c, p);
    return node;
  }

  /** Up, down, Home and End choose another row. */
  move(event) {
    const count = this.scene?.report.positions.length;
    const here = this.rows.indexOf(this.chosen * count + this.scene.a.p);
    const goals = { ArrowUp: here - 1, ArrowDown: here + 1, Home: 0, End: this.rows.length - 1, PageUp: Math.max(0, here - 8), PageDown: Math.min(this.rows.length - 1, here + 8) };
    const goal = goals[event.key];
    if (goal === undefined || event.target.tagName === "BUTTON") return;
    event.preventDefault();
    if (goal < 0 || goal >= this.rows.length) return;
    const row = this.rows[goal];
    this.choose(Math.floor(row / count), row % count);
    const room = this.node.clientHeight - this.head.offsetHeight - HIGH;
    this.node.scrollTop = Math.min(goal * HIGH, Math.max(goal * HIGH - room, this.node.scrollTop));
    this.fill();
  }
}
