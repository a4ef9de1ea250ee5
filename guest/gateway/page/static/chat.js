// The playground: a chat with one of the models, answered as it comes.

import { Answer } from "./answer.js";
import { $, el, say } from "./dom.js";
import { ask } from "./gateway.js";
import { eventsOf } from "./lines.js";
import { Settings } from "./settings.js";

export class Chat {
  #settings = new Settings();
  #messages = []; // that the model is told again, without the system prompt
  #models = new Map();
  #abort = null; // of the answer that is under way

  constructor() {
    $("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#abort) this.#abort.abort();
      else this.#send();
    });
    $("prompt").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      if (!this.#abort) this.#send();
    });
    $("prompt").addEventListener("input", fit);
    $("chat").addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#abort?.abort();
    });
    $("new-chat").addEventListener("click", () => this.#begin());
    $("model").addEventListener("change", () => this.#chooseModel());
  }

  // Those that can be chatted with; of one that is not loaded its kind is not known.
  takeModels(models) {
    const usable = models.filter((model) => (model.details.kind ?? "generate") === "generate");
    this.#models = new Map(usable.map((model) => [model.name, model]));
    for (const model of usable) {
      for (const adapter of model.details.adapters ?? []) this.#models.set(`${model.name}+${adapter}`, model);
    }
    const select = $("model");
    const names = [...this.#models.keys()];
    if (names.join("\n") !== [...select.options].map((option) => option.value).join("\n")) {
      const chosen = select.value;
      select.replaceChildren(...(names.length ? names : [""]).map((name) => el("option", { value: name }, name || "No model to chat with")));
      const ready = usable.find((model) => model.state === "ready")?.name;
      select.value = names.includes(chosen) ? chosen : (ready ?? names[0] ?? "");
    }
    this.#chooseModel();
  }

  #chooseModel() {
    const model = this.#models.get($("model").value);
    this.#settings.takeModel(model?.details);
  }

  #begin() {
    this.#abort?.abort();
    this.#messages = [];
    $("turns").replaceChildren();
    $("chat-none").hidden = false;
    $("prompt").focus();
  }

  #send() {
    const text = $("prompt").value;
    if (!text.trim()) return;
    let settings;
    try {
      settings = this.#settings.read();
    } catch {
      return; // the settings say what is wrong
    }
    $("prompt").value = "";
    fit();
    $("chat-none").hidden = true;
    $("turns").append(el("li", { class: "turn asked" }, el("h3", { class: "sight-free" }, "You"), el("div", { class: "text" }, text)));
    this.#messages.push({ role: "user", content: text });
    this.#answer(settings);
  }

  async #answer({ system, fields }) {
    const messages = this.#messages;
    const model = $("model").value;
    const answer = new Answer(model, { isJson: fields.response_format !== undefined });
    $("turns").append(answer.element);
    follow(true);
    const abort = (this.#abort = new AbortController());
    say($("send"), "Stop");
    try {
      const body = {
        ...(model && { model }),
        messages: system ? [{ role: "system", content: system }, ...messages] : messages,
        stream: true,
        stream_options: { include_usage: true },
        ...fields,
      };
      const response = await ask("v1/chat/completions", { body, signal: abort.signal });
      for await (const { data } of eventsOf(response)) {
        if (data === "[DONE]") break;
        const isAtEnd = atEnd();
        answer.take(JSON.parse(data));
        follow(isAtEnd);
      }
      answer.finish();
    } catch (error) {
      if (error.name === "AbortError") answer.stop();
      else answer.fail(error, () => this.#again(answer, { system, fields }, messages));
    } finally {
      if (this.#abort === abort) {
        this.#abort = null;
        say($("send"), "Send");
      }
      if (answer.text) messages.push({ role: "assistant", content: answer.text });
      follow(atEnd());
    }
  }

  #again(answer, settings, messages) {
    if (this.#abort || messages !== this.#messages) return;
    if (messages.at(-1)?.role === "assistant") messages.pop();
    answer.element.remove();
    $("prompt").focus();
    this.#answer(settings);
  }
}

// Whether the end of the chat is seen; whoever has gone up to read is left there.
function atEnd() {
  const turns = $("turns");
  return turns.scrollHeight - turns.scrollTop - turns.clientHeight < 48;
}

function follow(isWanted) {
  if (isWanted) $("turns").scrollTop = $("turns").scrollHeight;
}

// The message's field is as high as what is written in it.
function fit() {
  const prompt = $("prompt");
  prompt.style.height = "auto";
  prompt.style.height = `${prompt.scrollHeight + 2}px`;
}
