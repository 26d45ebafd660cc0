/** Reads packed reports: see tl_nla/reports/packed.py for their form. */

import { Report } from "./report.js";

const PACKED = 2;

/** The report of packed data. */
export async function decode(packed) {
  if (packed?.schema !== PACKED) throw new Error(`the report has schema ${packed?.schema}; this page reads ${PACKED}`);
  const stream = new Blob([bytesOf(packed.data)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const block = new Uint8Array(await new Response(stream).arrayBuffer());
  const end = 4 + new DataView(block.buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(block.subarray(4, end)));
  const content = block.subarray(end);
  const columns = {};
  for (const [name, layout] of Object.entries(header.columns)) columns[name] = columnOf(content, layout);
  return new Report(header, columns);
}

function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const signs = atob(text);
  const bytes = new Uint8Array(signs.length);
  for (let place = 0; place < signs.length; place++) bytes[place] = signs.charCodeAt(place);
  return bytes;
}

/** A column of whole numbers, or of numbers (NaN for none) where the layout has a unit. */
function columnOf(content, { start, count, width, unit }) {
  const whole = width === 1 ? content.slice(start, start + count) : new Uint32Array(count);
  for (let plane = 0; plane < width && width > 1; plane++) {
    const from = start + plane * count;
    for (let place = 0; place < count; place++) whole[place] |= content[from + place] << (8 * plane);
  }
  if (unit === undefined) return whole;
  const numbers = new Float32Array(count);
  for (let place = 0; place < count; place++) {
    const folded = whole[place] - 1;
    numbers[place] = folded < 0 ? NaN : unit * (folded % 2 ? -(folded + 1) / 2 : folded / 2);
  }
  return numbers;
}
