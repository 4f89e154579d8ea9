"""What every method of estimation has: an engine named as text, a label, its options checked."""

from dataclasses import dataclass
from importlib import import_module
from typing import ClassVar
from zlib import crc32

import numpy as np

from ..choices import hint


class NotServedError(ValueError):
    """A method cannot serve a model; the message names the method that can."""


@dataclass(frozen=True)
class Method:
    """What all methods share: an engine, a name, a label for tables."""

    engine: ClassVar[str]  # "package.module:function"
    name: ClassVar[str]  # the string that stands for the method with its defaults
    serves_residual: ClassVar[bool] = False  # whether residuals may be correlated

    @property
    def label(self) -> str:
        """Key of the method's fit in tables and dicts."""
        return type(self).__name__

    def serves_relatives(self, linear: bool) -> bool:
        """Whether levels of a grouping factor may have a known covariance.

        ``linear`` says that the model is gaussian with identity link.
        """
        return False

    def stream(self, seed: int) -> np.random.SeedSequence:
        """Give the method's own random stream: it depends on the seed and the label only.

        So adding, failing or reordering methods changes no other method's numbers.
        """
        return np.random.SeedSequence(seed, spawn_key=(crc32(self.label.encode()),))

    def load(self):
        """Import the engine and return it."""
        module, function = self.engine.split(":")
        return getattr(import_module(module), function)


def check_choice(owner: str, name: str, value, allowed, other: str = "") -> None:
    """Refuse a value that is none of an option's, naming these.

    ``other`` says what may be given besides these names.
    """
    if value not in allowed:
        names = " or ".join([*map(repr, allowed), *([other] if other else [])])
        close = hint(str(value), (name for name in allowed if isinstance(name, str)))
        raise ValueError(f"{owner}({name}={value!r}) is not an option: use {names}{close}")


def check_at_least(owner: str, name: str, value, least: int) -> None:
    """Refuse what is not an integer of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{owner}({name}={value!r}) must be an integer of at least {least}.")
