/** The words about a position, and about the chosen component. */

import { chips, element, quoted } from "./dom.js";
import { DASH, percent, plain, printable, signed } from "./values.js";

/** Share of the logits' range that may be unaccounted for before the page carries a warning. */
const WARNED = 0.01;

/** Lines about a position: what the model expects, what is explained, and what must be known before it is trusted. */
export function summaryOf(report, p) {
  const { target, predictions, total, positions, tokens, model, notes, explained_by: by } = report;
  const line = element("p");
  line.append("After ", quoted(tokens[positions[p]]), ` (position ${positions[p]})`);
  const next = predictions?.[p] ?? [];
  if (next.length) line.append(", likeliest next:");
  next.forEach(([token, probability], order) => line.append(order ? ", " : " ", quoted(token), ` ${percent(probability)}`));
  line.append(". Explained: ", ...targetWords(target, p), ` = ${plain(total?.logit?.[p])}; the parts add up to ${plain(total?.sum_of_parts?.[p])}.`);
  const words = by === "oracle" ? "the diff oracle" : "labels computed from the model";
  const about = element("p", { class: "faint", text: `Model ${model}; in words: ${words}.` });
  const share = total?.unaccounted_share?.[p];
  if (share !== undefined) about.append(` Unaccounted for: ${plain(total.unaccounted[p])}, ${percent(share)} of the logits' range.`);
  const worst = Math.max(0, ...(total?.unaccounted_share ?? []));
  const warned = worst > WARNED
    ? [element("p", { class: "warning", role: "alert", text: `Warning: the parts do not sum to the model's number. Up to ${percent(worst)} of the range of the logits is unaccounted for.` })]
    : [];
  return [...warned, line, about, ...(notes ?? []).map((note) => element("p", { class: "faint", text: `Note: ${note}` }))];
}

function targetWords(target, p) {
  const token = quoted(target.tokens[p]);
  if (target.kind === "difference") return ["logit of ", token, " minus logit of ", quoted(target.against?.[p])];
  return target.kind === "log_prob" ? ["log-probability of ", token, " (nats, linearised)"] : ["logit of ", token];
}

/** Nodes that tell of a component, or of it in A and in B. */
export function detailsOf(scene, c) {
  const { report, a, b } = scene;
  if (!report.has(c, a.p)) return [];
  const cell = report.cell(c, a.p);
  const title = element("h2", { text: report.nameOf(cell) });
  if (!b) return [title, where(report, cell), ...cardOf(cell), explanationOf(cell), listOf(report, cell, a.p)];
  const other = scene.placeInB(c);
  const difference = element("p", { class: "faint", text: `A less B, ${scene.measure.label}: ${signed(scene.raw(c))}` });
  const sides = [["A", report, c, a.p], ["B", b.report, other, b.p]].map(([name, from, place, p]) => {
    if (!from.has(place, p)) return element("section", {}, element("h3", { text: `${name}: not there` }));
    const found = from.cell(place, p);
    return element("section", { class: `side-${name}` }, element("h3", { text: name }), where(from, found), explanationOf(found), listOf(from, found, p));
  });
  return [title, difference, ...cardOf(cell), element("div", { class: "sides" }, ...sides)];
}

function where(report, cell) {
  const node = element("p", { class: "faint" });
  node.append("after ", quoted(report.tokens[cell.position]), `, position ${cell.position}`);
  return node;
}

/** What is known of the component in general, where the report carries a card of it. */
function cardOf(cell) {
  return cell.card ? [element("p", { class: "card" }, element("b", { text: "In general: " }), printable(cell.card))] : [];
}

function explanationOf(cell) {
  const text = printable(cell.explanation) || (cell.told ? DASH : "The words of weak parts were left out to keep this file small.");
  return element("p", { class: "explanation", text });
}

function listOf(report, cell, p) {
  const { target } = report;
  const without = Number.isNaN(cell.kl)
    ? ["not skipped"]
    : [`KL ${plain(cell.kl)} nats; log-probability of `, quoted(target.tokens[p]), ` ${signed(cell.change)}; the likeliest next token ${cell.flips ? "changes" : "stays"}`];
  const rows = [
    ["Direct", [`${signed(cell.direct)} to the `, ...targetWords(target, p)]],
    ["Without it", without],
    ["Strength", [Number.isNaN(cell.strength) ? DASH : `${plain(cell.strength)} of the norm of the state it is added to`]],
    ["Read from", chips(cell.sources)],
    ["Promotes", chips(cell.promoted.map((token) => [token]))],
    ["Suppresses", chips(cell.suppressed.map((token) => [token]))],
  ];
  return element("dl", {}, ...rows.flatMap(([name, content]) => {
    const value = element("dd");
    value.append(...content);
    return [element("dt", { text: name }), value];
  }));
}
