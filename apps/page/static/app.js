// The frame: which view an address means, the keys that work everywhere, the theme.
import { ask, forgetKey, hasKey } from "./api.js";
import { el, number, plural, problem } from "./dom.js";
import { show as search } from "./search.js";

const main = document.getElementById("main");
const VIEWS = {
  "": search,
  document: (...given) => import("./document.js").then((view) => view.show(...given)),
  sources: (...given) => import("./sources.js").then((view) => view.show(...given)),
  map: (...given) => import("./map.js").then((view) => view.show(...given)),
  spending: (...given) => import("./spending.js").then((view) => view.show(...given)),
};
let leaving = new AbortController();
let visited = 0;
let shown = null;

/** The view, its steps and its parameters: #/document/handbook/leave.md?chunk=2 */
function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const [view, ...steps] = path.split("/").map((step) => { try { return decodeURIComponent(step); } catch { return step; } });
  return { view, steps, parameters: new URLSearchParams(query) };
}

async function go() {
  const at = place();
  const same = shown?.view === at.view && shown?.update;
  if (same && (await shown.update(at))) return;
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  for (const link of document.querySelectorAll("#nav a")) {
    const here = link.getAttribute("href") === `#/${at.view}`;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const view = VIEWS[at.view];
  const box = el("div", { class: "view" });
  main.replaceChildren(box);
  window.scrollTo(0, 0);
  shown = { view: at.view };
  try {
    if (!view) throw new Error("There is no such page.");
    const made = await view(box, at, signal);
    if (!signal.aborted) shown = { view: at.view, ...made };
  } catch (error) {
    if (error.name !== "AbortError" && !signal.aborted) box.append(problem(error));
  }
  if (visited++ && !signal.aborted && !box.contains(document.activeElement)) main.focus({ preventScroll: true });
}

async function status() {
  try {
    const said = await ask("/v1/status");
    const spaces = [...new Set((said.tables ?? [said]).flatMap(({ space }) => space ? [`${space.model}, ${number(space.dimensions)} dimensions, ${space.encoding}`] : []))];
    const space = spaces.join("; ") || "nothing is stored yet";
    document.getElementById("status").textContent = `${plural(said.documents, "document")}, ${plural(said.chunks, "passage")} · ${space} · Docweave ${said.version}`;
  } catch { /* the view tells */ }
  document.getElementById("forget").hidden = !hasKey();
}

const THEMES = ["system", "light", "dark"];
const themeButton = document.getElementById("theme");
function tellTheme() {
  const now = document.documentElement.dataset.theme ?? "system";
  themeButton.textContent = { system: "◐", light: "☀", dark: "☾" }[now];
  themeButton.setAttribute("aria-label", `Theme: ${now}. Change it`);
  themeButton.title = `Theme: ${now}`;
}
themeButton.addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "system") + 1) % 3];
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try { localStorage.setItem("docweave-theme", next); } catch { /* storage is off */ }
  tellTheme();
});

document.getElementById("forget").addEventListener("click", () => { forgetKey(); location.reload(); });
document.getElementById("skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
document.addEventListener("key", status);

const isTyping = (target) => target.closest?.("input:not([type=radio]):not([type=checkbox]), textarea, select, [contenteditable]");

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = isTyping(event.target);
  if (event.key === "/" && !typing) {
    event.preventDefault();
    const box = document.getElementById("question");
    if (box) box.select();
    else location.hash = "#/";
  } else if (event.key === "Escape" && place().view !== "") {
    event.preventDefault();
    if (visited > 1) history.back();
    else location.hash = "#/";
  } else {
    shown?.keydown?.(event, Boolean(typing));
  }
});

window.addEventListener("hashchange", go);
tellTheme();
go();
status();
