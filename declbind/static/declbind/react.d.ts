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
import type { Client, ClientState, Data, StoreValue, Stream } from './declbind.js';
/**
 * Return the rows of one group, and draw the component again when they change.
 *
 * @template {object} [Row=Data]
 * @param {Stream<Row> | null | undefined} stream  `null` for no subscription, for example before a choice is made.
 * @param {Data} [params]  As for `subscribe`. Equal values in a new object are the same subscription.
 * @returns {StoreValue<Row>}
 */
export declare function useRows<Row extends object = Data>(stream: Stream<Row> | null | undefined, params?: Data): StoreValue<Row>;
/**
 * Return the state of a client, and draw the component again when it changes.
 *
 * @param {Client} client
 * @returns {ClientState}
 */
export declare function useClientState(client: Client): ClientState;
