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
export function live(client) {
  return (alpine) => {
    const connection = alpine.reactive({ state: client.state });
    client.addEventListener('state', ({ detail }) => (connection.state = detail.state));
    alpine.magic('connection', () => connection.state);
    alpine.data('live', (stream, params) => makeLive(alpine, client, stream, params));
  };
}

/**
 * @param {Alpine} alpine
 * @param {Client} client
 * @param {string} name
 * @param {Data | (() => Data)} [params]  A function if they change: the subscription follows what it reads.
 * @returns {Live}
 */
function makeLive(alpine, client, name, params = {}) {
  // Not in the component: Alpine would wrap it in a proxy, which has no access to private members.
  const stream = client.stream(name);
  /** @type {(() => void) | undefined} */
  let stop;
  /** @type {any} */
  let effect;
  return {
    rows: [],
    state: 'subscribing',
    error: null,
    init() {
      effect = alpine.effect(() => {
        const values = JSON.parse(JSON.stringify(typeof params === 'function' ? params() : params));
        stop?.();
        stop = stream.store(values).subscribe(({ rows, state, error }) => {
          const copies = [...rows].map(([pk, row]) => /** @type {[PrimaryKey, Data]} */ ([pk, { ...row }]));
          Object.assign(this, { rows: copies, state, error });
        });
      });
    },
    destroy() {
      alpine.release(effect);
      stop?.();
    },
    create: (data, options) => stream.create(data, options),
    update: (pk, data, options) => stream.update(pk, data, options),
    delete: (pk, options) => stream.delete(pk, options),
  };
}
