// Update the live page: rows after the cursor are pushed if the server supports it, and polled once a second otherwise.
// The filters are those of the address; the server applies them.

const page = document.querySelector(".declbind-live");
const find = (name) => page.querySelector(`[data-${name}]`);
const body = find("rows");
const state = find("state");
const word = find("word");
const counter = find("count");
const pauseButton = find("pause");
const every = Number(page.dataset.every);
const maxRows = Number(page.dataset.max);
const alike = Number(page.dataset.alike); // how many of equal rows are shown; 0: all
const RETRY_PUSH = 15000; // after a failed push, how long the page only polls
const FEW = 10; // the most rows of one update that are marked as new, because each animation costs rendering time
const PATIENCE = 5000; // how long a push may be reconnecting before the page polls instead

let cursor = page.dataset.cursor;
let mode = "reconnecting"; // or "live" (pushed), "polling", "over"
let paused = false;
let pausedAt = ""; // the cursor at that moment: rows since then are in the log, not on this page
let waiting = 0;
let gap = 0; // the number of skipped rows, and the cursor before the first of them
let gapFrom = "";
let failures = 0;
let turn = 0; // counts changes of mode: answers to earlier requests are ignored
let source = null;
let timer = 0;
let retry = 0;
let staying = false; // the next page belongs to the live page too: the watch continues

const WORDS = { live: "Live", polling: "Polling", reconnecting: "Reconnecting" };

/** Show the state. Only the word is announced to screen readers, because the numbers change all the time. */
function tell() {
  if (mode === "over") return;
  let text = paused && mode !== "reconnecting" ? "Paused" : WORDS[mode];
  if (gap) text += ", gap";
  if (word.textContent !== text) word.textContent = text;
  counter.textContent = paused ? `, ${waiting} waiting` : "";
  state.dataset.kind = mode === "reconnecting" || gap ? "bad" : paused ? "paused" : mode;
}

function end() {
  stop();
  mode = "over";
  word.textContent = "Ended: you may no longer watch. Log in again.";
  counter.textContent = "";
  state.dataset.kind = "bad";
}

// Rows

function put(rows) {
  for (const { key, html } of rows) {
    const holder = document.createElement("template");
    holder.innerHTML = html; // rendered and escaped by the server, from the template of the first page
    const row = holder.content.querySelector("tr");
    const known = body.querySelector(`tr[data-key="${CSS.escape(key)}"]`);
    if (known) {
      // Read twice, or numbered since: an opened row stays open, and the focus stays where it is.
      if (known.querySelector("details[open]")) row.querySelector("details")?.setAttribute("open", "");
      if (known.innerHTML !== row.innerHTML && !known.contains(document.activeElement)) known.replaceWith(row);
    } else {
      row.classList.toggle("declbind-fresh", rows.length <= FEW);
      body.prepend(row);
    }
  }
  fold();
  trim();
  find("nothing").hidden = body.rows.length > 0;
}

function groupRows() {
  const groups = new Map();
  for (const row of body.rows) {
    if (!groups.has(row.dataset.like)) groups.set(row.dataset.like, []);
    groups.get(row.dataset.like).push(row);
  }
  return groups;
}

/** Show the newest of equal rows and count the others, so that a busy stream does not hide the rest. */
function fold() {
  if (!alike) return;
  const alikes = groupRows();
  alikes.delete("");
  const isMixed = new Set([...alikes.keys()].map((like) => like.split(" ")[1])).size > 1;
  for (const rows of alikes.values()) {
    rows.forEach((row, at) => {
      row.hidden = isMixed && at >= alike && !row.contains(document.activeElement);
      const more = row.querySelector("[data-alike]");
      if (!more) return;
      more.hidden = !isMixed || at !== alike - 1 || rows.length <= alike;
      more.textContent = `${rows.length - alike} more like it`;
    });
  }
}

/** Keep the table short. Rows that are only counted go first, so that a busy stream does not push out the others. */
function trim() {
  let over = body.rows.length - maxRows;
  if (over <= 0) return;
  for (const row of [...body.rows].reverse()) {
    if (over <= 0) break;
    if (!row.hidden) continue;
    row.remove();
    over -= 1;
  }
  while (body.rows.length > maxRows) body.lastElementChild.remove();
  fold();
}

function passOver(count, from) {
  gap += count;
  gapFrom ||= from;
  const link = document.createElement("a");
  link.href = page.dataset.onward + encodeURIComponent(gapFrom);
  link.textContent = "Load them page by page";
  find("gap").replaceChildren(`${gap} rows are not shown. `, link);
  find("gap").hidden = false;
}

function tellSample(every) {
  find("sample").hidden = every <= 1;
  if (every > 1) find("sample").textContent = `Showing 1 in ${every}, refusals, errors and marks always.`;
}

/** Fill in the recipients of an event, which are known a second or two after it was sent. */
function fill({ got, known, partial }) {
  for (const row of body.rows) {
    const { offset, at } = row.dataset;
    if (!offset) continue;
    const found = got[offset];
    const cell = row.querySelector("[data-got]");
    if (found) for (const filled of row.querySelectorAll("[data-got], [data-took]")) filled.classList.remove("declbind-none");
    if (found && found[0] >= Number(row.dataset.count ?? 0)) {
      row.dataset.count = found[0];
      cell.textContent = `${partial ? "≥ " : ""}${found[0]}`;
      row.querySelector("[data-took]").textContent = `${found[1].toFixed(1)} ms`;
    } else if (known && Number(at) >= known[0] && Number(at) <= known[1] && cell.textContent === "–") {
      cell.textContent = "0";
    }
  }
}

function receive(answer) {
  failures = 0;
  if (answer.reset) {
    location.reload();
    return;
  }
  const before = cursor;
  cursor = answer.cursor;
  if (paused) {
    waiting += answer.count;
  } else {
    put(answer.rows);
    if (answer.skipped) passOver(answer.skipped, before);
    tellSample(answer.every);
  }
  if (answer.charts && !document.hidden) {
    find("charts").innerHTML = answer.charts; // drawn by the server
    const tables = find("tables");
    if (!tables.open) tables.querySelector("div").innerHTML = answer.tables;
    if (!paused) fill(answer);
  }
  tell();
}

// Requests and pushes

function target(address, more = {}) {
  const url = new URL(address, location.href);
  url.search = location.search;
  url.searchParams.set("cursor", cursor);
  for (const [name, value] of Object.entries(more)) url.searchParams.set(name, value);
  return url;
}

/** Request rows; null if the watch has ended or the mode changed meanwhile. Throws if the server does not respond. */
async function ask(more) {
  const asked = turn;
  const answer = await fetch(target(page.dataset.poll, more), { credentials: "same-origin", redirect: "error" });
  if (asked !== turn) return null;
  if (answer.status === 403) {
    end();
    return null;
  }
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  const found = await answer.json();
  return asked === turn ? found : null;
}

async function poll() {
  const asked = turn;
  try {
    const answer = await ask(paused ? { bare: 1, extras: 1 } : { extras: 1 });
    if (!answer) return;
    mode = "polling";
    receive(answer);
  } catch {
    if (asked !== turn) return;
    failures += 1;
    mode = "reconnecting";
    tell();
  }
  if (asked === turn) timer = setTimeout(poll, Math.min(every * 2 ** failures, 15000));
}

function stop() {
  turn += 1;
  clearTimeout(timer);
  clearTimeout(retry);
  source?.close();
  source = null;
}

/** Continue from the cursor: by push if the server supports it and the page is not paused, else by polling. */
function go() {
  stop();
  if (mode === "over") return;
  if (!page.dataset.stream || paused) {
    poll();
    return;
  }
  source = new EventSource(target(page.dataset.stream));
  const mine = source;
  source.addEventListener("rows", (event) => {
    if (source !== mine) return;
    clearTimeout(retry);
    mode = "live";
    receive(JSON.parse(event.data));
  });
  source.addEventListener("over", end);
  source.addEventListener("error", () => {
    if (source !== mine) return;
    mode = "reconnecting";
    tell();
    clearTimeout(retry);
    // A browser gives up when it is refused, and also when the page is left: a poll would then renew the watch that
    // leaving ends. After a lost connection it retries, but not for ever.
    retry = setTimeout(fallBack, source.readyState === EventSource.CLOSED ? every : PATIENCE);
  });
}

function fallBack() {
  stop();
  poll();
  retry = setTimeout(go, RETRY_PUSH);
}

// User actions

function pause() {
  paused = true;
  pausedAt = cursor;
  waiting = 0;
  go();
  showPause();
}

async function resume() {
  stop();
  const last = cursor;
  cursor = pausedAt;
  try {
    const answer = await ask({ whole: 1 });
    if (!answer) return;
    paused = false;
    receive(answer);
  } catch {
    // The rows are in the log: pressing the button again retries.
    cursor = last;
    mode = "reconnecting";
  }
  go();
  showPause();
}

function showPause() {
  pauseButton.textContent = paused ? "Resume" : "Pause";
  pauseButton.setAttribute("aria-pressed", String(paused));
  tell();
}

function jump(event) {
  event.preventDefault();
  if (paused) {
    if (waiting) passOver(waiting, pausedAt);
    paused = false;
    waiting = 0;
    go();
    showPause();
  }
  scrollTo({ top: 0 });
}

function clear(event) {
  event.preventDefault();
  body.replaceChildren();
  gap = 0;
  gapFrom = "";
  find("gap").hidden = true;
  find("nothing").hidden = false;
  tell();
}

function step(row, by) {
  return by > 0 ? row.nextElementSibling : row.previousElementSibling;
}

function move(by) {
  const here = document.activeElement?.closest?.("[data-rows] tr");
  let row = here ? step(here, by) : body.rows[0];
  while (row?.hidden) row = step(row, by);
  row?.focus();
}

const KEYS = {
  j: () => move(1),
  k: () => move(-1),
  " ": () => pauseButton.click(),
  "/": () => find("search").focus(),
};

document.addEventListener("keydown", (event) => {
  const at = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey || at.closest("input, select, textarea, [contenteditable]")) return;
  if (event.key === "Enter" && at.matches("[data-rows] tr")) at.querySelector("[data-open]").click();
  // Space also presses buttons.
  if (!(event.key in KEYS) || (event.key === " " && at.closest("button, summary, a"))) return;
  event.preventDefault();
  KEYS[event.key]();
});

pauseButton.addEventListener("click", () => (paused ? resume() : pause()));
if (!new URLSearchParams(location.search).has("cursor")) {
  find("now").textContent = "Jump to now";
  find("now").addEventListener("click", jump);
}
find("clear").addEventListener("click", clear);

// The end of the watch

function stay(address) {
  if (!new URL(address, location.href).pathname.startsWith(location.pathname)) return;
  staying = true;
  setTimeout(() => (staying = false), 2000);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (link) stay(link.href);
});
document.addEventListener("submit", (event) => stay(event.target.getAttribute("action") || location.href));

addEventListener("pagehide", () => {
  stop();
  if (staying || mode === "over") return;
  const form = new FormData();
  form.set("csrfmiddlewaretoken", page.querySelector("[name=csrfmiddlewaretoken]").value);
  navigator.sendBeacon(page.dataset.stop, form);
});
addEventListener("pageshow", (event) => {
  if (event.persisted) go();
});

pauseButton.hidden = false;
find("keys").hidden = false;
tell();
go();
