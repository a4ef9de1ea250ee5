// One answer in the playground: what the model thinks, what it says, and how fast it was.

import { el, say } from "./dom.js";
import { counted, milliseconds, rate } from "./format.js";
import { Prose } from "./prose.js";
import { Spoken } from "./spoken.js";

const ENDS = { length: "cut off: it may have no more tokens", stop: "", tool_calls: "" };

export class Answer {
  text = "";
  #isJson;
  #began = performance.now();
  #firstAt = null;
  #lastAt = null;
  #thoughtUntil = null;
  #thoughtNews = "";
  #textNews = "";
  #usage = null;
  #end = "";
  #spoken = new Spoken();
  #body = el("div", { class: "text" });
  #prose = new Prose(this.#body);
  #thoughtText = el("div", { class: "text" });
  #thoughtWords = el("summary", {}, "Thinking");
  #thoughts = el("details", { class: "thoughts", open: true, hidden: true }, this.#thoughtWords, this.#thoughtText);
  #facts = el("p", { class: "facts-line" }, "Waiting for the first token");
  #acts = el("p", { class: "acts" });

  constructor(model, { isJson }) {
    this.model = model;
    this.#isJson = isJson;
    this.element = el(
      "li",
      { class: "turn answered busy" },
      el("h3", {}, model || "Answer"),
      this.#thoughts,
      this.#body,
      el("div", { class: "foot" }, this.#facts, this.#acts),
    );
    if (isJson) this.#body.classList.add("code");
  }

  // Say what it waits for.
  wait(words) {
    if (this.#firstAt === null) say(this.#facts, words);
  }

  // A chunk of OpenAI's; what it says is seen with the next `show`.
  take(chunk) {
    if (chunk.error) throw new Error(chunk.error.message);
    if (chunk.usage) this.#usage = chunk.usage;
    const choice = chunk.choices?.[0];
    if (!choice) return;
    const thought = choice.delta?.reasoning_content ?? choice.delta?.reasoning ?? "";
    const text = choice.delta?.content ?? "";
    if (choice.finish_reason) this.#end = choice.finish_reason;
    if (!thought && !text) return;
    this.#lastAt = performance.now();
    this.#firstAt ??= this.#lastAt;
    this.#thoughtNews += thought;
    this.#textNews += text;
  }

  // Put what has come into the page.
  show() {
    if (this.#firstAt !== null) say(this.#facts, `First token after ${milliseconds(this.#firstAt - this.#began)}`);
    if (this.#thoughtNews) this.#think(this.#thoughtNews);
    if (this.#textNews) this.#write(this.#textNews);
    this.#thoughtNews = this.#textNews = "";
  }

  #think(thought) {
    if (this.#thoughts.hidden) this.#spoken.add("Thinking.\n");
    this.#thoughts.hidden = false;
    this.#thoughtText.append(thought);
  }

  #write(text) {
    if (!this.text) {
      text = text.trimStart(); // what stands behind the end of thinking
      this.#endThoughts();
    }
    if (!text) return;
    this.text += text;
    this.#spoken.add(text);
    if (this.#isJson) this.#body.append(text);
    else this.#prose.add(text);
  }

  #endThoughts() {
    if (this.#thoughts.hidden || this.#thoughtUntil !== null) return;
    this.#thoughtUntil = this.#lastAt;
    this.#thoughts.open = false;
    say(this.#thoughtWords, `Thought for ${milliseconds(this.#thoughtUntil - this.#firstAt)}`);
  }

  // It has come to its end.
  finish() {
    this.#close(ENDS[this.#end] ?? this.#end);
    if (!this.#isJson) return;
    try {
      say(this.#body, JSON.stringify(JSON.parse(this.text), null, 2));
    } catch {
      this.#facts.append(" · this is no whole JSON");
    }
  }

  // Somebody did not want more of it.
  stop() {
    this.#close("stopped");
  }

  // It ended with an error; `again` asks once more.
  fail(error, again) {
    this.#close("");
    this.#spoken.end(error.message);
    this.#body.after(el("p", { class: "error" }, error.message));
    this.#acts.prepend(el("button", { type: "button", class: "quiet", onclick: again }, "Try again"));
  }

  #close(words) {
    this.show();
    this.#prose.end();
    this.#endThoughts();
    this.element.classList.remove("busy");
    const told = this.#describe(words);
    say(this.#facts, told);
    this.#spoken.end(words || "The answer is whole.");
    if (this.text) {
      this.#acts.append(el("button", { type: "button", class: "quiet", onclick: (event) => this.#copy(event.target) }, "Copy"));
    }
  }

  #describe(words) {
    const tokens = this.#usage?.completion_tokens;
    const seconds = (this.#lastAt - this.#firstAt) / 1000;
    const cached = this.#usage?.prompt_tokens_details?.cached_tokens;
    return [
      tokens !== undefined && counted(tokens, "token"),
      this.#firstAt !== null && `first after ${milliseconds(this.#firstAt - this.#began)}`,
      tokens > 1 && seconds > 0 && `${rate((tokens - 1) / seconds)} tokens/s`,
      this.#usage && `prompt ${counted(this.#usage.prompt_tokens, "token")}${cached ? `, ${cached} cached` : ""}`,
      words,
    ].filter(Boolean).join(" · ");
  }

  async #copy(button) {
    try {
      await navigator.clipboard.writeText(this.text);
      say(button, "Copied");
    } catch {
      say(button, "The browser does not allow it");
    }
    setTimeout(() => say(button, "Copy"), 1500);
  }
}
