// The host at a glance: speed, requests, time to the first token and memory.

import { $, el, say, svg } from "./dom.js";
import { count, counted, duration, milliseconds, rate, size } from "./format.js";

const SECONDS = 60;
const [WIDTH, HEIGHT] = [120, 28];

export class Tiles {
  #speed = new Tile("Tokens/s", { curve: true });
  #requests = new Tile("Requests", { curve: true });
  #ttft = new Tile("Time to first token");
  #memory = new Tile("Memory", { meter: true });

  constructor() {
    $("tiles").append(...[this.#speed, this.#requests, this.#ttft, this.#memory].map((tile) => tile.element));
  }

  take(status) {
    const models = status.models.map((model) => model.details);
    const sum = (name) => models.reduce((total, details) => total + (details[name] ?? 0), 0);
    const speed = sum("tokens_per_s");
    this.#speed.show(rate(speed), "of all models, over 10 s", speed);

    const running = sum("running");
    const waiting = sum("waiting") + sum("queued");
    this.#requests.show(count(running), waiting ? `running, ${count(waiting)} waiting` : "running, none waiting", running + waiting);

    const busiest = models.map((details) => details.recent).filter((recent) => recent?.ttft_ms != null);
    busiest.sort((one, other) => other.calls - one.calls);
    const [recent] = busiest;
    this.#ttft.show(
      recent ? milliseconds(recent.ttft_ms) : "–",
      recent ? `median of the last minute, p95 ${milliseconds(recent.ttft_ms_p95)}` : "no request in the last minute",
    );

    const { used, reserved, budget, total } = status.memory;
    const most = budget ?? total;
    this.#memory.show(size(used), most ? `in use, of ${size(most).replace(" ", "\u00a0")} for models` : "in use");
    this.#memory.measure(used, reserved, most);

    const guests = counted(status.connections, "connection");
    say($("host"), `${status.software} on ${status.chip || "an unknown chip"}, up ${duration(status.uptime_seconds)}, ${guests}`);
  }
}

class Tile {
  #number = el("dd", { class: "number" });
  #words = el("dd", { class: "words" });
  #curve = null;
  #meter = null;
  #history = [];

  constructor(label, { curve = false, meter = false } = {}) {
    this.element = el("div", {}, el("dt", {}, label), this.#number);
    if (curve) {
      this.#curve = svg("path", { "vector-effect": "non-scaling-stroke" });
      const picture = { class: "curve", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" };
      this.element.append(el("dd", { class: "picture" }, svg("svg", picture, this.#curve)));
    }
    if (meter) {
      this.#meter = new Meter();
      this.element.append(el("dd", { class: "picture" }, this.#meter.element));
    }
    this.element.append(this.#words);
    this.show("–", " ");
  }

  // `value` is the next of the curve.
  show(number, words, value) {
    say(this.#number, number);
    say(this.#words, words);
    if (!this.#curve || value === undefined) return;
    this.#history.push(value);
    if (this.#history.length > SECONDS) this.#history.shift();
    this.#curve.setAttribute("d", pathOf(this.#history));
  }

  measure(used, reserved, most) {
    this.#meter.show(used, reserved, most);
  }
}

// A bar with what is used, and what may be.
export class Meter {
  #used = el("span", { class: "used" });
  #reserved = el("span", { class: "reserved" });

  constructor() {
    this.element = el("span", { class: "meter", "aria-hidden": "true" }, this.#reserved, this.#used);
  }

  show(used, reserved, most) {
    const share = (part) => `${most ? Math.min(100, (100 * (part ?? 0)) / most) : 0}%`;
    this.#used.style.width = share(used);
    this.#reserved.style.width = share(reserved);
  }
}

function pathOf(values) {
  const most = Math.max(...values, 1);
  const points = values.map((value, index) => {
    const x = WIDTH - ((values.length - 1 - index) * WIDTH) / (SECONDS - 1);
    return `${x.toFixed(1)} ${(HEIGHT - 1 - (value / most) * (HEIGHT - 2)).toFixed(1)}`;
  });
  return `M${points.join("L")}`;
}
