/** What is shown: one position of a report, or the difference of two, by one measure, with what the search found. */

import { MEASURES } from "./measures.js";
import { SUMS } from "./report.js";
import { plain, signed } from "./values.js";

export class Scene {
  /**
   * @param a - `{report, p}`: a report and the number of one of its reported positions.
   * @param b - the same, to be subtracted, or null.
   * @param measure - a name of MEASURES.
   * @param find - a search of query.js.
   */
  constructor(a, b, measure, find) {
    Object.assign(this, { a, b, find, measure: MEASURES[measure], name: measure });
    this.report = a.report;
    this.oneSided = Boolean(this.measure.oneSided && !b);
    this.test = find.on(a.report);
    this.scale = 1e-9;
    for (let c = 0; c < this.report.components.length; c++) {
      this.scale = Math.max(this.scale, Math.abs(this.raw(c)) || 0);
    }
  }

  /** The number of a component: A, or A less B. NaN where there is none. */
  raw(c) {
    const value = this.a.report.value(this.measure.column, c, this.a.p);
    return this.b ? value - this.other(c) : value;
  }

  /** The number of the same component in B. */
  other(c) { return this.b.report.value(this.measure.column, this.placeInB(c), this.b.p); }

  placeInB(c) { return this.b.report.places.get(this.report.components[c].key) ?? -1; }

  /** From -1 to 1, more than zero where the component helps the target. */
  share(c) { return (this.measure.sign * (this.raw(c) || 0)) / this.scale; }

  shown(c) { return this.oneSided ? plain(this.raw(c)) : signed(this.raw(c)); }
  found(c) { return this.test(c, this.a.p); }

  get ends() {
    if (!this.b) return this.measure.ends;
    return this.measure.oneSided ? ["less than in B", "more than in B"] : this.measure.ends.map((end) => `more ${end} than in B`);
  }

  /** Components of the search, the strongest first; sums of parts only where the search asks for them. */
  ranked() {
    const sums = this.find.asksForSums;
    const order = [];
    for (let c = 0; c < this.report.components.length; c++) {
      if (!this.report.has(c, this.a.p) || !this.found(c)) continue;
      if (sums || !SUMS.includes(this.report.components[c].component)) order.push(c);
    }
    return order.sort((x, y) => (Math.abs(this.raw(y)) || 0) - (Math.abs(this.raw(x)) || 0));
  }
}
