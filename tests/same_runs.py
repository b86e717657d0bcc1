"""Runs that must be equal to the bit, whoever does the work."""

import random
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

import topolandscape as tl

# What is fastest may change from one time to the next, and with it the last bits.
PLANS = {kind: {"form": "dense", "chunk": 16, "rows": 200} for kind in ("values", "gradients", "products")}


class Shuffled:
    """An executor that does what waits in random order, in a thread, and can be asked what it did."""

    def __init__(self, seed):
        self.random, self.waiting, self.done = random.Random(seed), [], 0
        self.lock, self.pool = threading.Lock(), ThreadPoolExecutor(1)

    def submit(self, function, *arguments):
        future = Future()
        with self.lock:
            self.waiting.append((future, function, arguments))
        self.pool.submit(self._one)
        return future

    def _one(self):
        with self.lock:
            future, function, arguments = self.waiting.pop(self.random.randrange(len(self.waiting)))
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(function(*arguments))
            self.done += 1
        except BaseException as error:
            future.set_exception(error)


def same(one, other, *columns):
    for column in columns:
        assert np.array_equal(getattr(one, column), getattr(other, column), equal_nan=True), column


def assert_same_run(one, other, *names):
    for name, kind, columns in (
        ("samples", tl.LossSamples, ("points", "values")),
        ("minima", tl.Minima, ("points", "values", "gradient_norm", "curvature", "index", "found")),
        ("trajectories", tl.Trajectories, ("points", "values", "steps", "gradient_norm")),
        ("network", tl.MinimaNetwork, ("ends", "barriers", "tops")),
        ("barcode", tl.Barcode, tl.Barcode.columns),
    ):
        assert (name in one) == (name in other), name
        if name in one:
            same(one.load(name, kind), other.load(name, kind), *columns)
