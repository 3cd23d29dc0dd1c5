// Update the panel beside the form: problems, the meaning of the edit, the frame of a row.

const panel = document.querySelector("#declbind-panel");
const form = panel?.closest("form");
const body = panel?.querySelector("[data-panel-body]");
const status = panel?.querySelector("[data-panel-status]");
const WAIT = 350;
// Inputs that are not part of the record and need no update.
const SILENT = new Set(["note", "confirm_widening", "opened_with"]);

// The inputs that a person has left: a problem is shown only after that, or after the form was submitted.
const touched = form?.querySelector(".errornote") ? null : new Set();

/** The form field that an input belongs to. */
function fieldOf(control) {
  const row = control.closest(".form-row");
  return [...(row?.classList ?? [])].find((name) => name.startsWith("field-"))?.slice("field-".length) ?? "";
}

let timer = 0;
let running = null;

function announce() {
  const problems = body.querySelectorAll(".declbind-part-bad li").length;
  const opens = body.querySelector(".declbind-widens") ? "This change gives more access than before." : "";
  const words = problems ? `${problems} problem${problems === 1 ? "" : "s"}.` : opens;
  if (status.textContent !== words) status.textContent = words;
}

async function refresh() {
  clearTimeout(timer);
  running?.abort();
  const turn = new AbortController();
  running = turn;
  const data = new FormData(form);
  data.set("object_id", panel.dataset.object);
  if (touched) data.set("touched", [...touched].join(","));
  panel.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(panel.dataset.url, {
      method: "POST", body: data, credentials: "same-origin", signal: turn.signal,
    });
    if (!answer.ok) return;
    const { html, sections, problems } = await answer.json();
    // Only the answer to the last request is used.
    if (running !== turn) return;
    const focused = body.contains(document.activeElement) ? document.activeElement.id : "";
    // A confirmation that was ticked during the request stays, if the words beside it are still the same.
    const tick = body.querySelector("#id_confirm_widening:checked")?.value;
    body.innerHTML = html;
    const fresh = body.querySelector("#id_confirm_widening");
    if (fresh) fresh.checked = fresh.value === tick;
    if (focused) document.getElementById(focused)?.focus();
    for (const [title, value] of Object.entries(sections)) {
      const heading = form.querySelector(`[data-section="${CSS.escape(title)}"] [data-value]`);
      if (heading) heading.textContent = value;
    }
    announce();
    document.dispatchEvent(new CustomEvent("declbind:problems", { detail: problems }));
  } catch (error) {
    if (error.name !== "AbortError") return;
  } finally {
    if (running === turn) panel.removeAttribute("aria-busy");
  }
}

function later(event) {
  // A mistake in JSON is shown while it is typed.
  if (event.type === "change" || event.target.matches("textarea.declbind-json")) touched?.add(fieldOf(event.target));
  if (SILENT.has(event.target.name)) return;
  clearTimeout(timer);
  timer = setTimeout(refresh, event.target.name === "look_pk" ? 0 : WAIT);
}

if (form && body) {
  form.addEventListener("input", later);
  form.addEventListener("change", later);
  const search = panel.querySelector("#id_look_q");
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    refresh();
  });
  panel.querySelector("[name=_look]").addEventListener("click", (event) => {
    event.preventDefault();
    refresh();
  });
  body.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-field]");
    const row = link && document.querySelector(`.form-row.field-${CSS.escape(link.dataset.field)}`);
    if (!row) return;
    event.preventDefault();
    const fold = row.closest("details.declbind-fold");
    if (fold) fold.open = true;
    row.scrollIntoView({ block: "center" });
    const controls = [...row.querySelectorAll("input, select, textarea, [role=listbox]")];
    const usable = controls.filter((control) => control.offsetParent !== null && !control.disabled);
    // The text itself, if it is shown instead of its builder.
    (usable.find((control) => control.name === link.dataset.field) ?? usable[0])?.focus();
  });
  // Enter in a field presses the form's first button, which would be the panel's.
  const first = document.createElement("button");
  first.type = "submit";
  first.name = "_save";
  first.value = "Save";
  first.hidden = true;
  form.prepend(first);
  if (document.querySelector("#id_model")?.value) refresh();
}
