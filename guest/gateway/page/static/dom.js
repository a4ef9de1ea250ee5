// Elements made from text alone: nothing in this page is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

// An element with attributes (`on…` are listeners; false and null are left out) and children (strings become text).
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

// Say `text` in an element, touching the page only if that is new.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Ask in a dialog before something that cannot be undone.
export function askSure(title, words, act) {
  const dialog = $("sure-dialog");
  $("sure-title").textContent = title;
  $("sure-words").textContent = words;
  $("sure-act").textContent = act;
  dialog.returnValue = "";
  dialog.showModal();
  $("sure-cancel").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

$("sure-cancel").addEventListener("click", () => $("sure-dialog").close(""));
$("sure-form").addEventListener("submit", (event) => {
  event.preventDefault();
  $("sure-dialog").close("yes");
});
