/** Light or dark: as TensorBoard, else as the browser, until the reader chooses. */

let chosen = null;

/** Follow the theme, and call `changed` whenever it is another one. */
export function followTheme(changed) {
  const preference = matchMedia("(prefers-color-scheme: dark)");
  const host = hostBody();
  const apply = () => {
    const dark = chosen ?? (host ? host.classList.contains("dark-mode") : preference.matches);
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    changed();
  };
  if (host) new MutationObserver(apply).observe(host, { attributes: true, attributeFilter: ["class"] });
  else preference.addEventListener("change", apply);
  apply();
  return () => {
    chosen = document.documentElement.dataset.theme !== "dark";
    apply();
  };
}

/** The body of the page around ours, which TensorBoard marks in dark mode. */
function hostBody() {
  try {
    return window.parent === window ? null : window.parent.document.body;
  } catch {
    return null;
  }
}
