"""A fuzz test of a real server with frames from a seeded generator, which must have no forbidden effect.

- `models`, `settings`, `asgi`, `bindings/`: the site, with streams that anonymous clients may write, only read, or not
  read;
- `prepare`: its first rows;
- `frames`: the generator;
- `siege`: the sockets that send the frames, those that must not be affected, and the checks;
- `sabotage`: broken variants of the server, one for each check;
- `__main__`: the long form, `python -m tests.attack.fuzzing [--frames N] [--seed N]`.
"""
