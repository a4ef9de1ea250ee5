// The host's models, what they do, and their coming and going.

import { $, askSure, el, say } from "./dom.js";
import { count, duration, milliseconds, parameters, rate, size } from "./format.js";
import { ask, askJson } from "./gateway.js";
import { valuesOf } from "./lines.js";
import { Meter } from "./tiles.js";

const LOADED = new Set(["ready", "draining", "restarting"]);
const BUSY = new Set(["loading", "waiting", "unloading"]);

export class Models {
  #cards = new Map();
  #none = el("li", { class: "none" }, "There is no model here yet.");

  constructor() {
    $("pull").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#pull($("pull-model").value.trim());
    });
  }

  // `caller` is who looks: not everybody may manage models.
  take(models, { manage }) {
    $("pull").hidden = !manage;
    $("may-not-manage").hidden = manage;
    const list = $("models");
    const names = new Set(models.map((model) => model.name));
    for (const [name, card] of this.#cards) {
      if (names.has(name)) continue;
      card.element.remove();
      this.#cards.delete(name);
    }
    models.forEach((model, place) => {
      let card = this.#cards.get(model.name);
      if (!card) this.#cards.set(model.name, (card = new Card(model.name)));
      // Moved only if it is elsewhere: that would take the focus from its buttons.
      if (list.children[place] !== card.element) list.insertBefore(card.element, list.children[place] ?? null);
      card.show(model, manage);
    });
    if (models.length) this.#none.remove();
    else if (!this.#none.isConnected) list.append(this.#none);
  }

  async #pull(model) {
    const work = new Work("mlxbridge/models/pull", { model }, `Downloading ${model}`);
    $("pull-work").replaceChildren(work.element);
    if (await work.done) {
      $("pull-model").value = "";
      $("pull-work").replaceChildren(el("p", { class: "fine", role: "status" }, `${model} is here.`));
    }
  }
}

class Card {
  #name;
  #badge = el("span", { class: "badge" });
  #what = el("p", { class: "what" });
  #meter = new Meter();
  #memory = el("span");
  #facts = el("dl", { class: "facts" });
  #error = el("p", { class: "error", hidden: true });
  #more = el("dl", { class: "more" });
  #work = el("div");
  #act;
  #remove;
  #model = null;
  #isWorking = false;

  constructor(name) {
    this.#name = name;
    this.#act = el("button", { type: "button", onclick: () => this.#toggle() });
    this.#remove = el("button", { type: "button", class: "quiet", onclick: () => this.#delete() }, "Delete files");
    this.element = el(
      "li",
      { class: "model" },
      el("div", { class: "head" }, el("h4", {}, name), this.#badge, this.#act),
      this.#what,
      el("p", { class: "memory" }, this.#meter.element, this.#memory),
      this.#facts,
      this.#error,
      this.#work,
      el("details", {}, el("summary", {}, "More"), this.#more, this.#remove),
    );
  }

  show(model, mayManage) {
    this.#model = model;
    const { state, details } = model;
    const isLoaded = LOADED.has(state);
    this.#badge.dataset.state = state;
    say(this.#badge, state);
    say(this.#act, isLoaded ? "Unload" : "Load");
    this.#act.setAttribute("aria-label", `${this.#act.textContent} ${this.#name}`);
    this.#act.hidden = !mayManage || (details.pinned && isLoaded);
    this.#remove.hidden = !mayManage || !details.deletable;
    this.#act.disabled = this.#isWorking || BUSY.has(state);
    say(this.#what, describe(model));

    this.#meter.element.parentElement.hidden = !isLoaded;
    this.#meter.show(details.used_bytes, details.used_bytes, details.reserved_bytes);
    say(this.#memory, `${size(details.used_bytes) || "Memory"} in use of ${size(details.reserved_bytes)} that it may take`);

    const waiting = (details.waiting ?? 0) + (details.queued ?? 0);
    tell(this.#facts, isLoaded ? {
      Running: count(details.running),
      Waiting: count(waiting),
      "Tokens/s": rate(details.tokens_per_s),
      "First token": milliseconds(details.recent?.ttft_ms) || "–",
      "Unloads in": details.pinned ? "never" : duration(details.expires_in_s) || "–",
    } : {});

    const error = details.error ?? (details.crash_loop ? details.last_crash : "");
    this.#error.hidden = !error;
    say(this.#error, error || "");
    tell(this.#more, {
      Source: model.source,
      "Also called": details.aliases?.join(", "),
      Adapters: details.adapters?.join(", "),
      Architecture: details.architecture,
      "At least": size(details.estimated_bytes),
      "Keeps loaded": details.keep_alive_s === null ? "for ever" : duration(details.keep_alive_s),
      "Most at once": count(details.max_batch),
      "Draft model": details.draft_model,
      "Prefix cache": size(details.prefix_cache_bytes),
      "Prefix hits": count(details.prefix_hits_total),
      "Tokens given": count(details.tokens_total),
      Restarts: count(details.restarts),
    });
  }

  async #toggle() {
    const isLoaded = LOADED.has(this.#model.state);
    this.#isWorking = this.#act.disabled = true;
    this.#work.replaceChildren();
    try {
      if (isLoaded) await this.#unload();
      else await this.#load();
    } catch (error) {
      this.#complain(error);
    } finally {
      this.#isWorking = this.#act.disabled = false;
    }
  }

  async #load() {
    const work = new Work("mlxbridge/models/load", { model: this.#name }, `Loading ${this.#name}`);
    this.#work.replaceChildren(work.element);
    if (await work.done) this.#work.replaceChildren();
  }

  async #unload() {
    const running = this.#model.details.running ?? 0;
    if (running && !(await askSure(`Unload ${this.#name}?`, `It is at work: ${running} running now would end with an error.`, "Unload"))) return;
    await askJson("mlxbridge/models/unload", { body: { model: this.#name } });
  }

  async #delete() {
    const isLoaded = LOADED.has(this.#model.state);
    const words = `Its files are taken off the host's disk.${isLoaded ? " It is loaded, and what runs would end with an error." : ""}`;
    if (!(await askSure(`Delete ${this.#name}?`, words, "Delete"))) return;
    try {
      const { freed_bytes } = await askJson("mlxbridge/models/delete", { body: { model: this.#name, force: isLoaded } });
      this.#work.replaceChildren(el("p", { class: "fine", role: "status" }, `${size(freed_bytes)} are free again.`));
    } catch (error) {
      this.#complain(error);
    }
  }

  #complain(error) {
    this.#work.replaceChildren(el("p", { class: "error", role: "alert" }, error.message));
  }
}

// A load or a download that is under way: a bar, words, and a button that ends it.
class Work {
  #bar = el("progress", { max: 1, "aria-label": "Progress" });
  #words = el("p", { role: "status" });
  #abort = new AbortController();
  #start = 0;
  #first = 0;

  constructor(path, body, label) {
    const cancel = el("button", { type: "button", class: "quiet", onclick: () => this.#abort.abort() }, "Cancel");
    this.element = el("div", { class: "work" }, this.#words, el("div", { class: "row" }, this.#bar, cancel));
    say(this.#words, `${label}…`);
    this.label = label;
    this.done = this.#run(path, body);
  }

  // Whether it came to its end; what went wrong takes the bar's place.
  async #run(path, body) {
    try {
      for await (const item of valuesOf(await ask(path, { body, signal: this.#abort.signal }))) {
        if (item.error) throw new Error(item.error.message);
        if (item.stage === "done") return true;
        this.#show(item);
      }
      throw new Error("The gateway has ended before it was done.");
    } catch (error) {
      if (error.name === "AbortError") this.element.replaceChildren(el("p", { class: "none" }, `${this.label}: cancelled.`));
      else this.element.replaceChildren(el("p", { class: "error", role: "alert" }, error.message));
      return false;
    }
  }

  #show({ stage, bytes_done: done, bytes_total: total }) {
    if (!total) {
      this.#bar.removeAttribute("value");
      const words = { waiting: "waiting for memory that other models have", loading: "reading its weights" };
      say(this.#words, `${this.label}: ${words[stage] ?? stage}…`);
      return;
    }
    this.#bar.value = done / total;
    if (!this.#start) [this.#start, this.#first] = [performance.now(), done];
    const seconds = (performance.now() - this.#start) / 1000;
    const speed = seconds > 1 && done > this.#first ? (done - this.#first) / seconds : 0;
    const left = speed ? `, ${size(speed)}/s, ${duration((total - done) / speed)} left` : "";
    say(this.#words, `${this.label}: ${size(done)} of ${size(total)}${left}`);
  }
}

function describe({ source, details }) {
  const { bits } = details.quantization ?? {};
  const told = [
    details.kind === "embed" ? "embeddings" : details.kind === "rerank" ? "reranking" : "",
    details.parameters && `${parameters(details.parameters)} parameters`,
    bits ? `${bits} bits` : details.dtype,
    details.context_length && `context ${count(details.context_length)}`,
  ].filter(Boolean);
  return told.join(" · ") || source;
}

// Names and values in a <dl>, without those that are not known.
function tell(list, facts) {
  const known = Object.entries(facts).filter(([, value]) => value);
  if (list.children.length !== known.length) list.replaceChildren(...known.map(() => el("div", {}, el("dt"), el("dd"))));
  known.forEach(([name, value], place) => {
    const [term, definition] = list.children[place].children;
    say(term, name);
    say(definition, value);
  });
}
