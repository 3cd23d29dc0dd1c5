// Each line that ends in a comment `wrong` is an error of types, and no other line is.
import { connect, DeclbindError, Stream } from 'declbind';
import { Feed } from 'declbind'; // wrong: internal
import 'declbind/feed'; // wrong: not exported

interface Post {
  title: string;
}

connect('/ws/', { timout: 1 }); // wrong: no such option
connect('/ws/', { timeout: '1s' }); // wrong: a number
const client = connect('/ws/', { timeout: 1 });
client.addEventListener('states', () => {}); // wrong: no such event
client.addEventListener('state', (event) => event.detail.status); // wrong: no such value
client.addEventListener('state', (event) => event.detail.state === 'open'); // wrong: no such state
client.write('posts', {}); // wrong: internal
client.join('posts', {}, {}); // wrong: internal
client.state = 'closed'; // wrong: read-only
client.authenticate(1); // wrong: not a token

const posts: Stream<Post> = client.stream('posts');
posts.update(1, { titel: 'x' }); // wrong: no such field
posts.update(1, { title: 1 }); // wrong: a text
posts.update({ title: 'x' }); // wrong: no key
posts.update(1, { title: 'x' }, { keys: 'k' }); // wrong: no such option
posts.create({ title: 'x' }).pk; // wrong: a promise
posts.subscribe({}, { onRow: () => {} }); // wrong: no such option
posts.subscribe({}, { onRows: (rows) => rows.size }); // wrong: an object with rows
const watch = posts.subscribe();
watch.rows.get(1).title; // wrong: may be missing
watch.rows.get({}); // wrong: not a key
watch.addEventListener('change', ({ detail }) => detail.data.body); // wrong: no such field
watch.ready.then((rows) => rows.state === 'open'); // wrong: no such state

const untyped = client.stream('other').subscribe().rows;
for (const row of untyped.values()) row.name.length; // wrong: of an unknown type
const error: DeclbindError = new DeclbindError('x'); // wrong: no message
error.unknown; // wrong: no such property
error.fields.title?.[0].length;
