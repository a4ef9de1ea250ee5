// How the page asks the gateway: with the API key, if one is needed, and with errors in words.

import { $ } from "./dom.js";

const PLACE = "mlxbridge.key";

// Events of the window's: the gateway refuses to answer without a key, or with this one, which `detail` says; there is another.
export const KEY_NEEDED = "mlxbridge-key-needed";
export const KEY_CHANGED = "mlxbridge-key-changed";

export class GatewayError extends Error {
  constructor(message, { status = 0, code = "", field = "" } = {}) {
    super(message);
    Object.assign(this, { status, code, field });
  }
}

// The response to a request; `body` is sent as JSON. After a 401 a key is asked for, and the request made again.
//
// Throws GatewayError; status 0 is a gateway that does not answer.
export async function ask(path, { body, signal } = {}) {
  for (;;) {
    const key = readKey();
    const headers = key ? { authorization: `Bearer ${key}` } : {};
    if (body !== undefined) headers["content-type"] = "application/json";
    let response;
    try {
      response = await fetch(path, {
        method: body === undefined ? "GET" : "POST",
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        signal,
        cache: "no-store",
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new GatewayError("The gateway does not answer.");
    }
    if (response.ok) {
      $("key").hidden = !key;
      return response;
    }
    if (response.status !== 401) throw await readError(response);
    if (readKey() !== key) continue;
    const words = key ? "The gateway does not know this key." : "The gateway asks for an API key.";
    window.dispatchEvent(new CustomEvent(KEY_NEEDED, { detail: words }));
    await askKey(words);
  }
}

export async function askJson(path, options) {
  return (await ask(path, options)).json();
}

async function readError(response) {
  let told = {};
  try {
    const value = (await response.json()).error;
    told = typeof value === "string" ? { message: value } : value;
  } catch {
    // A proxy in between may say anything.
  }
  const message = told?.message || `The gateway answered ${response.status} ${response.statusText}.`;
  return new GatewayError(message, {
    status: response.status,
    code: told?.code ?? "",
    field: told?.field ?? told?.param ?? "",
  });
}

// -- the key: in this tab, or in this browser if that is wanted

let asking = null;

export function readKey() {
  return sessionStorage.getItem(PLACE) ?? localStorage.getItem(PLACE);
}

function writeKey(key, isKept) {
  for (const storage of [sessionStorage, localStorage]) storage.removeItem(PLACE);
  (isKept ? localStorage : sessionStorage).setItem(PLACE, key);
  window.dispatchEvent(new Event(KEY_CHANGED));
}

// One dialog for all who need a key at that time. Throws GatewayError if none is given.
export function askKey(words) {
  asking ??= showKeyDialog(words).finally(() => {
    asking = null;
  });
  return asking;
}

function showKeyDialog(words) {
  const dialog = $("key-dialog");
  const input = $("key-input");
  $("key-words").textContent = `${words} Whoever runs the gateway gives you one.`;
  $("key-keep").checked = localStorage.getItem(PLACE) !== null;
  input.value = "";
  dialog.returnValue = "";
  if (!dialog.open) dialog.showModal();
  input.focus();
  return new Promise((resolve, reject) => {
    dialog.addEventListener(
      "close",
      () => {
        if (dialog.returnValue === "yes") resolve();
        else reject(new GatewayError("An API key is needed.", { status: 401, code: "invalid_api_key" }));
      },
      { once: true },
    );
  });
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  writeKey($("key-input").value.trim(), $("key-keep").checked);
  $("key-dialog").close("yes");
});
$("key-cancel").addEventListener("click", () => $("key-dialog").close(""));
