"""The interface of the JavaScript client, which the reference reads from its comments."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest

from tests.servers import ROOT

CLIENT = ROOT / "declbind/static/declbind/declbind.js"


@pytest.fixture
def javascript(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(ROOT / "docs/_extensions"))
    return importlib.import_module("javascript")


def test_every_export_of_the_client_is_described(javascript: Any) -> None:
    """Each exported class and function has a section, and each type that the comments define."""
    text = CLIENT.read_text()
    described = javascript.describe_module(text)
    exports = re.findall(r"^export (?:class|function) (\w+)", text, re.MULTILINE)
    types = re.findall(r"^ \* @typedef \{.*?\} (\w+)", text, re.MULTILINE)
    assert exports
    assert types
    assert [name for name in exports if not re.search(rf"^## `?{name}\b", described, re.MULTILINE)] == []
    assert [name for name in types if f"### `{name}`" not in described] == []


def test_a_member_is_described_by_its_comment(javascript: Any) -> None:
    """Parameters have their type, their default and their meaning; what is marked as internal is left out."""
    described = javascript.describe_module(
        """
/** A shop. */
export class Shop {
  /**
   * Buy a thing.
   * @param {string} name  What to buy.
   * @param {{price?: number}} [options]  How.
   * @returns {Promise<number>}  The price.
   */
  buy(name, options = {}) {
  }

  /** @internal */
  stock() {
  }

  /** @returns {boolean}  Whether it is open. */
  get open() {
  }
}
"""
    )
    assert "## Shop\n\nA shop.\n" in described
    assert "### `buy(name, options = {})`\n\nBuy a thing.\n\n- `name` (`string`): What to buy." in described
    assert "- `options` (`{price?: number}`, optional): How." in described
    assert "Returns `Promise<number>`. The price." in described
    assert "### `open`\n\nReturns `boolean`. Whether it is open." in described
    assert "stock" not in described


def test_an_entry_is_described_with_its_module(javascript: Any) -> None:
    """The comment of the module comes first, with its code as code, and the exports are below."""
    described = javascript.describe_entry(
        """/**
 * Shops in
 * towns.
 *
 *     const shop = open();
 *     shop.buy();
 *
 * Open once.
 *
 * @module shops/town
 */

/**
 * Open a shop.
 * @returns {Shop}
 */
export function open() {
}
"""
    )
    assert described.startswith(
        "## `shops/town`\n\nShops in towns.\n\n```text\nconst shop = open();\nshop.buy();\n```\n\nOpen once.\n\n"
        "### `open()`\n\nOpen a shop.\n"
    )
    assert "Types" not in described


def test_a_module_without_a_comment_is_refused(javascript: Any) -> None:
    """The build fails."""
    with pytest.raises(ValueError, match="Expected a comment with @module"):
        javascript.describe_entry("/** Open a shop. */\nexport function open() {\n}\n")


def test_an_export_without_a_comment_is_refused(javascript: Any) -> None:
    """The build fails if an exported name has no description."""
    with pytest.raises(ValueError, match=r"none above \['sell'\]"):
        javascript.describe_module("/** A shop. */\nexport class Shop {\n}\n\nexport function sell(name) {\n}\n")


def test_a_parameter_without_a_type_is_refused(javascript: Any) -> None:
    """The build fails."""
    with pytest.raises(ValueError, match="Expected a type in braces, got 'name  What'"):
        javascript.describe_module("/**\n * Buy.\n * @param name  What\n */\nexport function buy(name) {\n}\n")
