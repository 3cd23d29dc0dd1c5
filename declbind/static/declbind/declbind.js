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
 * CustomEvent exist. An option that does not exist is a TypeError, which names the nearest one that does.
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
 * @typedef {string | (() => string | Promise<string>)} Token  A token, or a function that fetches a new one.
 *
 * @typedef {object} ClientOptions
 * @property {number} [timeout=30000]  Milliseconds a write may take, reconnects included.
 * @property {boolean} [retryWrites=true]  Send writes without a reply again after a reconnect.
 * @property {number} [inFlight=8]  Writes in progress at once. The others wait in the client.
 * @property {number} [baseDelay=500]  First upper bound of the reconnect delay, in milliseconds.
 * @property {number} [maxDelay=30000]  Last upper bound of the reconnect delay.
 * @property {boolean} [batch=true]  Let the server join waiting frames into one. Disable it behind a proxy that
 *   drops the subprotocol header.
 * @property {Token} [token]  Authenticates the client instead of a cookie. A function is called for each connection,
 *   and again before its token ends, to keep the connection.
 * @property {typeof WebSocket} [WebSocket]  Another implementation of WebSocket.
 *
 * @typedef {object} WriteOptions
 * @property {string | null} [key]  Idempotency key; random by default. `null`: none, so the write is never sent twice.
 * @property {Data} [if]  Expected values of fields; the write is refused with `conflict` if they differ.
 * @property {number} [timeout]  Milliseconds, in place of the client's.
 *
 * @typedef {object} StateDetail
 * @property {ClientState} state
 * @property {number} [code]  The close code of the connection that was lost.
 * @property {string} [reason]  What the server said, such as the reason that an operator gave; may be empty.
 * @property {number} [retryIn]  Milliseconds until the next attempt.
 *
 * @typedef {{pk: PrimaryKey} & Data} WriteResult
 *
 * @typedef {object} PlainChange  A change of a stream that the server subscribed by itself.
 * @property {'create' | 'update' | 'delete'} action
 * @property {PrimaryKey} pk
 * @property {Data} data
 * @property {string} model
 *
 * @typedef {object} ClientEvents  The `detail` of each event of a client, by name.
 * @property {StateDetail} state
 * @property {{stream: string, payload: PlainChange}} frame
 * @property {DeclbindError} error
 */

/**
 * @template {object} [Row=Data]
 * @typedef {object} Change
 * @property {'create' | 'update' | 'delete'} action
 * @property {PrimaryKey} pk
 * @property {Row} data  The new values. For a deleted row the last ones, or `{}` if it only left the group.
 * @property {Row | undefined} previous  The previous value in `rows`.
 * @property {string} model
 * @property {number} offset
 */

/**
 * @template {object} [Row=Data]
 * @typedef {object} SubscriptionEvents  The `detail` of each event of a subscription, by name.
 * @property {Change<Row>} change
 * @property {{rows: Map<PrimaryKey, Row>, change: Change<Row> | null}} rows
 * @property {{state: SubscriptionState}} state
 * @property {{reason: string}} resync
 * @property {{reason: string}} closed
 * @property {DeclbindError} error
 */

/**
 * @template {object} [Row=Data]
 * @typedef {object} SubscribeOptions
 * @property {boolean} [snapshot=true]  Begin with the current rows. Without it, `rows` holds only rows that changed
 *   since.
 * @property {(change: Change<Row>) => void} [onChange]
 * @property {(detail: {rows: Map<PrimaryKey, Row>, change: Change<Row> | null}) => void} [onRows]
 * @property {(detail: {state: SubscriptionState}) => void} [onState]
 * @property {(detail: {reason: string}) => void} [onResync]
 * @property {(detail: {reason: string}) => void} [onClosed]
 * @property {(error: DeclbindError) => void} [onError]
 */

/**
 * @template {object} [Row=Data]
 * @typedef {object} StoreValue
 * @property {ReadonlyMap<PrimaryKey, Row>} rows  Another map for each value. Unchanged rows are the same objects.
 * @property {SubscriptionState} state
 * @property {DeclbindError | null} error  Why the subscription was refused or has ended.
 */

/**
 * @template {object} Events
 * @typedef {object} Emitter  An EventTarget whose events have a `detail` of a known type.
 * @property {<Name extends keyof Events & string>(type: Name, listener: (event: CustomEvent<Events[Name]>) => void,
 *   options?: boolean | AddEventListenerOptions) => void} addEventListener
 * @property {<Name extends keyof Events & string>(type: Name, listener: (event: CustomEvent<Events[Name]>) => void,
 *   options?: boolean | EventListenerOptions) => void} removeEventListener
 * @property {(event: Event) => boolean} dispatchEvent
 */

const BATCH_PROTOCOL = 'declbind.batch.v1';
const PLAIN_PROTOCOL = 'declbind.v1';
const TOKEN_PROTOCOL = 'declbind.token.'; // The one header of the handshake that a page can write.
const OPEN = 1; // WebSocket.OPEN, which another implementation may not define.
const REPLY_TIMEOUT = 15000; // A subscribe without an answer for so long means a dead connection.
const PROBE_TIMEOUT = 5000;
const STABLE_AFTER = 5000; // A connection that lived so long ends the backing off.
const AWAY_LONG = 30000; // After so long in the background or asleep, the connection may be dead without an event.
const BEAT = 10000;
const MOVING = 1012; // The server is restarting.
const TRY_AGAIN_LATER = 1013;
const PATIENT_ATTEMPTS = 3; // A server that is not ready is asked as rarely as after so many failures.
const RETRYABLE = new Set(['rate_limited', 'internal']);
const WAKING = ['online', 'offline', 'pageshow'];
const LISTENERS = /** @type {const} */ ({
  onChange: 'change', onRows: 'rows', onState: 'state', onResync: 'resync', onClosed: 'closed', onError: 'error',
});
const CLIENT_OPTIONS = {
  timeout: 30000, retryWrites: true, inFlight: 8, baseDelay: 500, maxDelay: 30000, batch: true,
  token: /** @type {Token | undefined} */ (undefined), WebSocket: globalThis.WebSocket,
};
const WRITE_OPTIONS = { key: undefined, if: undefined, timeout: undefined };
const TypedTarget = /** @type {{new <Events extends object>(): Emitter<Events>}} */ (EventTarget);
const SUBSCRIBE_OPTIONS = { snapshot: true, ...LISTENERS };

/** A request that was not carried out. */
export class DeclbindError extends Error {
  /**
   * @param {string} code  One of the protocol's codes (`denied`, `invalid`, `conflict`, ...), or one of the
   *   client's own: `timeout`, `disconnected`, `refused`, `closed`, and `token` (the page's own function returned
   *   none).
   * @param {string} message
   * @param {Record<string, string[]>} [fields]  Texts by field name; `__all__` for the row as a whole.
   * @param {boolean} [outcomeUnknown]  Whether the request may have been carried out: it was sent, and the answer does
   *   not say. A write that was never sent is not stored.
   */
  constructor(code, message, fields = {}, outcomeUnknown = false) {
    super(message);
    this.name = 'DeclbindError';
    this.code = code;
    this.fields = fields;
    this.outcomeUnknown = outcomeUnknown;
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
 *
 * @extends {TypedTarget<ClientEvents>}
 */
export class Client extends TypedTarget {
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
  #probeTimer = 0;
  #beatTimer = 0;
  #beatAt = Date.now();
  #hiddenAt = 0;
  /** Whether the server has announced that it will close its connections one after the other. */
  #moving = false;
  /** Changes with each connection: a token that arrives for an earlier one is dropped. */
  #turn = 0;
  #renewTimer = 0;
  /** Whether a new token was refused since the last stable connection. */
  #tokenRefused = false;
  /**
   * Requests other than writes that wait for their reply. They end with the connection.
   * @type {Map<number, {done: (error: DeclbindError | null, reply: any) => void, lost?: () => void, timer: number}>}
   */
  #asks = new Map();
  /**
   * Writes that wait for their reply, oldest first. They outlive the connection. `socket` is the connection that a
   * write was last sent on, while that is open; `sent` says whether it was ever sent.
   * @type {Map<number, {stream: string, payload: Data, resolve: (result: WriteResult) => void,
   *   reject: (error: unknown) => void, timer: number, socket: WebSocket | null, sent: boolean}>}
   */
  #writes = new Map();
  /** @type {Map<string, Feed>} */
  #feeds = new Map();
  /** @type {Map<string, Stream<any>>} */
  #streams = new Map();

  /**
   * @param {string | URL} url
   * @param {ClientOptions} options
   */
  constructor(url, options) {
    super();
    this.url = socketUrl(url);
    this.#options = readOptions('connect', options, CLIENT_OPTIONS);
    for (const type of WAKING) globalThis.addEventListener?.(type, this.#wake);
    globalThis.document?.addEventListener('visibilitychange', this.#wake);
    this.#beatTimer = setInterval(this.#beat, BEAT);
    this.#open();
  }

  /** @returns {ClientState} */
  get state() {
    return this.#state;
  }

  /**
   * Return a stream by name, without a request. It is the same object for the same name.
   * @template {object} [Row=Data]
   * @param {string} name
   * @returns {Stream<Row>}
   */
  stream(name) {
    let stream = this.#streams.get(name);
    if (!stream) this.#streams.set(name, (stream = new Stream(this, name)));
    return stream;
  }

  /**
   * Listen to the changes of a stream that the server subscribed automatically (`auto_subscribe`).
   *
   * @param {string} stream
   * @param {(payload: PlainChange) => void} listener
   * @returns {() => void}  Stops listening.
   */
  on(stream, listener) {
    const relay = (/** @type {CustomEvent<ClientEvents['frame']>} */ event) => {
      if (event.detail.stream === stream) listener(event.detail.payload);
    };
    this.addEventListener('frame', relay);
    return () => this.removeEventListener('frame', relay);
  }

  /** Connect again now: after `refused` (for example after a new login), or instead of waiting for the next attempt. */
  reconnect() {
    this.#mustBeUsable();
    this.#drop();
    this.#tokenRefused = false;
    this.#open();
  }

  /**
   * Authenticate with a token from now on: on the open connection, which stays, and on each later one. After `refused`,
   * connect again with it.
   *
   * @param {Token} getToken  As the option `token`. A function is called again before its token ends.
   * @returns {Promise<void>}  Fulfilled when the server has accepted the token, or at once without an open connection,
   *   because the next one begins with it. Rejected with a DeclbindError if there is no token or the server refuses it;
   *   then everything stays as it was.
   */
  async authenticate(getToken) {
    this.#mustBeUsable();
    const { token } = this.#options;
    this.#options.token = getToken;
    this.#tokenRefused = false;
    if (!this.#isOpen) {
      if (!this.#retryTimer) this.reconnect();
      return;
    }
    try {
      await this.#renew();
    } catch (error) {
      if (this.#options.token === getToken) this.#options.token = token;
      throw error;
    }
  }

  /** Close permanently. Subscriptions end, and writes without a reply reject with `closed`. */
  close() {
    if (this.#state === 'closed') return;
    for (const type of WAKING) globalThis.removeEventListener?.(type, this.#wake);
    globalThis.document?.removeEventListener('visibilitychange', this.#wake);
    clearInterval(this.#beatTimer);
    this.#drop();
    this.#setState('closed');
    this.#giveUpWrites('closed', 'The client was closed before the reply came');
    for (const feed of [...this.#feeds.values()]) feed.end('client');
  }

  // The connection -------------------------------------------------------------------------------

  #mustBeUsable() {
    if (this.#state === 'closed') throw new DeclbindError('closed', 'This client was closed; call connect() again.');
  }

  #open() {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = 0;
    this.#retryLocked = false;
    this.#moving = false;
    this.#setState(this.#state === 'connecting' ? 'connecting' : 'reconnecting');
    const { token } = this.#options;
    if (typeof token !== 'function') {
      this.#connect(token);
      return;
    }
    const turn = ++this.#turn;
    this.#getToken().then(
      (fresh) => turn === this.#turn && this.#connect(fresh),
      (error) => {
        if (turn !== this.#turn) return;
        emit(this, 'error', error);
        this.#lost();
      },
    );
  }

  /** Return the token, or reject with a DeclbindError if the page's function fails. */
  async #getToken() {
    const { token } = this.#options;
    try {
      return typeof token === 'function' ? await token() : token;
    } catch (error) {
      const reason = error instanceof Error ? error.message : error;
      throw new DeclbindError('token', `There is no token to go on with: ${reason}`);
    }
  }

  /** @param {string | undefined} token */
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
    clearTimeout(this.#probeTimer);
    this.#turn += 1;
    const socket = this.#socket;
    this.#socket = null;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    for (const { timer, lost } of this.#asks.values()) {
      clearTimeout(timer);
      lost?.();
    }
    this.#asks.clear();
    for (const feed of this.#feeds.values()) feed.disconnected();
    for (const [ref, write] of this.#writes) {
      // Unsent writes may wait. Sent ones may have been carried out, so they are sent again only with a key.
      if (write.socket && !(this.#options.retryWrites && 'key' in write.payload)) {
        this.#giveUp(ref, 'disconnected', 'The connection was lost before the reply came');
      }
      write.socket = null;
    }
  }

  /**
   * @param {number} [code]
   * @param {string} [reason]  What the server said.
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
      const text = code === 4401 ? 'The session is over' : 'The server no longer allows this connection';
      this.#giveUpWrites('refused', `${text}${reason && ` (${reason})`}`);
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

  /**
   * @param {number} delay
   * @param {number} [code]
   * @param {string} [reason]
   */
  #retryLater(delay, code, reason) {
    this.#setState('reconnecting', { code, reason, retryIn: delay });
    this.#retryLocked = code === 4429;
    this.#retryTimer = setTimeout(() => this.#open(), delay);
  }

  /** Reconnect at once when the network or the page becomes active again. */
  #wake = (/** @type {Event} */ event) => {
    const isVisibility = event.type === 'visibilitychange';
    if (isVisibility && isHidden()) {
      this.#hiddenAt = Date.now();
    } else if (event.type !== 'offline' && this.#retryTimer) {
      if (!this.#retryLocked) this.#open();
    } else if (!isVisibility || Math.abs(Date.now() - this.#hiddenAt) > AWAY_LONG) {
      // A clock that was set back in the meantime counts as a long time, too: asking costs one request.
      this.#probe();
    }
  };

  /** Notice that the machine slept while the page was visible: no event says so, but this timer is late. */
  #beat = () => {
    const late = Date.now() - this.#beatAt > BEAT + AWAY_LONG;
    this.#beatAt = Date.now();
    if (late && !isHidden()) this.#probe();
  };

  /** Find out whether the connection works: after sleep or a change of network, it may be dead without an event. */
  #probe() {
    if (this.#state !== 'live') return;
    const feed = [...this.#feeds.values()].find((one) => one.state === 'live');
    if (feed) {
      feed.ask(PROBE_TIMEOUT);
      return;
    }
    // Without a subscription there is nothing to ask. Any frame counts as an answer.
    clearTimeout(this.#probeTimer);
    this.#probeTimer = setTimeout(this.#replace, PROBE_TIMEOUT);
  }

  #replace = () => {
    this.#drop();
    this.#retryLater(0);
  };

  /**
   * @param {ClientState} state
   * @param {Partial<StateDetail>} more
   */
  #setState(state, more = {}) {
    if (state === this.#state && !('retryIn' in more)) return;
    this.#state = state;
    emit(this, 'state', { state, ...more });
  }

  // Frames ---------------------------------------------------------------------------------------

  /** @param {string} text */
  #receive(text) {
    clearTimeout(this.#probeTimer);
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

  /**
   * @param {any} frame
   * @param {string} text
   */
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

  /**
   * Send a newer token in time, but not at once, because it may end soon too.
   * @param {number} seconds
   */
  #renewLater(seconds) {
    if (typeof this.#options.token !== 'function') return;
    clearTimeout(this.#renewTimer);
    this.#renewTimer = setTimeout(
      () => this.#renew().catch((error) => emit(this, 'error', error)), seconds * 1000 * (0.25 + Math.random() / 4),
    );
  }

  /** Authenticate the open connection anew. Without it, there is nothing to do: the next one begins with a token. */
  async #renew() {
    const turn = this.#turn;
    const token = await this.#getToken();
    if (turn !== this.#turn) return;
    await new Promise((/** @type {(value?: undefined) => void} */ resolve, reject) => {
      const request = { action: 'authenticate', token };
      this.ask('', request, (error) => (error ? reject(error) : resolve()), REPLY_TIMEOUT, resolve);
    });
  }

  /** @param {any} reply */
  #settle(reply) {
    const { code = 'internal', message = 'The request was refused.', fields = {} } = reply.error ?? {};
    const error = reply.ok ? null : new DeclbindError(code, message, fields, code === 'internal');
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

  /**
   * @param {string} stream
   * @param {Data} payload
   */
  #transmit(stream, payload) {
    this.#socket?.send(JSON.stringify({ stream, payload }));
  }

  get #isOpen() {
    return this.#socket?.readyState === OPEN && this.#state === 'live';
  }

  // Writes ---------------------------------------------------------------------------------------

  /**
   * @internal
   * @param {string} stream
   * @param {Data} payload
   * @param {WriteOptions} [options]
   * @returns {Promise<WriteResult>}
   */
  write(stream, payload, options) {
    return new Promise((resolve, reject) => {
      const { key = randomKey(), if: expected, timeout = this.#options.timeout } =
        /** @type {WriteOptions} */ (readOptions(payload.action, options, WRITE_OPTIONS));
      if (this.#state === 'closed' || this.#state === 'refused') {
        throw new DeclbindError(this.#state, `Nothing can be written: the connection is ${this.#state}.`);
      }
      const ref = ++this.#lastRef;
      /** @type {Data} */
      const request = { ...payload, ref };
      if (key !== null) request.key = key;
      if (expected !== undefined) request.if = expected;
      const timer = setTimeout(() => {
        this.#giveUp(ref, 'timeout', 'No reply came in time');
        this.#pump();
      }, timeout);
      this.#writes.set(ref, { stream, payload: request, resolve, reject, timer, socket: null, sent: false });
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
        write.sent = true;
        this.#transmit(write.stream, write.payload);
      }
    }
  }

  /**
   * @param {number} ref
   * @param {DeclbindError | null} error
   * @param {any} [result]
   */
  #settleWrite(ref, error, result) {
    const write = this.#writes.get(ref);
    this.#writes.delete(ref);
    clearTimeout(write?.timer);
    if (error) write?.reject(error);
    else write?.resolve(result);
  }

  /**
   * Reject a write without a reply. Its outcome is unknown only if it was sent.
   * @param {number} ref
   * @param {string} code
   * @param {string} text
   */
  #giveUp(ref, code, text) {
    const isSent = !!this.#writes.get(ref)?.sent;
    const outcome = isSent ? 'whether the write was stored is unknown' : 'the write was never sent';
    this.#settleWrite(ref, new DeclbindError(code, `${text}; ${outcome}.`, {}, isSent));
  }

  /**
   * @param {string} code
   * @param {string} text
   */
  #giveUpWrites(code, text) {
    for (const ref of [...this.#writes.keys()]) this.#giveUp(ref, code, text);
  }

  // Subscriptions --------------------------------------------------------------------------------

  /**
   * @internal
   * @param {string} stream
   * @param {Data} params
   * @param {SubscribeOptions<any>} options
   * @returns {Subscription<any>}
   */
  join(stream, params, options) {
    const read = readOptions('subscribe', options, SUBSCRIBE_OPTIONS);
    const key = JSON.stringify([stream, Object.entries(params).sort(([a], [b]) => (a < b ? -1 : 1))]);
    let feed = this.#feeds.get(key);
    if (!feed) {
      feed = new Feed(this, key, stream, params);
      this.#feeds.set(key, feed);
    }
    const subscription = new Subscription(feed, options);
    feed.add(subscription, read.snapshot);
    if (this.#state === 'closed') feed.end('client');
    return subscription;
  }

  /**
   * Send a request. Return false without a connection; each feed subscribes when there is one.
   *
   * @internal
   * @param {string} stream
   * @param {Data} payload
   * @param {(error: DeclbindError | null, reply: any) => void} done  Called with the reply.
   * @param {number} [timeout]
   * @param {() => void} [lost]  Called if the connection ends before the reply.
   */
  ask(stream, payload, done, timeout = REPLY_TIMEOUT, lost) {
    if (!this.#isOpen) return false;
    const ref = ++this.#lastRef;
    this.#asks.set(ref, { done, lost, timer: setTimeout(this.#replace, timeout) });
    this.#transmit(stream, { ...payload, ref });
    return true;
  }

  /**
   * Remove a feed, and unsubscribe unless the server has ended it.
   *
   * @internal
   * @param {Feed} feed
   * @param {boolean} tell
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

/**
 * One stream of a client: the rows and writes of a binding.
 * @template {object} [Row=Data]
 */
export class Stream {
  #client;

  /**
   * @internal
   * @param {Client} client
   * @param {string} name
   */
  constructor(client, name) {
    this.#client = client;
    this.name = name;
  }

  /**
   * Watch the rows of one group.
   *
   * @param {Data} [params]  Values of the group template's fields, `{blog_id: 3}`; `{}` for a constant group.
   * @param {SubscribeOptions<Row>} [options]
   * @returns {Subscription<Row>}
   */
  subscribe(params = {}, options = {}) {
    return this.#client.join(this.name, params, options);
  }

  /**
   * Return the rows of one group as a store, for libraries that draw from values. It subscribes while it has listeners.
   *
   * @param {Data} [params]
   * @param {SubscribeOptions<Row>} [options]
   * @returns {Store<Row>}
   */
  store(params, options) {
    return new Store(this, params, options);
  }

  /**
   * Store a new row. Resolves with `{pk}` after the commit, rejects with a DeclbindError.
   * @param {Partial<Row>} data
   * @param {WriteOptions} [options]
   * @returns {Promise<WriteResult>}
   */
  create(data, options) {
    return this.#client.write(this.name, { action: 'create', data }, options);
  }

  /**
   * Store the given fields of a row. Other fields keep their values.
   * @param {PrimaryKey} pk
   * @param {Partial<Row>} data
   * @param {WriteOptions} [options]
   * @returns {Promise<WriteResult>}
   */
  update(pk, data, options) {
    return this.#client.write(this.name, { action: 'update', pk, data }, options);
  }

  /**
   * Delete a row.
   * @param {PrimaryKey} pk
   * @param {WriteOptions} [options]
   * @returns {Promise<WriteResult>}
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
 *
 * @template {object} [Row=Data]
 * @extends {TypedTarget<SubscriptionEvents<Row>>}
 */
export class Subscription extends TypedTarget {
  /** @type {Feed} */
  #feed;

  /**
   * @internal
   * @param {Feed} feed
   * @param {SubscribeOptions<Row>} options
   */
  constructor(feed, options) {
    super();
    this.#feed = feed;
    for (const [option, type] of Object.entries(LISTENERS)) {
      const listener = /** @type {((detail: any) => void) | undefined} */ (
        options[/** @type {keyof typeof LISTENERS} */ (option)]
      );
      if (listener) this.addEventListener(type, (event) => listener(event.detail));
    }
    /**
     * Fulfilled when the rows have arrived, rejected if the subscription is refused.
     * @type {Promise<Subscription<Row>>}
     */
    this.ready = new Promise((resolve, reject) => {
      this.addEventListener('error', (event) => reject(event.detail));
      this.addEventListener('closed', (event) => {
        reject(endError(event.detail.reason));
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

  /** @returns {Map<PrimaryKey, Row>}  Always the same map. Treat it as read-only. */
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
 * The rows of one group as a value that is replaced after each burst of changes, as Svelte's stores are. It holds a
 * subscription while it has listeners.
 *
 * @template {object} [Row=Data]
 */
export class Store {
  #stream;
  #params;
  #options;
  /** @type {Subscription<Row> | undefined} */
  #subscription;
  /** @type {Set<(value: StoreValue<Row>) => void>} */
  #listeners = new Set();

  /**
   * @internal
   * @param {Stream<Row>} stream
   * @param {Data} [params]
   * @param {SubscribeOptions<Row>} [options]
   */
  constructor(stream, params, options) {
    this.#stream = stream;
    this.#params = params;
    this.#options = options;
    /**
     * The latest value, which is never changed.
     * @type {StoreValue<Row>}
     */
    this.value = { rows: new Map(), state: 'subscribing', error: null };
  }

  /**
   * Call a function with the value, now and after each burst of changes.
   * @param {(value: StoreValue<Row>) => void} listener
   * @returns {() => void}  Ends it.
   */
  subscribe(listener) {
    /** @param {StoreValue<Row>} value */
    const own = (value) => listener(value);
    if (!this.#listeners.size) this.#begin();
    this.#listeners.add(own);
    own(this.value);
    return () => {
      if (this.#listeners.delete(own) && !this.#listeners.size) this.#subscription?.unsubscribe();
    };
  }

  #begin() {
    const subscription = this.#stream.subscribe(this.#params, this.#options);
    this.#subscription = subscription;
    /** @type {DeclbindError | null} */
    let error = null;
    let isDue = false;
    const read = () => {
      isDue = false;
      this.value = { rows: new Map(subscription.rows), state: subscription.state, error };
    };
    const update = () => {
      if (isDue) return;
      isDue = true;
      queueMicrotask(() => {
        if (subscription !== this.#subscription || !this.#listeners.size) return;
        read();
        for (const listener of this.#listeners) listener(this.value);
      });
    };
    subscription.addEventListener('rows', update);
    subscription.addEventListener('state', update);
    subscription.addEventListener('error', ({ detail }) => (error = detail));
    subscription.addEventListener('closed', ({ detail }) => (error ??= endError(detail.reason)));
    read();
  }
}

/**
 * The data of one stream and one set of parameters, shared by its subscriptions.
 * Not public. It implements the protocol's rules for snapshots, offsets and resyncs.
 */
class Feed {
  #client;
  /** @type {Set<Subscription<any>>} */
  #subscriptions = new Set();
  #wantsRows = false;
  /** Whether the rows are not (or no longer) known, so resuming from an offset would be wrong. */
  #needsSnapshot = false;
  #hasBegun = false;
  /** Whether a request waits for its reply, or for the last page of its snapshot. */
  #asking = false;
  #askAgain = false;
  #timer = 0;
  #failures = 0;
  /** @type {string | null} */
  #epoch = null;
  #offset = 0;
  /**
   * The server's proof of the offset since which this user has been allowed to see the group.
   * @type {string | null}
   */
  #resume = null;
  /** @type {{pk: PrimaryKey, data: Data}[] | null}  Pages of a snapshot that is not complete. */
  #pages = null;
  /** @type {[any, number][]}  Changes since the request of the snapshot. Some of them are newer than the snapshot. */
  #between = [];

  /**
   * @param {Client} client
   * @param {string} key
   * @param {string} stream
   * @param {Data} params
   */
  constructor(client, key, stream, params) {
    this.#client = client;
    this.key = key;
    this.stream = stream;
    this.params = params;
    /** @type {string | null} */
    this.group = null;
    /** @type {Map<PrimaryKey, any>} */
    this.rows = new Map();
    /** @type {SubscriptionState} */
    this.state = 'subscribing';
  }

  /** @param {Subscription<any>} subscription */
  has(subscription) {
    return this.#subscriptions.has(subscription);
  }

  /**
   * @param {Subscription<any>} subscription
   * @param {boolean} wantsRows
   */
  add(subscription, wantsRows) {
    const isFirst = !this.#hasBegun;
    this.#hasBegun = true;
    this.#subscriptions.add(subscription);
    if (wantsRows && !this.#wantsRows) {
      this.#wantsRows = this.#needsSnapshot = true;
      if (this.state === 'live') this.#setState('stale');
      this.ask();
    } else if (isFirst) {
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

  /** @param {Subscription<any>} subscription */
  remove(subscription) {
    if (!this.#subscriptions.delete(subscription)) return;
    emit(subscription, 'state', { state: 'closed' });
    // Not at once: a page that replaces a view subscribes again in the same moment (as React does in its strict mode).
    setTimeout(() => {
      if (this.#subscriptions.size === 0) this.end('client');
    });
  }

  /**
   * Subscribe with a snapshot if one is needed, else with the missed changes.
   * @param {number} [timeout]
   */
  ask(timeout) {
    if (this.#asking) {
      this.#askAgain = true;
      return;
    }
    clearTimeout(this.#timer);
    const resume = this.#epoch !== null && !this.#needsSnapshot;
    /** @type {Data} */
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

  /**
   * @param {boolean} resume
   * @param {any} reply
   */
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

  /** @param {DeclbindError} error */
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

  /** @param {number} base */
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

  /**
   * @param {any} payload
   * @param {number} offset
   */
  #change(payload, offset) {
    if (offset <= this.#offset) return; // Seen: a group's frames come in commit order, repeated at most.
    this.#offset = offset;
    if (this.#pages) this.#between.push([payload, offset]);
    const change = this.#apply(payload, offset);
    this.#emit('change', change);
    this.#emit('rows', { rows: this.rows, change });
  }

  /**
   * @param {any} payload
   * @param {number} offset
   */
  #apply({ action, pk, data, model }, offset) {
    const previous = this.rows.get(pk);
    if (action === 'delete') this.rows.delete(pk);
    else this.rows.set(pk, data);
    return { action, pk, data, previous, model, offset };
  }

  /**
   * @param {any} payload
   * @param {number} offset
   */
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

  /**
   * @param {any} payload
   * @param {number} offset
   */
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

  /**
   * @param {string} reason
   * @param {boolean} [tell]  Whether the server does not know.
   */
  end(reason, tell = true) {
    if (this.state === 'closed') return;
    clearTimeout(this.#timer);
    this.state = 'closed';
    this.#client.leave(this, tell);
    this.#emit('closed', { reason });
    this.#emit('state', { state: 'closed' });
    this.#subscriptions.clear();
  }

  /** @param {SubscriptionState} state */
  #setState(state) {
    if (state === this.state) return;
    this.state = state;
    this.#emit('state', { state });
  }

  /**
   * @param {string} type
   * @param {unknown} detail
   */
  #emit(type, detail) {
    for (const subscription of [...this.#subscriptions]) emit(subscription, type, detail);
  }
}

/**
 * @param {{dispatchEvent: (event: Event) => boolean}} target
 * @param {string} type
 * @param {unknown} detail
 */
function emit(target, type, detail) {
  target.dispatchEvent(new CustomEvent(type, { detail }));
}

/** @param {string} reason */
function endError(reason) {
  return new DeclbindError('closed', `The subscription ended: ${reason}.`);
}

function isHidden() {
  return globalThis.document?.visibilityState === 'hidden';
}

/**
 * Return the options with defaults in place of those that are missing or undefined.
 *
 * @template {object} Options
 * @param {unknown} place  The call, for the message.
 * @param {object | undefined} options
 * @param {Options} defaults  All options there are.
 * @returns {Options}
 */
function readOptions(place, options, defaults) {
  const read = { ...defaults };
  for (const [name, value] of Object.entries(options ?? {})) {
    if (!Object.hasOwn(defaults, name)) {
      const names = Object.keys(defaults);
      const [nearest] = [...names].sort((a, b) => distance(name, a) - distance(name, b));
      throw new TypeError(
        `${place}(): expected options among ${names.join(', ')}, got '${name}'. The nearest is '${nearest}'.`,
      );
    }
    if (value !== undefined) Object.assign(read, { [name]: value });
  }
  return read;
}

/**
 * Return how many letters must be added, removed or replaced to make one name into the other.
 *
 * @param {string} a
 * @param {string} b
 * @returns {number}
 */
function distance(a, b) {
  let row = [...`${b} `].map((_, index) => index);
  for (const [index, letter] of [...a].entries()) {
    const next = [index + 1];
    for (let at = 0; at < b.length; at += 1) {
      next.push(Math.min(next[at] + 1, row[at + 1] + 1, row[at] + Number(letter !== b[at])));
    }
    row = next;
  }
  return row[b.length];
}

/**
 * @param {string | URL} url
 * @returns {string}
 */
function socketUrl(url) {
  const absolute = new URL(url, globalThis.location?.href);
  absolute.protocol = absolute.protocol.replace(/^http/, 'ws');
  absolute.hash = '';
  if (!/^wss?:$/.test(absolute.protocol)) throw new TypeError(`Expected a ws: or wss: address, got ${absolute.href}`);
  return absolute.href;
}

/** 128 random bits. (crypto.randomUUID would need https.) */
function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
