/**
 * The Contributions tab: plain ES modules, no dependencies, no build step, nothing loaded from elsewhere.
 *
 * Everything that comes from a report is untrusted text: it enters the page through textContent (and through the title
 * and aria-label attributes), never as markup. The HTML file of a report is made of the same modules.
 */

import { App } from "./app.js";
import { element } from "./dom.js";
import { Server } from "./server.js";

/** TensorBoard calls this once its frame is there. */
export async function render() {
  const home = new URL("./", import.meta.url);
  const style = element("link", { rel: "stylesheet", href: new URL("index.css", home).href });
  const styled = new Promise((done) => { style.onload = style.onerror = done; });
  document.head.append(style);
  await styled;
  await new App(new Server(home)).start();
}
