/** All components at once as small squares: the map of a grid that does not fit into the page. */

import { element } from "./dom.js";
import { colourOf, css } from "./values.js";

const MOST = [480, 165];

export class Overview {
  /** @param choose - called with the number of the component that was clicked. */
  constructor(choose) {
    this.canvas = element("canvas", { role: "img", "aria-label": "Map of all components; the grid holds the same in numbers" });
    this.node = element("div", { class: "overview" }, this.canvas);
    this.canvas.onclick = (event) => {
      const c = this.table?.rows[Math.floor(event.offsetY / this.high)]?.cells[Math.floor(event.offsetX / this.wide)];
      if (c >= 0) choose(c);
    };
  }

  show(scene, grid, chosen) {
    const { rows, columns } = grid.table;
    this.table = grid.table;
    this.node.hidden = grid.node.scrollWidth <= grid.node.clientWidth + 1 && grid.node.scrollHeight <= grid.node.clientHeight + 1;
    if (this.node.hidden) return;
    this.wide = Math.max(4, Math.min(16, Math.floor(MOST[0] / columns.length)));
    this.high = Math.max(2, Math.min(10, Math.floor(MOST[1] / rows.length)));
    const [wide, high] = [columns.length * this.wide, rows.length * this.high];
    const sharp = window.devicePixelRatio || 1;
    Object.assign(this.canvas, { width: wide * sharp, height: high * sharp });
    this.canvas.style.width = `${wide}px`;
    this.canvas.style.height = `${high}px`;
    const pen = this.canvas.getContext("2d");
    pen.scale(sharp, sharp);
    rows.forEach(({ cells }, row) => cells.forEach((c, column) => {
      if (c < 0) return;
      pen.globalAlpha = scene.found(c) ? 1 : 0.2;
      pen.fillStyle = css(colourOf(scene.share(c), scene.oneSided));
      pen.fillRect(column * this.wide, row * this.high, this.wide - 0.5, this.high - (this.high > 3 ? 0.5 : 0));
      if (c !== chosen) return;
      pen.globalAlpha = 1;
      pen.strokeStyle = getComputedStyle(this.node).color;
      pen.lineWidth = 2;
      pen.strokeRect(column * this.wide - 1, row * this.high - 1, this.wide + 1.5, this.high + 1.5);
    }));
  }
}
