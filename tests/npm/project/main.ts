// A page that uses the package as its documentation says.
import { connect, Client, DeclbindError, Stream, Subscription } from 'declbind';
import type { Change, ClientOptions, ClientState, Data, PrimaryKey, SubscribeOptions, WriteOptions, WriteResult } from 'declbind';

interface Post {
  title: string;
  blog_id: number;
  tags: number[];
}

const options: ClientOptions = { timeout: 1000, retryWrites: false, token: async () => 'token' };
const client: Client = connect('/ws/bindings/', options);
const state: ClientState = client.state;
client.addEventListener('state', ({ detail }) => console.log(detail.state, detail.code, detail.reason, detail.retryIn));
client.addEventListener('error', (event) => console.log(event.detail.code));
const stop: () => void = client.on('intval', ({ action, pk, data }) => console.log(action, pk, data.value));

const posts: Stream<Post> = client.stream<Post>('blog-posts');
const listeners: SubscribeOptions<Post> = {
  onRows: ({ rows, change }) => {
    for (const [pk, post] of rows) console.log(pk, post.title.length, change?.previous?.tags);
  },
  onError: (error) => console.log(error.fields.title?.[0]),
};
const watch: Subscription<Post> = posts.subscribe({ blog_id: 3 }, listeners);
watch.addEventListener('change', (event) => {
  const change: Change<Post> = event.detail;
  console.log(change.action === 'create', change.data.blog_id);
});

export async function edit(pk: PrimaryKey): Promise<string> {
  const write: WriteOptions = { if: { title: 'Old' }, key: null };
  try {
    const stored: WriteResult = await posts.update(pk, { title: 'New' }, write);
    await posts.delete(stored.pk);
    await client.authenticate(() => 'another token');
    return (await watch.ready).rows.get(pk)?.title ?? state;
  } catch (error) {
    if (error instanceof DeclbindError && error.outcomeUnknown) return error.code;
    throw error;
  } finally {
    watch.unsubscribe();
    stop();
    client.close();
  }
}

// Rows without a type of their own hold values of an unknown type.
const untyped: Data | undefined = client.stream('other').subscribe().rows.get(1);
if (typeof untyped?.name === 'string') console.log(untyped.name.length);
