"""Whether the posterior exists, for this model and these data.

>>> check_propriety(model).verdict
'proper'

``rows`` says what each row of the data allows, ``cones`` and ``separation`` find the directions
along which the likelihood does not fall, ``tails`` how fast the posterior does, and ``table``
draws the conclusion. The derivations are in ``docs/propriety.md``.
"""

from .gate import require_posterior
from .report import ProprietyReport, Verdict
from .separation import Separation, find_separation
from .table import check_propriety

__all__ = [
    "ProprietyReport",
    "Separation",
    "Verdict",
    "check_propriety",
    "find_separation",
    "require_posterior",
]
