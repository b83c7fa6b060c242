// The corpus laid flat: a point a document, near those that say the like, coloured and shaped by source.
import { ask } from "./api.js";
import { badge, colours, documentPath, el, number, plural, svg } from "./dom.js";

const EDGE = 24;
const LABELS = 60, LONGEST = 26, LETTER = 6.1, LINE = 14; // names beside points: how many, and how much room they take
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
  const wide = Math.max(300, box.clientWidth), drawn = draw(points, names, colour, wide, Math.max(320, Math.min(wide * 0.5, innerHeight - 272)));
  const frame = el("div", { class: "map" }, drawn, tip);
  const parts = said.explained.map((share) => `${Math.round(share * 100)} %`);
  box.append(
    el("p", { class: "faint" }, `Each point is a document${said.documents > points.length ? `: ${number(points.length)} of ${number(said.documents)}, drawn by lot` : ""}. Those near each other say the like. `,
      `The two directions hold ${parts[0]} and ${parts[1]} of all that the vectors differ by: documents that are apart here differ, and those that are near may differ in other ways.`),
    el("fieldset", { class: "sources" }, el("legend", { class: "unseen" }, "Sources that are shown"), names.map((name) =>
      el("label", { class: `chip c${colour.get(name)}` }, el("input", { type: "checkbox", checked: true, onchange: (event) => { if (event.target.checked) hidden.delete(name); else hidden.add(name); for (const one of drawn.children) one.classList.toggle("gone", hidden.has(one.dataset.of ?? points[one.dataset.n].source)); } }),
        el("span", {}, svg("svg", { class: "sign", viewBox: "-9 -9 18 18", "aria-hidden": "true" }, svg("path", { class: "fill", d: SHAPES[names.indexOf(name) % SHAPES.length](6) })), " ", name, " ", el("small", {}, number(points.filter((one) => one.source === name).length)))))),
    frame,
    el("details", { class: "list" }, el("summary", {}, "The same as a list"), names.map((name) => el("section", {}, el("h2", {}, badge(name, colour.get(name)), ` ${plural(points.filter((one) => one.source === name).length, "document")}`),
      el("ol", {}, points.filter((one) => one.source === name).sort((a, b) => a.x - b.x || a.y - b.y).map((one) => el("li", {}, el("a", { href: documentPath(one.source, one.key) }, one.title || one.key))))))));
  listen(frame, drawn, tip, points);
  return {};
}

/** One unit is a pixel, as long as the window keeps its size. */
function draw(points, names, colour, wide, high) {
  const r = points.length > 600 ? 4 : points.length > 150 ? 6 : 8, right = wide > 700 ? 150 : EDGE;
  const x = within(points.map((one) => one.x), EDGE, wide - right), y = within(points.map((one) => -one.y), EDGE, high - EDGE);
  const at = points.map((_, n) => [x[n], y[n]]);
  return svg("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": `Map of ${plural(points.length, "document")}, coloured by source. The list below has a link to each.` },
    points.map((one, n) => svg("path", { class: `point fill c${colour.get(one.source)}`, d: SHAPES[names.indexOf(one.source) % SHAPES.length](r), transform: `translate(${at[n][0].toFixed(1)} ${at[n][1].toFixed(1)})`, "data-n": String(n) })),
    labels(points, at, r, wide));
}

/** Numbers, stretched to reach from one end to the other. */
function within(values, from, to) {
  const least = Math.min(...values), range = Math.max(...values) - least || 1;
  return values.map((value) => from + ((value - least) / range) * (to - from));
}

/** Names of as many points as have room for one beside them. */
function labels(points, at, r, wide) {
  const taken = at.map(([x, y]) => [x - r, y - r, x + r, y + r]), shown = [];
  points.forEach((one, n) => {
    const title = one.title || one.key, text = title.length > LONGEST ? `${title.slice(0, LONGEST - 1).trimEnd()}…` : title;
    const [x, y] = at[n], long = text.length * LETTER;
    const isFree = (box) => box[0] >= 8 && box[2] <= wide - 8 && !taken.some((other) => other[0] < box[2] && box[0] < other[2] && other[1] < box[3] && box[1] < other[3]);
    const box = [x + r + 4, x - r - 4 - long].map((left) => [left, y - LINE / 2, left + long, y + LINE / 2]).find(isFree);
    if (shown.length >= LABELS || !box) return;
    taken.push(box);
    shown.push(svg("text", { class: "name", x: (box[0] > x ? box[0] : box[2]).toFixed(1), y: (y + 4).toFixed(1), "text-anchor": box[0] > x ? null : "end", "data-of": one.source }, text));
  });
  return shown;
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
