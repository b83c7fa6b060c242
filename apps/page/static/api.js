// Questions to the server this page came from. Where it wants a key, somebody is asked for it, once.

const KEPT = "docweave-key";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const memory = new Map();
const store = {
  get: () => { try { return sessionStorage.getItem(KEPT); } catch { return memory.get(KEPT) ?? null; } },
  set: (key) => { try { sessionStorage.setItem(KEPT, key); } catch { memory.set(KEPT, key); } },
  drop: () => { memory.delete(KEPT); try { sessionStorage.removeItem(KEPT); } catch { /* storage is off */ } },
};

export const hasKey = () => Boolean(store.get());
export const forgetKey = () => store.drop();

let asking = null;

/** Ask for a key. Everybody who waits for one waits for the same. */
function askForKey(why) {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("ask-key"), box = document.getElementById("key");
    const wrong = document.getElementById("ask-key-wrong");
    wrong.hidden = !why;
    wrong.textContent = why;
    box.value = "";
    dialog.oncancel = (event) => event.preventDefault();
    dialog.addEventListener("close", () => {
      asking = null;
      store.set(box.value.trim());
      box.value = "";
      document.dispatchEvent(new Event("key"));
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

/** What the server answers. Raises Refused, or AbortError where it was called off. */
export async function ask(path, { body, signal } = {}) {
  for (;;) {
    const key = store.get();
    const headers = { Accept: "application/json" };
    if (key) headers.Authorization = `Bearer ${key.replace(/[^\x21-\x7e]/g, "")}`;
    if (body) headers["Content-Type"] = "application/json";
    let answer;
    try {
      answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal, credentials: "omit", cache: "no-store" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refused(0, "The server does not answer. Is it still running?");
    }
    if (answer.status === 401) {
      if (store.get() === key) store.drop();
      await askForKey(key ? "This key opens nothing here." : "");
      signal?.throwIfAborted();
      continue;
    }
    const said = await answer.json().catch(() => ({}));
    if (answer.ok) return said;
    throw new Refused(answer.status, said.error?.message ?? `The server answers ${answer.status}.`);
  }
}

const kept = new Map();

/** As `ask`, but what was asked within the last minute is not asked again. */
export function askOnce(path) {
  const there = kept.get(path);
  if (there && Date.now() - there.at < 60_000) return there.answer;
  const answer = ask(path);
  kept.set(path, { at: Date.now(), answer });
  answer.catch(() => kept.delete(path));
  return answer;
}

document.addEventListener("key", () => kept.clear());
