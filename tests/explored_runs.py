"""Small runs and samples that the tests of the explorer look at."""

import numpy as np

from topolandscape import zoo
from topolandscape.files import Run
from topolandscape.structures import LossSamples
from topolandscape.study import Recipe, run, run_surface

MINIMA = Recipe(
    model="mlp:2-2-1,tanh",
    data="teacher_student",
    weight_decay=1e-3,
    minima=4,
    steps=60,
    evaluations=600,
    dtype="float64",
)
PLANE = Recipe(model="mlp:1-2-1,tanh", data="sine_regression", route="sample", steps=100, resolution=21)


def minima_run(folder) -> Run:
    """Return a run through trained minima."""
    return run(MINIMA, folder, progress=False)


def plane_run(folder) -> Run:
    """Return a run of a plane."""
    return run(PLANE, folder, progress=False)


def surface_run(folder) -> Run:
    """Return a run of the six-hump camel, which has bars of degrees 0 and 1."""
    samples = zoo.functions["six_hump_camel"].on_grid((61, 61))
    np.save(folder / "camel.npy", samples.values.reshape(61, 61))
    return run_surface(folder / "camel.npy", folder / "run", max_dim=1)


def rough_grid(seed, shape=(12, 15)):
    """Return white noise on a grid, as samples."""
    values = np.random.default_rng(seed).normal(size=shape)
    return LossSamples(np.argwhere(np.ones(shape)), values.ravel(), shape=shape)
