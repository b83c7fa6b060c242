// The sources: how much there is of each, how fresh it is, and how its last run went where that is known.
import { ask } from "./api.js";
import { badge, colours, documentPath, el, number, plural, when } from "./dom.js";

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
    failures(sources, known),
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
    known && [cell("Last run", when(one.run?.at), isBehind(one.run) && el("span", { class: "bad" }, " failed")), cell("Failed", failed(one.run))],
    paid && cell("Last paid run", when(one.paid_at)));
}

const isBehind = (run) => Boolean(run?.at && (!run.succeeded_at || new Date(run.at) - new Date(run.succeeded_at) > 1000));

function failed(run) {
  if (!run || run.failed === null) return "–";
  return run.failed ? el("span", { class: "bad" }, plural(run.failed, "document")) : "none";
}

function failures(sources, known) {
  if (!known) {
    return el("p", { class: "faint" }, "What failed in a run stands in Prefect's pages and in what ", el("code", {}, "docweave ingest"),
      " prints. Where ", el("code", {}, "telemetry.metrics_file"), " is set, a key that sees everything is shown here when each source last ran, and how many documents failed.");
  }
  const told = sources.flatMap(({ name, run }) => run ? [
    isBehind(run) && `The last run over ${name} failed as a whole.`,
    run.failed > 0 && `${name}: ${plural(run.failed, "document")} could not be read in the last run.`,
    run.left > 0 && `${name}: a budget left ${plural(run.left, "document")} for the next run.`,
    run.withheld > 0 && `${name}: ${plural(run.withheld, "removal")} ${run.withheld === 1 ? "waits" : "wait"} for approval.`,
  ] : []).filter(Boolean);
  if (!told.length) return el("p", { class: "good" }, "The last runs read every document.");
  return el("div", { class: "problem" }, el("ul", {}, told.map((one) => el("li", {}, one))),
    el("p", {}, "Which documents, and why: in Prefect's pages, and in what ", el("code", {}, "docweave ingest"), " prints."));
}
