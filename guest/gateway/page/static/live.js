// What the gateway tells about the host every second, for as long as somebody looks at this page.

import { ask, KEY_CHANGED, KEY_NEEDED } from "./gateway.js";
import { eventsOf } from "./lines.js";

const PAUSES_MS = [250, 500, 1000, 2000, 4000];
const SILENCE_MS = 10_000; // it says something every second
const ANEW = new DOMException("The page looks anew.", "AbortError"); // why a look was ended, if nothing is amiss
const UNSEEN_MS = 20_000; // a browser has six connections to one gateway, for all its tabs

// Fires "status" and "happened" with what was told, and "link" with {state, words} when that is another one:
// "connecting", "live", "away" (the host), "gone" (the gateway), "locked" (no key) or "refused" (anything else).
export class Live extends EventTarget {
  #link = { state: "connecting", words: "" };
  #abort = new AbortController();
  #wake = () => {};
  #unseenTimer = 0;
  #isUnseen = false;

  // Look until the page is closed; called once.
  async run() {
    document.addEventListener("visibilitychange", () => this.#see(!document.hidden));
    window.addEventListener("online", () => this.again());
    window.addEventListener(KEY_NEEDED, ({ detail }) => this.#tell("locked", detail));
    window.addEventListener(KEY_CHANGED, () => {
      this.#tell("connecting", "");
      this.again();
    });
    for (let failures = 0; ; ) {
      failures = (await this.#look()) ? 0 : failures + 1;
      if (this.#link.state === "connecting" && !this.#isUnseen) continue;
      await this.#pause(PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)]);
    }
  }

  // Look anew, at once.
  again() {
    this.#abort.abort(ANEW);
    this.#wake();
  }

  // Whether anything was heard before it ended.
  async #look() {
    this.#abort = new AbortController();
    let heard = false;
    let silence = 0;
    try {
      const response = await ask("mlxbridge/events", { signal: this.#abort.signal });
      for await (const { kind, data } of eventsOf(response)) {
        heard = true;
        clearTimeout(silence);
        silence = setTimeout(() => this.#abort.abort(), SILENCE_MS);
        this.#take(kind, JSON.parse(data));
      }
      this.#tell("gone", "The gateway has closed the connection.");
    } catch (error) {
      if (error.status === 401) this.#tell("locked", error.message);
      else if (error.status === 503) this.#tell("away", error.message);
      else if (error.status) this.#tell("refused", error.message);
      else if (!this.#isUnseen && this.#abort.signal.reason !== ANEW) this.#tell("gone", "The gateway does not answer.");
    } finally {
      clearTimeout(silence);
    }
    return heard;
  }

  // Until it is time to look again; without an end where nobody looks, or nothing but a key would help.
  #pause(ms) {
    return new Promise((resolve) => {
      this.#wake = resolve;
      if (!this.#isUnseen && this.#link.state !== "locked") setTimeout(resolve, ms);
    });
  }

  #see(isSeen) {
    clearTimeout(this.#unseenTimer);
    if (!isSeen) {
      this.#unseenTimer = setTimeout(() => {
        this.#isUnseen = true;
        this.#abort.abort();
      }, UNSEEN_MS);
    } else if (this.#isUnseen) {
      this.#isUnseen = false;
      this.#wake();
    }
  }

  #take(kind, value) {
    if (kind === "away") this.#tell("away", value.message);
    else if (kind === "status") {
      this.#tell("live", "");
      this.dispatchEvent(new CustomEvent("status", { detail: value }));
    } else this.dispatchEvent(new CustomEvent("happened", { detail: { ...value, kind } }));
  }

  #tell(state, words) {
    if (this.#link.state === state && this.#link.words === words) return;
    this.#link = { state, words };
    this.dispatchEvent(new CustomEvent("link", { detail: this.#link }));
  }
}
