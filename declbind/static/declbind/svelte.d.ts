/**
 * Live rows as Svelte stores, for Svelte 3 and later. A store is an object with `subscribe`, so Svelte itself is not
 * needed, and other libraries that read such stores work, too.
 *
 *     const posts = connect().stream('blog-posts');
 *     const live = rowsOf(posts, { blog_id: 3 });
 *
 *     {#each [...$live.rows] as [pk, post] (pk)}<li>{post.title}</li>{/each}
 *
 * @module declbind/svelte
 */
import type { Client, ClientState, Data, Store, Stream } from './declbind.js';
/** @import { Client, ClientState, Data, Store, Stream } from './declbind.js' */
/**
 * Return the rows of one group as a store. It subscribes while a component reads it.
 *
 * @template {object} [Row=Data]
 * @param {Stream<Row>} stream
 * @param {Data} [params]  As for `subscribe`.
 * @returns {Store<Row>}
 */
export declare function rowsOf<Row extends object = Data>(stream: Stream<Row>, params?: Data): Store<Row>;
/**
 * Return the state of a client as a store.
 *
 * @param {Client} client
 * @returns {{subscribe: (listener: (state: ClientState) => void) => () => void}}
 */
export declare function stateOf(client: Client): {
    subscribe: (listener: (state: ClientState) => void) => () => void;
};
