"""Formula and data become arrays; the only folder that knows the user's data frame."""

from .build import Design, build_design
from .columns import DataError
from .grouping import GroupBlock
from .relatives import relate
from .repeated import RepeatedRows, put_rows

__all__ = [
    "DataError",
    "Design",
    "GroupBlock",
    "RepeatedRows",
    "build_design",
    "put_rows",
    "relate",
]
