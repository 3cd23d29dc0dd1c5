"""Sentences are rendered when they are read; the core itself translates nothing."""

import pickle
from collections.abc import Iterator

import pytest

from declbind.core.errors import ConfigError, Problem
from declbind.core.schema import problems
from declbind.core.sentences import Phrases, Sentence
from declbind.core.wording import AUDIENCE_WORDS, in_binding, without_binding

TRANSLATIONS = {
    "Binding %(stream)r: %(sentence)s": "Bindung %(stream)r: %(sentence)s",
    "Expected %(expected)s, got %(given)s.": "%(given)s statt %(expected)s.",
    "true or false": "true oder false",
    "anyone": "alle",
}


@pytest.fixture
def translated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(Sentence, "translate", staticmethod(lambda text: TRANSLATIONS.get(text, text)))
        yield


def test_a_sentence_is_its_text() -> None:
    """It compares like its text, keeps a literal percent sign, and can be pickled and appended to."""
    sentence = Sentence("%(first)s of %(second)r", first=1, second="a")
    assert (str(sentence), hash(sentence)) == ("1 of 'a'", hash("1 of 'a'"))
    assert sentence == "1 of 'a'"
    assert sentence == pickle.loads(pickle.dumps(sentence))
    assert sentence != "1"
    assert str(Sentence("100%")) == "100%"
    assert str(sentence + "." + Sentence(" Done.")) == "1 of 'a'. Done."
    assert sentence + "" is sentence
    assert repr(sentence) == repr("1 of 'a'")


def test_a_problem_is_rendered_when_it_is_read(request: pytest.FixtureRequest) -> None:
    """A problem that was found before is read in the language that is active then, as are its values."""
    [problem] = problems({"stream": "s", "model": "a.B", "fields": ["x"], "enabled": 7})
    error = ConfigError([problem])
    assert problem.message == "Expected true or false, got 7."
    request.getfixturevalue("translated")
    assert problem.message == "7 statt true oder false."
    assert str(error) == "$.enabled: 7 statt true oder false."


@pytest.mark.usefixtures("translated")
def test_a_text_that_was_rendered_early_stays() -> None:
    """Negative control: a problem that is made of a rendered text."""
    assert Problem("$", str(Sentence("anyone"))).message == "alle"
    assert AUDIENCE_WORDS[True] == "alle"


def test_phrases_are_a_mapping() -> None:
    """Its values are texts."""
    phrases = Phrases({"a": Sentence("One"), "b": Sentence("Two")})
    assert dict(phrases) == {"a": "One", "b": "Two"}
    assert phrases.get("c") is None


@pytest.mark.parametrize("language", ["", "translated"])
def test_the_stream_is_taken_off_in_every_language(language: str, request: pytest.FixtureRequest) -> None:
    """Pages that name the binding show its problems without the stream. Other sentences stay as they are."""
    if language:
        request.getfixturevalue(language)
    text = str(in_binding("a.b", "is wrong."))
    assert text.startswith("Bindung 'a.b'" if language else "Binding 'a.b'")
    assert without_binding(text) == "is wrong."
    assert without_binding("Binding 'a' is defined twice.") == "Binding 'a' is defined twice."
