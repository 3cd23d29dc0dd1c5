"""The bindings and questions that tests of trials share."""

from __future__ import annotations

from typing import Any

from declbind.console.trial import Question, make_trial
from declbind.registry import override
from tests.zoo.clients import ANIMALS

HOLDS = "zoo.feed_animal"
GROUPED = {**ANIMALS, "groups": ["legs-{legs}"]}
OWN = {**ANIMALS, "groups": ["own-{owner_id}"], "scope": {"owner_id": "$user.pk"}}


def ask(**question: Any) -> Any:
    """Try a question under the bindings in force."""
    return make_trial(Question(**{"stream": "animals", **question}))


def attempt(record: Any = GROUPED, **question: Any) -> Any:
    """Try a question with one record or class in force."""
    with override(record):
        return ask(**question)


def verdicts(made: Any) -> dict[str, str]:
    return {step.name: step.verdict for step in made.steps}


def step(made: Any, name: str) -> Any:
    found = made.step(name)
    assert found is not None, made.as_text()
    return found
