/** The ticker: a subscription for each ticked share; its rows are the history, its changes arrive live. */

import { connectPage, oncePerFrame, showEnd } from '../example/status.js';
import { Chart, monthOf } from './chart.js';

const place = document.querySelector('[data-chart]');
const chart = new Chart(place);
const log = document.querySelector('[data-log]');
const shown = document.querySelector('[data-shown]');
const empty = place.querySelector('[data-empty]');
const prices = connectPage().stream('ticker');
const redraw = oncePerFrame(draw);

const shares = [...document.querySelectorAll('[data-symbol]')].map((chip) => ({
  symbol: chip.dataset.symbol,
  series: `series-${chip.dataset.series}`,
  box: chip.querySelector('input'),
  price: chip.querySelector('[data-price]'),
  change: chip.querySelector('[data-change]'),
  watch: null,
}));

for (const share of shares) {
  share.box.addEventListener('change', () => {
    follow(share);
    redraw();
  });
  follow(share);
}
log.addEventListener('change', redraw);

/** Subscribe to a share exactly while it is ticked. */
function follow(share) {
  if (share.box.checked === Boolean(share.watch)) return;
  if (share.box.checked) {
    share.watch = prices.subscribe({ symbol: share.symbol }, { onRows: redraw });
    showEnd(share.watch);
  } else {
    share.watch.unsubscribe();
    share.watch = null;
  }
}

function draw() {
  const lines = shares.map((share) => {
    const rows = share.watch ? [...share.watch.rows.values()] : [];
    const points = rows
      .map(({ date, price }) => ({ time: Date.parse(date), value: Number(price) }))
      .sort((a, b) => a.time - b.time);
    showLatest(share, points);
    return { name: share.symbol, className: share.series, points };
  });
  chart.show(lines, log.checked);
  const times = lines.flatMap(({ points }) => points.slice(-1).map((point) => point.time));
  empty.hidden = times.length > 0;
  shown.textContent = times.length ? `, ${monthOf(Math.max(...times))}` : '';
}

function showLatest({ price, change }, points) {
  const [before, last] = points.slice(-2).length === 2 ? points.slice(-2) : [null, points[points.length - 1]];
  price.textContent = last ? last.value.toFixed(2) : '–';
  const percent = before ? ((last.value - before.value) / before.value) * 100 : 0;
  change.textContent = before ? `${percent < 0 ? '▼' : '▲'} ${Math.abs(percent).toFixed(1)} %` : '';
  change.className = percent < 0 ? 'down' : 'up';
}
