"""A project that uses the public Python API with strict types, checked against the installed wheel.

`project/` is what a user would write. mypy and pyright check it in their strict modes, and its own tests run. The tests
then break it in the ways of `test_types.MISTAKES`, which both programs must report.
"""
