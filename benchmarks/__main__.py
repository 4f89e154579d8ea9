"""The command: ``python -m benchmarks [--quick] [--only cbpp] [--out folder]``."""

import argparse
from pathlib import Path

from .threads import limit_threads

HERE = Path(__file__).parent


def settings() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer cases, smaller data, less time")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="TEXT", help="cases whose name has the text"
    )
    # a part of the cases does not replace the results of all, unless a folder is named
    parser.add_argument("--out", type=Path, default=None, help="folder to write into")
    parser.add_argument(
        "--name", default="latest", help="of the files written: NAME.md and NAME.json"
    )
    parser.add_argument("--threads", type=int, default=1, help="of BLAS, OpenMP, Numba, Rayon")
    parser.add_argument("--no-posteriors", action="store_true", help="leave the samplers out")
    parser.add_argument(
        "--packages", nargs="+", default=[], metavar="NAME", help="samplers, instead of all"
    )
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    parser.add_argument("--date", default="", help="written into the results as it is")
    return parser.parse_args()


def main() -> None:
    """Run the benchmark."""
    options = settings()
    limit_threads(options.threads)  # before NumPy is imported
    from .suite import list_cases, run

    if options.list:
        list_cases(options.quick, options.only)
    else:
        everything = not (
            options.quick or options.only or options.no_posteriors or options.packages
        )
        run(options, options.out or (HERE / "results" if everything else None))


if __name__ == "__main__":
    main()
