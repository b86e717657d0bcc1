"""The command line."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np
import typer

from topolandscape.files import Run
from topolandscape.structures import Barcode, LossSamples
from topolandscape.study import REGIONS, Recipe, pictures
from topolandscape.study import run as run_recipe

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
_RECIPE = {field.name for field in fields(Recipe)}


def _one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Let an error of a command be one line on stderr and exit code 1, an interruption 130."""

    @wraps(command)
    def guarded(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt:
            _fail("stopped; what was computed is kept, and the same command goes on from there.", 130)
        except (ValueError, TypeError, RuntimeError, OSError, ImportError, MemoryError) as error:
            _fail(" ".join(str(error).split()) or type(error).__name__, 1)

    return guarded


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"topolandscape: {message}", err=True)
    raise typer.Exit(code)


@app.command()
@_one_line_errors
def barcode(
    model: Annotated[str, typer.Argument(help="mlp:64-16-10, another name of the zoo, or file.py:function.")],
    data: Annotated[str, typer.Argument(help="digits, another data set of the zoo, or file.py:function.")],
    loss: Annotated[
        str | None, typer.Option(help="cross_entropy, mse or file.py:function. [default: what fits the data]")
    ] = None,
    weight_decay: Annotated[float, typer.Option(help="Add this times |theta|^2 to the loss.")] = 0.0,
    route: Annotated[str, typer.Option(help="sample: losses of a region of parameter space.")] = "sample",
    region: Annotated[str, typer.Option(help=f"Where to sample: {', '.join(REGIONS)}.")] = "plane",
    resolution: Annotated[int, typer.Option(help="Points along each axis of a plane or segment.")] = 101,
    margin: Annotated[float, typer.Option(help="Reach of a plane or segment beyond its points.")] = 0.25,
    points: Annotated[int, typer.Option(help="Points of a box, ball or hull.")] = 20_000,
    low: Annotated[float, typer.Option(help="Lower side of a box.")] = -1.0,
    high: Annotated[float, typer.Option(help="Upper side of a box.")] = 1.0,
    radius: Annotated[float, typer.Option(help="Half-width of a random plane, radius of a ball.")] = 1.0,
    enlarge: Annotated[float, typer.Option(help="Growth of the volume of a hull.")] = 1.1,
    below: Annotated[float | None, typer.Option(help="Keep scattered points whose loss is below this.")] = None,
    starts: Annotated[int, typer.Option(help="Trained points of a hull.")] = 5,
    steps: Annotated[int, typer.Option(help="Steps of each descent.")] = 1000,
    learning_rate: Annotated[float, typer.Option(help="Step size of the descents (Adam).")] = 0.01,
    neighbours: Annotated[
        int | None,
        typer.Option(help="Nearest neighbours of scattered points. [default: triangulate up to 3-D, else 8 d]"),
    ] = None,
    connect: Annotated[
        bool, typer.Option("--connect", help="Join the components of a graph by the shortest missing links.")
    ] = False,
    edge_points: Annotated[
        int | None,
        typer.Option(
            help="Points between scattered neighbours to look for a ridge at. [default: 3 for a hull, else 0]"
        ),
    ] = None,
    connectivity: Annotated[str, typer.Option(help="Neighbours on a plane: axis, freudenthal or full.")] = "full",
    nonfinite: Annotated[
        str, typer.Option(help="raise: refuse NaN and infinite losses; infinite: such points never enter.")
    ] = "raise",
    max_dim: Annotated[int, typer.Option(help="Highest degree of homology; 0: minima.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ... [default: cpu]")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run. [default: runs/MODEL_DATA_REGION_seedN]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Take a network and its data to a barcode, a table and pictures.

    Trains the network from a few seeds, samples the region, and keeps everything in a folder. A run that was stopped
    goes on where it was when the same command is given again.

    \b
    topolandscape barcode mlp:64-16-10 digits
    topolandscape barcode mlp:2-3-1,tanh teacher_student --region box --low -3 --high 3 --points 100000
    topolandscape barcode model.py:build data.py:load --region random --radius 0.5

    \b
    MODEL:  mlp:64-16-10[,ACTIVATION][,nobias][,bn]      ACTIVATION: relu, tanh, gelu, linear, quadratic
            linear:64-16-10[,nobias]
            conv:1x8x8-8-16-10[,ACTIVATION][,nobias][,bn][,flatten]
            file.py:function, which returns a torch.nn.Module (evaluated in eval mode)
    DATA:   digits, iris, breast_cancer, two_moons, circles, teacher_student, sine_regression
            file.py:function, which returns (inputs, targets)
    """  # noqa: D301
    given = {name: value for name, value in locals().items() if name in _RECIPE}
    recipe = Recipe(**given)
    folder = out if out is not None else Path("runs") / recipe.folder_name()
    done = run_recipe(recipe, folder)
    written = pictures(done)
    _report(done, written, as_json=as_json)


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
    warnings.showwarning = lambda message, *_: logging.getLogger("topolandscape").warning("%s", message)
    app()


def _report(run: Run, written: list[Path], *, as_json: bool) -> None:
    samples, code = run.load("samples", LossSamples), run.load("barcode", Barcode)
    trained = run.load("trained", LossSamples) if "trained" in run else None
    if as_json:
        _print_json(
            {
                "run": str(run.path),
                "settings": dict(run.settings),
                "topology": code.provenance.get("topology"),
                "points": len(samples),
                "not_finite": len(samples.nonfinite),
                "noise": samples.noise,
                "trained": None if trained is None else trained.values.tolist(),
                "bars": _rows(code),
                "pictures": [str(path) for path in written],
            }
        )
        return
    typer.echo(f"{run.settings['model']} on {run.settings['data']}: {samples}" if "model" in run.settings else samples)
    if trained is not None and len(trained) <= 10:
        typer.echo("losses of the trained points: " + ", ".join(f"{value:.6g}" for value in trained.values))
    long = code.filter(min_persistence=2 * samples.noise)
    typer.echo(long.table())
    if len(long) < len(code):
        typer.echo(f"{len(code) - len(long)} bars no longer than twice the noise ({samples.noise:.2g}) are not shown")
    typer.echo("minimum and saddle are rows of the samples; what lies between or outside them is not seen")
    for path in written:
        typer.echo(f"picture: {path}")
    typer.echo(f"run:     {run.path}")


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


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1))
