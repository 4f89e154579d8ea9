"""Write TOML, which the standard library only reads."""

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["pairs"]


def pairs(table: Mapping[str, Any]) -> list[str]:
    """Write ``key = value`` lines; None is left out."""
    return [f"{_key(k)} = {_value(v)}" for k, v in table.items() if v is not None]


def _key(key: str) -> str:
    return key if key.isidentifier() and key.isascii() else _value(key)


def _value(value: Any) -> str:
    """Write a TOML value; JSON's strings, numbers and booleans are TOML's."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(pairs(value)) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
