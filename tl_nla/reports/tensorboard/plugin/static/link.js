/** What is shown as a part of the address, so that a link leads to a cell. */

const NAME = "shown";

/** TensorBoard's window where the tab is in its frame: its address is the one that people see. */
function frame() {
  try {
    return window.parent !== window && window.parent.location.hash !== undefined ? window.parent : window;
  } catch {
    return window;
  }
}

/** Choices of the address: an object of texts. */
export function readLink() {
  const part = frame().location.hash.slice(1).split("&").find((piece) => piece.startsWith(`${NAME}=`));
  if (!part) return {};
  try {
    return Object.fromEntries(new URLSearchParams(decodeURIComponent(part.slice(NAME.length + 1))));
  } catch {
    return {};
  }
}

/** Write choices into the address; other parts of it stay. */
export function writeLink(choices) {
  const known = Object.entries(choices).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = encodeURIComponent(new URLSearchParams(known).toString());
  const host = frame();
  const others = host.location.hash.slice(1).split("&").filter((piece) => piece && !piece.startsWith(`${NAME}=`));
  const hash = `#${[...others, `${NAME}=${text}`].join("&")}`;
  if (hash !== host.location.hash) host.history.replaceState(host.history.state, "", hash);
  return new URL(hash, host.location.href).href;
}

/** Call `changed` when the reader follows another link of this page. */
export function onLink(changed) { frame().addEventListener("hashchange", changed); }
