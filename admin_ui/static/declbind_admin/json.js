// Problems of the text while it is typed, each with its line, and a jump to the line.

const area = document.querySelector("#id_document");
const found = document.querySelector("#declbind-found");
const WAIT = 350;
let timer = 0;
let running = null;

function jump(link) {
  const lines = area.value.split("\n");
  const at = Number(link.dataset.line) - 1;
  const start = lines.slice(0, at).reduce((sum, line) => sum + line.length + 1, 0);
  area.focus();
  area.setSelectionRange(start, start + (lines[at] ?? "").length);
  const height = Number.parseFloat(getComputedStyle(area).lineHeight) || 18;
  area.scrollTop = Math.max(0, (at - 4) * height);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("[data-line]");
  if (!link) return;
  event.preventDefault();
  jump(link);
});

async function check() {
  running?.abort();
  const turn = new AbortController();
  running = turn;
  const data = new FormData();
  data.set("csrfmiddlewaretoken", document.querySelector("[name=csrfmiddlewaretoken]").value);
  data.set("document", area.value);
  try {
    const answer = await fetch(found.dataset.url, {
      method: "POST", body: data, credentials: "same-origin", signal: turn.signal,
    });
    if (!answer.ok || running !== turn) return;
    found.innerHTML = (await answer.json()).html;
  } catch (error) {
    if (error.name !== "AbortError") return;
  }
}

if (area && found) {
  area.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(check, WAIT);
  });
}
