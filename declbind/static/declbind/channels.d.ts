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
export type Listener = (action: any, stream: string | null) => void;
export type BridgeOptions = {
    /**
     * Milliseconds until the first attempt to connect again, or up to twice
     * as long.
     */
    minReconnectionDelay?: number;
    /**
     * The longest time between two attempts.
     */
    maxReconnectionDelay?: number;
    /**
     * By how much the time grows from one attempt to the next.
     */
    reconnectionDelayGrowFactor?: number;
    /**
     * Milliseconds after which an attempt is given up.
     */
    connectionTimeout?: number;
    /**
     * After so many failed attempts, no more are made.
     */
    maxRetries?: number;
};
/** A WebSocket that is replaced when it is lost. Its events are those of the present one. */
export declare class ReconnectingSocket extends EventTarget {
    #private;
    url: string;
    /** @type {((event: Event) => void) | null} */
    onopen: ((event: Event) => void) | null;
    /** @type {((event: MessageEvent) => void) | null} */
    onmessage: ((event: MessageEvent) => void) | null;
    /** @type {((event: CloseEvent) => void) | null} */
    onclose: ((event: CloseEvent) => void) | null;
    /** @type {((event: Event) => void) | null} */
    onerror: ((event: Event) => void) | null;
    /**
     * @param {string} url
     * @param {string | string[]} [protocols]
     * @param {BridgeOptions} [options]
     */
    constructor(url: string, protocols?: string | string[], options?: BridgeOptions);
    /** @returns {number}  As of a WebSocket. */
    get readyState(): number;
    /**
     * Send a text. Throws if there has been no connection yet.
     * @param {string} text
     */
    send(text: string): void;
    /**
     * Close the connection. Without `keepClosed` another one is opened.
     * @param {number} [code]
     * @param {string} [reason]
     * @param {{keepClosed?: boolean}} [options]
     */
    close(code?: number, reason?: string, { keepClosed }?: {
        keepClosed?: boolean;
    }): void;
}
/** A connection whose messages are passed to a function for each stream. */
export declare class WebSocketBridge {
    /**
     * The connection, once `connect` was called.
     * @type {ReconnectingSocket | null}
     */
    socket: ReconnectingSocket | null;
    /** @type {Record<string, Listener>} */
    streams: Record<string, Listener>;
    /** @type {Listener | null} */
    default_cb: Listener | null;
    constructor();
    /**
     * Open the connection.
     * @param {string} [url]  A path on this site, or a whole address. The site's root by default.
     * @param {string | string[]} [protocols]
     * @param {BridgeOptions} [options]
     */
    connect(url?: string, protocols?: string | string[], options?: BridgeOptions): void;
    /**
     * Begin to listen.
     * @param {Listener} [listener]  Gets the messages that are of no stream.
     */
    listen(listener?: Listener): void;
    /**
     * Name the function that gets the messages of a stream.
     * @param {string} stream
     * @param {Listener} listener
     */
    demultiplex(stream: string, listener: Listener): void;
    /**
     * Send a message.
     * @param {unknown} message
     */
    send(message: unknown): void;
    /**
     * Return an object that sends messages to a stream.
     * @param {string} stream
     * @returns {{send: (payload: unknown) => void}}
     */
    stream(stream: string): {
        send: (payload: unknown) => void;
    };
}
