/**
 * declbind for the browser: live rows and writes over one WebSocket.
 *
 *     import { connect } from './declbind.js';
 *
 *     const client = connect();                          // ws/bindings/ of the page's own site
 *     const posts = client.stream('blog-posts');
 *     const watch = posts.subscribe({ blog_id: 3 }, { onRows: ({ rows }) => draw(rows) });
 *     await posts.update(7, { title: 'Better' });        // resolves when it is stored
 *
 * Guarantees: `rows` holds the rows of the subscription as the server had them, each change
 * is applied once and in commit order, and nothing is lost over a reconnect: the client resumes
 * from the offset that it had reached, and takes a new snapshot if the server can no longer send
 * missed changes. A write whose reply was lost is sent again with the same idempotency key, so it
 * writes once. (Keys of a visitor who is not logged in are kept per connection only; a page where
 * such visitors may write passes `retryWrites: false` and gets `disconnected` instead.)
 *
 * One module, no dependencies, no build step. It runs wherever WebSocket, EventTarget and
 * CustomEvent exist.
 *
 * @module declbind
 */

/**
 * @typedef {string | number} PrimaryKey  As the server sends it: an integer beyond `Number.MAX_SAFE_INTEGER` is a
 *   string, here and in the data. Send it back unchanged.
 * @typedef {Record<string, unknown>} Data
 *
 * @typedef {'connecting' | 'live' | 'reconnecting' | 'refused' | 'closed'} ClientState
 *   `refused`: the server ended the session (4401), or revoked the permission or blocked the user (4403). Call
 *   `reconnect()` when that has changed. With a function as `token`, a new token is tried first. `closed`: `close()` was called.
 *
 * @typedef {'subscribing' | 'live' | 'stale' | 'closed'} SubscriptionState
 *   `stale`: the rows may be behind, because the connection is down or a new snapshot is on its way.
 *
 * @typedef {object} ClientOptions
 * @property {number} [timeout=30000]  Milliseconds a write may take, reconnects included.
 * @property {boolean} [retryWrites=true]  Send writes without a reply again after a reconnect.
 * @property {number} [inFlight=8]  Writes in progress at once. The others wait in the client.
 * @property {number} [baseDelay=500]  First upper bound of the reconnect delay, in milliseconds.
 * @property {number} [maxDelay=30000]  Last upper bound of the reconnect delay.
 * @property {boolean} [batch=true]  Let the server join waiting frames into one. Disable it behind a proxy that
 *   drops the subprotocol header.
 * @property {string | (() => string | Promise<string>)} [token]  Authenticates the client instead of a cookie. A function
 *   is called for each connection, and again before its token ends, to keep the connection.
 * @property {typeof WebSocket} [WebSocket]  Another implementation of WebSocket.
 *
 * @typedef {object} WriteOptions
 * @property {string | null} [key]  Idempotency key; random by default. `null`: none, so the write is never sent twice.
 * @property {Data} [if]  Expected values of fields; the write is refused with `conflict` if they differ.
 * @property {number} [timeout]  Milliseconds, in place of the client's.
 *
 * @typedef {object} Change
 * @property {'create' | 'update' | 'delete'} action
 * @property {PrimaryKey} pk
 * @property {Data} data  The new values. For a deleted row the last ones, or `{}` if it only left the group.
 * @property {Data | undefined} previous  The previous value in `rows`.
 * @property {string} model
 * @property {number} offset
 *
 * @typedef {object} SubscribeOptions
 * @property {boolean} [snapshot=true]  Begin with the current rows. Without it, `rows` holds only rows that changed since.
 * @property {(change: Change) => void} [onChange]
 * @property {(detail: {rows: Map<PrimaryKey, Data>, change: Change | null}) => void} [onRows]
 * @property {(detail: {state: SubscriptionState}) => void} [onState]
 * @property {(detail: {reason: string}) => void} [onResync]
 * @property {(detail: {reason: string}) => void} [onClosed]
 * @property {(error: DeclbindError) => void} [onError]
 */

const BATCH_PROTOCOL = 'declbind.batch.v1';
const PLAIN_PROTOCOL = 'declbind.v1';
const TOKEN_PROTOCOL = 'declbind.token.'; // The one header of the handshake that a page can write.
const OPEN = 1; // WebSocket.OPEN, which another implementation may not define.
const REPLY_TIMEOUT = 15000; // A subscribe without an answer for so long means a dead connection.
const PROBE_TIMEOUT = 5000;
const STABLE_AFTER = 5000; // A connection that lived so long ends the backing off.
const HIDDEN_LONG = 30000;
const MOVING = 1012; // The server is restarting.
const TRY_AGAIN_LATER = 1013;
const PATIENT_ATTEMPTS = 3; // A server that is not ready is asked as rarely as after so many failures.
const RETRYABLE = new Set(['rate_limited', 'internal']);
const LISTENERS = {
  onChange: 'change', onRows: 'rows', onState: 'state', onResync: 'resync', onClosed: 'closed', onError: 'error',
};

/** A request that was not carried out. */
export class DeclbindError extends Error {
  /**
   * @param {string} code  One of the protocol's codes (`denied`, `invalid`, `conflict`, ...), or one of the
   *   client's own: `timeout` and `disconnected` (the request may have been carried out or not), `refused`, `closed`, and
   *   `token` (the page's own function returned none).
   * @param {string} message
   * @param {Record<string, string[]>} [fields]  Texts by field name; `__all__` for the row as a whole.
   */
  constructor(code, message, fields = {}) {
    super(message);
    this.name = 'DeclbindError';
    this.code = code;
    this.fields = fields;
  }
}

/**
 * Connect to a declbind endpoint. The socket is opened at once and kept open.
 *
 * @param {string | URL} [url]  Absolute or relative to the page; `http:` counts as `ws:`, `https:` as `wss:`.
 * @param {ClientOptions} [options]
 * @returns {Client}
 */
export function connect(url = '/ws/bindings/', options = {}) {
  return new Client(url, options);
}

/**
 * One connection, shared by all streams of a page.
 *
 * Events: `state` ({state, code?, reason?, retryIn?}; the code and the reason are those with which the server closed
 * the connection, and an operator's reason can be shown as it is), `frame` ({stream, payload}: changes of streams that the
 * server subscribed by itself), `error` (a DeclbindError: the server sent an invalid frame, or there is no
 * token for the connection).
 */
export class Client extends EventTarget {
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {ClientState} */
  #state = 'connecting';
  #options;
  #attempt = 0;
  #lastRef = 0;
  #retryTimer = 0;
  #retryLocked = false;
  #stableTimer = 0;
  #hiddenAt = 0;
  /** Whether the server has announced that it will close its connections one after the other. */
  #moving = false;
  /** Changes with each connection: a token that arrives for an earlier one is dropped. */
  #turn = 0;
  #renewTimer = 0;
  /** Whether a new token was refused since the last stable connection. */
  #tokenRefused = false;
  /** Subscribe requests that wait for their reply. They end with the connection. */
  #asks = new Map();
  /** Writes that wait for their reply, oldest first. They outlive the connection. */
  #writes = new Map();
  /** @type {Map<string, Feed>} */
  #feeds = new Map();

  /**
   * @param {string | URL} url
   * @param {ClientOptions} options
   */
  constructor(url, options) {
    super();
    this.url = socketUrl(url);
    this.#options = {
      timeout: 30000, retryWrites: true, inFlight: 8, baseDelay: 500, maxDelay: 30000, batch: true,
      WebSocket: globalThis.WebSocket, ...options,
    };
    globalThis.addEventListener?.('online', this.#wake);
    globalThis.document?.addEventListener('visibilitychange', this.#wake);
    this.#open();
  }

  /** @returns {ClientState} */
  get state() {
    return this.#state;
  }

  /**
   * Return a stream by name, without a request.
   * @param {string} name
   * @returns {Stream}
   */
  stream(name) {
    return new Stream(this, name);
  }

  /**
   * Listen to the changes of a stream that the server subscribed automatically (`auto_subscribe`).
   *
   * @param {string} stream
   * @param {(payload: {action: string, pk: PrimaryKey, data: Data, model: string}) => void} listener
   * void}  Ends it. => @returns {() => void}  Stops listening. => void}  Ends it.
   */
  on(stream, listener) {
    const relay = (event) => {
      if (event.detail.stream === stream) listener(event.detail.payload);
    };
    this.addEventListener('frame', relay);
    return () => this.removeEventListener('frame', relay);
  }

  /** Connect again now: after `refused` (for example after a new login), or instead of waiting for the next attempt. */
  reconnect() {
    if (this.#state === 'closed') throw new DeclbindError('closed', 'This client was closed; call connect() again.');
    this.#drop();
    this.#tokenRefused = false;
    this.#open();
  }

  /** Close permanently. Subscriptions end, and writes without a reply reject with `closed`. */
  close() {
    if (this.#state === 'closed') return;
    globalThis.removeEventListener?.('online', this.#wake);
    globalThis.document?.removeEventListener('visibilitychange', this.#wake);
    this.#drop();
    this.#setState('closed');
    this.#rejectWrites(() => new DeclbindError('closed', 'The client was closed before the reply came.'));
    for (const feed of [...this.#feeds.values()]) feed.end('client');
  }

  // The connection -------------------------------------------------------------------------------

  #open() {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = 0;
    this.#retryLocked = false;
    this.#moving = false;
    this.#setState(this.#state === 'connecting' ? 'connecting' : 'reconnecting');
    if (typeof this.#options.token !== 'function') {
      this.#connect(this.#options.token);
      return;
    }
    const turn = ++this.#turn;
    this.#getToken((token) => turn === this.#turn && this.#connect(token), () => {
      if (turn === this.#turn) this.#lost();
    });
  }

  /** Pass a token of the page's function to `use`. Without one, emit an error and call `fail`. */
  #getToken(use, fail) {
    Promise.resolve().then(this.#options.token).then(use).catch((error) => {
      emit(this, 'error', new DeclbindError('token', `There is no token to go on with: ${error?.message ?? error}`));
      fail?.();
    });
  }

  #connect(token) {
    const protocols = this.#options.batch ? [BATCH_PROTOCOL] : [];
    if (token !== undefined) protocols.push(...(this.#options.batch ? [] : [PLAIN_PROTOCOL]), TOKEN_PROTOCOL + token);
    const { WebSocket } = this.#options;
    const socket = protocols.length ? new WebSocket(this.url, protocols) : new WebSocket(this.url);
    this.#socket = socket;
    socket.onopen = () => this.#opened();
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => this.#lost(event.code, event.reason);
  }

  #opened() {
    this.#stableTimer = setTimeout(() => {
      this.#attempt = 0;
      this.#tokenRefused = false;
    }, STABLE_AFTER);
    this.#setState('live');
    for (const feed of this.#feeds.values()) feed.ask();
    this.#pump();
  }

  /** Drop the socket without waiting for its close event, which a dead network delays by minutes. */
  #drop() {
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#stableTimer);
    clearTimeout(this.#renewTimer);
    this.#turn += 1;
    const socket = this.#socket;
    this.#socket = null;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    for (const ask of this.#asks.values()) clearTimeout(ask.timer);
    this.#asks.clear();
    for (const feed of this.#feeds.values()) feed.disconnected();
    for (const [ref, write] of this.#writes) {
      // Unsent writes may wait. Sent ones may have been carried out, so they are sent again only with a key.
      if (write.socket && !(this.#options.retryWrites && 'key' in write.payload)) {
        const text = 'The connection was lost before the reply came; whether it was stored is unknown.';
        this.#settleWrite(ref, new DeclbindError('disconnected', text));
      }
      write.socket = null;
    }
  }

  /**
   * @param {number} code
   * @param {string} reason what the server said, such as the reason that an operator gave; may be empty
   */
  #lost(code, reason = '') {
    this.#drop();
    if (code === 4401 && typeof this.#options.token === 'function' && !this.#tokenRefused) {
      // The token has ended. If a new one is refused too, the user must log in again.
      this.#tokenRefused = true;
      this.#retryLater(0, code, reason);
      return;
    }
    if (code === 4401 || code === 4403) {
      this.#setState('refused', { code, reason });
      const text = code === 4401 ? 'The session is over; log in again.' : 'The server no longer allows this connection.';
      this.#rejectWrites(() => new DeclbindError('refused', text));
      return;
    }
    const { baseDelay, maxDelay } = this.#options;
    // A server that announced its end closes its clients one after the other. Without the announcement all of them
    // were closed at the same moment, so they reconnect over a longer time.
    if (code === TRY_AGAIN_LATER || (code === MOVING && !this.#moving)) {
      this.#attempt = Math.max(this.#attempt, PATIENT_ATTEMPTS);
    }
    // Full jitter: the clients of a restarted server must not reconnect in the same second.
    let delay = Math.random() * Math.min(maxDelay, baseDelay * 2 ** this.#attempt);
    if (code === 4429) delay = maxDelay * (1 + Math.random());
    this.#attempt += 1;
    this.#retryLater(delay, code, reason);
  }

  #retryLater(delay, code, reason) {
    this.#setState('reconnecting', { code, reason, retryIn: delay });
    this.#retryLocked = code === 4429;
    this.#retryTimer = setTimeout(() => this.#open(), delay);
  }

  /** Reconnect at once when the network or the page becomes active again. */
  #wake = (event) => {
    const hidden = globalThis.document?.visibilityState === 'hidden';
    if (event.type === 'visibilitychange' && hidden) {
      this.#hiddenAt = Date.now();
      return;
    }
    if (this.#retryTimer && !this.#retryLocked) {
      this.#open();
      return;
    }
    // After sleep or a change of network, the socket may be dead without an event.
    const doubtful = event.type === 'online' || Date.now() - this.#hiddenAt > HIDDEN_LONG;
    if (this.#state === 'live' && doubtful) {
      const feed = [...this.#feeds.values()].find((one) => one.state === 'live');
      feed?.ask(PROBE_TIMEOUT);
    }
  };

  #setState(state, more = {}) {
    if (state === this.#state && !('retryIn' in more)) return;
    this.#state = state;
    emit(this, 'state', { state, ...more });
  }

  // Frames ---------------------------------------------------------------------------------------

  /** @param {string} text */
  #receive(text) {
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      frame = null;
    }
    if (Array.isArray(frame)) {
      // Joined frames, as negotiated by the subprotocol.
      for (const each of frame) this.#take(each, text);
    } else {
      this.#take(frame, text);
    }
  }

  #take(frame, text) {
    const payload = frame?.payload;
    if (payload === null || typeof payload !== 'object') {
      const start = String(text).slice(0, 80);
      emit(this, 'error', new DeclbindError('malformed', `Expected a JSON object with a payload, got ${start}`));
    } else if (payload.action === 'reply') {
      this.#settle(payload);
    } else if (payload.action === 'moving' && frame.stream === '') {
      // The connection works until the server closes it. Closing it now would make all clients reconnect at once.
      this.#moving = true;
    } else if (payload.action === 'expiring' && frame.stream === '') {
      this.#renewLater(payload.seconds);
    } else if (frame.group !== undefined) {
      for (const feed of this.#feeds.values()) {
        if (feed.stream === frame.stream && feed.group === frame.group) feed.receive(payload, frame.offset);
      }
    } else {
      emit(this, 'frame', { stream: frame.stream, payload });
    }
  }

  /** Send a newer token in time, but not at once, because it may end soon too. */
  #renewLater(seconds) {
    if (typeof this.#options.token !== 'function') return;
    const turn = this.#turn;
    const delay = seconds * 1000 * (0.25 + Math.random() / 4);
    clearTimeout(this.#renewTimer);
    this.#renewTimer = setTimeout(() => this.#getToken((token) => {
      if (turn !== this.#turn) return;
      this.ask('', { action: 'authenticate', token }, (error) => error && emit(this, 'error', error));
    }), delay);
  }

  #settle(reply) {
    const error = reply.ok ? null : new DeclbindError(
      reply.error?.code ?? 'internal', reply.error?.message ?? 'The request was refused.', reply.error?.fields ?? {},
    );
    const ask = this.#asks.get(reply.ref);
    if (ask) {
      this.#asks.delete(reply.ref);
      clearTimeout(ask.timer);
      ask.done(error, reply);
    } else if (this.#writes.has(reply.ref)) {
      const { action, ref, ok, ...result } = reply;
      this.#settleWrite(reply.ref, error, result);
      this.#pump();
    }
  }

  #transmit(stream, payload) {
    this.#socket.send(JSON.stringify({ stream, payload }));
  }

  get #isOpen() {
    return this.#socket?.readyState === OPEN && this.#state === 'live';
  }

  // Writes ---------------------------------------------------------------------------------------

  /**
   * @package
   * @param {string} stream
   * @param {Data} payload
   * @param {WriteOptions} options
   * @returns {Promise<{pk: PrimaryKey} & Data>}
   */
  write(stream, payload, options = {}) {
    if (this.#state === 'closed' || this.#state === 'refused') {
      return Promise.reject(new DeclbindError(this.#state, `Nothing can be written: the connection is ${this.#state}.`));
    }
    const ref = ++this.#lastRef;
    const request = { ...payload, ref };
    if (options.key !== null) request.key = options.key ?? randomKey();
    if (options.if !== undefined) request.if = options.if;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#settleWrite(ref, new DeclbindError('timeout', 'No reply came in time; whether it was stored is unknown.'));
        this.#pump();
      }, options.timeout ?? this.#options.timeout);
      this.#writes.set(ref, { stream, payload: request, resolve, reject, timer, socket: null });
      this.#pump();
    });
  }

  /** Send waiting writes in order, up to the number that may be in progress. */
  #pump() {
    if (!this.#isOpen) return;
    let under = 0;
    for (const write of this.#writes.values()) {
      if (under >= this.#options.inFlight) return;
      under += 1;
      if (write.socket !== this.#socket) {
        write.socket = this.#socket;
        this.#transmit(write.stream, write.payload);
      }
    }
  }

  #settleWrite(ref, error, result) {
    const write = this.#writes.get(ref);
    this.#writes.delete(ref);
    clearTimeout(write.timer);
    if (error) write.reject(error);
    else write.resolve(result);
  }

  #rejectWrites(makeError) {
    for (const ref of [...this.#writes.keys()]) this.#settleWrite(ref, makeError());
  }

  // Subscriptions --------------------------------------------------------------------------------

  /**
   * @package
   * @param {string} stream
   * @param {Data} params
   * @param {SubscribeOptions} options
   * @returns {Subscription}
   */
  join(stream, params, options) {
    const key = JSON.stringify([stream, Object.entries(params).sort(([a], [b]) => (a < b ? -1 : 1))]);
    let feed = this.#feeds.get(key);
    if (!feed) {
      feed = new Feed(this, key, stream, params);
      this.#feeds.set(key, feed);
    }
    const subscription = new Subscription(feed, options);
    feed.add(subscription, options.snapshot ?? true);
    if (this.#state === 'closed') feed.end('client');
    return subscription;
  }

  /**
   * Send a subscribe request. Return false without a connection; each feed subscribes when there is one.
   * @package
   */
  ask(stream, payload, done, timeout = REPLY_TIMEOUT) {
    if (!this.#isOpen) return false;
    const ref = ++this.#lastRef;
    const timer = setTimeout(() => {
      this.#drop();
      this.#retryLater(0);
    }, timeout);
    this.#asks.set(ref, { done, timer });
    this.#transmit(stream, { ...payload, ref });
    return true;
  }

  /**
   * Remove a feed, and unsubscribe unless the server has ended it.
   * @package
   */
  leave(feed, tell) {
    if (!this.#feeds.delete(feed.key) || !tell || !this.#isOpen) return;
    // Other parameters may select the same group, because the server fills in a scope. Then it is still needed.
    for (const other of this.#feeds.values()) {
      if (other.stream === feed.stream && other.group && other.group === feed.group) return;
    }
    this.#transmit(feed.stream, { action: 'unsubscribe', params: feed.params });
  }
}

/** One stream of a client: the rows and writes of a binding. */
export class Stream {
  #client;

  constructor(client, name) {
    this.#client = client;
    this.name = name;
  }

  /**
   * Watch the rows of one group.
   *
   * @param {Data} [params]  Values of the group template's fields, `{blog_id: 3}`; `{}` for a constant group.
   * @param {SubscribeOptions} [options]
   * @returns {Subscription}
   */
  subscribe(params = {}, options = {}) {
    return this.#client.join(this.name, params, options);
  }

  /**
   * Store a new row. Resolves with `{pk}` after the commit, rejects with a DeclbindError.
   * @param {Data} data
   * @param {WriteOptions} [options]
   */
  create(data, options) {
    return this.#client.write(this.name, { action: 'create', data }, options);
  }

  /**
   * Store the given fields of a row. Other fields keep their values.
   * @param {PrimaryKey} pk
   * @param {Data} data
   * @param {WriteOptions} [options]
   */
  update(pk, data, options) {
    return this.#client.write(this.name, { action: 'update', pk, data }, options);
  }

  /**
   * Delete a row.
   * @param {PrimaryKey} pk
   * @param {WriteOptions} [options]
   */
  delete(pk, options) {
    return this.#client.write(this.name, { action: 'delete', pk }, options);
  }
}

/**
 * The rows of one group, live.
 *
 * Events, with their data in `detail`: `change` (Change), `rows` (after each change and each
 * snapshot), `state`, `resync` ({reason}: a new snapshot is requested), `closed` ({reason}: ended
 * permanently), `error` (a DeclbindError). Redraw in a requestAnimationFrame, because a burst fires `rows` often.
 */
export class Subscription extends EventTarget {
  #feed;

  constructor(feed, options) {
    super();
    this.#feed = feed;
    for (const [option, type] of Object.entries(LISTENERS)) {
      if (options[option]) this.addEventListener(type, (event) => options[option](event.detail));
    }
    /** @type {Promise<Subscription>}  Fulfilled when the rows have arrived, rejected if the subscription is refused. */
    this.ready = new Promise((resolve, reject) => {
      this.addEventListener('error', (event) => reject(event.detail));
      this.addEventListener('closed', (event) => {
        reject(new DeclbindError('closed', `The subscription ended: ${event.detail.reason}.`));
      });
      this.addEventListener('state', (event) => {
        if (event.detail.state === 'live') resolve(this);
        else if (event.detail.state === 'closed') reject(new DeclbindError('closed', 'The subscription was given up.'));
      });
    });
    this.ready.catch(() => {}); // Nobody is obliged to wait for it.
  }

  get stream() {
    return this.#feed.stream;
  }

  get params() {
    return this.#feed.params;
  }

  /** @returns {Map<PrimaryKey, Data>}  Always the same map. Treat it as read-only. */
  get rows() {
    return this.#feed.rows;
  }

  /** @returns {SubscriptionState} */
  get state() {
    return this.#feed.has(this) ? this.#feed.state : 'closed';
  }

  /** Stop watching. */
  unsubscribe() {
    this.#feed.remove(this);
  }
}

/**
 * The data of one stream and one set of parameters, shared by its subscriptions.
 * Not public. It implements the protocol's rules for snapshots, offsets and resyncs.
 */
class Feed {
  #client;
  /** @type {Set<Subscription>} */
  #subscriptions = new Set();
  #wantsRows = false;
  /** Whether the rows are not (or no longer) known, so resuming from an offset would be wrong. */
  #needsSnapshot = false;
  /** Whether a request waits for its reply, or for the last page of its snapshot. */
  #asking = false;
  #askAgain = false;
  #timer = 0;
  #failures = 0;
  #epoch = null;
  #offset = 0;
  /** The server's proof of the offset since which this user has been allowed to see the group. */
  #resume = null;
  /** @type {{pk: PrimaryKey, data: Data}[] | null}  Pages of a snapshot that is not complete. */
  #pages = null;
  /** Changes since the request of the snapshot. Some of them are newer than the snapshot. */
  #between = [];

  constructor(client, key, stream, params) {
    this.#client = client;
    this.key = key;
    this.stream = stream;
    this.params = params;
    this.group = null;
    this.rows = new Map();
    /** @type {SubscriptionState} */
    this.state = 'subscribing';
  }

  has(subscription) {
    return this.#subscriptions.has(subscription);
  }

  add(subscription, wantsRows) {
    const first = this.#subscriptions.size === 0;
    this.#subscriptions.add(subscription);
    if (wantsRows && !this.#wantsRows) {
      this.#wantsRows = this.#needsSnapshot = true;
      if (this.state === 'live') this.#setState('stale');
      this.ask();
    } else if (first) {
      this.ask();
    } else if (this.state === 'live') {
      // Listeners are added after subscribe() returns, so the event is emitted later.
      queueMicrotask(() => {
        if (!this.has(subscription) || this.state !== 'live') return;
        emit(subscription, 'rows', { rows: this.rows, change: null });
        emit(subscription, 'state', { state: 'live' });
      });
    }
  }

  remove(subscription) {
    if (!this.#subscriptions.delete(subscription)) return;
    emit(subscription, 'state', { state: 'closed' });
    if (this.#subscriptions.size === 0) {
      clearTimeout(this.#timer);
      this.state = 'closed';
      this.#client.leave(this, true);
    }
  }

  /** Subscribe with a snapshot if one is needed, else with the missed changes. */
  ask(timeout) {
    if (this.#asking) {
      this.#askAgain = true;
      return;
    }
    clearTimeout(this.#timer);
    const resume = this.#epoch !== null && !this.#needsSnapshot;
    const payload = { action: 'subscribe', params: this.params };
    if (resume) payload.since = { epoch: this.#epoch, offset: this.#offset, resume: this.#resume };
    else payload.snapshot = this.#needsSnapshot;
    this.#pages = payload.snapshot ? [] : null;
    this.#between = [];
    this.#asking = this.#client.ask(this.stream, payload, (error, reply) => {
      if (this.state === 'closed') return;
      if (error) this.#refused(error);
      else this.#accepted(resume, reply);
    }, timeout);
  }

  #accepted(resume, reply) {
    this.#failures = 0;
    this.group = reply.group;
    this.#resume = reply.resume;
    if (reply.epoch !== this.#epoch) {
      // With another epoch a resync follows. If the connection ends before it arrives, the flag keeps this.
      if (resume) this.#needsSnapshot = this.#wantsRows;
      this.#epoch = reply.epoch;
      this.#offset = reply.offset;
      this.#between = [];
    } else if (!resume) {
      this.#offset = Math.max(this.#offset, reply.offset);
    }
    // Resumed in the same epoch: the reply's offset is the head, and earlier frames have not arrived yet.
    // Taking it now would lose them if the connection ended in between, so only frames move the offset.
    if (!this.#pages) this.#asked();
  }

  /** Finish a complete answer. */
  #asked() {
    this.#asking = false;
    if (this.#askAgain) {
      this.#askAgain = false;
      if (this.#wantsRows) this.#needsSnapshot = true;
      this.ask();
    } else if (!this.#needsSnapshot) {
      this.#setState('live');
    }
  }

  #refused(error) {
    this.#asking = this.#askAgain = false;
    this.#pages = null;
    if (RETRYABLE.has(error.code)) {
      this.#askLater(1000);
      return;
    }
    this.#emit('error', error);
    this.end(error.code, this.group !== null);
  }

  #askLater(base) {
    const bound = Math.min(30000, base * 2 ** this.#failures);
    this.#failures += 1;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.ask(), Math.random() * bound);
  }

  /** The connection was lost: requests are not answered, and the rows become stale. */
  disconnected() {
    clearTimeout(this.#timer);
    this.#asking = this.#askAgain = false;
    this.#pages = null;
    this.#between = [];
    if (this.state === 'live') this.#setState('stale');
  }

  /**
   * @param {any} payload
   * @param {number} offset
   */
  receive(payload, offset) {
    if (payload.action === 'snapshot') this.#page(payload, offset);
    else if (payload.action === 'resync') this.#resync(payload, offset);
    else if (payload.action === 'closed') this.end(payload.reason, false);
    else this.#change(payload, offset);
  }

  #change(payload, offset) {
    if (offset <= this.#offset) return; // Seen: a group's frames come in commit order, repeated at most.
    this.#offset = offset;
    if (this.#pages) this.#between.push([payload, offset]);
    const change = this.#apply(payload, offset);
    this.#emit('change', change);
    this.#emit('rows', { rows: this.rows, change });
  }

  #apply({ action, pk, data, model }, offset) {
    const previous = this.rows.get(pk);
    if (action === 'delete') this.rows.delete(pk);
    else this.rows.set(pk, data);
    return { action, pk, data, previous, model, offset };
  }

  #page({ objects, final }, offset) {
    if (!this.#pages) return; // Asked for by nobody here (any more).
    this.#pages.push(...objects);
    if (!final) return;
    // All at once, so that listeners never see a partly filled map.
    this.rows.clear();
    for (const { pk, data } of this.#pages) this.rows.set(pk, data);
    for (const [payload, at] of this.#between) if (at > offset) this.#apply(payload, at);
    this.#pages = null;
    this.#between = [];
    this.#offset = Math.max(this.#offset, offset);
    this.#needsSnapshot = false;
    this.#emit('rows', { rows: this.rows, change: null });
    this.#asked();
  }

  #resync({ reason }, offset) {
    if (this.#wantsRows) {
      this.#needsSnapshot = true;
      this.#setState('stale');
      // A pending snapshot may have been read before the cause of this resync.
      if (this.#asking) this.#askAgain = true;
      // Spread over time, because all subscribers of this group got the resync at the same moment.
      else this.#askLater(250);
    } else if (Number.isInteger(offset)) {
      this.#offset = offset;
    }
    this.#emit('resync', { reason });
  }

  /** @param {string} reason */
  end(reason, tell = true) {
    if (this.state === 'closed') return;
    clearTimeout(this.#timer);
    this.state = 'closed';
    this.#client.leave(this, tell);
    this.#emit('closed', { reason });
    this.#emit('state', { state: 'closed' });
    this.#subscriptions.clear();
  }

  #setState(state) {
    if (state === this.state) return;
    this.state = state;
    this.#emit('state', { state });
  }

  #emit(type, detail) {
    for (const subscription of [...this.#subscriptions]) emit(subscription, type, detail);
  }
}

function emit(target, type, detail) {
  target.dispatchEvent(new CustomEvent(type, { detail }));
}

function socketUrl(url) {
  const absolute = new URL(url, globalThis.location?.href);
  absolute.protocol = { 'http:': 'ws:', 'https:': 'wss:' }[absolute.protocol] ?? absolute.protocol;
  absolute.hash = '';
  if (!/^wss?:$/.test(absolute.protocol)) throw new TypeError(`Expected a ws: or wss: address, got ${absolute.href}`);
  return absolute.href;
}

/** 128 random bits. (crypto.randomUUID would need https.) */
function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
