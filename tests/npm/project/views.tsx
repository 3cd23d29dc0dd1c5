// Views that use the entries for frameworks.
import { connect } from 'declbind';
import { useClientState, useRows } from 'declbind/react';
import { rowsOf, stateOf } from 'declbind/svelte';
import * as vue from 'declbind/vue';
import { ref } from 'vue';

interface Post {
  title: string;
}

const client = connect();
const posts = client.stream<Post>('blog-posts');

export function Posts({ blog }: { blog?: number }) {
  const { rows, state, error } = useRows(blog === undefined ? null : posts, { blog_id: blog });
  const connection: string = useClientState(client);
  if (error) return <p title={error.code}>{error.message}</p>;
  return <ul className={state}>{[...rows].map(([pk, post]) => <li key={pk}>{post.title.trim() + connection}</li>)}</ul>;
}

const stop = rowsOf(posts, { blog_id: 3 }).subscribe(({ rows }) => console.log(rows.get(1)?.title.length));
stateOf(client).subscribe((state) => console.log(state === 'live'));
stop();

const blog = ref(3);
const { rows, error } = vue.useRows(ref(null), () => ({ blog_id: blog.value }));
const live = vue.useRows(posts, blog.value ? { blog_id: 3 } : {});
console.log(rows.value.size, error.value?.fields, live.rows.value.get(1)?.title.length, vue.useClientState(client).value);

import { live as makePlugin } from 'declbind/alpine';
import type { Alpine } from 'declbind/alpine';
export const plugin: (alpine: Alpine) => void = makePlugin(client);
