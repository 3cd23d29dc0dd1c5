/** The board: one subscription, and a write for each click. */

import { connectPage, oncePerFrame, showEnd, showErrors } from './status.js';

const list = document.querySelector('[data-board]');
const empty = document.querySelector('[data-empty]');
const message = document.querySelector('[data-message]');
const tools = document.querySelector('[data-tools]');
const tiles = new Map();
const changed = new Set();

const numbers = connectPage().stream('intval');
const watch = numbers.subscribe();
watch.addEventListener('change', ({ detail }) => changed.add(detail.pk));
watch.addEventListener('rows', oncePerFrame(draw));
showEnd(watch);

function draw() {
  if (tiles.size === 0) list.replaceChildren(); // Rendered by the server.
  const rows = [...watch.rows].sort(([a, x], [b, y]) => x.name.localeCompare(y.name) || a - b);
  for (const [pk, tile] of tiles) {
    if (watch.rows.has(pk)) continue;
    tile.remove();
    tiles.delete(pk);
  }
  rows.forEach(([pk, data], index) => {
    const tile = tiles.get(pk) ?? makeTile(pk);
    tile.querySelector('.name').textContent = data.name;
    tile.querySelector('.number').textContent = data.value;
    for (const button of tile.querySelectorAll('button')) button.setAttribute('aria-label', labelOf(button, data.name));
    // Moved only if necessary, because a moved button loses the focus.
    if (list.children[index] !== tile) list.insertBefore(tile, list.children[index] ?? null);
    if (changed.has(pk)) flash(tile);
  });
  changed.clear();
  empty.hidden = rows.length > 0;
}

function makeTile(pk) {
  const tile = document.createElement('li');
  tile.className = 'tile';
  tile.dataset.pk = pk;
  const name = document.createElement('span');
  name.className = 'name';
  const number = document.createElement('output');
  number.className = 'number';
  tile.append(name, number);
  if (tools) {
    tile.append(tools.content.cloneNode(true));
    for (const button of tile.querySelectorAll('[data-step]')) {
      button.addEventListener('click', () => tell(step(pk, Number(button.dataset.step))));
    }
    tile.querySelector('[data-remove]').addEventListener('click', () => tell(numbers.delete(pk)));
  }
  tiles.set(pk, tile);
  return tile;
}

function labelOf(button, name) {
  if (!button.dataset.step) return `Remove ${name}`;
  return `${button.dataset.step > 0 ? 'Increase' : 'Decrease'} ${name}`;
}

/** Add to the current number; after a conflict, to the new one. */
async function step(pk, by) {
  let value = watch.rows.get(pk).value;
  for (let tries = 0; ; tries += 1) {
    try {
      return await numbers.update(pk, { value: value + by }, { if: { value } });
    } catch (error) {
      if (error.code !== 'conflict' || tries === 10) throw error;
      value = await newerValue(pk, value);
    }
  }
}

/** Wait for the change that caused the conflict; it may have arrived already. */
function newerValue(pk, known) {
  return new Promise((resolve) => {
    const look = () => {
      const value = watch.rows.get(pk)?.value;
      if (value === known && Date.now() < end) return;
      watch.removeEventListener('rows', look);
      clearInterval(timer);
      resolve(value ?? known);
    };
    const end = Date.now() + 2000;
    const timer = setInterval(look, 500);
    watch.addEventListener('rows', look);
    look();
  });
}

async function tell(write) {
  try {
    await write;
    message.hidden = true;
  } catch (error) {
    message.textContent = error.message;
    message.hidden = false;
  }
}

function flash(tile) {
  tile.classList.remove('flash');
  void tile.offsetWidth; // Starts the animation anew.
  tile.classList.add('flash');
}

document.querySelector('[data-create]')?.addEventListener('submit', async (event) => {
  event.preventDefault();
  const form = event.target;
  const { name, value } = form.elements;
  try {
    await numbers.create({ name: name.value, value: value.value === '' ? null : Number(value.value) });
    form.reset();
    showErrors(form, null);
    name.focus();
  } catch (error) {
    showErrors(form, error);
  }
});
