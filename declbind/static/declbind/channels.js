/**
 * The `WebSocketBridge` of Channels 1.x, for code that was written for it.
 *
 *     const bridge = new WebSocketBridge();
 *     bridge.connect('/ws/bindings/');
 *     bridge.listen();
 *     bridge.demultiplex('intval', (payload, stream) => console.log(stream, payload));
 *     bridge.stream('intval').send({ action: 'create', data: { name: 'fifty', value: 50 } });
 *
 * It has the methods of the npm package `django-channels` 1.1.x and of its socket, and needs no other package. After a
 * lost connection it connects again. As in Channels 1.x, changes in between are missed, and a message is lost if there is
 * no connection; the core of declbind resumes and sends again.
 *
 * @module declbind/channels
 */

/**
 * @callback Listener
 * @param {any} action  The payload, or the whole message if it is of no stream.
 * @param {string | null} stream
 * @returns {void}
 *
 * @typedef {object} BridgeOptions  As in the npm package `reconnecting-websocket` 3; its other options are ignored.
 * @property {number} [minReconnectionDelay=1500]  Milliseconds until the first attempt to connect again, or up to twice
 *   as long.
 * @property {number} [maxReconnectionDelay=10000]  The longest time between two attempts.
 * @property {number} [reconnectionDelayGrowFactor=1.3]  By how much the time grows from one attempt to the next.
 * @property {number} [connectionTimeout=4000]  Milliseconds after which an attempt is given up.
 * @property {number} [maxRetries]  After so many failed attempts, no more are made.
 */

const DEFAULTS = {
  minReconnectionDelay: 1500, maxReconnectionDelay: 10000, reconnectionDelayGrowFactor: 1.3, connectionTimeout: 4000,
  maxRetries: Infinity,
};

/** A WebSocket that is replaced when it is lost. Its events are those of the present one. */
export class ReconnectingSocket extends EventTarget {
  /** @type {((event: Event) => void) | null} */
  onopen = null;
  /** @type {((event: MessageEvent) => void) | null} */
  onmessage = null;
  /** @type {((event: CloseEvent) => void) | null} */
  onclose = null;
  /** @type {((event: Event) => void) | null} */
  onerror = null;
  #isKeptClosed = false;
  #attempt = 0;
  #protocols;
  #options;
  #socket;

  /**
   * @param {string} url
   * @param {string | string[]} [protocols]
   * @param {BridgeOptions} [options]
   */
  constructor(url, protocols, options) {
    super();
    this.url = url;
    this.#protocols = protocols;
    this.#options = { ...DEFAULTS, ...options };
    this.#socket = this.#open();
  }

  /** @returns {number}  As of a WebSocket. */
  get readyState() {
    return this.#socket.readyState;
  }

  /**
   * Send a text. Throws if there has been no connection yet.
   * @param {string} text
   */
  send(text) {
    this.#socket.send(text);
  }

  /**
   * Close the connection. Without `keepClosed` another one is opened.
   * @param {number} [code]
   * @param {string} [reason]
   * @param {{keepClosed?: boolean}} [options]
   */
  close(code = 1000, reason = '', { keepClosed = false } = {}) {
    this.#isKeptClosed = keepClosed;
    this.#socket.close(code, reason);
  }

  #open() {
    const socket = new WebSocket(this.url, this.#protocols);
    const timer = setTimeout(() => socket.close(), this.#options.connectionTimeout);
    socket.onopen = (event) => {
      clearTimeout(timer);
      this.#attempt = 0;
      this.onopen?.(event);
      this.dispatchEvent(new Event('open'));
    };
    socket.onmessage = (event) => {
      this.onmessage?.(event);
      this.dispatchEvent(new MessageEvent('message', { data: event.data, origin: event.origin }));
    };
    socket.onerror = (event) => {
      this.onerror?.(event);
      this.dispatchEvent(new Event('error'));
    };
    socket.onclose = (event) => {
      clearTimeout(timer);
      this.#openLater();
      this.onclose?.(event);
      this.dispatchEvent(new CloseEvent('close', event));
    };
    return socket;
  }

  #openLater() {
    const { minReconnectionDelay, maxReconnectionDelay, reconnectionDelayGrowFactor, maxRetries } = this.#options;
    const first = minReconnectionDelay * (1 + Math.random());
    const delay = Math.min(maxReconnectionDelay, first * reconnectionDelayGrowFactor ** this.#attempt);
    this.#attempt += 1;
    if (this.#isKeptClosed || this.#attempt > maxRetries) return;
    setTimeout(() => {
      if (!this.#isKeptClosed) this.#socket = this.#open();
    }, delay);
  }
}

/** A connection whose messages are passed to a function for each stream. */
export class WebSocketBridge {
  constructor() {
    /**
     * The connection, once `connect` was called.
     * @type {ReconnectingSocket | null}
     */
    this.socket = null;
    /** @type {Record<string, Listener>} */
    this.streams = {};
    /** @type {Listener | null} */
    this.default_cb = null;
  }

  /**
   * Open the connection.
   * @param {string} [url]  A path on this site, or a whole address. The site's root by default.
   * @param {string | string[]} [protocols]
   * @param {BridgeOptions} [options]
   */
  connect(url = '', protocols, options) {
    const base = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}`;
    this.socket = new ReconnectingSocket(/^(\/|$)/.test(url) ? base + url : url, protocols, options);
  }

  /**
   * Begin to listen.
   * @param {Listener} [listener]  Gets the messages that are of no stream.
   */
  listen(listener) {
    this.default_cb = listener ?? null;
    if (!this.socket) throw new TypeError('Expected connect() before listen().');
    this.socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.stream === undefined) this.default_cb?.(message, null);
      else this.streams[message.stream]?.(message.payload, message.stream);
    };
  }

  /**
   * Name the function that gets the messages of a stream.
   * @param {string} stream
   * @param {Listener} listener
   */
  demultiplex(stream, listener) {
    this.streams[stream] = listener;
  }

  /**
   * Send a message.
   * @param {unknown} message
   */
  send(message) {
    this.socket?.send(JSON.stringify(message));
  }

  /**
   * Return an object that sends messages to a stream.
   * @param {string} stream
   * @returns {{send: (payload: unknown) => void}}
   */
  stream(stream) {
    return { send: (payload) => this.send({ stream, payload }) };
  }
}
