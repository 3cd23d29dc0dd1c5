/** What all live pages share: the connection with its state on the page, and errors beside their fields. */

import { connect } from '../declbind/declbind.js';

const FIRST_RETRY = 2_000; // of a blocked user; each further one takes twice as long
const LAST_RETRY = 60_000;
const TEXTS = {
  connecting: 'Connecting',
  live: 'Live',
  reconnecting: 'Connection lost, trying again',
  refused: 'Signed out: reload the page',
  closed: 'Closed',
};

function disconnected(reason) {
  return `Disconnected: ${reason.replace(/\.$/, '')}. Trying again`;
}

/** Connect, and show the connection's state. */
export function connectPage() {
  const client = connect();
  const place = document.querySelector('[data-status]');
  let wait = FIRST_RETRY;
  let calm = 0;
  const show = ({ detail = {} } = {}) => {
    place.dataset.state = client.state;
    place.textContent = TEXTS[client.state];
    clearTimeout(calm);
    if (client.state === 'live') calm = setTimeout(() => (wait = FIRST_RETRY), LAST_RETRY);
    if (client.state === 'reconnecting' && detail.reason) place.textContent = disconnected(detail.reason);
    if (client.state !== 'refused' || detail.code === 4401) return;
    // A blocked user is refused again until the block ends, so the page tries less and less often.
    place.textContent = disconnected(detail.reason || 'no longer allowed');
    setTimeout(() => client.reconnect(), wait);
    wait = Math.min(LAST_RETRY, 2 * wait);
  };
  client.addEventListener('state', show);
  show();
  place.hidden = false;
  for (const button of document.querySelectorAll('[data-needs-script]')) button.disabled = false;
  return client;
}

/** Show on the page that one subscription ended, and why. */
export function showEnd(subscription) {
  const place = document.querySelector('[data-status]');
  const texts = {
    permission: 'You may no longer see this',
    denied: 'You may not see this',
    disabled: 'Switched off by the operator',
    unknown_stream: 'Switched off by the operator',
    removed: 'Removed by the operator',
    changed: 'Changed by the operator: reload the page',
  };
  subscription.addEventListener('closed', ({ detail: { reason } }) => {
    if (reason === 'client') return;
    place.dataset.state = 'closed';
    place.textContent = texts[reason] ?? `Ended (${reason})`;
  });
}

/** Run a function once before the next frame, however often it is requested. */
export function oncePerFrame(draw) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  };
}

/** Put the texts of a refused write beside the fields of its form; others go to the form's own place. */
export function showErrors(form, error) {
  const places = new Map([...form.querySelectorAll('[data-error]')].map((place) => [place.dataset.error, place]));
  for (const [name, place] of places) {
    place.textContent = '';
    form.elements[name]?.removeAttribute('aria-invalid');
  }
  if (!error) return;
  const rest = [];
  for (const [name, texts] of Object.entries(error.fields ?? {})) {
    if (places.has(name) && name !== '__all__') {
      places.get(name).textContent = texts.join(' ');
      form.elements[name]?.setAttribute('aria-invalid', 'true');
    } else {
      rest.push(...texts);
    }
  }
  if (!Object.keys(error.fields ?? {}).length) rest.push(error.message);
  const place = places.get('__all__') ?? places.values().next().value;
  if (rest.length) place.textContent = [place.textContent, ...rest].filter(Boolean).join(' ');
  form.querySelector('[aria-invalid]')?.focus();
}
