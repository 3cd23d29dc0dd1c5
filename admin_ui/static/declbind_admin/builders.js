// Builders for the JSON objects of the form: choose a field, a comparison and a value. The text area remains the form's
// data and stays one click away. What a builder cannot show, it leaves as it is.

const text = globalThis.declbindText;
const notes = document.querySelector("#declbind-fieldnotes");
const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?$/;
const NUMERIC = /Integer|Float|Auto|ForeignKey|OneToOne/;
let serial = 0;

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** The columns of the chosen model. */
function readColumns() {
  return [...(notes?.querySelectorAll("li[data-attname]") ?? [])].map((item) => ({
    name: item.dataset.name,
    attname: item.dataset.attname,
    kind: item.querySelector(".declbind-quiet")?.textContent ?? "",
  }));
}

function readRelations() {
  return [...(notes?.querySelectorAll("li") ?? [])]
    .map((item) => ({ name: item.dataset.name, kind: item.querySelector(".declbind-quiet")?.textContent ?? "" }))
    .filter(({ kind }) => kind.includes("\u2192"));
}

function choose(label, options, value, onChange) {
  const select = make("select", { "aria-label": label });
  const known = options.some(([name]) => name === value);
  for (const [name, words] of known || value === "" ? options : [[value, value], ...options]) {
    select.append(make("option", { value: name, selected: name === value }, words));
  }
  select.addEventListener("change", (event) => {
    event.stopPropagation();
    onChange(select.value);
  });
  return select;
}

function enter(label, value, placeholder, onInput) {
  const input = make("input", { type: "text", "aria-label": label, placeholder, spellcheck: "false" });
  input.value = value;
  input.addEventListener("input", (event) => {
    event.stopPropagation();
    onInput(input.value);
  });
  input.addEventListener("change", (event) => event.stopPropagation());
  return input;
}

/** A value of a condition as JSON: a number for a numeric column, else a text. */
function encode(typed, kind) {
  return NUMERIC.test(kind) && NUMBER.test(typed.trim()) ? Number(typed) : typed;
}

function shown(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

const COMPARISONS = [["is", text("is")], ["in", text("is one of")], ["empty", text("is empty")]];
const WHERE = {
  add: text("Add a condition"),
  start: () => ["", ""],
  canShow: (value) => value === null || typeof value !== "object" || (Array.isArray(value) && value.every(WHERE.canShow)),
  draw(row, change) {
    const columns = readColumns();
    const column = columns.find(({ name, attname }) => row.key === name || row.key === attname);
    const mode = row.value === null ? "empty" : Array.isArray(row.value) ? "in" : "is";
    const parts = [
      choose(text("Field"), [["", text("Choose a field")], ...columns.map(({ name }) => [name, name])], row.key, (key) => {
        const found = columns.find(({ name }) => name === key);
        change({ key, value: found?.kind.startsWith("Boolean") ? true : row.value === true ? "" : row.value });
      }),
      choose(text("Comparison"), COMPARISONS, mode, (next) => {
        const first = Array.isArray(row.value) ? (row.value[0] ?? "") : (row.value ?? "");
        change({ ...row, value: next === "empty" ? null : next === "in" ? [first] : first });
      }),
    ];
    if (mode === "is" && (typeof row.value === "boolean" || column?.kind.startsWith("Boolean"))) {
      parts.push(choose(text("Value"), [["true", text("true")], ["false", text("false")]], String(row.value), (typed) =>
        change({ ...row, value: typed === "true" })));
    } else if (mode !== "empty") {
      const written = mode === "in" ? row.value.map(shown).join(", ") : shown(row.value);
      parts.push(enter(text("Value"), written, mode === "in" ? text("open, answered") : text("value"), (typed) => {
        const kind = column?.kind ?? "";
        const value = mode === "in" ? typed.split(",").map((part) => encode(part.trim(), kind)) : encode(typed, kind);
        change({ ...row, value }, false);
      }));
    }
    return parts;
  },
};

const OWNER = /^\$user\.\w+$/;
const SCOPE = {
  add: text("Limit users to their own rows"),
  start: () => ["", "$user.pk"],
  canShow: (value) => typeof value === "string" && OWNER.test(value),
  draw(row, change) {
    const columns = readColumns();
    return [
      choose(text("Field"), [["", text("Choose a field")], ...columns.map(({ attname }) => [attname, attname])], row.key,
        (key) => change({ ...row, key })),
      make("span", {}, text("is")),
      choose(text("Whose"), [["$user.pk", text("the user")], ["other", text("a field of the user:")]],
        row.value === "$user.pk" ? "$user.pk" : "other",
        (value) => change({ ...row, value: value === "other" ? "$user.id" : value })),
      ...(row.value === "$user.pk" ? [] : [enter(text("Field of the user"), row.value.slice("$user.".length), "team_id",
        (typed) => change({ ...row, value: `$user.${typed}` }, false))]),
    ];
  },
};

const RELATE = {
  add: text("Say which rows clients may link to"),
  start: () => ["", "any"],
  canShow(value) {
    if (value === "any") return true;
    const entries = value && typeof value === "object" ? Object.entries(value) : [];
    return entries.length === 1 && entries[0][1] === "$user.pk";
  },
  draw(row, change) {
    const relations = readRelations();
    const isAny = row.value === "any";
    return [
      choose(text("Relation"),
        [["", text("Choose a relation")], ...relations.map(({ name, kind }) => [name, `${name} ${kind}`])],
        row.key, (key) => change({ ...row, key })),
      choose(text("Rows"), [["any", text("any row")], ["own", text("only rows of the user, by their field:")]],
        isAny ? "any" : "own",
        (mode) => change({ ...row, value: mode === "any" ? "any" : { owner_id: "$user.pk" } })),
      ...(isAny ? [] : [enter(text("Field of the related row"), Object.keys(row.value)[0], "owner_id",
        (typed) => change({ ...row, value: { [typed]: "$user.pk" } }, false))]),
    ];
  },
};

const KINDS = { where: WHERE, scope: SCOPE, relate: RELATE };

/** The object of a JSON text; null for a text that is none. */
function parse(json) {
  if (!json.trim()) return {};
  try {
    const found = JSON.parse(json);
    return found && typeof found === "object" && !Array.isArray(found) ? found : null;
  } catch {
    return null;
  }
}

class Builder {
  constructor(area) {
    this.area = area;
    this.kind = KINDS[area.dataset.builds];
    this.rows = [];
    this.list = make("ul", { class: "declbind-conditions" });
    this.add = make("button", { type: "button", class: "button" }, this.kind.add);
    this.add.addEventListener("click", () => {
      const [key, value] = this.kind.start();
      this.rows.push({ key, value });
      this.draw();
      this.list.lastElementChild.querySelector("select, input").focus();
    });
    this.box = make("div", { class: "declbind-builder" }, this.list, this.add);
    this.text = make("details", { class: "declbind-as-text" }, make("summary", {}, text("As JSON")));
    this.mistake = make("p", { class: "declbind-mistake", role: "status" });
    area.replaceWith(this.box, this.text);
    this.text.append(area, this.mistake);
    area.addEventListener("input", (event) => {
      if (event.isTrusted || !this.isWriting) this.read();
    });
    // The server says what is wrong and in which line.
    document.addEventListener("declbind:problems", ({ detail }) => {
      const mistakes = detail.filter(([name]) => name === area.name).map(([, mistake]) => mistake);
      this.mistake.textContent = mistakes.join(" ");
    });
    this.read();
  }

  /** Show the text of the area; a text that the builder cannot show is edited as text. */
  read() {
    const found = parse(this.area.value);
    const isShown = found !== null && Object.values(found).every((value) => this.kind.canShow(value));
    this.box.hidden = !isShown;
    if (!isShown) {
      this.text.open = true;
      return;
    }
    this.rows = Object.entries(found).map(([key, value]) => ({ key, value }));
    this.draw();
  }

  draw() {
    this.list.replaceChildren(...this.rows.map((row, at) => this.line(row, at)));
  }

  line(row, at) {
    const change = (next, redraws = true) => {
      this.rows[at] = next;
      Object.assign(row, next);
      this.write();
      if (!redraws) return;
      const focused = [...line.querySelectorAll("select, input, button")].indexOf(document.activeElement);
      this.draw();
      this.list.children[at]?.querySelectorAll("select, input, button")[focused]?.focus();
    };
    const remove = make("button", { type: "button", class: "declbind-remove" }, text("Remove"));
    remove.addEventListener("click", () => {
      this.rows.splice(at, 1);
      this.write();
      this.draw();
      this.add.focus();
    });
    const line = make("li", { id: `declbind-condition-${(serial += 1)}` }, ...this.kind.draw(row, change), remove);
    return line;
  }

  write() {
    const found = Object.fromEntries(this.rows.filter(({ key }) => key).map(({ key, value }) => [key, value]));
    this.area.value = Object.keys(found).length ? JSON.stringify(found, null, 2) : "";
    this.mistake.textContent = "";
    this.isWriting = true;
    this.area.dispatchEvent(new Event("input", { bubbles: true }));
    this.area.dispatchEvent(new Event("change", { bubbles: true }));
    this.isWriting = false;
  }
}

/** "One group for each ...", in place of a typed template. */
function buildGroups(area) {
  const stream = document.querySelector("#id_stream");
  const box = make("div", { class: "declbind-builder" });
  const draw = () => {
    const columns = readColumns();
    const select = make("select", { id: "declbind-group-field" });
    for (const { attname } of columns) select.append(make("option", { value: attname }, attname));
    for (const kind of ["input", "change"]) select.addEventListener(kind, (event) => event.stopPropagation());
    const add = make("button", { type: "button", class: "button" }, text("Add"));
    add.addEventListener("click", () => {
      const lines = area.value.split("\n").filter((line) => line.trim());
      const wanted = `${stream.value || "rows"}-by-${select.value}-{${select.value}}`.replace(/-by-(\w+?)_id-/, "-by-$1-");
      if (!lines.includes(wanted)) area.value = [...lines, wanted].join("\n");
      area.dispatchEvent(new Event("input", { bubbles: true }));
      area.dispatchEvent(new Event("change", { bubbles: true }));
    });
    box.replaceChildren(make("label", { for: select.id }, text("One group for each")), select, add);
    box.hidden = !columns.length;
  };
  draw();
  area.before(box);
  document.addEventListener("declbind:fields", draw);
}

const builders = [...document.querySelectorAll("textarea[data-builds]")]
  .filter((area) => area.dataset.builds in KINDS && !area.disabled)
  .map((area) => new Builder(area));
document.addEventListener("declbind:fields", () => builders.forEach((builder) => builder.read()));
const groups = document.querySelector("#id_groups");
if (groups && !groups.disabled) buildGroups(groups);
