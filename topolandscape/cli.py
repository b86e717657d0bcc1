"""The command line."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np
import typer

from topolandscape.files import SURFACES, Run
from topolandscape.files import export as export_bars
from topolandscape.structures import PASSES, Barcode, LossSamples, Minima
from topolandscape.study import (
    MEASURES,
    REGIONS,
    ROUTES,
    Against,
    Recipe,
    compare_runs,
    cost_of_study,
    json_of,
    lines_of,
    pictures,
    read_study,
    run_shard,
    run_study,
    run_surface,
    write_report,
)
from topolandscape.study import run as run_recipe
from topolandscape.study.minima_route import networks_of
from topolandscape.study.sample_route import samples_of

app = typer.Typer(
    name="topolandscape",
    help="Topology of the loss landscapes of neural networks: minima, the passes between them, barcodes.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
_SHOWN = 5  # known bars a line of the list of functions shows
_PLURALS = {"verified saddle": "verified saddles", "path maximum": "path maxima", "not converged": "not converged"}
_JOINING = ("connectivity", "nonfinite", "max_dim")  # what can be asked of a surface
_RECIPE = {field.name for field in fields(Recipe)}


def _one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Let an error of a command be one line on stderr and exit code 1, an interruption 130."""

    @wraps(command)
    def guarded(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt:
            _fail("stopped; what was computed is kept, and the same command goes on from there.", 130)
        except (typer.Exit, typer.BadParameter):
            raise
        except MemoryError as error:
            said = _line(error) or "memory ran out"
            _fail(said if "memory" in said else f"{said}: memory ran out. What was computed is kept; ask for less.", 1)
        except (ValueError, TypeError, RuntimeError, OSError, ImportError) as error:
            _fail(_line(error) or type(error).__name__, 1)
        except Exception as error:  # damaged files of others reach this, or a fault of ours
            _fail(f"{type(error).__name__}: {_line(error)}. The files given may be damaged.", 1)

    return guarded


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"topolandscape: {message}", err=True)
    raise typer.Exit(code)


@app.command()
@_one_line_errors
def barcode(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(help="mlp:64-16-10, another name of the zoo, file.py:function, or the file of a surface.")
    ],
    data: Annotated[
        str | None,
        typer.Argument(help="digits, another data set of the zoo, or file.py:function; none for a surface."),
    ] = None,
    files: Annotated[
        list[str] | None, typer.Argument(metavar="FILE", help="More files after --checkpoints FILE.")
    ] = None,
    loss: Annotated[
        str | None, typer.Option(help="cross_entropy, mse or file.py:function. [default: what fits the data]")
    ] = None,
    weight_decay: Annotated[float, typer.Option(help="Add this times |theta|^2 to the loss.")] = 0.0,
    route: Annotated[
        str | None,
        typer.Option(
            help="minima: trained minima and the passes between them; sample: losses of a region of parameter space. "
            "[default: minima; sample where --region is given]"
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of each descent. [default: 1000; from checkpoints 0]")
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="Largest step size of the descents.")] = 0.01,
    minima: Annotated[int | None, typer.Option(help="Minima: descents to start. [default: 16]")] = None,
    checkpoints: Annotated[
        list[str] | None, typer.Option(metavar="FILE...", help="Minima: trained checkpoints to start from.")
    ] = None,
    method: Annotated[str, typer.Option(help="Minima: adam, sgd or nesterov.")] = "adam",
    momentum: Annotated[float, typer.Option(help="Minima: momentum of the descents.")] = 0.9,
    schedule: Annotated[
        str, typer.Option(help="Minima: how the learning rate falls: cosine, linear or constant.")
    ] = "cosine",
    warm_up: Annotated[int, typer.Option(help="Minima: first steps, in which the learning rate rises.")] = 0,
    batch: Annotated[int | None, typer.Option(help="Minima: rows of a mini-batch. [default: all data]")] = None,
    record_every: Annotated[
        int | None, typer.Option(help="Minima: keep the descents' points every so many steps. [default: none]")
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Minima: gradient norm of a stationary point.")] = 1e-5,
    max_evaluations: Annotated[int, typer.Option(help="Minima: gradients to polish each point with, at most.")] = 5000,
    merge: Annotated[float, typer.Option(help="Minima: relative distance within which points may be one.")] = 1e-2,
    modulo_symmetry: Annotated[
        bool,
        typer.Option("--modulo-symmetry", help="Minima: take each as its copy most easily reached from the lowest."),
    ] = False,
    lower: Annotated[
        str, typer.Option(help="Minima: which end bars: any lower one, or the trained ones alone (any, trained).")
    ] = "any",
    pairs: Annotated[
        str, typer.Option(help="Minima: pairs to join: tree, those that can change a bar, or all.")
    ] = "tree",
    start: Annotated[
        str,
        typer.Option(help="Minima: paths to begin with: straight, bent, or constant: over the constant predictor."),
    ] = "straight",
    explore: Annotated[int, typer.Option(help="Minima: rounds of other pairs for the highest passes.")] = 1000,
    seconds: Annotated[
        float | None, typer.Option(help="Minima: begin no new path after this time. [default: no limit]")
    ] = None,
    evaluations: Annotated[
        int | None,
        typer.Option(help="Minima: begin no new path after so many evaluations of one point. [default: no limit]"),
    ] = None,
    region: Annotated[str, typer.Option(help=f"Sample: where: {', '.join(REGIONS)}.")] = "plane",
    resolution: Annotated[int, typer.Option(help="Sample: points along each axis of a plane, segment or grid.")] = 101,
    margin: Annotated[float, typer.Option(help="Sample: reach of a plane or segment beyond its points.")] = 0.25,
    points: Annotated[int, typer.Option(help="Sample: points of a box, ball or hull.")] = 20_000,
    low: Annotated[float, typer.Option(help="Sample: lower side of a box or grid.")] = -1.0,
    high: Annotated[float, typer.Option(help="Sample: upper side of a box or grid.")] = 1.0,
    axes: Annotated[
        str | None,
        typer.Option(
            metavar="LOW:HIGH:POINTS,...", help="Sample: of a grid, each parameter's. [default: all --low, --high]"
        ),
    ] = None,
    radius: Annotated[float, typer.Option(help="Sample: half-width of a random plane, radius of a ball.")] = 1.0,
    enlarge: Annotated[float, typer.Option(help="Sample: growth of the volume of a hull.")] = 1.1,
    below: Annotated[float | None, typer.Option(help="Sample: keep scattered points whose loss is below this.")] = None,
    starts: Annotated[int, typer.Option(help="Sample: trained points of a hull.")] = 5,
    neighbours: Annotated[
        int | None,
        typer.Option(help="Sample: nearest neighbours of scattered points. [default: triangulate up to 3-D, else 8 d]"),
    ] = None,
    connect: Annotated[
        bool, typer.Option("--connect", help="Sample: join the components of a graph by the shortest missing links.")
    ] = False,
    edge_points: Annotated[
        int | None,
        typer.Option(
            help="Sample: points between scattered neighbours to look for a ridge at. [default: 3 for a hull, else 0]"
        ),
    ] = None,
    connectivity: Annotated[
        str | None,
        typer.Option(
            help="Sample: neighbours on a plane or grid: axis, freudenthal or full. [default: full; axis beyond 4-D]"
        ),
    ] = None,
    nonfinite: Annotated[
        str,
        typer.Option(help="Sample: raise: refuse NaN and infinite losses; infinite: such points never enter."),
    ] = "raise",
    max_dim: Annotated[int, typer.Option(help="Sample: highest degree of homology; 0: minima.")] = 0,
    memory: Annotated[
        float | None,
        typer.Option(help="Sample: GiB a grid may take; a larger one is joined block by block. [default: 4]"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ... [default: cpu]")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, float64, ... [default: the network's own]")] = None,
    executor: Annotated[
        str | None,
        typer.Option(
            metavar="N|tcp://...", help="Who computes: N processes, or a dask cluster. [default: threads of this one]"
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="i/n|slurm",
            help="Compute the i-th of n parts, from 0, and no barcode; slurm: as the task of a job array says.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run. [default: runs/MODEL_DATA_ROUTE_seedN]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Take a network and its data to a barcode, a table and pictures.

    Trains the network from many seeds to its minima, and joins these by paths over the lowest passes that are found;
    or samples a region. Everything is kept in a folder: a run that was stopped goes on where it was when the same
    command is given again.

    \b
    topolandscape barcode mlp:64-32-10 digits --weight-decay 1e-3 --minima 16
    topolandscape barcode model.py:build data.py:load --checkpoints trained/*.pt
    topolandscape barcode mlp:64-16-10 digits --region plane
    topolandscape barcode mlp:2-3-1,tanh teacher_student --region box --low -3 --high 3 --points 100000
    topolandscape barcode mlp:1-2-1 sine_regression --region grid --low -3 --high 3 --resolution 14
    topolandscape barcode surface.h5

    \b
    MODEL:  mlp:64-16-10[,ACTIVATION][,nobias][,bn]      ACTIVATION: relu, tanh, gelu, linear, quadratic
            linear:64-16-10[,nobias]
            conv:1x8x8-8-16-10[,ACTIVATION][,nobias][,bn][,flatten]
            file.py:function, which returns a torch.nn.Module (evaluated in eval mode)
            surface.h5, .npz, .npy or .csv: losses that another program computed, without DATA
    DATA:   digits, iris, breast_cancer, two_moons, circles, teacher_student, sine_regression
            file.py:function, which returns (inputs, targets), and may return test inputs and targets after them
    """  # noqa: D301
    options = {name: value for name, value in locals().items() if name in _RECIPE}
    sources = {name: context.get_parameter_source(name) for name in options}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if data is None:
        done = _of_surface(model, [name for name in given if name != "model"], out, options)
        _report(done, pictures(done), as_json=as_json)
        return
    options["route"] = route = route or ("sample" if "region" in given else "minima")
    options["checkpoints"] = (*(checkpoints or ()), *(files or ()))
    if files and not checkpoints:
        raise typer.BadParameter(f"there is no argument {files[0]!r}; files of checkpoints come after --checkpoints.")
    others = {name: other for other, names in ROUTES.items() if other != route for name in names}
    for name in given:
        if name in others and route in ROUTES:
            flag = f"--{name.replace('_', '-')}"
            raise typer.BadParameter(
                f"{flag} belongs to the route {others[name]}, and the route is {route}; leave it out, or give "
                f"--route {others[name]}."
            )
    recipe = Recipe(**{name: value for name, value in options.items() if name not in others})
    folder = out if out is not None else Path("runs") / recipe.folder_name()
    by = None if executor is None else _executor(executor)
    if shard is not None:
        part = run_shard(recipe, folder, _shard(shard), executor=by)
        typer.echo(f"shard:   {part.path}\nthe same command without --shard goes on to the barcode")
        return
    done = run_recipe(recipe, folder, executor=by)
    written = pictures(done)
    _report(done, written, as_json=as_json)


def _executor(text: str) -> int | str:
    """Return a number of processes, or the address of a scheduler."""
    return int(text) if text.isdecimal() else text


def _shard(text: str) -> tuple[int, int]:
    """Return which part, and of how many, a text says, or the environment of a task of a Slurm job array."""
    if text == "slurm":
        names = [f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "MIN", "MAX", "STEP", "COUNT")]
        missing = [name for name in names if not os.environ.get(name, "").isdecimal()]
        if missing:
            raise ValueError(
                f"{missing[0]} is not set; --shard slurm is for tasks of a job array (sbatch --array=0-7)."
            )
        task, first, last, step, count = (int(os.environ[name]) for name in names)
        if (last - first) // step + 1 != count:
            raise ValueError(
                f"the job array has gaps ({count} tasks from {first} to {last}), so how many parts are there? "
                'Say it: --shard "$SLURM_ARRAY_TASK_ID/8".'
            )
        return (task - first) // step, count
    number, _, count_text = text.partition("/")
    if not (number.isdecimal() and count_text.isdecimal()):
        raise ValueError(f"shard is {text!r}; it needs to be i/n, i from 0 to n - 1, or slurm.")
    return int(number), int(count_text)


def _of_surface(file: str, given: list[str], out: Path | None, options: Mapping[str, Any]) -> Run:
    """Return the run of a surface, of which only how its points are joined can be asked."""
    path = Path(file)
    if path.suffix.lower() not in SURFACES:
        raise typer.BadParameter(
            f"DATA is missing; give the data on which {file} is trained, after it. Only the file of a surface "
            f"({', '.join(SURFACES)}) needs none."
        )
    for name in given:
        if name not in _JOINING:
            flag, known = f"--{name.replace('_', '-')}", ", ".join(f"--{kind.replace('_', '-')}" for kind in _JOINING)
            raise typer.BadParameter(f"{flag} says nothing of a surface that is there already; known are {known}.")
    folder = out if out is not None else Path("runs") / f"{path.stem}_surface"
    return run_surface(path, folder, **{name: options[name] for name in _JOINING if options[name] is not None})


@app.command()
@_one_line_errors
def compare(
    given: Annotated[
        list[Path], typer.Argument(metavar="STUDY.toml | RUN RUN ...", help="A study, or folders of finished runs.")
    ],
    jobs: Annotated[
        str,
        typer.Option(
            metavar="N|tcp://...",
            help="Runs of a study at once, or the dask cluster that computes them, which shares its folder.",
        ),
    ] = "1",
    score: Annotated[str, typer.Option(help="Number by which groups are compared.")] = "mean_bar",
    against: Annotated[
        Against, typer.Option(help="all: compare all groups with one another; first: with the first one.")
    ] = "all",
    measures: Annotated[
        str | None, typer.Option(help=f"Of runs: measure also {', '.join(MEASURES)}; several with commas between.")
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Of runs: they are yours; run the Python files that they name, to measure.")
    ] = False,
    forecast: Annotated[
        bool, typer.Option("--forecast", help="Say what a study will cost, and compute nothing.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the study. [default: runs/NAME of the study file; runs/comparison]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare architectures, or ways of training, by the landscapes of their losses.

    Which has the easier one, and how sure is that? Computes the runs of a study, a TOML file that names models, data,
    seeds and settings, lists of them where they are to be varied; or takes runs that are there. Runs that differ in
    their seed only form a group. Prints each group's mean score with an interval over seeds, and p-values of the
    differences, corrected for their number; writes a table (CSV, LaTeX), a picture, and a report in one file. A study
    that was stopped goes on where it was when the same command is given again.

    \b
    topolandscape compare study.toml --jobs 2
    topolandscape compare runs/mlp-64-8-10_digits_minima_seed* runs/mlp-64-16-10_digits_minima_seed*
    """  # noqa: D301
    logging.getLogger("topolandscape.study.comparison").setLevel(logging.INFO)
    logging.getLogger("topolandscape.study.minima_route").setLevel(logging.WARNING)
    if study_file := _study_file(given):
        if measures is not None:
            raise typer.BadParameter("--measures is for runs; those of a study stand in its file.")
        study = read_study(study_file)
        folder = out if out is not None else Path("runs") / study_file.stem
        if forecast:
            typer.echo(cost_of_study(study, folder, jobs=_executor(jobs)))
            return
        result = run_study(study, folder, jobs=_executor(jobs))
    else:
        if forecast:
            raise typer.BadParameter("--forecast is for a study; runs are computed already.")
        folder = out if out is not None else Path("runs") / "comparison"
        result = compare_runs(given, measures=measures.split(",") if measures else (), trusted=trust)
    written = write_report(result, folder, score=score, against=against)
    if as_json:
        _print_json(json_of(result, score=score, against=against) | {"files": [str(path) for path in written]})
    else:
        for line in lines_of(result, score=score, against=against):
            typer.echo(line)
        for path in written:
            typer.echo(f"written: {path}")
    if result.failures:
        name, wrong = next(iter(result.failures.items()))
        more = f" (and {len(result.failures) - 1} more)" if len(result.failures) > 1 else ""
        raise RuntimeError(f"the run {name} failed: {wrong}{more}")


def _study_file(given: list[Path]) -> Path | None:
    """Return the study file among arguments; None where all are folders of runs."""
    files = [path for path in given if path.suffix == ".toml"]
    if files and len(given) > 1:
        raise typer.BadParameter(f"{files[0]} is a study; give it alone, or folders of runs.")
    return files[0] if files else None


@app.command()
@_one_line_errors
def plot(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the pictures. [default: the run's own]")] = None,
    format: Annotated[str, typer.Option(help="png, pdf or svg.")] = "png",
    min_persistence: Annotated[
        float | None, typer.Option(help="Draw bars at least this long. [default: twice the noise of the losses]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Draw the pictures of a run again."""
    opened = Run.open(run)
    _report(opened, pictures(opened, folder=out, format=format, min_persistence=min_persistence), as_json=as_json)


@app.command()
@_one_line_errors
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    file: Annotated[Path, typer.Argument(help="page.html, or bars.csv, .pers or .dipha; its ending says which.")],
) -> None:
    """Write a run for others: a page in one file, or its bars for another program.

    The page needs no server and no network: barcode, merge tree, diagram, table, paths and landscape, in which a bar
    that is chosen in one is marked in all. Bars go to a table (.csv), to gudhi (.pers) or to DIPHA (.dipha).

    \b
    topolandscape export runs/mlp-64-16-10_digits_minima_seed0 page.html
    """  # noqa: D301
    opened = Run.open(run)
    if file.suffix.lower() in (".html", ".htm"):
        from topolandscape.explore import write_page

        write_page(opened, file)
    else:
        export_bars(file, opened.load("barcode", Barcode))
    typer.echo(f"written: {file}")


@app.command()
@_one_line_errors
def explore(
    given: Annotated[
        list[str], typer.Argument(metavar="RUN ... | MODEL DATA", help="Folders of finished runs; or a model and data.")
    ],
    loss: Annotated[str | None, typer.Option(help="Of a model: cross_entropy, mse or file.py:function.")] = None,
    weight_decay: Annotated[float, typer.Option(help="Of a model: add this times |theta|^2 to the loss.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of a model: seed of its weights.")] = 0,
    trust: Annotated[
        bool, typer.Option("--trust", help="Of runs: they are yours; run the Python files that they name.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port on this machine; 0: any that is free.")] = 8050,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Look at runs, or at a network and its data, in a browser.

    Barcode, merge tree, minima, paths and landscape are linked; slices and descents are computed while one looks, and
    weights are moved by hand. The page is served to this machine alone, until the command is interrupted. Where a run's
    model is not there any more, what was computed is still shown.

    \b
    topolandscape explore runs/mlp-64-16-10_digits_minima_seed0
    topolandscape explore runs/*_seed0
    topolandscape explore mlp:2-3-1,tanh teacher_student
    """  # noqa: D301
    from topolandscape.explore.explorer import Explorer
    from topolandscape.explore.server import serve

    if len(given) == 2 and not any(Path(name).exists() for name in given):
        explorer = Explorer(
            recipe=Recipe(model=given[0], data=given[1], loss=loss, weight_decay=weight_decay, seed=seed)
        )
    else:
        explorer = Explorer([Run.open(name) for name in given], trusted=trust)

    def ready(address: str) -> None:
        typer.echo(f"explore: {address} (stop with Ctrl-C)")
        if browser:
            import webbrowser

            webbrowser.open(address)

    try:
        serve(explorer, port=port, ready=ready)
    except KeyboardInterrupt:
        typer.echo("")


@app.command()
@_one_line_errors
def functions(
    name: Annotated[str | None, typer.Argument(help="Compute the barcode of this one on a grid.")] = None,
    resolution: Annotated[int, typer.Option(help="Grid points along each axis.")] = 1001,
    connectivity: Annotated[str, typer.Option(help="axis, freudenthal or full.")] = "full",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """List the functions whose barcode is known, or compute one's barcode beside the truth."""
    from topolandscape import zoo

    if name is None:
        known = {key: _bars_of(function.bars.get(0)) for key, function in zoo.functions.items()}
        if as_json:
            _print_json({key: [[b, None if np.isinf(d) else d] for b, d in bars] for key, bars in known.items()})
            return
        for key, bars in known.items():
            function = zoo.functions[key]
            box = " x ".join(f"[{low:g}, {high:g}]" for low, high in zip(function.low, function.high, strict=True))
            typer.echo(f"{key}  on {box}  ({function.source})")
            more = f"  ... {len(bars)} bars in all" if len(bars) > _SHOWN else ""
            typer.echo("  " + "  ".join(f"[{birth:.6g}, {death:.6g})" for birth, death in bars[:_SHOWN]) + more)
        return
    if name not in zoo.functions:
        import difflib

        near = difflib.get_close_matches(name, zoo.functions, n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else " `topolandscape functions` lists them."
        raise ValueError(f"there is no function {name!r}.{hint}")
    from topolandscape.topology.complexes import grid
    from topolandscape.topology.persistence import barcode as barcode_of

    function = zoo.functions[name]
    samples = function.on_grid((resolution,) * function.dimension)
    code = barcode_of(grid(samples, connectivity=connectivity))  # type: ignore[arg-type]
    components = function.bars.get(0)
    exact = None if components is None else Barcode.from_pairs(components)
    if as_json:
        _print_json({"function": name, "bars": _rows(code), "exact": None if exact is None else _rows(exact)})
        return
    typer.echo(f"{name} on a grid of {' x '.join(map(str, samples.shape or ()))}, {connectivity} neighbours")
    typer.echo(code.table())
    typer.echo("exact:" if exact is not None else "no exact bars are known.")
    for birth, death in [] if exact is None else zip(exact.birth, exact.death, strict=True):
        typer.echo(f"     {birth:>12.6g}  {death:>12.6g}  {death - birth:>12.6g}")


def main() -> None:
    """Run the command line."""
    logging.basicConfig(format="topolandscape: %(message)s", level=logging.WARNING)
    if sys.stderr.isatty():
        logging.getLogger("topolandscape.study").setLevel(logging.INFO)
    warnings.showwarning = lambda message, *_: logging.getLogger("topolandscape").warning("%s", message)
    app()


def _report(run: Run, written: list[Path], *, as_json: bool) -> None:
    result = _json_of_minima(run) if "network" in run else _json_of_samples(run)
    if as_json:
        drawn = {"pictures": [str(path) for path in written]}
        _print_json({"run": str(run.path), "settings": dict(run.settings)} | result | drawn)
        return
    lines = _lines_of_minima(run) if "network" in run else _lines_of_samples(run)
    said = f"{run.settings['model']} on {run.settings['data']}: " if "model" in run.settings else ""
    said = f"{run.settings['surface']}: " if "surface" in run.settings else said
    typer.echo(said + "\n".join(lines))
    for path in written:
        typer.echo(f"picture: {path}")
    typer.echo(f"run:     {run.path}")


def _json_of_samples(run: Run) -> dict[str, Any]:
    code = run.load("barcode", Barcode)
    trained = run.load("trained", LossSamples) if "trained" in run else None
    _, known = samples_of(run, code)
    return {
        "topology": code.provenance.get("topology"),
        **known,
        "trained": None if trained is None else trained.values.tolist(),
        "bars": _rows(code),
    }


def _lines_of_samples(run: Run) -> Iterator[str]:
    code = run.load("barcode", Barcode)
    samples, known = samples_of(run, code)
    noise, wrong = known["noise"], known["not_finite"]
    if samples is not None:
        yield repr(samples)
    else:
        shape = " x ".join(map(str, code.provenance["shape"]))
        yield (
            f"a grid of {shape}, {known['points']:,} points joined block by block"
            + (f", {wrong} not finite" if wrong else "")
        )
    if "trained" in run and len(trained := run.load("trained", LossSamples)) <= 10:
        yield "losses of the trained points: " + ", ".join(f"{value:.6g}" for value in trained.values)
    long = code.filter(min_persistence=2 * noise)
    yield long.table()
    if len(long) < len(code):
        yield f"{len(code) - len(long)} bars no longer than twice the noise ({noise:.2g}) are not shown"
    yield "minimum and saddle are rows of the samples; what lies between or outside them is not seen"


def _json_of_minima(run: Run) -> dict[str, Any]:
    (network, reduced), code = networks_of(run), run.load("barcode", Barcode)
    known = network.minima
    words = Counter(reduced.passes[row] for row in code.death_simplex if row >= 0)
    return {
        "minima": [
            {
                "loss": float(known.values[row]),
                "accuracy": _number(known.accuracy[row]),
                "test_accuracy": _number(known.test_accuracy[row]),
                "gradient_norm": float(known.gradient_norm[row]),
                "curvature": [_number(value) for value in known.curvature[row]],
                "index": int(known.index[row]),
                "stationary": known.stationary[row],
                "found": int(known.found[row]),
            }
            for row in range(network.trained)
        ],
        "modulo_symmetry": known.provenance.get("modulo_symmetry"),
        "others": len(network) - network.trained,
        "diverged": _diverged(run),
        "bars": [
            row | {"pass": None if edge < 0 else reduced.passes[edge]}
            for row, edge in zip(_rows(code), code.death_simplex, strict=True)
        ],
        "highest_passes": {word: words[word] for word in PASSES},
    }


def _lines_of_minima(run: Run) -> Iterator[str]:
    (network, reduced), code = networks_of(run), run.load("barcode", Barcode)
    trained = network.minima.rows(slice(network.trained))
    yield repr(network)
    yield reduced.table(code)
    if without := len(trained) - int((code.birth_vertex < len(trained)).sum()):
        yield f"{without} of {len(trained)} minima have no bar: a path leads from them to a lower one without climbing"
    if (code.birth_vertex >= len(trained)).any():
        yield f"minima from {len(trained)} on were not trained but met on the way, and are lower than those"
    ending = code.persistence[~code.essential]
    if len(ending):
        yield (
            f"{len(ending)} bar{'s' * (len(ending) > 1)} that end: sum of lengths {ending.sum():.6g}, "
            f"mean {ending.mean():.6g}, longest {ending.max():.6g}"
        )
        words = Counter(reduced.passes[row] for row in code.death_simplex if row >= 0)
        yield "their highest passes: " + ", ".join(
            f"{words[word]} {plural if words[word] != 1 else word}" for word, plural in _PLURALS.items()
        )
        yield "deaths are upper bounds: there may be lower passes that were not found"
    if (groups := int(code.essential.sum())) > 1:
        yield f"no path of finite loss was found between {groups} groups of minima: {groups} bars do not end"
    if (descents := int(trained.found.sum())) > len(trained):
        where = f"{len(trained)} different points" if len(trained) > 1 else "1 point"
        yield f"{descents} descents ended in {where}"
    if "modulo_symmetry" in network.minima.provenance:
        yield _modulo_symmetry(network.minima.provenance["modulo_symmetry"])
    if diverged := _diverged(run):
        rows = ", ".join(map(str, diverged))
        said = "descent diverged and is" if len(diverged) == 1 else "descents diverged and are"
        yield f"{len(diverged)} {said} left out: {rows}, counted from 0"
    weak = Counter(word for word in trained.stationary if word != "minimum")
    if weak:
        counts = ", ".join(f"{count} {word}" for word, count in weak.items())
        yield f"{weak.total()} of {len(trained)} are no strict minima: {counts}"
    if weak["far"] and not run.settings.get("weight_decay"):
        yield "where the loss falls towards infinity there is no minimum; --weight-decay 1e-3, say, makes one"


def _modulo_symmetry(done: Mapping[str, Any]) -> str:
    """Return in a line how minima were brought together."""
    copies = Counter(done["copies"])
    if len(copies) == 1 and "none found" in done["symmetry"]:
        return "no symmetries of the network were found: minima are joined as they are"
    return (
        f"modulo symmetry, of {copies.total()} minima: {copies['weights']} brought near by weights, "
        f"{copies['activations']} by activations, the others as they were"
    )


def _diverged(run: Run) -> list[int]:
    """Return which descents diverged."""
    found = run.load("minima", Minima) if "minima" in run else None
    if found is None or "rows" not in found.provenance:
        return []
    return [start for start, row in enumerate(found.provenance["rows"]) if found.stationary[row] == "diverged"]


def _rows(code: Barcode) -> list[dict[str, Any]]:
    return [
        {
            "dim": int(code.dim[i]),
            "birth": float(code.birth[i]),
            "death": None if code.essential[i] else float(code.death[i]),
            "minimum": int(code.birth_vertex[i]),
            "saddle": int(code.death_vertex[i]),
            "size": int(code.size[i]),
        }
        for i in range(len(code))
    ]


def _bars_of(bars: Any) -> list[tuple[float, float]]:
    return [] if bars is None else [(float(birth), float(death)) for birth, death in bars]


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1))
