/**
 * Live rows in Alpine 3.
 *
 *     document.addEventListener('alpine:init', () => Alpine.plugin(live(connect())));
 *
 *     <ul x-data="live('blog-posts', { blog_id: 3 })">
 *       <template x-for="[pk, post] in rows" :key="pk"><li x-text="post.title"></li></template>
 *     </ul>
 *
 * The component `live(stream, params)` has `rows` (pairs of primary key and row), `state`, `error`, and the methods
 * `create`, `update` and `delete` of the stream. The magic `$connection` is the state of the client.
 *
 * @module declbind/alpine
 */
import type { Client, Data, DeclbindError, PrimaryKey, SubscriptionState } from './declbind.js';
import type { WriteOptions, WriteResult } from './declbind.js';
export type Alpine = {
    data: (name: string, make: (...values: any[]) => object) => void;
    magic: (name: string, read: () => unknown) => void;
    reactive: <Value extends object>(value: Value) => Value;
    effect: (run: () => void) => any;
    release: (effect: any) => void;
};
export type Live = {
    /**
     * Copies, so that a form may bind to them without changing the client's rows.
     */
    rows: [PrimaryKey, Data][];
    state: SubscriptionState;
    /**
     * Why the subscription was refused or has ended.
     */
    error: DeclbindError | null;
    create: (data: Data, options?: WriteOptions) => Promise<WriteResult>;
    update: (pk: PrimaryKey, data: Data, options?: WriteOptions) => Promise<WriteResult>;
    delete: (pk: PrimaryKey, options?: WriteOptions) => Promise<WriteResult>;
    init: () => void;
    destroy: () => void;
};
/** @import { Client, Data, DeclbindError, PrimaryKey, SubscriptionState } from './declbind.js' */
/** @import { WriteOptions, WriteResult } from './declbind.js' */
/**
 * @typedef {object} Alpine  What is used of Alpine.
 * @property {(name: string, make: (...values: any[]) => object) => void} data
 * @property {(name: string, read: () => unknown) => void} magic
 * @property {<Value extends object>(value: Value) => Value} reactive
 * @property {(run: () => void) => any} effect
 * @property {(effect: any) => void} release
 *
 * @typedef {object} Live  The component.
 * @property {[PrimaryKey, Data][]} rows  Copies, so that a form may bind to them without changing the client's rows.
 * @property {SubscriptionState} state
 * @property {DeclbindError | null} error  Why the subscription was refused or has ended.
 * @property {(data: Data, options?: WriteOptions) => Promise<WriteResult>} create
 * @property {(pk: PrimaryKey, data: Data, options?: WriteOptions) => Promise<WriteResult>} update
 * @property {(pk: PrimaryKey, options?: WriteOptions) => Promise<WriteResult>} delete
 * @property {() => void} init
 * @property {() => void} destroy
 */
/**
 * Return the plugin for a client: `Alpine.plugin(live(client))`.
 *
 * @param {Client} client
 * @returns {(alpine: Alpine) => void}
 */
export declare function live(client: Client): (alpine: Alpine) => void;
