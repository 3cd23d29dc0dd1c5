/**
 * Live rows in Vue 3.3 and later.
 *
 *     const posts = connect().stream('blog-posts');
 *     const { rows, state, error } = useRows(posts, () => ({ blog_id: blog.value }));
 *
 *     <li v-for="[pk, post] in rows" :key="pk">{{ post.title }}</li>
 *
 * @module declbind/vue
 */
import type { ComputedRef, MaybeRefOrGetter, Ref } from 'vue';
import type { Client, ClientState, Data, DeclbindError, PrimaryKey, Stream } from './declbind.js';
import type { SubscriptionState } from './declbind.js';
/**
 * Return the rows of one group as refs. The subscription follows its arguments and ends with the component.
 *
 * @template {object} [Row=Data]
 * @param {MaybeRefOrGetter<Stream<Row> | null | undefined>} stream  `null` for no subscription, for example before a
 *   choice is made.
 * @param {MaybeRefOrGetter<Data>} [params]  As for `subscribe`; a ref or a getter if it changes.
 * @returns {{rows: ComputedRef<ReadonlyMap<PrimaryKey, Row>>, state: ComputedRef<SubscriptionState>,
 *   error: ComputedRef<DeclbindError | null>}}
 */
export declare function useRows<Row extends object = Data>(stream: MaybeRefOrGetter<Stream<Row> | null | undefined>, params?: MaybeRefOrGetter<Data>): {
    rows: ComputedRef<ReadonlyMap<PrimaryKey, Row>>;
    state: ComputedRef<SubscriptionState>;
    error: ComputedRef<DeclbindError | null>;
};
/**
 * Return the state of a client as a ref.
 *
 * @param {Client} client
 * @returns {Readonly<Ref<ClientState>>}
 */
export declare function useClientState(client: Client): Readonly<Ref<ClientState>>;
