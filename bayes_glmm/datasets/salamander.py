"""The salamander mating data: downloaded on first use, never part of the package.

The file is an R data file of the package hglm.data, whose copy on GitHub is pinned by commit
and checksum. The environment variable ``BAYES_GLMM_DATA`` names a folder that holds the file
(``salamander.rda``, or ``salamander_mating.csv`` with this package's column names), for
machines without network.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SHA256", "URL", "read_salamander"]

URL = (
    "https://raw.githubusercontent.com/cran/hglm.data/"
    "b6f3e7a63277e877d48c92d46991b0b5b8a7b988/data/salamander.rda"
)
SHA256 = "95b4f5d99f44ffe1771ed5f04b3ad9ab351dd5833aebc05553cd47ceeebec942"
SECONDS = 30

_VARIABLE = "BAYES_GLMM_DATA"
_SUPPLIED = ("salamander_mating.csv", "salamander.rda")
# columns of the R data frame -> ours
_COLUMNS = {
    "Mate": "mate",
    "Cross": "cross",
    "Female": "female",
    "Male": "male",
    "TypeF": "type_f",
    "TypeM": "type_m",
    "Experiment": "experiment",
    "Season": "season",
}


def read_salamander() -> "pd.DataFrame":
    """Read the salamander data from the supplied folder, the cache or the network.

    Returns
    -------
    pandas.DataFrame
        Columns ``mate, cross, female, male, type_f, type_m, experiment, season``, one row per
        pairing; animals are labelled ``f01`` and ``m01`` upwards.

    Raises
    ------
    OSError
        Without network and supplied file: one sentence on how to supply it.
    """
    path = _supplied() or _downloaded()
    if path.suffix == ".csv":
        import pandas as pd

        return pd.read_csv(path)
    return _read_rda(path)


def _supplied() -> Path | None:
    """Return the file in the folder named by ``BAYES_GLMM_DATA``, if there is one."""
    folder = os.environ.get(_VARIABLE)
    if not folder:
        return None
    return next((p for name in _SUPPLIED if (p := Path(folder) / name).is_file()), None)


def _downloaded() -> Path:
    """Return the cached file, fetched first where it is not there or damaged."""
    import pooch

    try:
        downloader = pooch.HTTPDownloader(timeout=SECONDS)
        fetched = pooch.retrieve(
            URL,
            known_hash=f"sha256:{SHA256}",
            fname="salamander.rda",
            path=pooch.os_cache("bayes_glmm"),
            downloader=downloader,  # pyright: ignore[reportArgumentType]
        )
    except (OSError, ValueError) as error:
        raise OSError(
            f"the salamander data could not be downloaded from {URL} ({_short(error)}): download "
            f"that file elsewhere as salamander.rda and name its folder in the environment "
            f"variable {_VARIABLE}."
        ) from error
    return Path(fetched)


def _read_rda(path: Path) -> "pd.DataFrame":
    """Read the R data file and give its columns this package's names and labels."""
    import pandas as pd
    import rdata

    (raw,) = rdata.read_rda(path).values()
    frame = pd.DataFrame({ours: raw[theirs].to_numpy() for theirs, ours in _COLUMNS.items()})
    whole = ("mate", "experiment", "female", "male")
    frame = frame.astype({column: str for column in frame if column not in whole})
    frame["season"] = frame["season"].str.lower()
    for column, letter in (("female", "f"), ("male", "m")):
        numbers = frame[column].astype(str).astype(float).astype(int)
        frame[column] = [f"{letter}{number:02d}" for number in numbers]
    return frame.astype({"mate": int, "experiment": int}).reset_index(drop=True)


def _short(error: Exception) -> str:
    """Return why a download failed, in a few words."""
    if isinstance(error, OSError):
        return type(error).__name__
    return str(error).splitlines()[0][:200].rstrip(".")
