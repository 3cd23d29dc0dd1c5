/** A blog: readers watch the published posts, editors see drafts too and write in place. */

import { connectPage, oncePerFrame, showEnd, showErrors } from '../example/status.js';

const list = document.querySelector('[data-posts]');
const empty = document.querySelector('[data-empty]');
const news = document.querySelector('[data-news]');
const template = document.querySelector('[data-editing]');
const blog = Number(list.dataset.blog);
const when = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });

/** @type {Map<number, {article: HTMLElement, shown: string, editing: boolean}>} */
const cards = new Map();
const changed = new Set();

const posts = connectPage().stream(list.dataset.stream);
const watch = posts.subscribe({ blog_id: blog });
watch.addEventListener('change', ({ detail: { action, pk, data } }) => {
  changed.add(pk);
  if (action === 'create') news.textContent = `New post: ${data.title}`;
});
watch.addEventListener('rows', oncePerFrame(draw));
showEnd(watch);

function draw() {
  if (cards.size === 0) list.replaceChildren(); // Rendered by the server.
  for (const [pk, card] of cards) {
    if (watch.rows.has(pk)) continue;
    card.article.remove();
    cards.delete(pk);
  }
  const rows = [...watch.rows].sort(([a, x], [b, y]) => y.created.localeCompare(x.created) || b - a);
  rows.forEach(([pk, data], index) => {
    if (!cards.has(pk)) cards.set(pk, { article: document.createElement('article'), shown: '', editing: false });
    const card = cards.get(pk);
    const text = JSON.stringify(data);
    // A form that is being filled in stays unchanged; saving it reports a conflict.
    if (card.shown !== text && !card.editing) {
      card.shown = text;
      show(card.article, pk, data);
    }
    if (list.children[index] !== card.article) list.insertBefore(card.article, list.children[index] ?? null);
    if (changed.has(pk)) flash(card.article);
  });
  changed.clear();
  empty.hidden = rows.length > 0;
}

function show(article, pk, data) {
  const isDraft = data.published === false;
  article.className = isDraft ? 'post draft' : 'post';
  article.dataset.pk = pk;
  const header = make('header', {}, make('h2', { textContent: data.title }));
  if (isDraft) header.append(make('span', { className: 'badge', textContent: 'Draft' }));
  const time = make('time', { dateTime: data.created, textContent: when.format(new Date(data.created)) });
  article.replaceChildren(
    header,
    make('p', { className: 'when' }, time),
    make('p', { className: 'body', textContent: data.body }),
  );
  if (!template) return;
  const edit = make('button', { className: 'quiet', textContent: 'Edit', ariaLabel: `Edit ${data.title}` });
  const remove = make('button', { className: 'quiet', textContent: 'Delete', ariaLabel: `Delete ${data.title}` });
  const problem = make('p', { className: 'error', role: 'alert' });
  edit.addEventListener('click', () => beginEditing(article, pk));
  remove.addEventListener('click', () => {
    posts.delete(pk).catch((error) => (problem.textContent = error.message));
  });
  article.append(make('div', { className: 'tools' }, edit, remove), problem);
}

function beginEditing(article, pk) {
  const card = cards.get(pk);
  const before = watch.rows.get(pk);
  const form = template.content.firstElementChild.cloneNode(true);
  for (const element of form.querySelectorAll('[id], [for], [aria-describedby]')) {
    for (const name of ['id', 'for', 'aria-describedby']) {
      if (element.hasAttribute(name)) element.setAttribute(name, `${element.getAttribute(name)}-${pk}`);
    }
  }
  fill(form, before);
  card.editing = true;
  const end = () => {
    card.editing = false;
    card.shown = '';
    draw();
    article.querySelector('button')?.focus();
  };
  form.querySelector('[data-cancel]').addEventListener('click', end);
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const now = read(form);
    const names = Object.keys(now).filter((name) => now[name] !== before[name]);
    if (names.length === 0) return end();
    const data = Object.fromEntries(names.map((name) => [name, now[name]]));
    // Only the fields that this form changes must be unchanged: two editors may share a post.
    const expected = Object.fromEntries(names.map((name) => [name, before[name]]));
    try {
      await posts.update(pk, data, { if: expected });
      return end();
    } catch (error) {
      if (error.code === 'conflict') {
        error.message = 'Somebody else has changed this post meanwhile. Cancel to see it, then edit again.';
      }
      return showErrors(form, error);
    }
  });
  article.replaceChildren(form);
  form.elements.title.focus();
}

document.querySelector('[data-create]')?.addEventListener('submit', async (event) => {
  event.preventDefault();
  const form = event.target;
  try {
    await posts.create({ blog, ...read(form) });
    form.reset();
    showErrors(form, null);
    form.elements.title.focus();
  } catch (error) {
    showErrors(form, error);
  }
});

function read(form) {
  const { title, body, published } = form.elements;
  return { title: title.value, body: body.value, published: published.checked };
}

function fill(form, data) {
  form.elements.title.value = data.title;
  form.elements.body.value = data.body;
  form.elements.published.checked = data.published;
}

function make(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

function flash(article) {
  article.classList.remove('flash');
  void article.offsetWidth; // Starts the animation anew.
  article.classList.add('flash');
}
