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

import { computed, onScopeDispose, readonly, ref, shallowRef, toRaw, toValue, watchEffect } from 'vue';

/** @import { ComputedRef, MaybeRefOrGetter, Ref } from 'vue' */
/** @import { Client, ClientState, Data, DeclbindError, PrimaryKey, StoreValue, Stream } from './declbind.js' */
/** @import { SubscriptionState } from './declbind.js' */

/** @type {StoreValue<any>} */
const NOTHING = { rows: new Map(), state: 'closed', error: null };

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
export function useRows(stream, params = {}) {
  /** @type {Ref<StoreValue<Row>>} */
  const value = shallowRef(NOTHING);
  watchEffect((onCleanup) => {
    // A copy reads each value, so that the effect follows those inside of a reactive object.
    const store = toRaw(toValue(stream))?.store(JSON.parse(JSON.stringify(toValue(params))));
    if (store) onCleanup(store.subscribe((next) => (value.value = next)));
    else value.value = NOTHING;
  });
  return {
    rows: computed(() => value.value.rows),
    state: computed(() => value.value.state),
    error: computed(() => value.value.error),
  };
}

/**
 * Return the state of a client as a ref.
 *
 * @param {Client} client
 * @returns {Readonly<Ref<ClientState>>}
 */
export function useClientState(client) {
  const state = ref(client.state);
  const changed = () => (state.value = client.state);
  client.addEventListener('state', changed);
  onScopeDispose(() => client.removeEventListener('state', changed));
  return readonly(state);
}
