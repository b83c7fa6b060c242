// What was paid for vectors, day by day, as a plot and as a table.
import { ask } from "./api.js";
import { badge, colours, el, number, plural, svg, when } from "./dom.js";

const WIDE = 960, HIGH = 260, LEFT = 64, LOW = 28, TOP = 10;
const MOST_BARS = 90;
const MEASURES = {
  cost_usd: { name: "US dollars", text: (n) => n >= 1 || n === 0 ? `$${n.toFixed(2)}` : `$${n.toPrecision(2)}` },
  tokens: { name: "Tokens", text: (n) => n >= 1e6 ? `${(n / 1e6).toPrecision(3)} M` : n >= 1e4 ? `${Math.round(n / 1e3)} k` : number(Math.round(n)) },
};

export async function show(box, at, signal) {
  document.title = "Spending – Docweave";
  box.append(el("h1", {}, "Spending"));
  const loading = el("p", { class: "faint loading" }, "Reading what was paid …");
  box.append(loading);
  let said;
  try {
    said = await ask("/v1/spending", { signal });
  } catch (error) {
    if (error.status !== 403) throw error;
    loading.replaceWith(el("p", {}, "This key sees only some of the documents. What was spent is shown to a key that sees everything."));
    return {};
  }
  if (signal.aborted) return {};
  loading.remove();
  if (!said.days.length) {
    box.append(el("p", {}, "Nothing was paid yet. What the embedded default computes costs nothing, and is not noted."));
    return {};
  }
  const names = [...new Set(said.days.map((one) => one.source))].sort();
  const colour = colours(names);
  const bins = binned(said.days);
  const paid = said.days.reduce((sum, one) => sum + one.cost_usd, 0), tokens = said.days.reduce((sum, one) => sum + one.tokens, 0);
  const plotted = el("div", { class: "plot", tabindex: "0", role: "region", "aria-label": "Spending, plotted" });
  const draw = (measure) => plotted.replaceChildren(plot(bins, names, colour, measure));
  const choice = (value) => el("label", {}, el("input", { type: "radio", name: "measure", checked: value === (paid ? "cost_usd" : "tokens"), onchange: () => draw(value) }), el("span", {}, MEASURES[value].name));
  box.append(
    el("dl", { class: "figures" }, figure("Paid in all", MEASURES.cost_usd.text(paid)), figure("Tokens", number(tokens)), figure("Runs that paid", number(said.days.reduce((sum, one) => sum + one.runs, 0)))),
    el("div", { class: "row" }, el("fieldset", { class: "modes" }, el("legend", { class: "unseen" }, "Plot"), choice("cost_usd"), choice("tokens")),
      el("p", { class: "legend" }, names.map((name) => badge(name, colour.get(name))))),
    plotted,
    el("details", {}, el("summary", {}, "The same as a table"), table(
      ["Day", "Source", "Model", "Runs", "Requests", "Tokens", "Paid"],
      said.days.toReversed().map((one) => [one.day, one.source, one.model, one.runs, one.requests, one.tokens, MEASURES.cost_usd.text(one.cost_usd)]), "Spending by day")),
    el("h2", {}, `The last ${plural(said.runs.length, "run")} that paid`),
    table(["When", "Source", "Model", "Requests", "Tokens", "Paid"],
      said.runs.map((one) => [when(one.at), badge(one.source, colour.get(one.source)), one.model, one.requests, one.tokens, MEASURES.cost_usd.text(one.cost_usd)]), "Runs"));
  draw(paid ? "cost_usd" : "tokens");
  return {};
}

const figure = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));

function table(heads, rows, label) {
  const isNumber = (value) => typeof value === "number" || /^\$/.test(value);
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, el("table", { class: "cards" },
    el("thead", {}, el("tr", {}, heads.map((text, n) => el("th", { scope: "col", class: rows.length && isNumber(rows[0][n]) ? "n" : null }, text)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((value, n) => el("td", { "data-name": heads[n], class: isNumber(value) ? "n" : null }, typeof value === "number" ? number(value) : value)))))));
}

/** Days, or as many days together as leave no more bars than can be told apart. Days without a run are there. */
function binned(days) {
  const DAY = 86_400_000, first = Date.parse(days[0].day), last = Math.max(...days.map((one) => Date.parse(one.day)));
  const count = Math.round((last - first) / DAY) + 1;
  const size = [1, 7, 30, 91, 365].find((n) => count / n <= MOST_BARS) ?? 365;
  const bins = Array.from({ length: Math.max(Math.ceil(count / size), 1) }, (_, n) => ({ from: new Date(first + n * size * DAY), size, of: new Map() }));
  for (const one of days) {
    const bin = bins[Math.floor((Date.parse(one.day) - first) / DAY / size)];
    const sum = bin.of.get(one.source) ?? { cost_usd: 0, tokens: 0 };
    bin.of.set(one.source, { cost_usd: sum.cost_usd + one.cost_usd, tokens: sum.tokens + one.tokens });
  }
  return bins;
}

/** Round numbers from zero to what is not less than the most: steps of 1, 2 or 5 of a power of ten. */
function ticks(most) {
  const rough = (most || 1) / 4, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough * 0.999);
  return Array.from({ length: Math.ceil((most || 1) / step - 0.001) + 1 }, (_, n) => n * step);
}

function plot(bins, names, colour, measure) {
  const { name, text } = MEASURES[measure];
  const sums = bins.map((bin) => [...bin.of.values()].reduce((sum, one) => sum + one[measure], 0));
  const lines = ticks(Math.max(...sums)), top = lines.at(-1), y = (value) => TOP + (HIGH - TOP - LOW) * (1 - value / top);
  const step = (WIDE - LEFT) / Math.max(bins.length, 7), width = Math.max(2, Math.min(step * 0.72, 56));
  const day = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", timeZone: "UTC" });
  const every = Math.ceil(bins.length / 8), size = bins[0].size;
  const drawn = svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": `${name} by ${size === 1 ? "day" : `${size} days`}, ${day.format(bins[0].from)} to ${day.format(bins.at(-1).from)}: at most ${text(Math.max(...sums))}. The table below has every figure.` });
  for (const line of lines) {
    drawn.append(svg("line", { class: "grid", x1: LEFT, x2: WIDE, y1: y(line), y2: y(line) }),
      svg("text", { class: "tick", x: LEFT - 8, y: y(line) + 4, "text-anchor": "end" }, text(line)));
  }
  bins.forEach((bin, n) => {
    const x = LEFT + step * n + (step - width) / 2;
    let below = 0;
    for (const source of names) {
      const value = bin.of.get(source)?.[measure] ?? 0;
      if (!value) continue;
      drawn.append(svg("rect", { class: `fill c${colour.get(source)}`, x, width, y: y(below + value), height: Math.max(0.5, y(below) - y(below + value)) },
        svg("title", {}, `${day.format(bin.from)}, ${source}: ${text(value)}`)));
      below += value;
    }
    if (n % every === 0) drawn.append(svg("text", { class: "tick", x: x + width / 2, y: HIGH - 8, "text-anchor": "middle" }, day.format(bin.from)));
  });
  return drawn;
}
