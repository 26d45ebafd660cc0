/**
 * The Contributions tab: plain ES, no dependencies, no build step, nothing loaded from elsewhere.
 *
 * Everything that comes from a report is untrusted text: it enters the page through textContent (and through the title
 * and aria-label attributes), never as markup.
 */

import { DASH, colourOf, css, inkOn, negated, number, percent, plain, printable, signed, visible } from "./values.js";

const HOME = new URL("./", import.meta.url);
const PARTS = ["embed", "head", "mlp", "ple", "bias", "rounding"];
const SUMS = ["attn", "mixer", "block"];
const NAMES = {
  embed: "embedding", attn: "attention", mixer: "mixer", mlp: "MLP", ple: "per-layer embedding", block: "block", bias: "bias",
  rounding: "rounding",
};
/** Share of the logits' range that may be unaccounted for before the page carries a warning. */
const WARNED = 0.01;

/** What the grid can be coloured by; `value` is signed so that more than zero helps the target. */
const MEASURES = {
  direct: {
    label: "Direct attribution",
    value: (cell) => cell.direct,
    shown: (value) => signed(value),
    ends: ["against the target", "for the target"],
    hint: "What each component adds straight to the target; the parts add up to the model's own number.",
  },
  skip_target: {
    label: "Skip: log-probability of the target",
    value: (cell) => negated(cell.skip_target_change),
    shown: (value) => signed(negated(value)),
    ends: ["rises without it", "falls without it"],
    hint: "Change of the target's log-probability (nats) when the component is left out at this position only.",
  },
  skip_kl: {
    label: "Skip: KL divergence",
    value: (cell) => cell.skip_kl,
    shown: (value) => plain(value),
    ends: ["0", "changes the output"],
    hint: "KL divergence (nats) from the model's own output to the output without the component at this position.",
    oneSided: true,
  },
};

const state = { runs: {}, run: null, tag: null, steps: [], step: null, report: null, asked: 0 };
const choice = { position: null, cell: null, measure: "direct" };
const page = {};

export async function render() {
  const style = element("link", { rel: "stylesheet", href: new URL("index.css", HOME).href });
  const styled = new Promise((done) => { style.onload = style.onerror = done; });
  document.head.append(style);
  buildPage();
  followTheme(() => drawReport());
  await Promise.all([styled, loadRuns()]);
}

async function ask(route, query = {}) {
  const url = new URL(route, HOME);
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  const response = await fetch(url);
  const answer = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
  if (!response.ok) throw new Error(answer.error || `the server answered ${response.status}`);
  return answer;
}

/** Run a loading step; only the latest one may draw, and a failure becomes one line on the page. */
async function loading(work) {
  const mine = ++state.asked;
  say("Loading …");
  try {
    await work(() => mine === state.asked);
    if (mine === state.asked && page.message.textContent === "Loading …") say("");
  } catch (error) {
    if (mine !== state.asked) return;
    state.report = null;
    drawReport();
    say(error.message);
  }
}

const loadRuns = () => loading(async (current) => {
  const { runs } = await ask("tags");
  if (!current()) return;
  state.runs = runs;
  const names = Object.keys(runs).filter((run) => runs[run].length);
  if (!names.length) {
    page.main.hidden = page.controls.hidden = true;
    say("No contribution reports in this log folder. `tl-nla contributions \"some text\" --logdir DIR` writes one.");
    return;
  }
  page.controls.hidden = false;
  state.run = names.includes(state.run) ? state.run : names[0];
  fill(page.run, names, state.run, (run) => (run === "." ? "(log folder itself)" : run));
  await loadTags(current);
});

async function loadTags(current) {
  const tags = state.runs[state.run];
  state.tag = tags.includes(state.tag) ? state.tag : tags[0];
  fill(page.tag, tags, state.tag, (tag) => tag.replace(/^contributions\//, ""));
  const atEnd = state.step === null || state.step === state.steps.at(-1);
  const { steps } = await ask("steps", { run: state.run, tag: state.tag });
  if (!current()) return;
  state.steps = steps.map((point) => point.step);
  if (atEnd || !state.steps.includes(state.step)) state.step = state.steps.at(-1);
  page.step.max = String(state.steps.length - 1);
  page.step.value = String(state.steps.indexOf(state.step));
  page.step.disabled = state.steps.length < 2;
  await loadReport(current);
}

async function loadReport(current) {
  const order = state.steps.indexOf(state.step);
  page.stepText.textContent = `${state.step} (${order + 1} of ${state.steps.length})`;
  page.step.setAttribute("aria-valuetext", `step ${state.step}`);
  const report = await ask("report", { run: state.run, tag: state.tag, step: state.step });
  if (!current()) return;
  state.report = report;
  drawReport();
}

function buildPage() {
  page.run = element("select", { id: "run" });
  page.tag = element("select", { id: "prompt" });
  page.step = element("input", { id: "step", type: "range", min: "0", max: "0" });
  page.stepText = element("output", { for: "step" });
  page.reload = element("button", { type: "button", text: "Reload" });
  page.controls = element("div", { class: "controls" },
    labelled("Run", page.run), labelled("Prompt", page.tag), labelled("Step", page.step, page.stepText), page.reload);
  page.message = element("p", { class: "message", role: "status" });
  page.tokens = element("div", { class: "tokens", role: "listbox", "aria-label": "Position", "aria-orientation": "horizontal" });
  page.summary = element("div", { class: "summary" });
  page.measures = element("div", { class: "measures", role: "radiogroup", "aria-label": "Colour by" }, ...Object.keys(MEASURES).map(measureChoice));
  page.legend = element("div", { class: "legend" });
  page.strongest = element("div", { class: "strongest" });
  page.grid = element("table", { role: "grid", "aria-label": "Layer by component" });
  page.details = element("section", { class: "details", "aria-live": "polite", "aria-label": "Chosen component" });
  page.main = element("main", { hidden: "" },
    heading("Position", "framed tokens can be chosen; shaded ones were read by the chosen component"), page.tokens, page.summary,
    heading("Components", "one row a layer; choose a cell to read it"), page.measures, page.legend, page.strongest,
    element("div", { class: "columns" }, element("div", { class: "scroll" }, page.grid), page.details));
  document.body.append(element("header", {}, page.controls, page.message), page.main);

  page.run.onchange = () => { state.run = Object.keys(state.runs).filter((run) => state.runs[run].length)[page.run.selectedIndex]; loading(loadTags); };
  page.tag.onchange = () => { state.tag = state.runs[state.run][page.tag.selectedIndex]; loading(loadTags); };
  page.step.oninput = () => { state.step = state.steps[Number(page.step.value)]; loading(loadReport); };
  page.reload.onclick = () => loadRuns();
  page.tokens.onkeydown = (event) => moveFocus(event, [[...page.tokens.querySelectorAll("button")]]);
  page.grid.onkeydown = (event) => moveFocus(event, [...page.grid.rows].map((row) => [...row.querySelectorAll("td[tabindex]")]).filter((row) => row.length));
}

function measureChoice(name) {
  const input = element("input", { type: "radio", name: "measure", value: name });
  input.checked = name === choice.measure;
  input.onchange = () => { choice.measure = name; drawReport(); };
  return element("label", { title: MEASURES[name].hint }, input, element("span", { text: MEASURES[name].label }));
}

/** TensorBoard marks its body in dark mode; without a readable parent the browser's own preference decides. */
function followTheme(changed) {
  const preference = matchMedia("(prefers-color-scheme: dark)");
  let host = null;
  try { host = window.parent === window ? null : window.parent.document.body; } catch { host = null; }
  const apply = () => {
    const dark = host ? host.classList.contains("dark-mode") : preference.matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    changed();
  };
  if (host) new MutationObserver(apply).observe(host, { attributes: true, attributeFilter: ["class"] });
  else preference.addEventListener("change", apply);
  apply();
}

function drawReport() {
  page.main.hidden = !state.report;
  if (!state.report) return;
  try {
    const { positions } = state.report;
    if (!positions.includes(choice.position)) choice.position = positions.at(-1);
    const cells = new Map(state.report.cells.filter((cell) => cell.position === choice.position).map((cell) => [keyOf(cell), cell]));
    if (!cells.has(choice.cell)) choice.cell = ranked(cells).map(keyOf)[0] ?? [...cells.keys()][0];
    drawTokens(cells.get(choice.cell));
    drawSummary();
    drawStrongest(cells);
    drawGrid(cells);
    drawDetails(cells.get(choice.cell));
  } catch (error) {
    page.main.hidden = true;
    say(`this report cannot be shown: ${error.message}`);
  }
}

function drawTokens(chosen) {
  const { tokens, positions } = state.report;
  const shares = new Map((chosen?.source_positions ?? []).map((column, rank) => [column, chosen.sources[rank]?.[1] ?? 0]));
  const nodes = tokens.map((text, position) => {
    const node = positions.includes(position)
      ? option(text, position === choice.position, () => { choice.position = position; drawReport(); })
      : element("span", { class: "token", text: visible(text) });
    node.dataset.position = position;
    node.title = `position ${position}: ${visible(text)}`;
    const share = shares.get(position);
    if (share > 0) {
      node.classList.add("source");
      node.style.setProperty("--share", String(Math.min(1, Math.max(0.15, share))));
      node.title += `; read with a share of ${plain(share)}`;
    }
    return node;
  });
  redraw(page.tokens, nodes);
  const shown = page.tokens.querySelector("[aria-selected='true']");
  if (shown) page.tokens.scrollTop = shown.offsetTop - page.tokens.offsetTop - page.tokens.clientHeight / 2;
}

function option(text, chosen, choose) {
  const node = element("button", { type: "button", class: "token", role: "option", "aria-selected": String(chosen), tabindex: chosen ? "0" : "-1", text: visible(text) });
  node.onclick = choose;
  return node;
}

function drawSummary() {
  const { target, predictions, total, positions, tokens, model, notes, explained_by: by } = state.report;
  const rank = positions.indexOf(choice.position);
  const line = element("p");
  line.append("After ", quoted(tokens[choice.position]), ` (position ${choice.position})`);
  const next = predictions?.[rank] ?? [];
  if (next.length) line.append(", likeliest next:");
  next.forEach(([token, probability], order) => line.append(order ? ", " : " ", quoted(token), ` ${percent(probability)}`));
  const sum = element("p");
  sum.append("Explained: ", ...targetWords(target, rank), ` = ${plain(total?.logit?.[rank])}; the parts add up to ${plain(total?.sum_of_parts?.[rank])}.`);
  const words = by === "oracle" ? "the diff oracle" : "labels computed from the model";
  const share = total?.unaccounted_share?.[rank];
  if (share !== undefined) sum.append(` Unaccounted for: ${plain(total.unaccounted[rank])}, ${percent(share)} of the logits' range.`);
  const worst = Math.max(0, ...(total?.unaccounted_share ?? []));
  const warned = worst > WARNED
    ? [element("p", { class: "warning", role: "alert", text: `Warning: the parts do not sum to the model's number. Up to ${percent(worst)} of the range of the logits is unaccounted for.` })]
    : [];
  const told = (notes ?? []).map((note) => element("p", { class: "faint", text: `Note: ${note}` }));
  redraw(page.summary, [...warned, line, sum, element("p", { class: "faint", text: `Model ${model}; in words: ${words}.` }), ...told]);
}

function targetWords(target, rank) {
  const token = quoted(target.tokens[rank]);
  if (target.kind === "difference") return ["logit of ", token, " minus logit of ", quoted(target.against?.[rank])];
  return target.kind === "log_prob" ? ["log-probability of ", token, " (nats, linearised)"] : ["logit of ", token];
}

/** Single parts with a number, strongest first; sums of parts would come first always. */
function ranked(cells) {
  const size = (cell) => Math.abs(number(MEASURES[choice.measure].value(cell)));
  return [...cells.values()].filter((cell) => PARTS.includes(cell.component) && size(cell) > 0).sort((a, b) => size(b) - size(a));
}

function drawStrongest(cells) {
  const buttons = ranked(cells).slice(0, 6).map((cell) => {
    const node = element("button", { type: "button", text: `${nameOf(cell)} ${shownValue(cell)}` });
    node.onclick = () => chooseCell(cell);
    return node;
  });
  redraw(page.strongest, [element("span", { text: buttons.length ? "Strongest here:" : "Nothing contributes here." }), ...buttons]);
}

function drawGrid(cells) {
  const { n_layers: layers } = state.report;
  const known = [...cells.values()];
  const heads = Math.max(0, ...known.map((cell) => (cell.component === "head" ? cell.head + 1 : 0)));
  const there = (name) => known.some((cell) => cell.component === name);
  const single = ["mlp", "ple", "bias"].filter((name) => name !== "ple" || there(name)).map((name) => [name, null]);
  const parts = [...Array(heads).keys()].map((head) => ["head", head]).concat(single);
  const columns = parts.concat(SUMS.filter((name) => name !== "mixer" || there(name)).map((name) => [name, null]));
  const scale = Math.max(...[...cells.values()].map((cell) => Math.abs(number(MEASURES[choice.measure].value(cell)))), 1e-9);
  drawLegend(scale);
  const head = element("thead", {},
    element("tr", {}, element("td"), element("th", { colspan: parts.length, scope: "colgroup", text: "parts, which add up" }), element("th", { colspan: columns.length - parts.length, scope: "colgroup", class: "sum", text: "sums of parts" })),
    element("tr", {}, element("th", { scope: "col", text: "layer" }), ...columns.map(([name, h]) => element("th", { scope: "col", class: SUMS.includes(name) ? "sum" : "", text: h === null ? NAMES[name] : `H${h}` }))));
  const body = element("tbody");
  body.append(gridRow("embed", [cells.get("-1/embed/-")], scale));
  for (let layer = 0; layer < layers; layer++) {
    body.append(gridRow(String(layer), columns.map(([name, h]) => cells.get(`${layer}/${name}/${h ?? "-"}`)), scale));
  }
  body.append(gridRow("final bias", [cells.get(`${layers}/bias/-`)], scale));
  const rounding = cells.get(`${layers}/rounding/-`);
  if (rounding && Math.abs(rounding.direct) >= 5e-3) body.append(gridRow("rounding", [rounding], scale));
  redraw(page.grid, [head, body]);
}

function gridRow(name, cells, scale) {
  return element("tr", {}, element("th", { scope: "row", text: name }), ...cells.map((cell) => gridCell(cell, scale)));
}

function gridCell(cell, scale) {
  if (!cell) return element("td", { class: "empty" });
  const value = MEASURES[choice.measure].value(cell);
  const chosen = keyOf(cell) === choice.cell;
  const flips = cell.skip_flip ? "; without it another token becomes the likeliest" : "";
  const node = element("td", {
    role: "gridcell", tabindex: chosen ? "0" : "-1", "aria-selected": String(chosen), "data-key": keyOf(cell),
    "aria-label": `${nameOf(cell)}: ${shownValue(cell)}${flips}`, title: `${nameOf(cell)}${flips}`, text: shownValue(cell),
  });
  node.classList.toggle("flips", Boolean(cell.skip_flip));
  node.classList.toggle("sum", SUMS.includes(cell.component));
  const colour = colourOf(number(value) / scale, MEASURES[choice.measure].oneSided);
  node.style.backgroundColor = css(colour);
  node.style.color = inkOn(colour);
  node.onclick = () => chooseCell(cell);
  return node;
}

function drawLegend(scale) {
  const { ends, oneSided, hint } = MEASURES[choice.measure];
  const stops = [...Array(11).keys()].map((index) => css(colourOf(oneSided ? index / 10 : index / 5 - 1, oneSided)));
  const bar = element("span", { class: "bar" });
  bar.style.background = `linear-gradient(to right, ${stops.join(",")})`;
  const [low, high] = oneSided ? [ends[0], `${ends[1]} (${plain(scale)})`] : [`${ends[0]} (${plain(scale)})`, `(${plain(scale)}) ${ends[1]}`];
  redraw(page.legend, [element("span", { text: low }), bar, element("span", { text: high }), element("span", { class: "corner", text: "corner: the likeliest next token changes without it" }), element("p", { class: "faint", text: hint })]);
}

function drawDetails(cell) {
  if (!cell) { redraw(page.details, []); return; }
  const { target, tokens, positions } = state.report;
  const rank = positions.indexOf(cell.position);
  const title = element("h2", { text: nameOf(cell) });
  const where = element("p", { class: "faint" });
  where.append("after ", quoted(tokens[cell.position]), `, position ${cell.position}`);
  const rows = [
    ["Direct", [`${signed(cell.direct)} to the `, ...targetWords(target, rank)]],
    ["Without it", typeof cell.skip_kl === "number" ? [`KL ${plain(cell.skip_kl)} nats; log-probability of `, quoted(target.tokens[rank]), ` ${signed(cell.skip_target_change)}; the likeliest next token ${cell.skip_flip ? "changes" : "stays"}`] : ["not skipped"]],
    ["Strength", [typeof cell.strength === "number" ? `${plain(cell.strength)} of the norm of the state it is added to` : DASH]],
    ["Read from", chips(cell.sources)],
    ["Promotes", chips(cell.promoted.map((token) => [token]))],
    ["Suppresses", chips(cell.suppressed.map((token) => [token]))],
  ];
  const list = element("dl", {}, ...rows.flatMap(([name, content]) => {
    const value = element("dd");
    value.append(...content);
    return [element("dt", { text: name }), value];
  }));
  redraw(page.details, [title, where, element("p", { class: "explanation", text: printable(cell.explanation) || DASH }), list]);
}

function chooseCell(cell) {
  choice.cell = keyOf(cell);
  drawReport();
  page.grid.querySelector("td[tabindex='0']")?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

/** Arrow keys, Home and End move within rows of focusable nodes and choose the node they reach. */
function moveFocus(event, rows) {
  const row = rows.findIndex((nodes) => nodes.includes(event.target));
  if (row < 0) return;
  if (event.key === "Enter" || event.key === " ") { event.preventDefault(); event.target.click(); return; }
  const column = rows[row].indexOf(event.target);
  const goals = {
    ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1], ArrowUp: [row - 1, column], ArrowDown: [row + 1, column],
    Home: [row, 0], End: [row, rows[row].length - 1],
  };
  const [toRow, toColumn] = goals[event.key] ?? [-1, -1];
  if (!rows[toRow] || toColumn < 0) return;
  event.preventDefault();
  const goal = rows[toRow][Math.min(toColumn, rows[toRow].length - 1)];
  goal.click();
}

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") node.textContent = value;
    else if (value !== "" || key === "hidden") node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

function heading(text, hint) { return element("h2", { text }, element("span", { class: "faint", text: hint })); }
function labelled(text, ...fields) { return element("label", {}, element("span", { text }), ...fields); }

/** Replace the children and keep the keyboard focus on the chosen one when it was inside. */
function redraw(parent, nodes) {
  const focused = parent.contains(document.activeElement);
  parent.replaceChildren(...nodes);
  if (focused) parent.querySelector("[tabindex='0']")?.focus({ preventScroll: true });
}

function fill(select, names, chosen, text) {
  select.replaceChildren(...names.map((name) => element("option", { text: printable(text(name)) })));
  select.selectedIndex = names.indexOf(chosen);
}

function say(text) { page.message.textContent = text; }
function keyOf(cell) { return `${cell.layer}/${cell.component}/${cell.head ?? "-"}`; }

function nameOf(cell) {
  if (cell.component === "embed") return "Embedding";
  if (cell.component === "rounding") return "Rounding of the residual stream";
  if (cell.layer >= state.report.n_layers) return "Final norm and unembedding bias";
  return `Layer ${cell.layer}, ${cell.component === "head" ? `head ${cell.head}` : NAMES[cell.component]}`;
}

function shownValue(cell) { return MEASURES[choice.measure].shown(MEASURES[choice.measure].value(cell)); }
function quoted(token) { return element("q", { class: "token", text: visible(token ?? "") }); }

function chips(pairs) {
  return pairs.length ? pairs.map(([token, share]) => element("span", { class: "chip" },
    element("span", { class: "token", text: visible(token), title: visible(token) }),
    element("span", { class: "faint", text: share === undefined ? "" : plain(share) }))) : [DASH];
}
