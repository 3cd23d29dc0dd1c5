// Each line that ends in a comment `wrong` is an error of types, and no other line is.
import { connect } from 'declbind';
import { useRow } from 'declbind/react'; // wrong: no such function
import { useClientState, useRows } from 'declbind/react';
import { rowsOf } from 'declbind/svelte';
import * as vue from 'declbind/vue';

const client = connect();
const posts = client.stream<{ title: string }>('blog-posts');

export function Posts() {
  const { rows, stat } = useRows(posts); // wrong: no such value
  useRows(client); // wrong: not a stream
  useRows(posts, 3); // wrong: not params
  rows.clear(); // wrong: read-only
  return <ul className={useClientState(client)}>{[...rows].map(([pk, post]) => post.body)}</ul>; // wrong: no such field
}

rowsOf(posts).subscribe(({ rows }) => rows.size.length); // wrong: a number
rowsOf(posts).value.rows.get(1)?.title.size; // wrong: a text
vue.useRows(posts).rows.size; // wrong: a ref
vue.useRows(posts, () => 3); // wrong: not params
vue.useClientState(client).value = 'live'; // wrong: read-only
