"""Reports of a comparison: one HTML file, the same as Markdown, and the table as CSV.

>>> from bayes_glmm.report import About, write_report
>>> about = About("Herds", "Does incidence fall over the periods?")
>>> write_report(about, bg.compare([fit1, fit2]), "reports/herds")
"""

from .folder import write_index, write_report
from .material import About

__all__ = ["About", "write_index", "write_report"]
