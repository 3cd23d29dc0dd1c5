// Make the form handier: the fields of the chosen model, a click puts one in; codenames only where they count.

const panel = document.querySelector("#declbind-fieldnotes");
const model = document.querySelector("#id_model");
const groups = document.querySelector("#id_groups");
const lists = [...document.querySelectorAll("textarea.declbind-lines")];
let target = document.querySelector("#id_fields_names");

for (const list of lists) {
  list.addEventListener("focus", () => {
    target = list;
  });
}

function insert(item) {
  if (!target) return;
  if (target === groups) {
    // Where the cursor is, because a placeholder is a part of a template.
    const name = item.dataset.attname || item.dataset.name;
    target.setRangeText(`{${name}}`, target.selectionStart, target.selectionEnd, "end");
  } else {
    const lines = target.value.split("\n").filter((line) => line.trim());
    if (!lines.includes(item.dataset.name)) lines.push(item.dataset.name);
    target.value = lines.join("\n");
    chooseNamed(target);
  }
  target.focus();
}

// Names count only with the choice that asks for names.
function chooseNamed(list) {
  const choice = list.closest(".declbind-choice");
  if (!choice) return;
  const named = [...choice.querySelectorAll('input[type="radio"]')].filter((radio) => ["these", "but"].includes(radio.value));
  if (named.length && !named.some((radio) => radio.checked)) named[0].checked = true;
}

for (const list of lists) list.addEventListener("input", () => chooseNamed(list));

function enliven() {
  for (const item of panel.querySelectorAll("li")) {
    const code = item.querySelector("code");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "declbind-insert";
    button.title = "Put it into the list that was used last";
    button.append(code.cloneNode(true));
    button.addEventListener("click", () => insert(item));
    code.replaceWith(button);
  }
}

function text(tag, className, content) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.textContent = content;
  return element;
}

async function showFields() {
  const address = new URL(panel.dataset.url, location.href);
  address.searchParams.set("model", model.value);
  const answer = await fetch(address, { credentials: "same-origin" }).catch(() => null);
  if (!answer?.ok) return;
  const { fields } = await answer.json();
  panel.querySelector("[data-model]").textContent = model.value;
  panel.querySelector("ul").replaceChildren(
    ...fields.map((field) => {
      const item = document.createElement("li");
      item.dataset.name = field.name;
      if (field.is_column) item.dataset.attname = field.attname;
      item.append(text("code", "", field.name), " ", text("span", "declbind-quiet", field.kind));
      for (const mark of field.marks) item.append(" ", text("span", "declbind-mark", mark));
      return item;
    }),
  );
  panel.hidden = fields.length === 0;
  enliven();
}

if (panel && model) {
  enliven();
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
