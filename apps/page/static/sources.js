// The sources: how much there is of each, how fresh it is, and how its last run went.
import { ask } from "./api.js";
import { badge, colours, documentPath, el, number, outLink, plural, when } from "./dom.js";

export async function show(box, at, signal) {
  document.title = "Sources – Docweave";
  box.append(el("h1", {}, "Sources"), el("p", { class: "faint loading" }, "Looking at every document …"));
  const { sources, latest, runs_known: known } = await ask("/v1/freshness", { signal });
  if (signal.aborted) return {};
  box.querySelector(".loading").remove();
  const colour = colours(sources.map((one) => one.name));
  const paid = sources.some((one) => one.paid_at);
  if (!sources.length) {
    box.append(el("p", {}, "Nothing is stored yet."));
    return {};
  }
  const most = Math.max(...sources.map((one) => one.documents));
  const heads = ["Source", "Documents", "Passages", "Tokens", "Newest change", ...(known ? ["Last run", "Failed"] : []), ...(paid ? ["Last paid run"] : [])];
  box.append(
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Sources, as a table" }, el("table", { class: "cards" },
      el("thead", {}, el("tr", {}, heads.map((text, n) => el("th", { scope: "col", class: n > 0 && n < 4 ? "n" : null }, text)))),
      el("tbody", {}, sources.map((one) => row(one, colour.get(one.name), most, known, paid))))),
    ...(known ? [failures(sources)] : []),
    el("h2", {}, "Written last"),
    el("ol", { class: "latest" }, latest.map((one) => el("li", {},
      el("a", { href: documentPath(one.source, one.key) }, one.title || one.key), " ", badge(one.source, colour.get(one.source)), " ", when(one.updated_at)))));
  return {};
}

function row(one, colour, most, known, paid) {
  const bar = el("meter", { min: "0", max: String(most), value: String(one.documents), "aria-hidden": "true", tabindex: "-1" });
  const cell = (name, ...what) => el("td", { "data-name": name }, ...what);
  const count = (name, n, ...more) => el("td", { "data-name": name, class: "n" }, number(n), ...more);
  return el("tr", {},
    el("th", { scope: "row" }, el("a", { href: `#/?source=${encodeURIComponent(one.name)}`, "aria-label": `Search in ${one.name}` }, badge(one.name, colour))),
    count("Documents", one.documents, bar), count("Passages", one.chunks), count("Tokens", one.tokens), cell("Newest change", when(one.newest)),
    known && [cell("Last run", when(one.run?.at), one.run?.error ? el("span", { class: "bad" }, " failed") : one.run?.counts.left > 0 && el("span", { class: "bad" }, " stopped for its budget")), cell("Failed", failed(one.run))],
    paid && cell("Last paid run", when(one.paid_at)));
}

function failed(run) {
  if (!run) return "–";
  return run.failed ? el("span", { class: "bad" }, plural(run.failed, "document")) : "none";
}

function failures(sources) {
  const told = sources.filter((one) => one.run).flatMap(({ name, run }) => [
    run.error && el("li", {}, `The last run over ${name} failed: ${run.error}`, run.succeeded_at ? [" The last that did not: ", when(run.succeeded_at), "."] : " None has succeeded yet."),
    run.failed > 0 && el("li", {}, `${name}: ${plural(run.failed, "document")} could not be read in the last run.`, reasons(run)),
    run.counts.left > 0 && el("li", {}, `${name}: the last run stopped for its budget, and left ${plural(run.counts.left, "document")} for the next one.`),
    run.counts.withheld > 0 && el("li", {}, `${name}: ${plural(run.counts.withheld, "removal")} ${run.counts.withheld === 1 ? "waits" : "wait"} for approval.`),
  ]).filter(Boolean);
  if (!told.length) return el("p", { class: "good" }, "The last runs read every document.");
  return el("section", { class: "problem", "aria-label": "Failures" }, el("ul", {}, told));
}

function reasons({ failed, failures }) {
  return el("details", {}, el("summary", {}, "Which, and why"), el("ul", {}, failures.map((one) => el("li", {},
    el("strong", {}, outLink(one.url, one.key) ?? one.key), " ", one.reason)),
    failed > failures.length && el("li", {}, `… and ${number(failed - failures.length)} more`)));
}
