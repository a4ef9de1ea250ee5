// The playground: a chat with one of the models, answered as it comes.

import { Answer } from "./answer.js";
import { $, el, say } from "./dom.js";
import { ask } from "./gateway.js";
import { eventsOf } from "./lines.js";
import { Settings } from "./settings.js";

const WAITING = {
  unloaded: "The model is being loaded",
  loading: "The model is being loaded",
  waiting: "The model waits for memory that others have",
  draining: "The model makes room for others, and is loaded again then",
  restarting: "The model starts again",
};

export class Chat {
  #settings = new Settings();
  #messages = []; // that the model is told again, without the system prompt
  #models = new Map();
  #abort = null; // of the answer that is under way
  #answer = null; // which that is

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
    $("settings").addEventListener("input", () => {
      $("composer-error").hidden = true;
    });
    $("chat").addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#abort?.abort();
    });
    $("new-chat").addEventListener("click", () => this.#begin());
    $("model").addEventListener("change", () => this.#chooseModel());
  }

  // Those that can be chatted with; the kind of one whose files are not on the host yet is not known.
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
    this.#answer?.wait(WAITING[this.#models.get(this.#answer.model)?.state] ?? "Waiting for the first token");
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
    } catch (error) {
      say($("composer-error"), error.message);
      $("composer-error").hidden = false;
      return; // the settings show where it is
    }
    $("composer-error").hidden = true;
    $("prompt").value = "";
    fit();
    $("chat-none").hidden = true;
    $("turns").append(el("li", { class: "turn asked" }, el("h3", { class: "sight-free" }, "You"), el("div", { class: "text" }, text)));
    // What was not answered is not told again: templates want turns that alternate.
    if (this.#messages.at(-1)?.role === "user") this.#messages.pop();
    this.#messages.push({ role: "user", content: text });
    this.#ask(settings);
  }

  async #ask({ system, fields }) {
    const messages = this.#messages;
    const model = $("model").value;
    const answer = (this.#answer = new Answer(model, { isJson: fields.response_format !== undefined }));
    $("turns").append(answer.element);
    $("turns").scrollTop = $("turns").scrollHeight;
    let frame = 0; // chunks come faster than a screen can show them
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
        answer.take(JSON.parse(data));
        frame ||= requestAnimationFrame(() => {
          frame = 0;
          following(() => answer.show());
        });
      }
      following(() => answer.finish());
    } catch (error) {
      if (error.name === "AbortError") following(() => answer.stop());
      else following(() => answer.fail(error, () => this.#again(answer, { system, fields }, messages)));
    } finally {
      cancelAnimationFrame(frame);
      if (this.#abort === abort) {
        this.#abort = this.#answer = null;
        say($("send"), "Send");
      }
      if (answer.text) messages.push({ role: "assistant", content: answer.text });
    }
  }

  #again(answer, settings, messages) {
    if (this.#abort || messages !== this.#messages) return;
    if (messages.at(-1)?.role === "assistant") messages.pop();
    answer.element.remove();
    $("prompt").focus();
    this.#ask(settings);
  }
}

// Add to the chat, and go along with its end; whoever has gone up to read is left there.
function following(add) {
  const turns = $("turns");
  const isAtEnd = turns.scrollHeight - turns.scrollTop - turns.clientHeight < 48;
  add();
  if (isAtEnd) turns.scrollTop = turns.scrollHeight;
}

// The message's field is as high as what is written in it.
function fit() {
  const prompt = $("prompt");
  prompt.style.height = "auto";
  prompt.style.height = `${prompt.scrollHeight + 2}px`;
}
