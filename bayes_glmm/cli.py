"""The command line: ``bayes-glmm fit | compare | anova | check | datasets | version``.

Results go to stdout, progress and errors to stderr. Exit codes: 0 all went well, 1 a method
failed, 2 bad input. What a command needs is imported inside it, so that ``--help`` and
``datasets`` answer at once.
"""

import itertools
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from .comparison import Comparison
    from .fit import Fit
    from .methods import Method
    from .model import GLMM
    from .modelfile import ModelFile

__all__ = ["app", "main"]

FAILED, BAD_INPUT = 1, 2

app = typer.Typer(
    name="bayes-glmm",
    help="Generalized linear mixed models, fitted by every method and compared side by side.",
    epilog="Examples:\n\n"
    "bayes-glmm compare models/cbpp.toml\n\n"
    "bayes-glmm fit models/cbpp.toml --method ml\n\n"
    "bayes-glmm check models/cbpp.toml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Model = Annotated[Path, typer.Argument(metavar="MODEL.toml", help="A model file.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Draws = Annotated[int | None, typer.Option(help="Posterior draws per chain.")]
Tune = Annotated[int | None, typer.Option(help="Warm-up draws per chain.")]
Chains = Annotated[int | None, typer.Option(help="Chains.")]
Seed = Annotated[int | None, typer.Option(help="Seed of all methods that draw.")]


@app.command(epilog="Example: bayes-glmm fit models/cbpp.toml --method ml")
def fit(
    model: Model,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "-m",
            help="integrated, nuts, ml, laplace, reml, pql, mql, gee, conditional_logit, glm or "
            "ols; all of the file if omitted.",
        ),
    ] = None,
    draws: Draws = None,
    tune: Tune = None,
    chains: Chains = None,
    seed: Seed = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print one tidy table as CSV.")] = False,
    debug: Debug = False,
) -> None:
    """Fit a model file's model and print the estimates."""
    options = {"draws": draws, "tune": tune, "chains": chains, "seed": seed}
    with _one_sentence(BAD_INPUT, debug):
        loaded, specified = _load(model)
        methods = _with_options(_chosen(loaded, method), options)
    with _one_sentence(FAILED, debug):
        comparison = _compared(specified, methods)
        if csv:
            comparison.to_frame().to_csv(sys.stdout, index=False, lineterminator="\n")
        else:
            for one in comparison.fits.values():
                _print_fit(one)
    _say_failures(comparison)
    raise typer.Exit(FAILED if comparison.failures else 0)


@app.command(
    epilog="Examples:\n\nbayes-glmm compare models/cbpp.toml\n\n"
    "bayes-glmm compare models/*.toml --methods ml,pql,gee\n\n"
    "bayes-glmm compare my.toml --out reports/mine --draws 2000 --seed 7"
)
def compare(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL.toml", help="Model files.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report; reports/NAME if omitted.")
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help="Methods by name, as in ml,pql; all of the file if omitted.")
    ] = None,
    draws: Draws = None,
    tune: Tune = None,
    chains: Chains = None,
    seed: Seed = None,
    debug: Debug = False,
) -> None:
    """Compare all methods on a model file and write a report."""
    options = {"draws": draws, "tune": tune, "chains": chains, "seed": seed}
    given = {"out": out, "methods": methods, **options}
    flags = [part for key, v in given.items() if v is not None for part in (f"--{key}", str(v))]
    with _one_sentence(BAD_INPUT, debug):
        if out is not None and len(models) > 1:
            raise ValueError("--out names the folder of one report: leave it out for several.")
        wanted = methods.split(",") if methods else None
        tasks = []
        for path in models:
            loaded, specified = _load(path)
            tasks.append((loaded, specified, _with_options(_chosen(loaded, wanted), options)))
    failed = False
    for loaded, specified, chosen in tasks:
        command = shlex.join(["bayes-glmm", "compare", loaded.path.as_posix(), *flags])
        try:
            with _one_sentence(FAILED, debug):
                comparison = _compared(specified, chosen)
                page = _write(loaded, comparison, out, command)
                print(f"{comparison!r}\n\nThe report is in {page}", flush=True)
                _say_failures(comparison)
                failed |= bool(comparison.failures)
        except typer.Exit:  # said already; the other reports are still written
            failed = True
    raise typer.Exit(FAILED if failed else 0)


@app.command(
    epilog="Examples:\n\nbayes-glmm anova without.toml with.toml\n\n"
    "bayes-glmm anova without.toml with.toml --method laplace --bootstrap 500"
)
def anova(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL.toml", help="Nested models.")],
    method: Annotated[
        str, typer.Option("--method", "-m", help="ml, laplace, reml, glm or gee.")
    ] = "ml",
    bootstrap: Annotated[int, typer.Option(help="Data sets simulated for p_boot.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of what is simulated.")] = 1,
    csv: Annotated[bool, typer.Option("--csv", help="Print the table as CSV.")] = False,
    debug: Debug = False,
) -> None:
    """Compare the nested models of model files: likelihood ratios, for gee Wald and score tests.

    A model without random terms is fitted by glm whatever the method.
    """
    from .frequentist.anova import anova as compared

    with _one_sentence(BAD_INPUT, debug):
        specified = [_load(path)[1] for path in models]
        with _progress(len(models)) as stage:
            fits = []
            for path, model in zip(models, specified, strict=True):
                stage(str(path))
                fits.append(model.fit(method if model.design.groups else "glm"))
        table = compared(*fits, bootstrap=bootstrap, seed=seed, progress=bool(bootstrap))
    if csv:
        table.to_csv(sys.stdout, index=False, lineterminator="\n")
        return
    shown = ["label", "npar", "loglik", "aic", "statistic", "reference", "p_value"]
    shown += ["score_statistic", "score_p_value", *(["p_boot", "zero_share"] if bootstrap else [])]
    shown = [column for column in shown if column in table]
    rows = [
        ["" if value != value else _cell(value) for value in row]
        for row in table[shown].itertuples(index=False)
    ]
    console = _stdout()
    _print_table(console, shown, rows)
    for note in filter(None, table["note"]):
        console.print(_plain(note))


@app.command(epilog="Example: bayes-glmm check models/cbpp.toml")
def check(model: Model, debug: Debug = False) -> None:
    """Show model, design and priors in words, and whether the posterior exists; fits nothing."""
    with _one_sentence(BAD_INPUT, debug):
        loaded, specified = _load(model)
        from .propriety import check_propriety

        console = _stdout()
        console.print(f"[b]{_plain(loaded.title)}[/b]\n{_plain(loaded.question)}\n")
        _print_design(console, specified)
        _print_priors(console, specified)
        console.print(_plain(str(check_propriety(specified))))
        for note in specified.messages:
            console.print(_plain(str(note)))


@app.command(epilog="Example: bayes-glmm datasets cbpp")
def datasets(
    name: Annotated[str | None, typer.Argument(help="A data set to describe.")] = None,
    debug: Debug = False,
) -> None:
    """List the example data sets, or describe one."""
    from .datasets import dataset_info, dataset_names

    with _one_sentence(BAD_INPUT, debug):
        if name is None:
            rows = [(known, dataset_info(known).title) for known in dataset_names()]
            _print_table(_stdout(), ("name", "data"), rows)
            return
        info = dataset_info(name)
        console = _stdout()
        console.print(f"[b]{_plain(info.title)}[/b]\n{_plain(info.description)}\n")
        _print_table(console, ("column", "meaning"), info.columns.items())
        for head, text in (
            ("Question", info.question),
            ("Source", info.source),
            ("Licence", info.licence),
            ("In Python", f'bayes_glmm.load_dataset("{info.name}")'),
        ):
            console.print(f"[b]{head}:[/b] {_plain(text)}")


@app.command()
def version() -> None:
    """Show the versions of the package, of Python and of what it computes with."""
    from importlib.metadata import version as installed

    from . import __version__

    print(f"bayes_glmm {__version__}")
    print(f"Python {sys.version.split()[0]}")
    for name in ("pymc", "pytensor", "nutpie", "arviz", "numba", "numpy", "scipy", "pandas"):
        print(f"{name} {installed(name)}")


def main() -> None:
    """Run the command line; the console script."""
    app()


# ---- from a model file to a comparison ------------------------------------------------------


def _load(path: Path) -> tuple["ModelFile", "GLMM"]:
    """Read a model file and make its model; an error of the model names the file."""
    from .modelfile import ModelFileError, load_model

    loaded = load_model(path)
    try:
        return loaded, loaded.model()
    except ValueError as error:
        raise ModelFileError(f"{path}: {error}") from error


def _chosen(loaded: "ModelFile", names: list[str] | None) -> tuple["Method", ...]:
    """Pick methods by name from those of the file; one it does not list has its defaults."""
    from .methods import get_method

    if not names:
        return loaded.methods
    chosen = []
    for name in (name.strip().lower() for name in names):
        listed = [method for method in loaded.methods if _shorthand(method) == name]
        chosen += listed or [get_method(name)]
    return tuple(dict.fromkeys(chosen))


def _shorthand(method: "Method") -> str:
    """Name a method as --method does: ML with one node is "laplace"."""
    from .methods import SHORTHAND

    same = (name for name, standard in SHORTHAND.items() if standard.label == method.label)
    return next(same, method.name)


def _with_options(methods: tuple["Method", ...], options: dict[str, Any]) -> list["Method"]:
    """Override those options of each method that it has."""
    given = {key: value for key, value in options.items() if value is not None}
    return [
        replace(method, **{f.name: given[f.name] for f in fields(method) if f.name in given})
        for method in methods
    ]


def _compared(model: "GLMM", methods: list["Method"]) -> "Comparison":
    """Fit by every method, with progress."""
    from .comparison import compare, fit_all

    with _progress(len(methods)) as stage:
        return compare(fit_all(model, methods, stage))


def _write(loaded: "ModelFile", comparison: "Comparison", out: Path | None, command: str) -> Path:
    """Write the report, in reports/NAME and its index unless ``out`` names another folder."""
    from .report import write_index, write_report

    folder = out or Path("reports") / loaded.name
    with _progress() as stage:
        page = write_report(loaded, comparison, folder, command, stage)
        if out is None:
            write_index(folder.parent)
    return page


# ---- stdout and stderr ----------------------------------------------------------------------


@contextmanager
def _one_sentence(code: int, debug: bool) -> Iterator[None]:
    """Turn an error into one sentence on stderr and an exit code; ``debug`` lets it through."""
    try:
        yield
    except Exception as error:
        if debug or isinstance(error, typer.Exit | BrokenPipeError):
            raise
        if isinstance(error, ValueError | OSError):
            _say(str(error))
            raise typer.Exit(code) from None
        _say(
            f"{type(error).__name__}: {error}. This is an error of bayes_glmm: run the command "
            "again with --debug and report what it prints."
        )
        raise typer.Exit(FAILED) from None


@contextmanager
def _progress(total: int | None = None) -> Iterator[Callable[[str], None]]:
    """Give a function that announces stages: a bar on a terminal, elsewhere a line each."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        numbers = itertools.count(1)
        yield lambda label: _say(f"[{next(numbers)}{f'/{total}' if total else ''}] {label} ...")
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        numbers = itertools.count(1)
        yield lambda label: bar.update(
            task, description=f"{next(numbers)}{f' of {total}' if total else ''}  {label}"
        )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _say_failures(comparison: "Comparison") -> None:
    for label, reason in comparison.failures.items():
        _say(f"{label} failed: {reason}")


def _stdout() -> "Console":
    """Give a console for results; piped text is as wide as it needs to be."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)


def _plain(text: str) -> str:
    """Protect text, such as period[T.2], from being read as markup."""
    from rich.markup import escape

    return escape(text)


def _print_table(console: "Console", head, rows) -> None:
    from rich.table import Table

    rows = [tuple(map(str, row)) for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, name in enumerate(head):
        numeric = all(_is_number(row[i]) for row in rows)
        table.add_column(name, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*map(_plain, row))
    console.print(table)
    console.print()


def _is_number(text: str) -> bool:
    return not text.strip("+-.0123456789e") or text == "nan"


def _print_fit(one: "Fit") -> None:
    """Print a fit: what it is, its tidy table, its messages."""
    console = _stdout()
    console.print(f"[b]{_plain(one.label)}[/b], {one.estimand} coefficients")
    if one.loglik is not None:
        console.print(f"log-likelihood {one.loglik:.4f} ({one.loglik_kind}), AIC {one.aic:.2f}")
    table = one.tidy()
    shown = [c for c in table if c not in ("effect", "level")]
    rows = [[_cell(value) for value in row] for row in table[shown].itertuples(index=False)]
    _print_table(console, shown, rows)
    console.print(f"Intervals: 95 %, {one.interval_kind}.")
    for note in one.messages:
        console.print(_plain(str(note)))
    console.print()


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _print_design(console: "Console", model: "GLMM") -> None:
    """Print formula, family, rows, the columns of X and the grouping factors."""
    d = model.design
    console.print(_plain(f"{model.formula}"))
    console.print(f"family {model.family.name}, link {model.link.name}, {d.n} rows\n")
    ranges = (
        (f"{low:.4g}", f"{high:.4g}") for low, high in zip(d.X.min(0), d.X.max(0), strict=True)
    )
    rows = [(term, *limits) for term, limits in zip(d.terms, ranges, strict=True)]
    _print_table(console, ("coefficient", "lowest", "highest"), rows)
    if d.groups:
        groups = [(g.group, str(g.n_levels), ", ".join(g.columns)) for g in d.groups]
        _print_table(console, ("grouping factor", "levels", "random effects"), groups)


def _print_priors(console: "Console", model: "GLMM") -> None:
    """Print the table of priors with their 95 % ranges."""
    table = model.priors_table()
    columns = ["parameter", "prior", "range_low", "range_high", "means", "why"]
    rows = [[_cell(value) for value in row] for row in table[columns].itertuples(index=False)]
    _print_table(console, [c.replace("range_", "95 % ") for c in columns], rows)


if __name__ == "__main__":
    main()
