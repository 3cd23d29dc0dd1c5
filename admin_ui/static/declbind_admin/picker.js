// Two lists instead of typed names: available and chosen. The text area below remains the form's data. It keeps names
// that the model does not have, and its order.

const text = globalThis.declbindText;
const notes = document.querySelector("#declbind-fieldnotes");
const sentArea = document.querySelector('textarea[data-picks="sent"]');

/** The fields of the chosen model, as the page lists them. */
function readFields() {
  return [...(notes?.querySelectorAll("li") ?? [])].map((item) => ({
    name: item.dataset.name,
    kind: item.querySelector(".declbind-quiet")?.textContent ?? "",
    marks: [...item.querySelectorAll(".declbind-mark")].map((mark) => mark.textContent),
    isSensitive: "sensitive" in item.dataset,
    isEditable: !("fixed" in item.dataset),
  }));
}

function readNames(area) {
  return area.value.split("\n").map((line) => line.trim()).filter(Boolean);
}

function modeOf(area) {
  return area.closest(".declbind-choice")?.querySelector('input[type="radio"]:checked')?.value ?? "these";
}

/** The names that are sent according to the form. */
function readSent(fields) {
  const names = readNames(sentArea);
  const plain = fields.filter((field) => !field.isSensitive).map((field) => field.name);
  switch (modeOf(sentArea)) {
    case "these": return names;
    case "but": return plain.filter((name) => !names.includes(name));
    case "all": return plain;
    default: return [];
  }
}

function make(tag, className, content = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (content) element.textContent = content;
  return element;
}

/** One of the two lists: a filter above, options below, one of them active. */
class List {
  constructor(id, move) {
    this.move = move;
    this.active = null;
    this.box = make("div", "declbind-list");
    this.title = make("span", "declbind-list-title");
    this.title.id = `${id}_title`;
    this.filter = make("input");
    this.filter.type = "search";
    this.filter.placeholder = text("Filter");
    this.list = make("ul");
    this.list.id = id;
    this.list.setAttribute("role", "listbox");
    this.list.setAttribute("aria-labelledby", this.title.id);
    this.list.tabIndex = 0;
    this.box.append(this.title, this.filter, this.list);
    this.filter.addEventListener("input", (event) => {
      event.stopPropagation();
      this.render();
    });
    this.filter.addEventListener("keydown", (event) => this.onFilterKey(event));
    this.list.addEventListener("keydown", (event) => this.onKey(event));
    // Mouse clicks must not scroll, or a second click would hit another option.
    this.list.addEventListener("focus", () => {
      if (this.list.matches(":focus-visible")) this.activate(this.active ?? this.shown[0]?.name);
    });
    this.list.addEventListener("click", (event) => this.activate(event.target.closest("li")?.dataset.name, false));
    this.list.addEventListener("dblclick", (event) => {
      const item = event.target.closest("li");
      if (item) this.move(item.dataset.name);
    });
  }

  get shown() {
    const wanted = this.filter.value.trim().toLowerCase();
    return this.items.filter((item) => `${item.name} ${item.kind}`.toLowerCase().includes(wanted));
  }

  show(title, items) {
    this.items = items;
    this.title.textContent = title;
    this.filter.setAttribute("aria-label", text("Filter: {title}", { title }));
    this.render();
  }

  render() {
    const { shown } = this;
    if (!shown.some((item) => item.name === this.active)) this.active = null;
    this.list.replaceChildren(...shown.map((item) => this.option(item)));
    this.mark();
  }

  option(item) {
    const option = make("li", item.isUnknown ? "declbind-unknown" : "");
    option.id = `${this.list.id}_${item.name}`;
    option.dataset.name = item.name;
    option.setAttribute("role", "option");
    option.append(make("code", "", item.name));
    if (item.kind) option.append(" ", make("span", "declbind-kind", item.kind));
    for (const mark of item.marks) option.append(" ", make("span", "declbind-mark", mark));
    return option;
  }

  activate(name, scrolls = true) {
    if (name === undefined) return;
    this.active = name;
    this.mark(scrolls);
  }

  mark(scrolls = true) {
    for (const option of this.list.children) {
      const isActive = option.dataset.name === this.active;
      option.setAttribute("aria-selected", String(isActive));
      if (isActive && scrolls) option.scrollIntoView({ block: "nearest" });
    }
    if (this.active) this.list.setAttribute("aria-activedescendant", `${this.list.id}_${this.active}`);
    else this.list.removeAttribute("aria-activedescendant");
  }

  /** Move the active option to the other list, and activate its neighbour. */
  moveActive() {
    const { shown } = this;
    const at = shown.findIndex((item) => item.name === this.active);
    if (at < 0) return;
    const next = (shown[at + 1] ?? shown[at - 1])?.name ?? null;
    const moved = this.active;
    this.active = next;
    this.move(moved);
  }

  onKey(event) {
    const { shown } = this;
    const at = shown.findIndex((item) => item.name === this.active);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: shown.length - 1 }[event.key];
    if (event.altKey && to !== undefined && this.reorder) {
      event.preventDefault();
      if (this.active) this.reorder(this.active, event.key === "ArrowUp" ? -1 : 1);
    } else if (to !== undefined) {
      event.preventDefault();
      this.activate(shown[Math.min(Math.max(to, 0), shown.length - 1)]?.name);
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.moveActive();
    } else if (event.key === "Escape" && this.filter.value) {
      event.preventDefault();
      this.filter.value = "";
      this.render();
    } else if (event.key.length === 1 && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      this.filter.value += event.key;
      this.filter.focus();
      this.render();
    }
  }

  onFilterKey(event) {
    if (event.key === "Enter") {
      event.preventDefault();
      const first = this.shown[0];
      if (first) this.move(first.name);
    } else if (event.key === "ArrowDown") {
      event.preventDefault();
      this.active = this.shown[0]?.name ?? null;
      this.list.focus();
    } else if (event.key === "Escape" && this.filter.value) {
      event.preventDefault();
      this.filter.value = "";
      this.render();
    }
  }
}

class Picker {
  constructor(area) {
    this.area = area;
    this.picks = area.dataset.picks;
    this.left = new List(`${area.id}_left`, (name) => this.set(name, true));
    this.right = new List(`${area.id}_right`, (name) => this.set(name, false));
    this.right.reorder = (name, by) => this.reorder(name, by);
    this.status = make("p", "declbind-visually-hidden");
    this.status.setAttribute("role", "status");
    this.add = this.button("\u203a", () => this.left.moveActive());
    this.remove = this.button("\u2039", () => this.right.moveActive());
    const moves = make("div", "declbind-moves");
    moves.append(this.add, this.remove);
    this.box = make("div", "declbind-picker");
    this.box.append(this.left.box, moves, this.right.box, this.status);
    this.text = make("details", "declbind-as-text");
    this.text.append(make("summary", "", text("As text")));
    const wrapped = area.closest(".declbind-names") ?? area;
    wrapped.replaceWith(this.box, this.text);
    this.text.append(wrapped);
    area.addEventListener("input", () => this.render());
    area.closest(".declbind-choice")?.addEventListener("change", () => this.render());
    this.render();
  }

  button(sign, action) {
    const button = make("button", "button");
    button.type = "button";
    const arrow = make("span", "declbind-arrow", sign);
    arrow.setAttribute("aria-hidden", "true");
    button.append(arrow);
    button.addEventListener("click", action);
    return button;
  }

  titles() {
    if (this.picks === "sensitive") return [text("Never sent"), text("Exposed knowingly")];
    if (this.picks === "editable") return [text("Not accepted"), text("Accepted")];
    return modeOf(this.area) === "but" ? [text("Sent"), text("Left out")] : [text("Not sent"), text("Sent")];
  }

  candidates(fields) {
    if (this.picks === "sensitive") return fields.filter((field) => field.isSensitive);
    if (this.picks !== "editable") return fields;
    const sent = readSent(fields);
    return fields.filter((field) => sent.includes(field.name) && field.isEditable);
  }

  render() {
    const isNamed = ["these", "but"].includes(modeOf(this.area));
    this.text.hidden = !isNamed;
    const fields = readFields();
    const byName = new Map(fields.map((field) => [field.name, field]));
    const candidates = this.candidates(fields);
    const names = [...new Set(readNames(this.area))];
    const chosen = names.map((name) => {
      const field = byName.get(name);
      if (!field) {
        const isKey = name === notes?.dataset.key;
        return { name, kind: isKey ? text("primary key") : "", marks: isKey ? [] : [text("not in the model")], isUnknown: !isKey };
      }
      const isOff = this.picks === "editable" && !candidates.includes(field);
      return isOff ? { ...field, marks: [...field.marks, text("not sent")] } : field;
    });
    // A model without sensitive fields needs no lists of them.
    this.box.hidden = !isNamed || (this.picks === "sensitive" && !candidates.length && !names.length);
    const [left, right] = this.titles();
    this.left.show(left, candidates.filter((field) => !names.includes(field.name)));
    this.right.show(right, chosen);
    this.add.setAttribute("aria-label", text("Move to: {list}", { list: right }));
    this.remove.setAttribute("aria-label", text("Move to: {list}", { list: left }));
  }

  set(name, isChosen) {
    const names = readNames(this.area).filter((other) => other !== name);
    if (isChosen) names.push(name);
    this.write(names);
    const [left, right] = this.titles();
    const moved = { name, list: isChosen ? right : left, count: names.length, chosen: right };
    this.status.textContent = text("{name}: {list}. {count} in {chosen}.", moved);
  }

  reorder(name, by) {
    const names = readNames(this.area);
    const at = names.indexOf(name);
    const to = at + by;
    if (to < 0 || to >= names.length) return;
    names.splice(at, 1);
    names.splice(to, 0, name);
    this.write(names);
    this.status.textContent = text("{name} is number {number} of {total}.", { name, number: to + 1, total: names.length });
  }

  write(names) {
    this.area.value = names.join("\n");
    this.area.dispatchEvent(new Event("input", { bubbles: true }));
  }
}

const pickers = [...document.querySelectorAll("textarea[data-picks]")]
  .filter((area) => !area.disabled)
  .map((area) => new Picker(area));

document.addEventListener("declbind:fields", () => {
  for (const picker of pickers) {
    for (const list of [picker.left, picker.right]) list.filter.value = "";
    picker.render();
  }
});
// The writable fields depend on the sent ones.
for (const kind of ["input", "change"]) {
  sentArea?.closest(".declbind-choice").addEventListener(kind, () => {
    for (const picker of pickers) if (picker.picks === "editable") picker.render();
  });
}
