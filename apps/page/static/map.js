// The corpus laid flat: a point a document, near those that say the like, coloured and shaped by source.
import { ask } from "./api.js";
import { badge, colours, documentPath, el, number, plural, svg } from "./dom.js";

const SIZE = 1000, EDGE = 40, HIGH = 640;
const SHAPES = [
  (r) => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`,
  (r) => `M${-r * 0.9} ${-r * 0.9}h${r * 1.8}v${r * 1.8}h${-r * 1.8}z`,
  (r) => `M0 ${-r * 1.2}L${r * 1.15} ${r * 0.9}H${-r * 1.15}z`,
  (r) => `M0 ${-r * 1.3}L${r * 1.3} 0L0 ${r * 1.3}L${-r * 1.3} 0z`,
];

export async function show(box, at, signal) {
  document.title = "Map – Docweave";
  box.append(el("h1", {}, "Map"), el("p", { class: "faint loading" }, "Laying the documents out …"));
  const said = await ask("/v1/map", { signal });
  if (signal.aborted) return {};
  box.querySelector(".loading").remove();
  const { points } = said;
  if (points.length < 3) {
    box.append(el("p", {}, `A map needs three documents with text; there ${points.length === 1 ? "is one" : `are ${points.length || "none"}`}.`));
    return {};
  }
  const names = [...new Set(points.map((one) => one.source))].sort();
  const colour = colours(names);
  const hidden = new Set();
  const tip = el("p", { class: "tip", hidden: true, "aria-hidden": "true" });
  const drawn = draw(points, names, colour);
  const frame = el("div", { class: "map" }, drawn, tip);
  const parts = said.explained.map((share) => `${Math.round(share * 100)} %`);
  box.append(
    el("p", { class: "faint" }, `Each point is a document${said.documents > points.length ? `: ${number(points.length)} of ${number(said.documents)}, drawn by lot` : ""}. Those near each other say the like. `,
      `The two directions hold ${parts[0]} and ${parts[1]} of all that the vectors differ by: documents that are apart here differ, and those that are near may differ in other ways.`),
    el("fieldset", { class: "sources" }, el("legend", { class: "unseen" }, "Sources that are shown"), names.map((name) =>
      el("label", { class: `chip c${colour.get(name)}` }, el("input", { type: "checkbox", checked: true, onchange: (event) => { if (event.target.checked) hidden.delete(name); else hidden.add(name); for (const one of drawn.querySelectorAll("path")) one.classList.toggle("gone", hidden.has(points[one.dataset.n].source)); } }),
        el("span", {}, svg("svg", { class: "sign", viewBox: "-9 -9 18 18", "aria-hidden": "true" }, svg("path", { class: "fill", d: SHAPES[names.indexOf(name) % SHAPES.length](6) })), " ", name, " ", el("small", {}, number(points.filter((one) => one.source === name).length)))))),
    frame,
    el("details", { class: "list" }, el("summary", {}, "The same as a list"), names.map((name) => el("section", {}, el("h2", {}, badge(name, colour.get(name)), ` ${plural(points.filter((one) => one.source === name).length, "document")}`),
      el("ol", {}, points.filter((one) => one.source === name).sort((a, b) => a.x - b.x || a.y - b.y).map((one) => el("li", {}, el("a", { href: documentPath(one.source, one.key) }, one.title || one.key))))))));
  listen(frame, drawn, tip, points);
  return {};
}

function draw(points, names, colour) {
  const r = points.length > 600 ? 4 : points.length > 150 ? 6 : 8;
  const x = (value) => EDGE + ((value + 1) / 2) * (SIZE - 2 * EDGE), y = (value) => EDGE + ((1 - value) / 2) * (HIGH - 2 * EDGE);
  return svg("svg", { viewBox: `0 0 ${SIZE} ${HIGH}`, role: "img", "aria-label": `Map of ${plural(points.length, "document")}, coloured by source. The list below has a link to each.` },
    points.map((one, n) => svg("path", { class: `point fill c${colour.get(one.source)}`, d: SHAPES[names.indexOf(one.source) % SHAPES.length](r), transform: `translate(${x(one.x).toFixed(1)} ${y(one.y).toFixed(1)})`, "data-n": String(n) })));
}

function listen(frame, drawn, tip, points) {
  const at = (event) => event.target.closest?.("path[data-n]");
  drawn.addEventListener("pointerover", (event) => {
    const point = at(event);
    tip.hidden = !point;
    if (!point) return;
    const one = points[point.dataset.n];
    tip.replaceChildren(el("b", {}, one.title || one.key), el("br"), `${one.source} · ${one.key}`);
    const box = frame.getBoundingClientRect(), spot = point.getBoundingClientRect();
    const left = spot.left - box.left + spot.width / 2, top = spot.top - box.top;
    tip.style.left = `${Math.max(0, Math.min(left - tip.offsetWidth / 2, box.width - tip.offsetWidth))}px`;
    tip.style.top = `${top > tip.offsetHeight + 12 ? top - tip.offsetHeight - 8 : top + spot.height + 8}px`;
  });
  drawn.addEventListener("pointerleave", () => { tip.hidden = true; });
  drawn.addEventListener("click", (event) => {
    const point = at(event);
    if (point) location.hash = documentPath(points[point.dataset.n].source, points[point.dataset.n].key);
  });
}
