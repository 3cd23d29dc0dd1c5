"""Tests that every ORM write is captured, for each way to write and each kind of model.

`models.py` holds the kinds of model and `kinds.py` names them. `ways/` holds the ways to write, `bindings.py` the
bindings, and `outcomes.py` how the transaction ends. `scenarios.py` selects combinations evenly from their product,
and runs each on the few rows of `sample.py`. `judge.py` compares the events with the results of plain queries before
and after. None of them uses declbind's own code for groups or data.

`test_matrix.py` runs the product, `test_machine.py` random sequences in nested transactions, `test_controls.py`
broken variants of capture, which the judge must catch. To add a way: a function in a module of `ways/`, under `@way`.
To add a kind: a model, and an entry in `kinds.py`.
"""
