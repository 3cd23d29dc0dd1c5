/** Draw lines over time as SVG: logarithmic or linear, labelled at their ends, with a reading under the pointer. */

const SVG = 'http://www.w3.org/2000/svg';
const MARGIN = { top: 12, right: 52, bottom: 26, left: 40 };
const YEAR = 365.25 * 24 * 3600 * 1000;
const LABEL_HEIGHT = 15;

/**
 * @typedef {{name: string, className: string, points: {time: number, value: number}[]}} Series
 */
export class Chart {
  #place;
  #svg = node('svg', { role: 'img' });
  #tip = document.createElement('div');
  /** @type {Series[]} */
  #series = [];
  #isLog = true;
  #pointer = null;
  #scales = null;

  /** @param {HTMLElement} place  Fills it, whatever size it has or gets. */
  constructor(place) {
    this.#place = place;
    this.#tip.className = 'tip';
    this.#tip.hidden = true;
    place.append(this.#svg, this.#tip);
    new ResizeObserver(() => this.#draw()).observe(place);
    place.addEventListener('pointermove', (event) => this.#point(event.clientX));
    place.addEventListener('pointerdown', (event) => this.#point(event.clientX));
    place.addEventListener('pointerleave', () => this.#point(null));
  }

  /**
   * @param {Series[]} series  The points in the order of time.
   * @param {boolean} isLog
   */
  show(series, isLog) {
    this.#series = series.filter((one) => one.points.length > 0);
    this.#isLog = isLog;
    this.#draw();
  }

  #point(clientX) {
    this.#pointer = clientX === null ? null : clientX - this.#place.getBoundingClientRect().left;
    this.#draw();
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.#place;
    this.#svg.replaceChildren();
    this.#tip.hidden = true;
    if (this.#series.length === 0 || width < 120) return;
    this.#svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    this.#svg.setAttribute('aria-label', this.#summary());
    this.#scales = this.#fit(width, height);
    this.#drawAxes(width, height);
    for (const one of this.#series) this.#drawLine(one);
    this.#drawEnds(width, height);
    if (this.#pointer !== null) this.#drawReading(width, height);
  }

  /** Map time and value to the plane. */
  #fit(width, height) {
    const points = this.#series.flatMap((one) => one.points);
    const times = points.map((point) => point.time);
    const values = points.map((point) => point.value);
    const from = Math.min(...times);
    const to = Math.max(...times, from + YEAR);
    const low = this.#isLog ? Math.min(...values) * 0.9 : 0;
    const high = Math.max(...values) * 1.08;
    const scale = this.#isLog ? Math.log : (value) => value;
    const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
    return {
      from, to, low, high,
      x: (time) => MARGIN.left + ((time - from) / (to - from)) * inner.width,
      y: (value) => MARGIN.top + (1 - (scale(value) - scale(low)) / (scale(high) - scale(low))) * inner.height,
    };
  }

  #drawAxes(width, height) {
    const { from, to, low, high, x, y } = this.#scales;
    const right = width - MARGIN.right;
    for (const value of this.#isLog ? logTicks(low, high) : linearTicks(high)) {
      this.#svg.append(
        node('line', { class: 'grid', x1: MARGIN.left, x2: right, y1: y(value), y2: y(value) }),
        text(value, { class: 'tick', x: MARGIN.left - 8, y: y(value) + 4, 'text-anchor': 'end' }),
      );
    }
    const years = (to - from) / YEAR;
    const step = [1, 2, 5].find((one) => years / one <= (right - MARGIN.left) / 52) ?? 10;
    for (let year = new Date(from).getUTCFullYear(); year <= new Date(to).getUTCFullYear(); year += 1) {
      const time = Date.UTC(year, 0, 1);
      if (time < from || time > to || year % step) continue;
      this.#svg.append(
        node('line', { class: 'grid', x1: x(time), x2: x(time), y1: MARGIN.top, y2: height - MARGIN.bottom }),
        text(year, { class: 'tick', x: x(time), y: height - 8, 'text-anchor': 'middle' }),
      );
    }
  }

  #drawLine({ className, points }) {
    const { x, y } = this.#scales;
    const path = points.map(({ time, value }, index) => `${index ? 'L' : 'M'}${x(time).toFixed(1)},${y(value).toFixed(1)}`);
    this.#svg.append(node('path', { class: `line ${className}`, d: path.join('') }));
  }

  /** Name each line at its end; names that would overlap are moved apart. */
  #drawEnds(width, height) {
    const { x, y } = this.#scales;
    const ends = this.#series
      .map(({ name, className, points }) => ({ name, className, ...points[points.length - 1] }))
      .map((end) => ({ ...end, at: y(end.value) }))
      .sort((a, b) => a.at - b.at);
    for (let index = 1; index < ends.length; index += 1) {
      ends[index].at = Math.max(ends[index].at, ends[index - 1].at + LABEL_HEIGHT);
    }
    let floor = height - MARGIN.bottom;
    for (const end of ends.reverse()) {
      end.at = Math.min(end.at, floor);
      floor = end.at - LABEL_HEIGHT;
      this.#svg.append(
        node('circle', { class: `dot ${end.className}`, cx: x(end.time), cy: y(end.value), r: 4.5 }),
        text(end.name, { class: `label ${end.className}`, x: Math.min(x(end.time) + 9, width - MARGIN.right + 9), y: end.at + 4 }),
      );
    }
  }

  #drawReading(width, height) {
    const { x } = this.#scales;
    const all = this.#series.flatMap((one) => one.points);
    const nearest = all.reduce((a, b) => (Math.abs(x(b.time) - this.#pointer) < Math.abs(x(a.time) - this.#pointer) ? b : a));
    const at = x(nearest.time);
    this.#svg.append(node('line', { class: 'cross', x1: at, x2: at, y1: MARGIN.top, y2: height - MARGIN.bottom }));
    const values = document.createElement('dl');
    const found = this.#series.map((one) => ({ ...one, point: one.points.find((point) => point.time === nearest.time) }));
    for (const { name, className, point } of found.filter((one) => one.point).sort((a, b) => b.point.value - a.point.value)) {
      const term = document.createElement('dt');
      term.className = className;
      term.textContent = name;
      const value = document.createElement('dd');
      value.textContent = point.value.toFixed(2);
      values.append(term, value);
    }
    this.#tip.replaceChildren(monthOf(nearest.time), values);
    this.#tip.hidden = false;
    const wide = this.#tip.offsetWidth;
    this.#tip.style.left = `${at + wide + 16 > width ? at - wide - 12 : at + 12}px`;
  }

  #summary() {
    const last = this.#series.map(({ name, points }) => `${name} ${points[points.length - 1].value.toFixed(2)}`);
    return `Share prices over time. Latest: ${last.join(', ')}.`;
  }
}

/** @param {number} time */
export function monthOf(time) {
  return new Date(time).toLocaleDateString(undefined, { month: 'short', year: 'numeric', timeZone: 'UTC' });
}

function logTicks(low, high) {
  const ticks = [];
  for (let decade = 10 ** Math.floor(Math.log10(low)); decade <= high; decade *= 10) {
    for (const factor of [1, 2, 5]) if (decade * factor >= low && decade * factor <= high) ticks.push(decade * factor);
  }
  return ticks.map((tick) => Number(tick.toPrecision(3)));
}

function linearTicks(high) {
  const rough = high / 5;
  const decade = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * decade).find((one) => one >= rough);
  return Array.from({ length: Math.floor(high / step) + 1 }, (_, index) => Number((index * step).toPrecision(6)));
}

function node(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function text(content, attributes) {
  const element = node('text', attributes);
  element.textContent = content;
  return element;
}
