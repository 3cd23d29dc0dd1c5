"""The checklist of a release: `make release-check` walks through `steps.STEPS` and stops at the first broken one.

It publishes nothing and makes no tag. The tests of the steps are in `test_steps.py`, each with a broken variant.
"""
