"""What is said of a run: its bars and where they come from, in lines to be read and in plain values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from topolandscape.files import Run
from topolandscape.structures import PASSES, Barcode, LossSamples, Minima
from topolandscape.study.minima_route import networks_of
from topolandscape.study.sample_route import samples_of

_PLURALS = {"verified saddle": "verified saddles", "path maximum": "path maxima", "not converged": "not converged"}


def json_of_run(run: Run) -> dict[str, Any]:
    """Return everything that is said of a finished run, as plain values."""
    result = _json_of_minima(run) if "network" in run else _json_of_samples(run)
    return {"run": str(run.path), "settings": dict(run.settings)} | result


def lines_of_run(run: Run) -> Iterator[str]:
    """Yield what is said of a finished run."""
    said = f"{run.settings['model']} on {run.settings['data']}: " if "model" in run.settings else ""
    said = f"{run.settings['surface']}: " if "surface" in run.settings else said
    first, *others = _lines_of_minima(run) if "network" in run else _lines_of_samples(run)
    yield said + first
    yield from others


def rows_of(code: Barcode) -> list[dict[str, Any]]:
    """Return the bars of a barcode as plain values; a bar that never ends has no death."""
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


def _json_of_samples(run: Run) -> dict[str, Any]:
    code = run.load("barcode", Barcode)
    trained = run.load("trained", LossSamples) if "trained" in run else None
    _, known = samples_of(run, code)
    return {
        "topology": code.provenance.get("topology"),
        **known,
        "trained": None if trained is None else trained.values.tolist(),
        "bars": rows_of(code),
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
            for row, edge in zip(rows_of(code), code.death_simplex, strict=True)
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


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
