"""lme4-style formula text, read into its parts behind a gate that lets no program through."""

from .expression import FormulaError
from .parse import Formula, RandomTerm, Response, parse_formula
from .terms import term_of

__all__ = ["Formula", "FormulaError", "RandomTerm", "Response", "parse_formula", "term_of"]
