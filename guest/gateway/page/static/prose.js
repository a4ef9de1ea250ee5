// A model's text as it comes: plain, but for fenced blocks of code. All of it goes into the page as text.

import { el } from "./dom.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^\s`]*)[^`]*$/;
const MAYBE_FENCE = /^ {0,3}(`+|~+|$)/;

export class Prose {
  #line = ""; // the line that has begun, as far as it is not shown: it may become a fence
  #isShown = false; // the line that has begun is none
  #fence = ""; // what ends the block of code
  #text = null; // where more text goes

  constructor(element) {
    this.element = element;
  }

  add(text) {
    const [first, ...rest] = text.split("\n");
    this.#grow(first);
    for (const part of rest) {
      this.#endLine();
      this.#grow(part);
    }
  }

  // There is no more.
  end() {
    if (this.#line && !this.#takeFence()) this.#show(this.#line);
    this.#line = "";
  }

  #grow(part) {
    if (this.#isShown) return this.#show(part);
    this.#line += part;
    if (!MAYBE_FENCE.test(this.#line)) {
      this.#show(this.#line);
      [this.#line, this.#isShown] = ["", true];
    }
  }

  #endLine() {
    if (this.#isShown) this.#show("\n");
    else if (!this.#takeFence()) this.#show(`${this.#line}\n`);
    [this.#line, this.#isShown] = ["", false];
  }

  // Whether the line begins or ends a block of code.
  #takeFence() {
    const [, marks, language] = FENCE.exec(this.#line) ?? [];
    if (this.#fence) {
      if (!marks?.startsWith(this.#fence) || language) return false;
      this.#fence = "";
    } else {
      if (!marks) return false;
      this.#fence = marks;
    }
    this.#text = null;
    return true;
  }

  #show(text) {
    if (!text) return;
    if (!this.#text) {
      if (!this.#fence && !text.trim()) return; // an empty line beside a block
      this.#text = document.createTextNode("");
      this.element.append(this.#fence ? el("pre", { tabindex: 0 }, el("code", {}, this.#text)) : el("p", {}, this.#text));
    }
    this.#text.appendData(text);
  }
}
