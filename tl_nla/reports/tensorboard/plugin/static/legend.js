/** What the colours mean. */

import { element } from "./dom.js";
import { colourOf, css, plain } from "./values.js";

export function legendOf(scene) {
  const { oneSided, scale, ends, b, measure } = scene;
  const stops = [...Array(11).keys()].map((place) => css(colourOf(oneSided ? place / 10 : place / 5 - 1, oneSided)));
  const bar = element("span", { class: "bar" });
  bar.style.background = `linear-gradient(to right, ${stops.join(",")})`;
  const [low, high] = oneSided ? [ends[0], `${ends[1]} (${plain(scale)})`] : [`${ends[0]} (${plain(scale)})`, `(${plain(scale)}) ${ends[1]}`];
  const corner = element("span", { class: "corner", text: "corner: the likeliest next token changes without it" });
  const hint = b ? `${measure.label}: A less B. The list gives the numbers of A, the largest differences first.` : measure.hint;
  return [element("span", { text: low }), bar, element("span", { text: high }), corner, element("p", { class: "faint", text: hint })];
}
