/**
 * Live rows in React 18 and later.
 *
 *     const client = connect();
 *     const posts = client.stream('blog-posts');
 *
 *     function Posts({ blog }) {
 *       const { rows, state, error } = useRows(posts, { blog_id: blog });
 *       return <ul>{[...rows].map(([pk, post]) => <li key={pk}>{post.title}</li>)}</ul>;
 *     }
 *
 * Connect outside of components: a client is for the page, and no component may close it. In the strict mode, which
 * mounts each component twice, the server still gets one subscription.
 *
 * @module declbind/react
 */

import { useCallback, useMemo, useSyncExternalStore } from 'react';

/** @import { Client, ClientState, Data, StoreValue, Stream } from './declbind.js' */

/** @type {StoreValue<any>} */
const NOTHING = { rows: new Map(), state: 'closed', error: null };

/**
 * Return the rows of one group, and draw the component again when they change.
 *
 * @template {object} [Row=Data]
 * @param {Stream<Row> | null | undefined} stream  `null` for no subscription, for example before a choice is made.
 * @param {Data} [params]  As for `subscribe`. Equal values in a new object are the same subscription.
 * @returns {StoreValue<Row>}
 */
export function useRows(stream, params = {}) {
  const key = JSON.stringify(params);
  const store = useMemo(() => stream?.store(JSON.parse(key)), [stream, key]);
  const subscribe = useCallback(
    (/** @type {() => void} */ changed) => store?.subscribe(changed) ?? (() => {}), [store],
  );
  const read = () => store?.value ?? NOTHING;
  return useSyncExternalStore(subscribe, read, read);
}

/**
 * Return the state of a client, and draw the component again when it changes.
 *
 * @param {Client} client
 * @returns {ClientState}
 */
export function useClientState(client) {
  const subscribe = useCallback((/** @type {() => void} */ changed) => {
    client.addEventListener('state', changed);
    return () => client.removeEventListener('state', changed);
  }, [client]);
  const read = () => client.state;
  return useSyncExternalStore(subscribe, read, read);
}
