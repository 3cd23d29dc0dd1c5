"""The share prices in the package ``vega_datasets``: five companies, one price a month."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path

COMPANIES = {"AAPL": "Apple", "AMZN": "Amazon", "GOOG": "Google", "IBM": "IBM", "MSFT": "Microsoft"}


@dataclass(frozen=True)
class Quote:
    """One price, with the symbol of the share and the date."""

    symbol: str
    date: date
    price: Decimal


def load_quotes(symbols: list[str] | None = None) -> dict[date, list[Quote]]:
    """Return the prices of some symbols or of all, oldest day first.

    Raises:
        LookupError: The package is not installed, or does not contain a symbol.
    """
    # Located without importing it, because the import would load pandas for five hundred lines of CSV.
    package = find_spec("vega_datasets")
    if package is None or not package.submodule_search_locations:
        raise LookupError(
            "The share prices come with the package vega_datasets, which is not installed: pip install vega_datasets."
        )
    if unknown := sorted(set(symbols or ()) - set(COMPANIES)):
        raise LookupError(f"Expected symbols among {', '.join(COMPANIES)}, got {', '.join(unknown)}.")
    path = Path(package.submodule_search_locations[0]) / "_data" / "stocks.csv"
    days: dict[date, list[Quote]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if not symbols or row["symbol"] in symbols:
                day = datetime.strptime(row["date"], "%b %d %Y").replace(tzinfo=UTC).date()
                days.setdefault(day, []).append(Quote(row["symbol"], day, Decimal(row["price"])))
    return dict(sorted(days.items()))
