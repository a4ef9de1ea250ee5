// Text for screen readers, sentence by sentence: piece by piece, as it comes, nobody could follow it.

import { $, el } from "./dom.js";

const END = /[.!?:;]["')\]]*\s|\n/g;

export class Spoken {
  #rest = "";

  constructor() {
    $("spoken").replaceChildren();
  }

  add(text) {
    this.#rest += text;
    let end = 0;
    for (const match of this.#rest.matchAll(END)) end = match.index + match[0].length;
    this.#say(this.#rest.slice(0, end));
    this.#rest = this.#rest.slice(end);
  }

  // What is left, and how it ended.
  end(words) {
    this.#say(this.#rest);
    this.#say(words);
    this.#rest = "";
  }

  #say(text) {
    if (text.trim()) $("spoken").append(el("p", {}, text.trim()));
  }
}
