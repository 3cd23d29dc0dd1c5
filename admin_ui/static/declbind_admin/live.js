// Keep the live page going: ask for the rows after the cursor once a second. The filters are those of the address.

const page = document.querySelector(".declbind-live");
const body = page.querySelector("[data-rows]");
const nothing = page.querySelector("[data-nothing]");
const pauseButton = page.querySelector("[data-pause]");
const state = page.querySelector("[data-state]");
const every = Number(page.dataset.every);
const maxRows = Number(page.dataset.max);

let cursor = page.dataset.cursor;
let paused = false;
let failures = 0;
let skipped = 0;
let timer = 0;
let waiting = new Map(); // key -> html, the rows that came while paused; bounded like the page
let over = false;

function say(text, kind) {
  if (state.textContent !== text) state.textContent = text;
  state.dataset.kind = kind;
}

function tell() {
  if (over) return;
  const gap = skipped ? `, ${skipped} skipped` : "";
  if (failures) say("Reconnecting", "bad");
  else if (paused) say(`Paused, ${countNew()} waiting${gap}`, "paused");
  else say(`Live${gap}`, skipped ? "bad" : "live");
}

/** Count the rows that wait and are not on the page: one that is there may come again when it gets its number. */
function countNew() {
  const shown = new Set(Array.from(body.rows, (row) => row.dataset.key));
  return [...waiting.keys()].filter((key) => !shown.has(key)).length;
}

function put(rows) {
  for (const [key, html] of rows) {
    const holder = document.createElement("template");
    holder.innerHTML = html; // rendered and escaped by the server, from the template of the first page
    const row = holder.content.querySelector("tr");
    const known = body.querySelector(`tr[data-key="${CSS.escape(key)}"]`);
    if (known) {
      // Read twice, or sequenced since: what a reader has opened stays open.
      if (known.querySelector("details[open]")) row.querySelector("details")?.setAttribute("open", "");
      if (known.innerHTML !== row.innerHTML) known.replaceWith(row);
    } else {
      row.classList.add("declbind-fresh");
      body.prepend(row);
    }
  }
  while (body.rows.length > maxRows) body.lastElementChild.remove();
  nothing.hidden = body.rows.length > 0;
}

function keep(rows) {
  for (const [key, html] of rows) waiting.set(key, html);
  for (const key of waiting.keys()) {
    if (waiting.size <= maxRows) break;
    waiting.delete(key);
    skipped += 1;
  }
}

async function poll() {
  timer = 0;
  try {
    const address = new URL(page.dataset.poll, location.href);
    address.search = location.search;
    address.searchParams.set("cursor", cursor);
    const answer = await fetch(address, { credentials: "same-origin", redirect: "error" });
    if (answer.status === 403) {
      over = true;
      say("Ended: you may no longer watch. Log in again.", "bad");
      return;
    }
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const found = await answer.json();
    failures = 0;
    cursor = found.cursor;
    if (found.reset) {
      location.reload();
      return;
    }
    skipped += found.skipped;
    const rows = found.rows.map(({ key, html }) => [key, html]);
    if (paused) keep(rows);
    else put(rows);
  } catch {
    failures += 1;
  }
  tell();
  timer = setTimeout(poll, Math.min(every * 2 ** failures, 15000));
}

pauseButton.hidden = false;
pauseButton.addEventListener("click", () => {
  paused = !paused;
  pauseButton.textContent = paused ? "Resume" : "Pause";
  pauseButton.setAttribute("aria-pressed", String(paused));
  if (!paused) {
    put(waiting);
    waiting = new Map();
    skipped = 0;
  }
  tell();
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden || !timer) return;
  clearTimeout(timer);
  poll();
});

tell();
timer = setTimeout(poll, every);
