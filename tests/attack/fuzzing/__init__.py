"""A site under fire: frames from a seeded generator are sent to a real server, and nothing may come of it.

- `models`, `settings`, `asgi`, `bindings/`: the site, with streams that strangers may write, only read, or not read;
- `prepare`: its first rows;
- `frames`: the generator;
- `siege`: the sockets that send the frames, those that must not notice, and what is checked;
- `sabotage`: broken variants of the server, one for each check;
- `__main__`: the long form, `python -m tests.attack.fuzzing [--frames N] [--seed N]`.
"""
