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
export type PrimaryKey = string | number;
export type Data = Record<string, unknown>;
export type ClientState = 'connecting' | 'live' | 'reconnecting' | 'refused' | 'closed';
export type SubscriptionState = 'subscribing' | 'live' | 'stale' | 'closed';
export type Token = string | (() => string | Promise<string>);
export type ClientOptions = {
    /**
     * Milliseconds a write may take, reconnects included.
     */
    timeout?: number;
    /**
     * Send writes without a reply again after a reconnect.
     */
    retryWrites?: boolean;
    /**
     * Writes in progress at once. The others wait in the client.
     */
    inFlight?: number;
    /**
     * First upper bound of the reconnect delay, in milliseconds.
     */
    baseDelay?: number;
    /**
     * Last upper bound of the reconnect delay.
     */
    maxDelay?: number;
    /**
     * Let the server join waiting frames into one. Disable it behind a proxy that
     * drops the subprotocol header.
     */
    batch?: boolean;
    /**
     * Authenticates the client instead of a cookie. A function is called for each connection,
     * and again before its token ends, to keep the connection.
     */
    token?: Token;
    /**
     * Another implementation of WebSocket.
     */
    WebSocket?: typeof WebSocket;
};
export type WriteOptions = {
    /**
     * Idempotency key; random by default. `null`: none, so the write is never sent twice.
     */
    key?: string | null;
    /**
     * Expected values of fields; the write is refused with `conflict` if they differ.
     */
    if?: Data;
    /**
     * Milliseconds, in place of the client's.
     */
    timeout?: number;
};
export type StateDetail = {
    state: ClientState;
    /**
     * The close code of the connection that was lost.
     */
    code?: number;
    /**
     * What the server said, such as the reason that an operator gave; may be empty.
     */
    reason?: string;
    /**
     * Milliseconds until the next attempt.
     */
    retryIn?: number;
};
export type WriteResult = {
    pk: PrimaryKey;
} & Data;
export type PlainChange = {
    action: 'create' | 'update' | 'delete';
    pk: PrimaryKey;
    data: Data;
    model: string;
};
export type ClientEvents = {
    state: StateDetail;
    frame: {
        stream: string;
        payload: PlainChange;
    };
    error: DeclbindError;
};
export type Change<Row extends object = Data> = {
    action: 'create' | 'update' | 'delete';
    pk: PrimaryKey;
    /**
     * The new values. For a deleted row the last ones, or `{}` if it only left the group.
     */
    data: Row;
    /**
     * The previous value in `rows`.
     */
    previous: Row | undefined;
    model: string;
    offset: number;
};
export type SubscriptionEvents<Row extends object = Data> = {
    change: Change<Row>;
    rows: {
        rows: Map<PrimaryKey, Row>;
        change: Change<Row> | null;
    };
    state: {
        state: SubscriptionState;
    };
    resync: {
        reason: string;
    };
    closed: {
        reason: string;
    };
    error: DeclbindError;
};
export type SubscribeOptions<Row extends object = Data> = {
    /**
     * Begin with the current rows. Without it, `rows` holds only rows that changed
     * since.
     */
    snapshot?: boolean;
    onChange?: (change: Change<Row>) => void;
    onRows?: (detail: {
        rows: Map<PrimaryKey, Row>;
        change: Change<Row> | null;
    }) => void;
    onState?: (detail: {
        state: SubscriptionState;
    }) => void;
    onResync?: (detail: {
        reason: string;
    }) => void;
    onClosed?: (detail: {
        reason: string;
    }) => void;
    onError?: (error: DeclbindError) => void;
};
export type StoreValue<Row extends object = Data> = {
    /**
     * Another map for each value. Unchanged rows are the same objects.
     */
    rows: ReadonlyMap<PrimaryKey, Row>;
    state: SubscriptionState;
    /**
     * Why the subscription was refused or has ended.
     */
    error: DeclbindError | null;
};
export type Emitter<Events extends object> = {
    addEventListener: <Name extends keyof Events & string>(type: Name, listener: (event: CustomEvent<Events[Name]>) => void, options?: boolean | AddEventListenerOptions) => void;
    removeEventListener: <Name extends keyof Events & string>(type: Name, listener: (event: CustomEvent<Events[Name]>) => void, options?: boolean | EventListenerOptions) => void;
    dispatchEvent: (event: Event) => boolean;
};
declare const TypedTarget: {
    new <Events extends object>(): Emitter<Events>;
};
/** A request that was not carried out. */
export declare class DeclbindError extends Error {
    code: string;
    fields: Record<string, string[]>;
    outcomeUnknown: boolean;
    /**
     * @param {string} code  One of the protocol's codes (`denied`, `invalid`, `conflict`, ...), or one of the
     *   client's own: `timeout`, `disconnected`, `refused`, `closed`, and `token` (the page's own function returned
     *   none).
     * @param {string} message
     * @param {Record<string, string[]>} [fields]  Texts by field name; `__all__` for the row as a whole.
     * @param {boolean} [outcomeUnknown]  Whether the request may have been carried out: it was sent, and the answer does
     *   not say. A write that was never sent is not stored.
     */
    constructor(code: string, message: string, fields?: Record<string, string[]>, outcomeUnknown?: boolean);
}
/**
 * Connect to a declbind endpoint. The socket is opened at once and kept open.
 *
 * @param {string | URL} [url]  Absolute or relative to the page; `http:` counts as `ws:`, `https:` as `wss:`.
 * @param {ClientOptions} [options]
 * @returns {Client}
 */
export declare function connect(url?: string | URL, options?: ClientOptions): Client;
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
export declare class Client extends TypedTarget<ClientEvents> {
    #private;
    url: string;
    /**
     * @param {string | URL} url
     * @param {ClientOptions} options
     */
    constructor(url: string | URL, options: ClientOptions);
    /** @returns {ClientState} */
    get state(): ClientState;
    /**
     * Return a stream by name, without a request. It is the same object for the same name.
     * @template {object} [Row=Data]
     * @param {string} name
     * @returns {Stream<Row>}
     */
    stream<Row extends object = Data>(name: string): Stream<Row>;
    /**
     * Listen to the changes of a stream that the server subscribed automatically (`auto_subscribe`).
     *
     * @param {string} stream
     * @param {(payload: PlainChange) => void} listener
     * @returns {() => void}  Stops listening.
     */
    on(stream: string, listener: (payload: PlainChange) => void): () => void;
    /** Connect again now: after `refused` (for example after a new login), or instead of waiting for the next attempt. */
    reconnect(): void;
    /**
     * Authenticate with a token from now on: on the open connection, which stays, and on each later one. After `refused`,
     * connect again with it.
     *
     * @param {Token} getToken  As the option `token`. A function is called again before its token ends.
     * @returns {Promise<void>}  Fulfilled when the server has accepted the token, or at once without an open connection,
     *   because the next one begins with it. Rejected with a DeclbindError if there is no token or the server refuses it;
     *   then everything stays as it was.
     */
    authenticate(getToken: Token): Promise<void>;
    /** Close permanently. Subscriptions end, and writes without a reply reject with `closed`. */
    close(): void;
}
/**
 * One stream of a client: the rows and writes of a binding.
 * @template {object} [Row=Data]
 */
export declare class Stream<Row extends object = Data> {
    #private;
    name: string;
    /**
     * Watch the rows of one group.
     *
     * @param {Data} [params]  Values of the group template's fields, `{blog_id: 3}`; `{}` for a constant group.
     * @param {SubscribeOptions<Row>} [options]
     * @returns {Subscription<Row>}
     */
    subscribe(params?: Data, options?: SubscribeOptions<Row>): Subscription<Row>;
    /**
     * Return the rows of one group as a store, for libraries that draw from values. It subscribes while it has listeners.
     *
     * @param {Data} [params]
     * @param {SubscribeOptions<Row>} [options]
     * @returns {Store<Row>}
     */
    store(params?: Data, options?: SubscribeOptions<Row>): Store<Row>;
    /**
     * Store a new row. Resolves with `{pk}` after the commit, rejects with a DeclbindError.
     * @param {Partial<Row>} data
     * @param {WriteOptions} [options]
     * @returns {Promise<WriteResult>}
     */
    create(data: Partial<Row>, options?: WriteOptions): Promise<WriteResult>;
    /**
     * Store the given fields of a row. Other fields keep their values.
     * @param {PrimaryKey} pk
     * @param {Partial<Row>} data
     * @param {WriteOptions} [options]
     * @returns {Promise<WriteResult>}
     */
    update(pk: PrimaryKey, data: Partial<Row>, options?: WriteOptions): Promise<WriteResult>;
    /**
     * Delete a row.
     * @param {PrimaryKey} pk
     * @param {WriteOptions} [options]
     * @returns {Promise<WriteResult>}
     */
    delete(pk: PrimaryKey, options?: WriteOptions): Promise<WriteResult>;
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
export declare class Subscription<Row extends object = Data> extends TypedTarget<SubscriptionEvents<Row>> {
    #private;
    /**
     * Fulfilled when the rows have arrived, rejected if the subscription is refused.
     * @type {Promise<Subscription<Row>>}
     */
    ready: Promise<Subscription<Row>>;
    get stream(): string;
    get params(): Data;
    /** @returns {Map<PrimaryKey, Row>}  Always the same map. Treat it as read-only. */
    get rows(): Map<PrimaryKey, Row>;
    /** @returns {SubscriptionState} */
    get state(): SubscriptionState;
    /** Stop watching. */
    unsubscribe(): void;
}
/**
 * The rows of one group as a value that is replaced after each burst of changes, as Svelte's stores are. It holds a
 * subscription while it has listeners.
 *
 * @template {object} [Row=Data]
 */
export declare class Store<Row extends object = Data> {
    #private;
    /**
     * The latest value, which is never changed.
     * @type {StoreValue<Row>}
     */
    value: StoreValue<Row>;
    /**
     * Call a function with the value, now and after each burst of changes.
     * @param {(value: StoreValue<Row>) => void} listener
     * @returns {() => void}  Ends it.
     */
    subscribe(listener: (value: StoreValue<Row>) => void): () => void;
}
export {};
