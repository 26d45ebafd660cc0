/** The prompt's tokens in lines, of which only those in sight are in the page: a prompt may have thousands. */

import { element, onNextFrame } from "./dom.js";
import { colourOf, css, plain, signed, visible } from "./values.js";

const LINE = 28;
const GAP = 3;
const WIDEST = 240;
const AROUND = 3;

export class Strip {
  /**
   * @param label - what the list of tokens is called.
   * @param choose - called with the number of a reported position.
   */
  constructor(label, choose) {
    this.choose = choose;
    this.inner = element("div", { class: "strip-lines" });
    this.node = element("div", { class: "tokens", role: "listbox", "aria-label": label, "aria-orientation": "horizontal" }, this.inner);
    this.node.onscroll = onNextFrame(() => this.fill());
    this.node.onkeydown = (event) => this.move(event);
    new ResizeObserver(onNextFrame(() => { if (this.node.clientWidth !== this.width) this.layout(); })).observe(this.node);
    this.pen = document.createElement("canvas").getContext("2d");
  }

  /** Show a report's tokens: `chosen` is the number of the position, `scene` and `c` the component to mark them by. */
  show(report, chosen, scene = null, c = -1) {
    const fresh = report !== this.report;
    Object.assign(this, { report, chosen, scene, c });
    if (fresh) {
      this.numbers = new Map(report.positions.map((column, number) => [column, number]));
      this.layout();
    } else this.fill(true);
  }

  /** Break the tokens into lines of the width that there is. */
  layout() {
    if (!this.report) return;
    this.width = this.node.clientWidth;
    if (!this.width) return;
    // As wide as the chosen one is, whose letters are bold.
    const { fontSize, fontFamily } = getComputedStyle(this.node);
    this.pen.font = `600 ${fontSize} ${fontFamily}`;
    this.lines = [];
    this.at = [];
    let x = Infinity;
    this.report.tokens.forEach((token, column) => {
      const text = visible(token);
      const wide = Math.min(WIDEST, Math.ceil(this.pen.measureText(text.slice(0, 200)).width) + 12);
      if (x + wide > this.width - 8) { this.lines.push([]); x = 0; }
      this.at.push({ line: this.lines.length - 1, x, wide });
      this.lines.at(-1).push(column);
      x += wide + GAP;
    });
    this.inner.style.height = `${this.lines.length * LINE}px`;
    this.centre();
    this.fill(true);
  }

  centre() {
    const { line } = this.at[this.report.positions[this.chosen]] ?? { line: 0 };
    const top = line * LINE;
    if (top < this.node.scrollTop || top + LINE > this.node.scrollTop + this.node.clientHeight) {
      this.node.scrollTop = top - this.node.clientHeight / 2;
    }
  }

  /** Put the lines in sight into the page. */
  fill(anew = false) {
    if (!this.lines) return;
    const first = Math.max(0, Math.floor(this.node.scrollTop / LINE) - AROUND);
    const last = Math.min(this.lines.length, Math.ceil((this.node.scrollTop + this.node.clientHeight) / LINE) + AROUND);
    if (!anew && first === this.first && last === this.last) return;
    Object.assign(this, { first, last });
    const focused = this.node.contains(document.activeElement);
    const cell = this.scene && this.c >= 0 ? this.scene.report.cell(this.c, this.scene.a.p) : null;
    const shares = new Map(cell?.source_positions.map((column, rank) => [column, cell.sources[rank][1]]));
    this.inner.replaceChildren(...this.lines.slice(first, last).flat().map((column) => this.token(column, shares)));
    if (focused) this.inner.querySelector("[tabindex='0']")?.focus({ preventScroll: true });
  }

  token(column, shares) {
    const number = this.numbers.get(column);
    const text = visible(this.report.tokens[column]);
    const chosen = number !== undefined && number === this.chosen;
    const node = number === undefined
      ? element("span", { class: "token", text })
      : element("button", { type: "button", class: "token", role: "option", "aria-selected": String(chosen), tabindex: chosen ? "0" : "-1", text });
    const { line, x, wide } = this.at[column];
    node.style.cssText = `left:${x}px;top:${line * LINE}px;width:${wide}px`;
    node.dataset.position = column;
    node.title = `position ${column}: ${text}`;
    if (number !== undefined) {
      node.onclick = () => this.choose(number);
      this.mark(node, number);
    }
    const share = shares.get(column);
    if (share > 0) {
      node.classList.add("source");
      node.style.setProperty("--share", String(Math.min(1, Math.max(0.15, share))));
      node.title += `; read with a share of ${plain(share)}`;
    }
    return node;
  }

  /** A line under the token in the colour of what the chosen component does there. */
  mark(node, number) {
    if (!this.scene || this.scene.b || this.c < 0) return;
    const { measure, scale, oneSided, report } = this.scene;
    const value = report.value(measure.column, this.c, number);
    if (Number.isNaN(value)) return;
    node.style.borderBottomColor = css(colourOf((measure.sign * value) / scale, oneSided));
    node.title += `; ${measure.label} ${signed(value)}`;
  }

  /** Left and right go to the next reported position, up and down to the nearest one in another line. */
  move(event) {
    const { positions } = this.report;
    const here = this.at[positions[this.chosen]];
    const inLine = (step) => {
      for (let line = here.line + step; line >= 0 && line < this.lines.length; line += step) {
        const columns = this.lines[line].filter((column) => this.numbers.has(column));
        if (columns.length) {
          const distance = (column) => Math.abs(this.at[column].x - here.x);
          return this.numbers.get(columns.reduce((best, column) => (distance(column) < distance(best) ? column : best)));
        }
      }
      return -1;
    };
    const goals = {
      ArrowLeft: () => this.chosen - 1, ArrowRight: () => this.chosen + 1, ArrowUp: () => inLine(-1),
      ArrowDown: () => inLine(1), Home: () => 0, End: () => positions.length - 1,
    };
    const goal = goals[event.key]?.() ?? -1;
    if (goals[event.key]) event.preventDefault();
    if (goal < 0 || goal >= positions.length) return;
    this.choose(goal);
    this.centre();
    this.fill();
    this.inner.querySelector("[tabindex='0']")?.focus({ preventScroll: true });
  }
}
