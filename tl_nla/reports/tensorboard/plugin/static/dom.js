/** Small helpers that make nodes. Text always enters through textContent or an attribute, never as markup. */

import { DASH, plain, printable, visible } from "./values.js";

/** Make a node; `text` sets its text, empty attributes are left out (but `hidden`). */
export function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") node.textContent = value;
    else if (value !== "" || key === "hidden") node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

export function heading(text, hint) {
  return element("h2", { text }, element("span", { class: "faint", text: hint }));
}

export function labelled(text, ...fields) {
  return element("label", {}, element("span", { text }), ...fields);
}

/** A token in quotation marks. */
export function quoted(token) {
  return element("q", { class: "token", text: visible(token ?? "") });
}

/** Tokens as small frames, each with its share where it has one. */
export function chips(pairs) {
  if (!pairs.length) return [DASH];
  return pairs.map(([token, share]) => element("span", { class: "chip" },
    element("span", { class: "token", text: visible(token), title: visible(token) }),
    element("span", { class: "faint", text: share === undefined ? "" : plain(share) })));
}

/** Fill a select with names. */
export function fill(select, names, chosen, text = (name) => String(name)) {
  select.replaceChildren(...names.map((name) => element("option", { text: printable(text(name)) })));
  select.selectedIndex = Math.max(0, names.indexOf(chosen));
}

/** Run the last of several calls, once the browser is about to draw. */
export function onNextFrame(work) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; work(); });
  };
}
