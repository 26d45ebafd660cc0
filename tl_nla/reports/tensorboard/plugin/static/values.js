/** How the Contributions tab writes tokens and numbers, and how it colours them: functions of their arguments and the theme. */

export const DASH = "—";

const PALETTES = {
  light: { neutral: [246, 246, 246], helps: [179, 88, 6], against: [84, 39, 136], amount: [33, 102, 172] },
  dark: { neutral: [58, 58, 60], helps: [240, 160, 75], against: [184, 160, 230], amount: [107, 174, 224] },
};

/** Text with escapes for what would be invisible or turn the line around: control, zero-width and direction signs. */
export function printable(text) {
  const escape = (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return String(text ?? "").replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g, escape);
}

/** A token as something to see: line ends, tabs and lone spaces get signs of their own. */
export function visible(token) {
  const text = printable(String(token).replace(/\r?\n/g, "↵").replace(/\t/g, "⇥"));
  return text.trim() === "" ? text.replace(/\s/g, "␣") || "∅" : text;
}

export function number(value) { return typeof value === "number" && Number.isFinite(value) ? value : 0; }

export function negated(value) { return typeof value === "number" ? -value : value; }

export function plain(value) {
  if (typeof value !== "number") return DASH;
  const size = Math.abs(value);
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : 2;
  const text = size.toFixed(digits);
  return (value < 0 && Number(text) !== 0 ? "−" : "") + text;
}

export function signed(value) {
  const text = plain(value);
  return typeof value === "number" && value > 0 && Number(text) !== 0 ? `+${text}` : text;
}

export function percent(value) { return typeof value === "number" ? `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)}%` : DASH; }

/** Colour of a share from -1 to 1: orange helps, purple works against (as in the heat maps), blue has no direction. */
export function colourOf(share, oneSided) {
  const palette = PALETTES[document.documentElement.dataset.theme] ?? PALETTES.light;
  const end = oneSided ? palette.amount : share >= 0 ? palette.helps : palette.against;
  const weight = Math.min(1, Math.abs(share));
  return palette.neutral.map((value, index) => Math.round(value + weight * (end[index] - value)));
}

export function css(colour) { return `rgb(${colour.join(" ")})`; }

/** Black or white, whichever contrasts more (WCAG relative luminance): at least 4.5 to 1 on any colour. */
export function inkOn(colour) {
  const [red, green, blue] = colour.map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff";
}
