"""What several test modules share: the committed reference fits and the model files."""

import json
from functools import cache
from pathlib import Path

import pytest

REFERENCE = Path(__file__).parent / "reference"


@cache
def _reference(dataset: str) -> dict:
    return json.loads((REFERENCE / f"{dataset}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def reference():
    """Give ``reference(dataset, id)``: the entry of a committed fit (tests/reference/README.md)."""

    def entry(dataset: str, identifier: str) -> dict:
        (found,) = (m for m in _reference(dataset)["models"] if m["id"] == identifier)
        return found

    return entry


@pytest.fixture(scope="session")
def models() -> Path:
    """Folder of the model files."""
    return Path(__file__).parents[1] / "models"
