/** Choice of one report: run, prompt and step. There are two of them when two reports are compared. */

import { element, fill, labelled } from "./dom.js";
import { decode } from "./packed.js";

export class Picker {
  /**
   * @param source - lists reports and gives them.
   * @param name - "" or "b-", before the ids of the fields.
   * @param changed - called with a promise of the chosen report.
   */
  constructor(source, name, changed) {
    Object.assign(this, { source, changed, listed: {}, run: null, tag: null, step: null, steps: [], asked: 0 });
    this.runs = element("select", { id: `${name}run` });
    this.tags = element("select", { id: `${name}prompt` });
    this.slider = element("input", { id: `${name}step`, type: "range", min: "0", max: "0" });
    this.told = element("output", { for: `${name}step` });
    this.fields = [labelled("Run", this.runs), labelled("Prompt", this.tags), labelled("Step", this.slider, this.told)];
    this.runs.onchange = () => { this.run = this.names()[this.runs.selectedIndex]; changed(this.load("tags")); };
    this.tags.onchange = () => { this.tag = this.listed[this.run][this.tags.selectedIndex]; changed(this.load("tags")); };
    this.slider.oninput = () => { this.step = this.steps[Number(this.slider.value)]; changed(this.load("report")); };
  }

  names() { return Object.keys(this.listed).filter((run) => this.listed[run].length); }
  get chosen() { return { run: this.run, tag: this.tag, step: this.step }; }

  /** Choose what a link or another picker names; what is not there is chosen anew. */
  choose({ run, tag, step }) {
    Object.assign(this, { run: run ?? this.run, tag: tag ?? this.tag, step: step === undefined ? this.step : Number(step), fixed: step !== undefined });
  }

  /** Load from a stage on: "runs", "tags" or "report". Null where another choice came in between, or nothing is there. */
  async load(stage) {
    const mine = ++this.asked;
    const late = () => mine !== this.asked;
    if (stage === "runs") {
      const listed = await this.source.runs();
      if (late()) return null;
      this.listed = listed;
      const names = this.names();
      if (!names.length) return null;
      this.run = names.includes(this.run) ? this.run : names[0];
      fill(this.runs, names, this.run, (run) => (run === "." ? "(log folder itself)" : run));
    }
    if (stage !== "report") {
      const tags = this.listed[this.run];
      this.tag = tags.includes(this.tag) ? this.tag : tags[0];
      this.runs.selectedIndex = this.names().indexOf(this.run);
      fill(this.tags, tags, this.tag, (tag) => tag.replace(/^contributions\//, ""));
      const atEnd = !this.fixed && (this.step === null || this.step === this.steps.at(-1));
      const steps = await this.source.steps(this.run, this.tag);
      if (late()) return null;
      this.steps = steps;
      this.fixed = false;
      if (atEnd || !steps.includes(this.step)) this.step = steps.at(-1);
    }
    this.slider.max = String(this.steps.length - 1);
    this.slider.value = String(this.steps.indexOf(this.step));
    this.slider.disabled = this.steps.length < 2;
    this.slider.setAttribute("aria-valuetext", `step ${this.step}`);
    this.told.textContent = `${this.step} (${this.steps.indexOf(this.step) + 1} of ${this.steps.length})`;
    const packed = await this.source.report(this.run, this.tag, this.step);
    if (late()) return null;
    const report = await decode(packed);
    return late() ? null : report;
  }
}
