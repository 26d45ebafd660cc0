/**
 * The search: `promotes Paris kl > 0.1`. Every part has to hold; `not` turns the next one round.
 *
 *   promotes WORD, suppresses WORD, reads WORD     words of a cell; case does not count, `Par*` is a beginning
 *   direct, kl, change, strength, layer, head      with >, <, >=, <=, = (or "above", "below") and a number
 *   |direct| > 1, layer 3, layer 3-7, head 4       sizes, one value, a range
 *   mlp, attention, block, bias, flips             a kind; components without which another token becomes likeliest
 *   anything else                                  a piece of the explanation
 */

const NUMBER = "-?(?:\\d+\\.?\\d*|\\.\\d+)(?:e-?\\d+)?";
const PATTERNS = {
  word: /^(promotes|suppresses|reads)\s*:?\s*(?:"([^"]*)"|([^\s,]+))/i,
  compare: new RegExp(`^(\\|)?(direct|kl|change|strength|layer|head)\\|?\\s*(>=|<=|>|<|=|above|below)\\s*(${NUMBER})`, "i"),
  range: /^(layer|head)s?\s+(\d+)(?:\s*[-–]\s*(\d+))?/i,
  free: /^(?:"([^"]*)"|([^\s,]+))/,
};
const KINDS = { mlp: "mlp", attention: "attn", attn: "attn", mixer: "mixer", block: "block", bias: "bias", head: "head", heads: "head", embedding: "embed" };
const LISTS = { promotes: "promoted", suppresses: "suppressed", reads: "sources" };
const TESTS = {
  ">": (x, y) => x > y, "<": (x, y) => x < y, ">=": (x, y) => x >= y, "<=": (x, y) => x <= y, "=": (x, y) => x === y,
};
TESTS.above = TESTS[">"];
TESTS.below = TESTS["<"];

/** A search from its text: `on(report)` gives the test of a cell. */
export function parse(text) {
  const terms = [];
  let rest = text.trim();
  let negated = false;
  while (rest) {
    const [term, length] = nextTerm(rest);
    rest = rest.slice(length).replace(/^[\s,]+/, "");
    if (term === "not") { negated = !negated; continue; }
    if (term) terms.push(negated ? { on: inverse(term) } : term);
    negated = false;
  }
  return {
    text, empty: !terms.length, asksForSums: terms.some((term) => term.sums),
    on: (report) => {
      const tests = terms.map((term) => term.on(report));
      return (c, p) => tests.every((test) => test(c, p));
    },
  };
}

function inverse(term) {
  return (report) => {
    const test = term.on(report);
    return (c, p) => !test(c, p);
  };
}

function nextTerm(rest) {
  let match;
  if ((match = PATTERNS.word.exec(rest))) return [wordTerm(LISTS[match[1].toLowerCase()], match[2] ?? match[3]), match[0].length];
  if ((match = PATTERNS.compare.exec(rest))) return [numberTerm(match), match[0].length];
  if ((match = PATTERNS.range.exec(rest))) return [rangeTerm(match), match[0].length];
  match = PATTERNS.free.exec(rest);
  if (!match) return [null, 1];
  const word = match[1] ?? match[2];
  const lower = word.toLowerCase();
  if (match[1] === undefined) {
    if (lower === "not") return ["not", match[0].length];
    if (lower === "and") return [null, match[0].length];
    if (lower === "flips") return [{ on: (report) => (c, p) => report.flips(c, p) }, match[0].length];
    if (Object.hasOwn(KINDS, lower)) return [kindTerm(KINDS[lower]), match[0].length];
  }
  return [textTerm(lower), match[0].length];
}

function kindTerm(kind) {
  return { sums: ["attn", "mixer", "block"].includes(kind), on: (report) => (c) => report.components[c].component === kind };
}

function numberTerm([, bars, name, sign, limit]) {
  const [column, test, bound] = [name.toLowerCase(), TESTS[sign.toLowerCase()], Number(limit)];
  if (column === "layer" || column === "head") {
    return { on: (report) => (c) => report.components[c][column] !== null && test(report.components[c][column], bound) };
  }
  return { on: (report) => (c, p) => test(bars ? Math.abs(report.value(column, c, p)) : report.value(column, c, p), bound) };
}

function rangeTerm([, name, from, to]) {
  const [column, low, high] = [name.toLowerCase(), Number(from), Number(to ?? from)];
  return {
    on: (report) => (c) => {
      const value = report.components[c][column];
      return value !== null && value >= low && value <= high;
    },
  };
}

/** Cells with a word in a list: the words are compared once, the cells by their numbers. */
function wordTerm(column, word) {
  const wanted = word.trim().toLowerCase();
  const matches = wanted.endsWith("*")
    ? (text) => text.trim().toLowerCase().startsWith(wanted.slice(0, -1))
    : (text) => text.trim().toLowerCase() === wanted;
  return { on: (report) => listTest(report, column, matches) };
}

function listTest(report, column, matches) {
  const hits = hitsOf(column === "sources" ? report.tokens : report.words, matches);
  const values = report.columns[column];
  return (c, p) => {
    for (let place = report.index(c, p); place < values.length && values[place]; place += report.size) {
      if (hits[values[place]]) return true;
    }
    return false;
  };
}

/** Cells whose explanation holds a piece of text; a label is made of its words, so these are looked at. */
function textTerm(piece) {
  return {
    on: (report) => {
      const matches = (text) => text.toLowerCase().includes(piece);
      const texts = hitsOf(report.texts, matches);
      const lists = Object.values(LISTS).map((column) => listTest(report, column, matches));
      return (c, p) => {
        const code = report.columns.text[report.index(c, p)];
        return code >= 3 ? texts[code - 2] === 1 : code > 0 && lists.some((test) => test(c, p));
      };
    },
  };
}

/** For each text whether it matches, shifted by one, as columns count. */
function hitsOf(texts, matches) {
  const hits = new Uint8Array(texts.length + 1);
  texts.forEach((text, place) => { if (matches(text)) hits[place + 1] = 1; });
  return hits;
}
