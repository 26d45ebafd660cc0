/** Reports that a file carries in itself: entry of the HTML page. */

import { App } from "./app.js";

/** The reports of a script block, by name. */
export class Embedded {
  constructor(node) { this.reports = JSON.parse(node.textContent); }

  async runs() { return { file: Object.keys(this.reports) }; }
  async steps() { return [0]; }
  async report(run, tag) { return this.reports[tag]; }
}

document.documentElement.dataset.standalone = "";
new App(new Embedded(document.querySelector("#reports"))).start();
