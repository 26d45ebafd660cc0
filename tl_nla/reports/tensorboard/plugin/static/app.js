/** The view of contribution reports: what is chosen, and what is drawn when a choice changes. */

import { detailsOf, summaryOf } from "./details.js";
import { element, heading, onNextFrame } from "./dom.js";
import { Grid } from "./grid.js";
import { legendOf } from "./legend.js";
import { List } from "./list.js";
import { onLink, readLink, writeLink } from "./link.js";
import { MEASURES } from "./measures.js";
import { Overview } from "./overview.js";
import { Picker } from "./picker.js";
import { parse } from "./query.js";
import { Scene } from "./scene.js";
import { Strip } from "./strip.js";
import { followTheme } from "./theme.js";

const EMPTY = "No contribution reports here. `tl-nla contributions \"some text\" --logdir DIR` writes one.";
const FIND_HINT = "promotes Paris · reads France · kl > 0.1 · |direct| > 1 · layer 20-29 · mlp · flips · not head";
const KEYS = "Keys: / search, Escape clears it, [ and ] change the position, c compares, arrows move in tokens, grid and list.";

export class App {
  /** @param source - gives runs, steps and packed reports (server.js, embedded.js). */
  constructor(source) {
    Object.assign(this, { p: -1, key: null, measure: "direct", find: parse(""), everywhere: false, other: null, bp: -1 });
    this.a = new Picker(source, "", (loaded) => this.loading(loaded, (report) => this.setReport(report)));
    this.b = new Picker(source, "b-", (loaded) => this.loading(loaded, (report) => this.setOther(report)));
    this.strip = new Strip("Position", (p) => { this.p = p; this.draw(); });
    this.stripB = new Strip("Position in B", (p) => { this.bp = p; this.draw(); });
    this.grid = new Grid((c) => this.chooseCell(c));
    this.list = new List((c, p) => { this.p = p; this.chooseCell(c); });
    this.overview = new Overview((c) => this.chooseCell(c));
    this.searchSoon = onNextFrame(() => this.search());
  }

  async start() {
    this.build();
    this.recolour = followTheme(() => this.draw());
    this.take(readLink());
    onLink(() => { this.take(readLink()); this.reload(); });
    document.addEventListener("keydown", (event) => this.shortcut(event));
    await this.reload();
  }

  build() {
    this.message = element("p", { class: "message", role: "status" });
    this.summary = element("div", { class: "summary" });
    this.summaryB = element("div", { class: "summary" });
    this.legend = element("div", { class: "legend" });
    this.details = element("section", { class: "details", "aria-live": "polite", "aria-label": "Chosen component" });
    const reload = button("Reload", () => this.reload(), { id: "reload" });
    const compare = button("Compare", () => this.toggleCompare(), { id: "compare", "aria-pressed": "false" });
    const link = button("Copy link", () => this.copyLink(link), { id: "link", title: "Copy a link to what is shown" });
    this.compareButton = compare;
    this.controls = element("div", { class: "controls" }, ...this.a.fields, reload, compare, link, button("Light or dark", () => this.recolour(), { id: "theme" }));
    this.rowB = element("div", { class: "compared", hidden: "" },
      element("div", { class: "controls" }, element("span", { class: "less", text: "less B" }), ...this.b.fields), this.stripB.node, this.summaryB);
    this.main = element("main", { hidden: "" },
      heading("Position", "framed tokens can be chosen, blue ones were read by the chosen component; the line below a token is what that component does there"),
      this.strip.node, this.summary, this.rowB, heading("Components", "sums of parts first, then the parts, which add up"),
      this.measures(), this.legend, this.finder(), element("div", { class: "columns" },
        element("div", { class: "left" }, this.grid.node, this.list.node, element("p", { class: "faint keys", text: KEYS })),
        element("div", { class: "right" }, this.overview.node, this.details)));
    document.body.append(element("header", {}, this.controls, this.message), this.main);
  }

  measures() {
    const choices = Object.entries(MEASURES).map(([name, { label, hint }]) => {
      const input = element("input", { type: "radio", name: "measure", value: name });
      input.checked = name === this.measure;
      input.onchange = () => { this.measure = name; this.draw(); };
      return element("label", { title: hint }, input, element("span", { text: label }));
    });
    return element("div", { class: "measures", role: "radiogroup", "aria-label": "Colour by" }, ...choices);
  }

  finder() {
    this.field = element("input", { id: "find", type: "search", placeholder: FIND_HINT, "aria-label": "Find components", spellcheck: "false", autocomplete: "off" });
    this.field.oninput = () => this.searchSoon();
    this.all = element("input", { id: "everywhere", type: "checkbox" });
    this.all.onchange = () => { this.everywhere = this.all.checked; this.draw(); };
    this.count = element("span", { class: "faint", id: "count", role: "status" });
    return element("div", { class: "finder" }, this.field, element("label", {}, this.all, element("span", { text: "all positions" })), this.count);
  }

  /** Show what a promise of a report brings; a failure becomes one line on the page. */
  async loading(loaded, show) {
    this.say("Loading …");
    try {
      const report = await loaded;
      if (report) { this.say(""); show(report); }
    } catch (error) {
      this.report = null;
      this.draw();
      this.say(error.message);
    }
  }

  async reload() {
    await this.loading(this.a.load("runs"), (report) => this.setReport(report));
    const empty = !this.a.names().length;
    this.controls.hidden = empty;
    if (empty && !this.message.textContent.length) this.say(EMPTY);
    if (empty && this.message.textContent === "Loading …") this.say(EMPTY);
    if (!this.rowB.hidden) await this.loadOther();
  }

  setReport(report) {
    this.report = report;
    const asked = report.positions.indexOf(this.column);
    this.p = asked >= 0 ? asked : this.p >= 0 && this.p < report.positions.length && this.column === undefined ? this.p : report.positions.length - 1;
    this.draw();
    this.grid.reveal();
  }

  setOther(report) {
    this.other = report;
    const same = report.positions.indexOf(this.bColumn ?? this.report.positions[this.p]);
    const fromEnd = report.positions.length - (this.report.positions.length - this.p);
    this.bp = same >= 0 && (this.bColumn !== undefined || sameTokens(report, this.report)) ? same : Math.max(0, fromEnd);
    this.bColumn = undefined;
    this.draw();
  }

  async toggleCompare() {
    const open = this.rowB.hidden;
    this.rowB.hidden = !open;
    this.compareButton.setAttribute("aria-pressed", String(open));
    this.other = null;
    if (!open) { this.draw(); return; }
    this.b.choose(this.a.chosen);
    await this.loadOther();
  }

  loadOther() { return this.loading(this.b.load("runs"), (report) => this.setOther(report)); }

  draw() {
    this.main.hidden = !this.report;
    if (!this.report) return;
    try {
      this.drawReport();
      performance.mark("drawn");
    } catch (error) {
      this.main.hidden = true;
      this.say(`this report cannot be shown: ${error.message}`);
    }
  }

  drawReport() {
    const { report, p, other } = this;
    this.column = report.positions[p];
    const b = other && !this.rowB.hidden ? { report: other, p: this.bp } : null;
    const scene = new Scene({ report, p }, b, this.measure, this.find);
    this.c = report.places.get(this.key) ?? scene.ranked()[0] ?? 0;
    this.strip.show(report, p, scene, this.c);
    this.summary.replaceChildren(...summaryOf(report, p));
    this.legend.replaceChildren(...legendOf(scene));
    this.grid.show(scene, this.c);
    this.overview.show(scene, this.grid, this.c);
    this.list.show(scene, this.c, this.everywhere && !b);
    this.all.disabled = Boolean(b);
    const few = report.untold ? "; words of weak parts were left out" : "";
    this.count.textContent = (this.find.empty ? `${this.list.count} parts` : `${this.list.count} found`) + few;
    this.details.replaceChildren(...detailsOf(scene, this.c));
    if (b) {
      this.stripB.show(other, this.bp);
      this.summaryB.replaceChildren(...summaryOf(other, this.bp));
    }
    this.href = writeLink(this.shown(b));
  }

  shown(b) {
    const { run, tag, step } = this.a.chosen;
    const told = { run, prompt: tag, step, position: this.column, cell: this.report.components[this.c].key, measure: this.measure, find: this.find.text };
    if (!b) return told;
    const other = this.b.chosen;
    return { ...told, b_run: other.run, b_prompt: other.tag, b_step: other.step, b_position: b.report.positions[b.p] };
  }

  /** Take the choices of a link. */
  take(told) {
    this.a.choose({ run: told.run, tag: told.prompt, step: told.step });
    if (told.position !== undefined) this.column = Number(told.position);
    this.key = told.cell ?? this.key;
    if (told.measure in MEASURES) {
      this.measure = told.measure;
      for (const input of this.main.querySelectorAll("input[name='measure']")) input.checked = input.value === this.measure;
    }
    if (told.find !== undefined) this.find = parse(this.field.value = told.find);
    if (told.b_prompt === undefined) return;
    this.b.choose({ run: told.b_run, tag: told.b_prompt, step: told.b_step });
    if (told.b_position !== undefined) this.bColumn = Number(told.b_position);
    this.rowB.hidden = false;
    this.compareButton.setAttribute("aria-pressed", "true");
  }

  chooseCell(c) {
    this.key = this.report.components[c].key;
    this.draw();
    this.grid.reveal();
    this.strip.centre();
  }

  search() {
    this.find = parse(this.field.value);
    this.draw();
  }

  shortcut(event) {
    const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName) && event.target.type !== "radio";
    if (event.key === "Escape" && event.target === this.field) { this.field.value = ""; this.search(); this.field.blur(); return; }
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !this.report) return;
    const step = { "[": -1, "]": 1 }[event.key];
    if (step && this.report.positions[this.p + step] !== undefined) { this.p += step; this.draw(); this.strip.centre(); }
    else if (event.key === "c") this.toggleCompare();
    else if (event.key === "/") { event.preventDefault(); this.field.focus(); }
  }

  async copyLink(node) {
    const told = await navigator.clipboard?.writeText(this.href).then(() => "Copied", () => null);
    if (!told) this.say(this.href);
    node.textContent = told ?? "Link below";
    setTimeout(() => { node.textContent = "Copy link"; }, 1500);
  }

  say(text) { this.message.textContent = text; }
}

function button(text, work, attributes = {}) {
  const node = element("button", { type: "button", text, ...attributes });
  node.onclick = work;
  return node;
}

function sameTokens(one, other) { return one.tokens.length === other.tokens.length && one.tokens.every((token, place) => token === other.tokens[place]); }
