// The texts of the other scripts, in the language of the page. The page carries those that are translated as JSON in an
// element that is not run, so a strict Content-Security-Policy allows it. A text without a translation stays English.

const catalogue = JSON.parse(document.querySelector("#declbind-texts")?.textContent ?? "{}");

/** Translate a text, and put values in the place of its {names}. */
globalThis.declbindText = (text, values = {}) =>
  (catalogue[text] ?? text).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);

/** Return nodes: a translated text with elements in the place of its {names}. */
globalThis.declbindNodes = (text, elements) =>
  (catalogue[text] ?? text).split(/(\{\w+\})/).filter(Boolean).map((part) => elements[part.slice(1, -1)] ?? part);
