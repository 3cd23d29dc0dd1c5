// Relations of the chosen model to click under "Send again when these change". The text area remains the form's data.
// Relations one step further are offered once the step before them is chosen.

const notes = document.querySelector("#declbind-relationnotes");
const area = document.querySelector("#id_also");

function readPaths() {
  return area.value.split("\n").map((line) => line.trim()).filter(Boolean);
}

function toggle(path) {
  const paths = readPaths();
  const rest = paths.filter((other) => other !== path);
  area.value = (rest.length < paths.length ? rest : [...paths, path]).join("\n");
  area.dispatchEvent(new Event("input", { bubbles: true }));
}

/** Show the chosen relations, and those that lead on from them. */
function mark() {
  const paths = readPaths();
  for (const item of notes.querySelectorAll("li")) {
    const { path, begin } = item.dataset;
    const isNamed = paths.includes(path);
    item.hidden = begin !== "" && !isNamed && !paths.some((other) => other === begin || other.startsWith(`${begin}__`));
    item.querySelector("button").setAttribute("aria-pressed", String(isNamed));
  }
}

function enliven() {
  for (const item of notes.querySelectorAll("li")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "declbind-insert";
    button.append(item.querySelector("code"));
    button.addEventListener("click", () => toggle(item.dataset.path));
    item.prepend(button);
  }
  mark();
}

function show({ model, relations }) {
  notes.querySelector("[data-model]").textContent = model;
  notes.querySelector("ul").replaceChildren(
    ...relations.map(({ path, begin, kind }) => {
      const item = document.createElement("li");
      Object.assign(item.dataset, { path, begin });
      const code = document.createElement("code");
      code.textContent = path;
      const words = document.createElement("span");
      words.className = "declbind-quiet";
      words.textContent = kind;
      item.append(code, " ", words);
      return item;
    }),
  );
  notes.hidden = relations.length === 0;
  enliven();
}

if (notes && area) {
  const title = document.createElement("h2");
  const name = notes.querySelector("[data-model]");
  title.append(...globalThis.declbindNodes("Click a relation of {model}", { model: name }));
  notes.querySelector("h2").replaceWith(title);
  area.closest(".form-row").append(notes);
  enliven();
  area.addEventListener("input", mark);
  document.addEventListener("declbind:fields", (event) => show(event.detail));
}
