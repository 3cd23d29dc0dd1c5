"""Judge "every write is seen": each way to write of the ORM, on each kind of model, against a client's final state.

`models.py` are the kinds of model and `kinds.py` names them; `ways.py` the ways to write; `bindings.py` who listens;
`endings.py` how the work ends. `scenarios.py` deals out their product, evenly, and runs one combination on a `stage.py`
of a few rows; `judge.py` holds the events against what plain queries found before and after. None of them asks
declbind's own code about groups or data.

`test_matrix.py` runs the product, `test_machine.py` random sequences in nested transactions, `test_controls.py` broken
variants of capture, which the judge must catch. To add a way: a function in `ways.py` under `@way`. To add a kind: a
model, and an entry in `kinds.py`.
"""
