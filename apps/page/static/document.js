// A document as it is stored: its passages in order, with its headings beside them.
import { ask, askOnce } from "./api.js";
import { apiPath, badge, colours, documentPath, el, number, outLink, plural, say, when } from "./dom.js";

export async function show(box, at, signal) {
  const source = at.steps[0] ?? "", key = at.steps.slice(1).join("/");
  box.append(el("p", { class: "faint loading" }, "Reading the document …"));
  const [document_, known] = await Promise.all([ask(apiPath(source, key), { signal }), askOnce("/v1/sources").catch(() => ({ sources: [] }))]);
  if (signal.aborted) return {};
  const colour = colours(known.sources.map((one) => one.name)).get(source);
  document.title = `${document_.title || key} – Docweave`;
  const passages = el("div", { class: "passages" });
  const outline = [];
  let before = [];
  for (const chunk of document_.chunks) {
    const path = chunk.heading_path;
    const same = path.findIndex((step, n) => step !== before[n]);
    const fresh = path.length && (same >= 0 || path.length < before.length);
    if (fresh) outline.push({ depth: path.length, text: path.at(-1), ordinal: chunk.ordinal });
    before = path;
    passages.append(passage(chunk, fresh ? path : null, source, key));
  }
  if (!document_.chunks.length) passages.append(el("p", {}, "Nothing is stored of its text: it has none, or the text stands under another document, of which this is a copy."));
  box.replaceChildren(
    el("p", { class: "back" }, el("a", { href: "#/", onclick: back }, "← Back")),
    el("div", { class: "document" },
      el("div", { class: "about" },
        el("h1", {}, document_.title || key),
        el("p", { class: "path" }, badge(source, colour), " ", key),
        el("p", { class: "links" }, outLink(document_.url, "Original ↗")),
        el("dl", { class: "facts" }, fact("Passages", number(document_.chunks.length)), fact("Tokens", number(document_.tokens)), fact("Type", document_.media_type), fact("Written", when(document_.updated_at))),
        metadata(document_.metadata),
        outline.length > 1 && contents(outline, source, key)),
      passages));
  const turn = (parameters) => goTo(passages, parameters.get("chunk"));
  turn(at.parameters);
  return {
    update: (now) => {
      if (now.steps.join("/") !== at.steps.join("/")) return false;
      turn(now.parameters);
      return true;
    },
    keydown: (event, typing) => move(event, typing, passages),
  };
}

function back(event) {
  if (history.length > 1) {
    event.preventDefault();
    history.back();
  }
}

const fact = (name, value) => value ? [el("dt", {}, name), el("dd", {}, value)] : [];

function passage(chunk, heading, source, key) {
  const page = chunk.page ? `, page ${chunk.page}` : "";
  return el("section", { class: "chunk", id: `chunk-${chunk.ordinal}`, tabindex: "-1", "aria-label": `Passage ${chunk.ordinal + 1}${page}` },
    heading && el("h2", { class: "headings" }, heading.slice(0, -1).map((step) => el("span", {}, step, " › ")), heading.at(-1)),
    el("p", { class: "text" }, chunk.text),
    el("p", { class: "number" }, el("a", { href: documentPath(source, key, chunk.ordinal), "aria-label": `Link to passage ${chunk.ordinal + 1}` }, `#${chunk.ordinal + 1}`), `${page} · ${plural(chunk.tokens, "token")}`));
}

function contents(outline, source, key) {
  const least = Math.min(...outline.map((one) => one.depth));
  return el("details", { class: "outline", open: matchMedia("(min-width: 62rem)").matches }, el("summary", {}, "Headings"),
    el("nav", { "aria-label": "Headings" }, el("ol", {}, outline.slice(0, 300).map((one) =>
      el("li", { class: `deep${Math.min(3, one.depth - least)}` }, el("a", { href: documentPath(source, key, one.ordinal) }, one.text))))));
}

function metadata(values) {
  const entries = Object.entries(values ?? {});
  if (!entries.length) return null;
  return el("details", { class: "metadata" }, el("summary", {}, "Metadata"),
    el("dl", { class: "facts" }, entries.map(([name, value]) => fact(name, typeof value === "string" ? value || "–" : JSON.stringify(value)))));
}

/** Have a passage in view, marked as the one that is meant. */
function goTo(passages, ordinal) {
  passages.querySelector(".meant")?.classList.remove("meant");
  const there = ordinal !== null && passages.querySelector(`#chunk-${CSS.escape(ordinal)}`);
  if (!there) return;
  there.classList.add("meant");
  there.scrollIntoView({ block: "center" });
  there.focus({ preventScroll: true });
  say(`Passage ${Number(ordinal) + 1}`);
}

function move(event, typing, passages) {
  const step = { j: 1, k: -1 }[event.key];
  if (!step || typing) return;
  event.preventDefault();
  const all = [...passages.querySelectorAll(".chunk")];
  const now = all.findIndex((one) => one.contains(document.activeElement) || one.classList.contains("meant"));
  const next = all[now < 0 ? 0 : Math.max(0, Math.min(all.length - 1, now + step))];
  if (!next) return;
  passages.querySelector(".meant")?.classList.remove("meant");
  next.classList.add("meant");
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}
