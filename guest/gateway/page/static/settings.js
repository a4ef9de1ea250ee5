// How the playground's answers are made: a form whose empty fields leave it to the host.

import { $, el } from "./dom.js";

const PLACE = "mlxbridge.settings";
const SCHEMA = `{
  "type": "object",
  "properties": {
    "answer": { "type": "string" },
    "sure": { "type": "boolean" }
  },
  "required": ["answer", "sure"],
  "additionalProperties": false
}`;

// Name in the request, label, attributes of the input.
const NUMBERS = [
  ["temperature", "Temperature", { min: 0, max: 2, step: 0.05, placeholder: "0" }],
  ["top_p", "Top p", { min: 0.01, max: 1, step: 0.01, placeholder: "1" }],
  ["top_k", "Top k", { min: 0, step: 1, placeholder: "off" }],
  ["min_p", "Min p", { min: 0, max: 1, step: 0.01, placeholder: "off" }],
  ["max_tokens", "Most tokens", { min: 1, step: 1, placeholder: "what fits" }],
  ["seed", "Seed", { min: 0, step: 1, placeholder: "random" }],
  ["repetition_penalty", "Repetition penalty", { min: 0.01, max: 100, step: 0.01, placeholder: "1" }],
  ["presence_penalty", "Presence penalty", { min: -2, max: 2, step: 0.1, placeholder: "0" }],
  ["frequency_penalty", "Frequency penalty", { min: -2, max: 2, step: 0.1, placeholder: "0" }],
];

export class Settings {
  #form = $("settings");

  constructor() {
    this.#form.append(
      wide("system", "System prompt", el("textarea", { rows: 2 })),
      ...NUMBERS.map(([name, label, attributes]) =>
        field(name, label, el("input", { type: "number", inputmode: "decimal", ...attributes })),
      ),
      field("reasoning", "Thinking", choice({ "": "as usual", on: "on", off: "off" })),
      field("stop", "Stop at", el("input", { type: "text", placeholder: "no text" })),
      field("format", "Answer", choice({ "": "text", json_object: "JSON", json_schema: "JSON schema" })),
      wide("schema", "JSON schema", el("textarea", { rows: 8, spellcheck: "false", class: "code" })),
      el("button", { type: "button", class: "quiet", onclick: () => this.#clear() }, "Back to what the host has"),
    );
    this.#input("schema").value = SCHEMA;
    this.#recall();
    this.#form.addEventListener("input", () => this.#keep());
    this.#form.addEventListener("submit", (event) => event.preventDefault());
    $("settings-button").addEventListener("click", () => this.#show(this.#form.hidden));
    this.#keep();
  }

  get isJson() {
    return this.#input("format").value !== "";
  }

  // The fields of a request that are set, with the system prompt apart.
  //
  // Throws Error, whose message says what is wrong, and shows the field.
  read() {
    const wrong = [...this.#form.elements].find((input) => !input.checkValidity());
    if (wrong) this.#complain(wrong, `${wrong.labels[0].textContent}: ${wrong.validationMessage}`);
    const fields = {};
    for (const [name] of NUMBERS) {
      const value = this.#input(name).value;
      if (value !== "") fields[name] = Number(value);
    }
    if (this.#input("stop").value) fields.stop = this.#input("stop").value;
    const thinking = this.#input("reasoning");
    if (thinking.value && !thinking.disabled) fields.reasoning = thinking.value === "on";
    const format = this.#input("format").value;
    if (format === "json_object") fields.response_format = { type: format };
    if (format === "json_schema") {
      fields.response_format = { type: format, json_schema: { name: "answer", strict: true, schema: this.#readSchema() } };
    }
    return { system: this.#input("system").value.trim(), fields };
  }

  // What the model can be asked of its thinking, as far as that is known: once it is loaded.
  takeModel(details) {
    const choices = details?.reasoning_choices;
    const input = this.#input("reasoning");
    input.disabled = choices?.length === 0;
    for (const option of input.options) {
      option.disabled = option.value !== "" && choices !== undefined && !choices.includes(option.value === "on");
    }
  }

  #readSchema() {
    const input = this.#input("schema");
    let schema;
    try {
      schema = JSON.parse(input.value);
    } catch (error) {
      this.#complain(input, `The schema is no JSON: ${error.message}`);
    }
    if (typeof schema !== "object" || schema === null || Array.isArray(schema)) this.#complain(input, "The schema must be a JSON object.");
    return schema;
  }

  #complain(input, words) {
    this.#show(true);
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-errormessage", "composer-error");
    input.focus();
    input.closest(".field").scrollIntoView({ block: "nearest" });
    throw new Error(words);
  }

  #input(name) {
    return $(`set-${name}`);
  }

  #show(isShown) {
    this.#form.hidden = !isShown;
    $("settings-button").setAttribute("aria-expanded", isShown);
  }

  #clear() {
    const schema = this.#input("schema").value;
    this.#form.reset();
    this.#input("schema").value = schema;
    this.#keep();
  }

  #recall() {
    let kept = {};
    try {
      kept = JSON.parse(localStorage.getItem(PLACE) ?? "{}");
    } catch {
      // Somebody else's.
    }
    for (const [id, value] of Object.entries(kept)) {
      const input = $(id);
      if (input?.form === this.#form) input.value = value;
    }
  }

  #keep() {
    const inputs = [...this.#form.elements].filter((input) => input.id && input.value !== "");
    localStorage.setItem(PLACE, JSON.stringify(Object.fromEntries(inputs.map((input) => [input.id, input.value]))));
    for (const input of this.#form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
    this.#input("schema").closest(".field").hidden = this.#input("format").value !== "json_schema";
    const number = inputs.filter((input) => input.id !== "set-schema").length;
    $("settings-count").hidden = !number;
    $("settings-count").textContent = number;
    $("settings-count").setAttribute("aria-label", `${number} set`);
  }
}

function field(name, label, input) {
  input.id = `set-${name}`;
  return el("div", { class: "field" }, el("label", { for: input.id }, label), input);
}

function wide(name, label, input) {
  const made = field(name, label, input);
  made.classList.add("wide");
  return made;
}

function choice(options) {
  return el("select", {}, ...Object.entries(options).map(([value, words]) => el("option", { value }, words)));
}
