// What has happened: requests that have ended, and models and guests that have come and gone.

import { $, el } from "./dom.js";
import { count, milliseconds, rate, time } from "./format.js";

const MOST_CALLS = 100;
const MOST_HAPPENED = 50;
const ANYONE = "anyone"; // who asks a gateway that has no keys
const FINE = new Set(["stop", "tool_calls", "length"]);

export class Calls {
  #rows = new Map(); // by the host's id of the request, the oldest first

  take(event) {
    if (event.kind === "request") this.#takeCall(event);
    else this.#takeEvent(event);
  }

  // The same request may be told again, when more is known of it.
  #takeCall(call) {
    const row = rowOf(call);
    const before = this.#rows.get(call.request_id);
    if (before) before.replaceWith(row);
    else $("calls").tBodies[0].prepend(row);
    this.#rows.set(call.request_id, row);
    if (this.#rows.size > MOST_CALLS) {
      const [oldest, last] = this.#rows.entries().next().value;
      last.remove();
      this.#rows.delete(oldest);
    }
    $("calls").hidden = false;
    $("no-calls").hidden = true;
  }

  #takeEvent(event) {
    const words = describe(event);
    if (!words) return;
    const list = $("happened");
    list.prepend(el("li", {}, el("time", {}, time(event.at)), " ", words));
    if (list.children.length > MOST_HAPPENED) list.lastElementChild.remove();
    $("no-happened").hidden = true;
  }
}

function rowOf(call) {
  const speed = call.completion_tokens > 1 && call.decode_ms > 0 ? ((call.completion_tokens - 1) * 1000) / call.decode_ms : NaN;
  const outcome = call.error ?? call.finish_reason ?? "";
  const isBad = Boolean(call.error);
  const given = call.completion_tokens == null ? "" : ` →\u00a0${count(call.completion_tokens)}`;
  return el(
    "tr",
    { class: isBad ? "bad" : null },
    cell("", time(call.at), call.caller === ANYONE ? "" : call.caller || call.guest),
    cell("", call.model || "–", whatOf(call)),
    cell("number", call.prompt_tokens == null ? "–" : `${count(call.prompt_tokens)}${given}`, call.cached_tokens ? `${count(call.cached_tokens)} cached` : ""),
    cell("number", milliseconds(call.ttft_ms) || "–", call.total_ms == null ? "" : `of ${milliseconds(call.total_ms)}`),
    cell("number", rate(speed) || "–", outcome, isBad || !outcome || FINE.has(outcome) ? "" : "odd"),
  );
}

// What was asked; a chat that has its model loaded makes two calls.
function whatOf({ method, path }) {
  return method === "load" && path && !path.startsWith("/mlxbridge/") ? `load, for ${path}` : (path ?? method);
}

function cell(kind, first, second, mark = "") {
  return el("td", { class: kind || null }, el("span", {}, first), el("small", { class: mark || null }, second ?? ""));
}

function describe(event) {
  switch (event.kind) {
    case "model":
      return `${event.model} is ${event.state}${event.reason ? `: ${event.reason}` : ""}`;
    case "pulled":
      return `${event.model} was downloaded`;
    case "deleted":
      return `${event.model} was deleted`;
    case "reloaded": {
      const told = ["added", "removed", "changed", "reloaded"].filter((name) => event[name]?.length);
      return `The host has read its configuration again${told.map((name) => `; ${name}: ${event[name].join(", ")}`).join("")}`;
    }
    case "connected":
      return `${event.guest} has connected`;
    case "gone":
      return `${event.guest} has gone`;
    case "lost":
      return `${count(event.count)} events were lost`;
    default:
      return "";
  }
}
