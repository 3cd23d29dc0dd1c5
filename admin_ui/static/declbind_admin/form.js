// Conveniences for the form: click columns of the chosen model into group templates; show codenames only where they apply.

const text = globalThis.declbindText;
const notes = document.querySelector("#declbind-fieldnotes");
const model = document.querySelector("#id_model");
const groups = document.querySelector("#id_groups");
const stream = document.querySelector("#id_stream");
const isNew = document.querySelector("#declbind-panel")?.dataset.object === "";
let proposed = stream?.value ?? "";
const codenames = [...document.querySelectorAll(".declbind-permissions datalist")];

// Names apply only to the choice that takes names.
for (const choice of document.querySelectorAll(".declbind-choice")) {
  const radios = [...choice.querySelectorAll('input[type="radio"]')];
  const named = radios.filter((radio) => ["these", "but"].includes(radio.value));
  choice.querySelector("textarea")?.addEventListener("input", () => {
    if (named.length && !named.some((radio) => radio.checked)) named[0].checked = true;
  });
}

function insert(item) {
  // At the cursor, because a placeholder is a part of a template.
  groups.setRangeText(`{${item.dataset.attname}}`, groups.selectionStart, groups.selectionEnd, "end");
  groups.dispatchEvent(new Event("input", { bubbles: true }));
  groups.focus();
}

function enliven() {
  for (const item of notes.querySelectorAll("li")) {
    // Only columns can be used in a template.
    item.hidden = !item.dataset.attname;
    const code = item.querySelector("code");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "declbind-insert";
    button.title = text("Insert it into the template at the cursor");
    button.append(code.cloneNode(true));
    button.addEventListener("click", () => insert(item));
    code.replaceWith(button);
  }
}

function make(tag, className, content) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.textContent = content;
  return element;
}

async function showFields() {
  const wanted = model.value;
  const address = new URL(notes.dataset.url, location.href);
  address.searchParams.set("model", wanted);
  const answer = await fetch(address, { credentials: "same-origin" }).catch(() => null);
  if (!answer?.ok || model.value !== wanted) return;
  const { fields, relations, key, stream: proposal } = await answer.json();
  if (model.value !== wanted) return;
  // A name that a person typed stays.
  if (isNew && stream.value === proposed) {
    stream.value = proposed = proposal;
    stream.dispatchEvent(new Event("input", { bubbles: true }));
  }
  notes.querySelector("[data-model]").textContent = wanted;
  notes.dataset.key = key;
  notes.querySelector("ul").replaceChildren(
    ...fields.map((field) => {
      const item = document.createElement("li");
      item.dataset.name = field.name;
      if (field.is_column) item.dataset.attname = field.attname;
      if (field.is_sensitive) item.dataset.sensitive = "";
      if (!field.is_editable) item.dataset.fixed = "";
      item.append(make("code", "", field.name), " ", make("span", "declbind-quiet", field.kind));
      for (const mark of field.marks) item.append(" ", make("span", "declbind-mark", mark));
      return item;
    }),
  );
  notes.hidden = fields.length === 0;
  enliven();
  sortCodenames();
  document.dispatchEvent(new CustomEvent("declbind:fields", { detail: { model: wanted, relations } }));
}

// The codenames of the model's own app are offered first.
function sortCodenames() {
  const app = `${model.value.split(".")[0].toLowerCase()}.`;
  const isOwn = (option) => option.value.startsWith(app);
  for (const list of codenames) {
    const options = [...list.options].sort((one, two) => one.value.localeCompare(two.value));
    list.replaceChildren(...options.filter(isOwn), ...options.filter((option) => !isOwn(option)));
  }
}

if (notes && model && groups) {
  const title = make("h2", "", "");
  const name = notes.querySelector("[data-model]");
  title.append(...globalThis.declbindNodes("Click a column of {model} to put it into a template", { model: name }));
  notes.querySelector("h2").replaceWith(title);
  groups.closest(".form-row").append(notes);
  enliven();
  sortCodenames();
  model.addEventListener("change", showFields);
}

for (const row of document.querySelectorAll(".declbind-permission")) {
  const rule = row.querySelector("select");
  const codename = row.querySelector("input");
  const follow = () => {
    codename.hidden = rule.value !== "holders";
    if (codename.hidden) codename.value = "";
  };
  rule.addEventListener("change", follow);
  codename.hidden = rule.value !== "holders" && !codename.value;
}
