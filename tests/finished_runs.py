"""Settings of small studies, and runs as if they had been computed."""

import numpy as np

import topolandscape as tl
from topolandscape.files import Run
from topolandscape.structures import Minima, MinimaNetwork

SMALL = {
    "model": ["mlp:2-1-1,tanh", "mlp:2-2-1,tanh"],
    "data": "teacher_student",
    "weight_decay": 1e-3,
    "minima": 2,
    "steps": 20,
    "evaluations": 100,
    "max_evaluations": 50,
    "seed": [0, 1],
}


def finished(folder, bars, *, model="a", seed=0, errors=None, trained=-1, **settings):
    """Return a run as if it had been computed: a network of minima, all joined to the lowest, with these bars."""
    births, deaths = np.array(bars, dtype=float).T
    run = Run.create(folder, {"model": model, "data": "digits", "seed": seed, "route": "minima"} | settings)
    m = len(births)
    points = np.arange(m, dtype=float)[:, None]
    accuracy = np.full(m, np.nan) if errors is None else 1 - np.array(errors)
    minima = Minima(
        points, births, [0.0] * m, [[1.0]] * m, [0] * m, ["minimum"] * m, accuracy=accuracy, test_accuracy=accuracy
    )
    lowest, others = births.argmin(), np.flatnonzero(births > births.min())
    ends = [[lowest, row] for row in others]
    paths = [points[pair] for pair in ends]
    words = ["path maximum"] * (m - 1)
    network = MinimaNetwork(minima, ends, deaths[others], words, points[others], paths, trained=trained)
    run.save("network", network)
    run.save("barcode", tl.barcode(network.reduced()))
    return run
