// Search as you type: hits with why they rank, filters, and the chosen hit among its neighbours.
import { ask, askOnce } from "./api.js";
import { badge, colours, documentPath, el, marked, number, outLink, plural, problem, safeUrl, say } from "./dom.js";

const PAUSE = 140; // ms without a key before a question is asked
const PAGE = 20;
const MODES = [["hybrid", "Both"], ["vector", "Meaning"], ["text", "Words"]];

let last = null; // what was shown last, for who comes back

export async function show(box, at, signal) {
  const view = new Search(box, signal);
  view.take(at.parameters);
  return { keydown: (event, typing) => view.keydown(event, typing), update: (now) => view.take(now.parameters) };
}

class Search {
  constructor(box, signal) {
    this.signal = signal;
    this.running = null;
    this.timer = 0;
    this.hits = [];
    this.chosen = -1;
    this.colour = new Map();
    this.build(box);
    this.learnSources();
    signal.addEventListener("abort", () => { clearTimeout(this.timer); this.running?.abort(); });
  }

  build(box) {
    this.question = el("input", { id: "question", type: "search", name: "q", autocomplete: "off", spellcheck: "false", maxlength: "4000", enterkeyhint: "search", placeholder: "Ask, or name what you look for", "aria-describedby": "count", oninput: () => this.soon() });
    this.modes = el("fieldset", { class: "modes" }, el("legend", { class: "unseen" }, "Search by"),
      MODES.map(([value, text]) => el("label", {}, el("input", { type: "radio", name: "mode", value, checked: value === "hybrid", onchange: () => this.now() }), el("span", {}, text))));
    this.sources = el("fieldset", { class: "sources", hidden: true }, el("legend", { class: "unseen" }, "Sources"));
    this.once = el("input", { type: "checkbox", onchange: () => this.now() });
    this.where = el("input", { id: "where", type: "text", autocomplete: "off", spellcheck: "false", maxlength: "4000", placeholder: "path ~ '**/*.md' and page = 1", "aria-describedby": "where-wrong where-names", oninput: () => this.soon(350) });
    this.whereWrong = el("p", { id: "where-wrong", class: "wrong", "aria-live": "polite" });
    this.whereNames = el("p", { id: "where-names", class: "faint" });
    this.more = el("details", { class: "filters" }, el("summary", {}, "Filter"),
      el("div", {}, el("label", { for: "where" }, "Where"), this.where, this.whereWrong, this.whereNames,
        el("label", { class: "check" }, this.once, " one passage of each document")));
    const form = el("form", { role: "search", onsubmit: (event) => { event.preventDefault(); this.now(); } },
      el("label", { class: "unseen", for: "question" }, "Search the documents"),
      el("div", { class: "ask" }, this.question),
      el("div", { class: "row" }, this.modes, this.sources), this.more);
    this.count = el("p", { id: "count", class: "count" });
    this.list = el("ol", { class: "hits", "aria-label": "Hits" });
    this.next = el("button", { type: "button", class: "more", hidden: true, onclick: () => this.ask(this.hits.length) }, "More hits");
    this.pane = el("section", { class: "pane", "aria-label": "The hit in its document", hidden: true });
    this.empty = el("div", { class: "welcome" });
    box.append(el("h1", { class: "unseen" }, "Search"), form,
      el("div", { class: "split" }, el("div", { class: "results" }, this.count, this.list, this.next, this.empty), this.pane));
    if (matchMedia("(pointer: fine)").matches) this.question.focus({ preventScroll: true });
  }

  async learnSources() {
    try {
      const { sources, columns } = await askOnce("/v1/sources");
      this.colour = colours(sources.map((one) => one.name));
      if (sources.length > 1) {
        this.sources.append(...sources.map(({ name, documents }) => el("label", { class: `chip c${this.colour.get(name)}` },
          el("input", { type: "checkbox", name: "source", value: name, checked: this.wanted?.includes(name), onchange: () => this.now() }),
          el("span", {}, name, " ", el("small", {}, number(documents))))));
        this.sources.hidden = false;
      }
      this.whereNames.textContent = `Names: source, path, title, url, type, page${columns.map((one) => `, ${one.name} (${one.type})`).join("")}, and any of the metadata.`;
      if (!this.question.value) this.welcome(sources);
      for (const item of this.list.children) this.recolour(item);
    } catch (error) {
      if (!this.question.value) this.empty.replaceChildren(problem(error));
    }
  }

  recolour(item) {
    const tag = item.querySelector(".badge");
    if (tag) tag.className = `badge c${this.colour.get(tag.textContent) ?? 0}`;
  }

  welcome(sources) {
    const documents = sources.reduce((sum, one) => sum + one.documents, 0);
    this.empty.replaceChildren(documents
      ? el("p", {}, `${plural(documents, "document")} in ${plural(sources.length, "source")} to ask. Begin to type: hits come as you do.`)
      : el("p", {}, "Nothing is stored yet. Run ", el("code", {}, "docweave ingest"), ", and load this page again."));
  }

  /** Be as the address says. */
  take(parameters) {
    const address = parameters.toString();
    if (address === this.address) return true;
    this.address = address;
    this.returning = true;
    this.question.value = parameters.get("q") ?? "";
    const mode = parameters.get("mode") ?? "hybrid";
    for (const one of this.modes.querySelectorAll("input")) one.checked = one.value === mode;
    this.wanted = parameters.getAll("source");
    for (const one of this.sources.querySelectorAll("input")) one.checked = this.wanted.includes(one.value);
    this.where.value = parameters.get("where") ?? "";
    this.once.checked = parameters.has("once");
    if (this.where.value || this.once.checked) this.more.open = true;
    this.ask(0);
    return true;
  }

  /** The address of what is asked for. */
  said() {
    const said = new URLSearchParams();
    if (this.question.value.trim()) said.set("q", this.question.value.trim());
    const mode = this.modes.querySelector("input:checked")?.value ?? "hybrid";
    if (mode !== "hybrid") said.set("mode", mode);
    const boxes = [...this.sources.querySelectorAll("input")];
    this.wanted = boxes.length ? boxes.filter((one) => one.checked).map((one) => one.value) : (this.wanted ?? []);
    for (const one of this.wanted) said.append("source", one);
    if (this.where.value.trim()) said.set("where", this.where.value.trim());
    if (this.once.checked) said.set("once", "");
    return said;
  }

  soon(pause = PAUSE) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.now(), pause);
  }

  now() {
    clearTimeout(this.timer);
    const address = this.said().toString();
    if (address === this.address) return;
    const hadNone = !new URLSearchParams(this.address).has("q");
    this.address = address;
    this.returning = false;
    // A new question is a new place to come back to; each letter of it is not.
    const url = `#/${address ? `?${address}` : ""}`;
    if (hadNone) history.pushState(null, "", url);
    else history.replaceState(null, "", url);
    this.ask(0);
  }

  async ask(offset) {
    this.running?.abort();
    const running = (this.running = new AbortController());
    const said = this.said(), question = said.get("q");
    this.whereWrong.textContent = "";
    this.where.removeAttribute("aria-invalid");
    if (!question) {
      this.clear("");
      askOnce("/v1/sources").then(({ sources }) => !this.question.value && this.welcome(sources), () => {});
      return;
    }
    document.title = `${question} – Docweave`;
    const body = {
      question, mode: said.get("mode") ?? "hybrid", sources: said.getAll("source"), where: said.get("where") ?? "",
      limit: PAGE, offset, highlights: true, around: "chunks", around_chunks: 2, ...(said.has("once") ? { per_document: 1 } : {}),
    };
    const asked = JSON.stringify(body);
    const slow = setTimeout(() => { this.count.textContent = "Searching …"; }, 300);
    running.signal.addEventListener("abort", () => clearTimeout(slow));
    try {
      this.list.setAttribute("aria-busy", "true");
      const began = performance.now();
      const answer = last?.asked === asked ? last.answer : await ask("/v1/search", { body, signal: running.signal });
      if (running.signal.aborted || this.signal.aborted) return;
      if (!offset && last?.asked !== asked) last = { asked, answer, at: -1 };
      this.tell(answer, body, performance.now() - began);
    } catch (error) {
      if (error.name === "AbortError" || this.signal.aborted) return;
      if (body.where && error.status === 400) {
        this.more.open = true;
        this.where.setAttribute("aria-invalid", "true");
        this.whereWrong.textContent = error.message;
        this.count.textContent = "The filter cannot be meant.";
      } else {
        this.clear("");
        this.empty.replaceChildren(problem(error));
      }
    } finally {
      clearTimeout(slow);
      if (this.running === running) this.list.removeAttribute("aria-busy");
    }
  }

  clear(text) {
    this.hits = [];
    this.list.replaceChildren();
    this.count.textContent = text;
    this.next.hidden = true;
    this.pane.hidden = true;
    this.empty.replaceChildren();
    document.title = "Docweave";
  }

  tell(answer, body, took) {
    this.empty.replaceChildren();
    if (!body.offset) {
      this.hits = [];
      this.list.replaceChildren();
      this.chosen = -1;
    }
    const first = this.hits.length;
    this.hits.push(...answer.hits);
    this.list.append(...answer.hits.map((hit, n) => this.item(hit, first + n, body.mode)));
    const n = this.hits.length;
    const words = n ? `${number(n)}${answer.more ? " best" : ""} ${n === 1 ? "hit" : "hits"}` : "No hits";
    this.count.textContent = `${words}${took > 1 ? ` in ${Math.round(took)} ms` : ""}${answer.reranked ? ", reranked" : ""}`;
    say(n ? `${words} for ${body.question}` : `No hits for ${body.question}`);
    this.next.hidden = !answer.more || n >= 900;
    if (!n) {
      this.pane.hidden = true;
      this.empty.replaceChildren(el("p", {}, body.where || body.sources.length ? "Nothing that the filters let through answers this." : "Nothing answers this. Other words, or a search by meaning, may find it."));
    } else if (first) {
      this.focus(first);
    } else if (this.returning && last.at >= 0 && last.at < n) {
      this.focus(last.at); // where somebody left to read a document
    } else {
      this.choose(0);
    }
  }

  item(hit, place, mode) {
    const path = hit.heading_path.filter((step) => step !== hit.title);
    const link = el("a", { class: "title", href: documentPath(hit.source, hit.key, hit.ordinal), onfocus: () => this.reach(place) }, hit.title || hit.key);
    return el("li", { class: "hit", onclick: (event) => this.clicked(event, place), "data-place": String(place) },
      el("div", { class: "head" }, el("h2", {}, link), badge(hit.source, this.colour.get(hit.source))),
      el("p", { class: "path" }, [path.join(" › "), hit.page ? `page ${hit.page}` : "", hit.key].filter(Boolean).join(" · ")),
      el("p", { class: "text" }, snippet(hit)),
      why(hit, mode));
  }

  clicked(event, place) {
    if (event.target.closest("a, summary, details") || String(getSelection())) return;
    this.focus(place);
  }

  focus(place) {
    const link = this.list.children[place]?.querySelector(".title");
    link?.focus({ preventScroll: true });
    link?.closest("li").scrollIntoView({ block: "nearest" });
  }

  reach(place) {
    if (last) last.at = place;
    this.choose(place);
  }

  choose(place) {
    if (place === this.chosen || !this.hits[place]) return;
    this.list.children[this.chosen]?.classList.remove("chosen");
    this.chosen = place;
    this.list.children[place].classList.add("chosen");
    this.pane.replaceChildren(...inDocument(this.hits[place]));
    this.pane.hidden = false;
    this.pane.scrollTop = 0;
    const here = this.pane.querySelector(".here");
    if (here) this.pane.scrollTop = Math.max(0, here.offsetTop - this.pane.clientHeight / 3);
  }

  keydown(event, typing) {
    const inList = this.list.contains(document.activeElement);
    const down = event.key === "ArrowDown" || (event.key === "j" && !typing);
    const up = event.key === "ArrowUp" || (event.key === "k" && !typing);
    if (typing && event.target !== this.question) return;
    if ((event.target.type === "radio" || event.target.closest?.("summary")) && event.key.startsWith("Arrow")) return;
    if (down && this.hits.length) {
      event.preventDefault();
      this.focus(inList ? Math.min(this.chosen + 1, this.hits.length - 1) : typing ? 0 : Math.max(0, this.chosen));
    } else if (up && inList) {
      event.preventDefault();
      if (this.chosen > 0) this.focus(this.chosen - 1);
      else this.question.focus();
    } else if (event.key === "Enter" && typing && this.hits.length && this.said().toString() === this.address) {
      event.preventDefault();
      this.focus(Math.max(0, this.chosen));
    } else if (event.key === "Escape" && (inList || !typing)) {
      event.preventDefault();
      this.question.focus();
      window.scrollTo(0, 0);
    }
  }
}

const SHOWN = 360; // characters of a hit in the list

/** The part of a hit's text where most words of the question stand. */
function snippet(hit) {
  const signs = Array.from(hit.text), ranges = hit.highlights ?? [];
  if (signs.length <= SHOWN) return marked(hit.text, ranges);
  let from = 0, most = -1;
  for (const [start] of ranges) {
    const begin = Math.max(0, Math.min(start - 60, signs.length - SHOWN));
    const within = ranges.filter(([a, b]) => a >= begin && b <= begin + SHOWN).length;
    if (within > most) [from, most] = [begin, within];
  }
  const gap = from ? signs.slice(from, from + 30).findIndex((sign) => /\s/.test(sign)) : -1;
  if (gap >= 0 && ranges.every(([a]) => a < from || a > from + gap)) from += gap + 1; // at a word's beginning
  let to = Math.min(signs.length, from + SHOWN);
  while (to < signs.length && to > from + SHOWN - 30 && !/\s/.test(signs[to])) to--;
  const inside = ranges.filter(([a, b]) => a >= from && b <= to).map(([a, b]) => [a - from, b - from]);
  return [from ? "… " : "", ...marked(signs.slice(from, to).join(""), inside), to < signs.length ? " …" : ""];
}

/** Why it stands where it stands. */
function why(hit, mode) {
  const facts = [];
  if (hit.vector_rank) facts.push(["by meaning", `no. ${hit.vector_rank}`]);
  if (hit.text_rank) facts.push(["by words", `no. ${hit.text_rank}`]);
  if (hit.similarity !== null) facts.push(["similarity", hit.similarity.toFixed(3)]);
  if (hit.rerank_score !== null) facts.push(["reranker", hit.rerank_score.toFixed(3)]);
  facts.push([mode === "text" ? "BM25" : mode === "vector" ? "score" : "fused", hit.score.toFixed(4)]);
  const sums = [];
  if (mode === "hybrid") {
    const places = [hit.vector_rank && `no. ${hit.vector_rank} by meaning`, hit.text_rank && `no. ${hit.text_rank} by words`].filter(Boolean);
    sums.push(`Both searches are fused: each gives a hit the more, the better it stands among what that search finds. This one is ${places.join(" and ")}${places.length > 1 ? "" : " alone"}, which makes ${hit.score.toFixed(4)}. `);
  } else if (mode === "vector") sums.push("Ranked by the cosine of its vector and the question's", Math.abs(hit.score - hit.similarity) < 0.01 ? ". " : ", among the hits of the same model; those of several take turns. ");
  else sums.push("Ranked by BM25: how rare the question's words are, and how often they stand here. ");
  if (hit.rerank_score !== null) sums.push("A reranker has then read question and passage together, and its score decides. ");
  const bar = hit.similarity === null ? null : el("meter", { min: "0", max: "1", value: String(Math.max(0, hit.similarity)), "aria-label": "similarity" });
  return el("details", { class: "why" },
    el("summary", {}, el("span", { class: "unseen" }, "Why it ranks here: "), facts.map(([name, value]) => el("span", { class: "fact" }, `${name} `, el("b", {}, value)))),
    el("p", {}, bar, " ", sums.join(""), `${plural(hit.tokens, "token")}, passage ${hit.ordinal + 1} of its document.`));
}

/** The hit among its neighbours. */
function inDocument(hit) {
  const around = hit.around?.text ?? hit.text;
  const at = Math.max(0, around.indexOf(hit.text));
  const safe = safeUrl(hit.url);
  return [
    el("h2", {}, hit.title || hit.key),
    el("p", { class: "path" }, hit.heading_path.filter((step) => step !== hit.title).join(" › ")),
    el("div", { class: "passage", tabindex: "0", role: "group", "aria-label": "Text around the hit" },
      el("span", { class: "beside" }, around.slice(0, at).trimEnd()),
      el("span", { class: "here" }, marked(hit.text, hit.highlights)),
      el("span", { class: "beside" }, around.slice(at + hit.text.length).trimStart())),
    el("p", { class: "links" }, el("a", { href: documentPath(hit.source, hit.key, hit.ordinal) }, "Whole document"), safe && [" ", outLink(safe, "Original ↗")]),
  ];
}
