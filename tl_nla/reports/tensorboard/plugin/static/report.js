/** A contribution report as columns: component `c` at the reported position number `p` is at `c * positions + p`. */

const LABELS = 3;

export class Report {
  constructor(header, columns) {
    Object.assign(this, header);
    this.columns = columns;
    this.components = header.components.map(([layer, component, part, head]) => (
      { layer, component, part, head, key: keyOf(layer, component, part, head) }));
    this.places = new Map(this.components.map(({ key }, place) => [key, place]));
    this.size = this.components.length * this.positions.length;
    this.untold = columns.told.some((told, index) => !told && columns.there[index]);
  }

  index(c, p) { return c * this.positions.length + p; }
  has(c, p) { return c >= 0 && p >= 0 && this.columns.there[this.index(c, p)] === 1; }
  value(column, c, p) { return this.has(c, p) ? this.columns[column][this.index(c, p)] : NaN; }
  flips(c, p) { return this.has(c, p) && this.columns.flip[this.index(c, p)] === 1; }

  /** Entries of a list column, as they are stored: one more than the index. */
  listed(column, index) {
    const { [column]: values } = this.columns;
    const found = [];
    for (let place = index; place < values.length && values[place]; place += this.size) found.push(values[place]);
    return found;
  }

  /** All that is known of one cell. */
  cell(c, p) {
    const index = this.index(c, p);
    const words = (column) => this.listed(column, index).map((entry) => this.words[entry - 1]);
    const sources = this.listed("sources", index).map((entry) => entry - 1);
    const shares = sources.map((_, rank) => this.columns.shares[index + rank * this.size] / 100);
    const cell = {
      ...this.components[c], position: this.positions[p], promoted: words("promoted"), suppressed: words("suppressed"),
      sources: sources.map((column, rank) => [this.tokens[column] ?? "", shares[rank]]), source_positions: sources,
      flips: this.flips(c, p), told: this.columns.told[index] === 1,
    };
    for (const name of ["direct", "kl", "change", "strength"]) cell[name] = this.value(name, c, p);
    cell.explanation = this.explanation(this.columns.text[index], cell);
    cell.card = this.cards?.[siteOf(cell)] ?? "";
    return cell;
  }

  explanation(code, cell) {
    if (code >= LABELS) return this.texts[code - LABELS];
    return code ? labelOf(cell, code === 1) : "";
  }

  nameOf({ layer, component, head }) {
    if (component === "embed") return "Embedding";
    if (component === "rounding") return "Rounding of the residual stream";
    if (layer >= this.n_layers) return "Final norm and unembedding bias";
    return `Layer ${layer}, ${component === "head" ? `head ${head}` : NAMES[component] ?? component}`;
  }
}

export const NAMES = {
  embed: "embedding", attn: "attention", mixer: "mixer", mlp: "MLP", ple: "per-layer embedding", block: "block",
  bias: "bias", rounding: "rounding", head: "head",
};

/** Components that are sums of others. */
export const SUMS = ["block", "attn", "mixer"];

export function keyOf(layer, component, part, head) {
  const mixed = part && part !== "attn" ? `${part}.` : "";
  return `${layer}/${mixed}${component}/${head ?? "-"}`;
}

/** The component as the text of a `tl_nla.Site`. */
function siteOf({ layer, component, part, head }) {
  if (component === "block") return `blocks.${layer}`;
  return component === "head" ? `blocks.${layer}.${part}.head.${head}` : `blocks.${layer}.${component}`;
}

/** The label that tl_nla.reports.packed left out, since the words of the cell make it. */
function labelOf({ promoted, suppressed, sources }, attended) {
  const quotes = (word) => (/^[^\s,;"]+$/.test(word) && word !== "none" ? word : JSON.stringify(word));
  const list = (words) => words.map(quotes).join(" ") || "none";
  const parts = [`It promotes ${list(promoted)}`, `suppresses ${list(suppressed)}`];
  if (attended) parts.push(`attended ${list([...new Set(sources.map(([token]) => token.trim()).filter(Boolean))])}`);
  return parts.join("; ");
}
