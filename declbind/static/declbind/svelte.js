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

/** @import { Client, ClientState, Data, Store, Stream } from './declbind.js' */

/**
 * Return the rows of one group as a store. It subscribes while a component reads it.
 *
 * @template {object} [Row=Data]
 * @param {Stream<Row>} stream
 * @param {Data} [params]  As for `subscribe`.
 * @returns {Store<Row>}
 */
export function rowsOf(stream, params) {
  return stream.store(params);
}

/**
 * Return the state of a client as a store.
 *
 * @param {Client} client
 * @returns {{subscribe: (listener: (state: ClientState) => void) => () => void}}
 */
export function stateOf(client) {
  return {
    subscribe(listener) {
      const changed = () => listener(client.state);
      client.addEventListener('state', changed);
      changed();
      return () => client.removeEventListener('state', changed);
    },
  };
}
