// Elements made of values. Text is always text: nothing here, or anywhere in the page, reads HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.setAttribute("class", value);
    else if (name in element && typeof value !== "string" && !(element instanceof SVGElement)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false));
  return element;
}

/** An HTML element: el("a", {href, class}, "text", child …). */
export const el = (tag, properties, ...children) => fill(document.createElement(tag), properties, children);

/** An SVG element, as `el`. */
export const svg = (tag, properties, ...children) => fill(document.createElementNS(SVG, tag), properties, children);

/** The address, if a link may lead there; otherwise null. */
export function safeUrl(url) {
  if (!url) return null;
  try {
    return ["http:", "https:"].includes(new URL(url).protocol) ? url : null;
  } catch {
    return null;
  }
}

/** A link out of the page, or its text where it leads nowhere that is safe. */
export function outLink(url, text) {
  const safe = safeUrl(url);
  return safe ? el("a", { href: safe, rel: "noopener noreferrer nofollow", target: "_blank" }, text, el("span", { class: "unseen" }, " (opens in a new tab)")) : null;
}

/** Text with some of it marked. The ranges count code points, as Python does. */
export function marked(text, ranges) {
  if (!ranges?.length) return [text];
  const signs = Array.from(text), parts = [];
  let at = 0;
  for (const [from, to] of ranges) {
    parts.push(signs.slice(at, from).join(""), el("mark", {}, signs.slice(from, to).join("")));
    at = to;
  }
  return [...parts, signs.slice(at).join("")];
}

const WHOLE = new Intl.NumberFormat("en");
export const number = (n) => WHOLE.format(n);
export const plural = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`;

const UNITS = [["year", 31_557_600], ["month", 2_629_800], ["week", 604_800], ["day", 86_400], ["hour", 3_600], ["minute", 60]];
const AGO = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

/** When it was: how long ago, with the moment itself for who asks. */
export function when(iso) {
  if (!iso) return el("span", { class: "faint" }, "–");
  const at = new Date(iso), seconds = (at - Date.now()) / 1000;
  const [unit, length] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? ["second", 1];
  const text = unit === "second" ? "just now" : AGO.format(Math.trunc(seconds / length), unit);
  return el("time", { datetime: iso, title: at.toLocaleString() }, text);
}

/** Which of the eight colours a source has: always the same within one page. */
export const colours = (names) => new Map([...names].sort().map((name, n) => [name, n % 8]));

/** A source's name with its colour. */
export const badge = (name, colour) => el("span", { class: `badge c${colour ?? 0}` }, name);

/** Where this page shows a document, or one of its passages. */
export function documentPath(source, key, chunk) {
  const path = [source, ...key.split("/")].map(encodeURIComponent).join("/");
  return `#/document/${path}${chunk === undefined ? "" : `?chunk=${chunk}`}`;
}

/** Where the API has a document. */
export const apiPath = (source, key) => `/v1/documents/${[source, ...key.split("/")].map(encodeURIComponent).join("/")}`;

/** Have a screen reader say it, once nothing more urgent is said. */
export function say(text) {
  document.getElementById("live").textContent = text;
}

/** Why there is nothing to see. */
export function problem(error) {
  return el("div", { class: "problem", role: "alert" }, el("strong", {}, "That did not work. "), error.message);
}
