// The page: which view is seen, and how the way to the gateway and the host is.

import { Calls } from "./calls.js";
import { Chat } from "./chat.js";
import { $, say } from "./dom.js";
import { askKey } from "./gateway.js";
import { Live } from "./live.js";
import { Models } from "./models.js";
import { Tiles } from "./tiles.js";

const LINK_WORDS = {
  connecting: "Connecting",
  live: "Live",
  away: "Host away",
  gone: "Gateway away",
  locked: "Locked",
  refused: "Refused",
};
const NOTICES = {
  away: (words) => `${words.charAt(0).toUpperCase()}${words.slice(1)}. The gateway tries again every second.`,
  gone: (words) => `${words} This page tries again by itself.`,
  locked: (words) => words,
  refused: (words) => words,
};

const live = new Live();
const models = new Models();
const chat = new Chat();
const tiles = new Tiles();
const calls = new Calls();

live.addEventListener("status", ({ detail }) => {
  tiles.take(detail);
  models.take(detail.models, detail.caller);
  chat.takeModels(detail.models);
});
live.addEventListener("happened", ({ detail }) => calls.take(detail));
live.addEventListener("link", ({ detail: { state, words } }) => {
  $("link").dataset.state = state;
  say($("link-words"), LINK_WORDS[state]);
  $("now").classList.toggle("stale", state !== "live");
  const notice = NOTICES[state]?.(words.replace(/\.$/, state === "away" ? "" : "."));
  $("notice").hidden = !notice;
  if (!notice) return;
  say($("notice-words"), notice);
  $("notice-act").hidden = state === "away";
  say($("notice-act"), state === "locked" ? "Give a key" : "Try now");
});

$("notice-act").addEventListener("click", () => {
  if ($("link").dataset.state === "locked") askKey("The gateway asks for an API key.").catch(() => {});
  else live.again();
});
$("key").addEventListener("click", () => {
  askKey("Another key takes the place of the one that is used now.").catch(() => {});
});

// What is said on top takes its room from the playground, whose message is always in sight.
new ResizeObserver(() => {
  document.documentElement.style.setProperty("--notice", `${$("notice").offsetHeight}px`);
}).observe($("notice"));

// On a narrow screen one view is seen at a time, and the address says which.
function showView() {
  const view = location.hash === "#chat" ? "chat" : "now";
  document.body.dataset.view = view;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}
window.addEventListener("hashchange", showView);
showView();

live.run();
