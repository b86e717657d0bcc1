"""Ends of the spectrum and trace of the Hessian by curvlinops, and by PyHessian in the release and in landscaper."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from problems import trained
from torch.nn import CrossEntropyLoss

Array = np.ndarray
Run = Callable[[], dict[str, Array]]


def _operator(network: Array, state: dict[str, Array]) -> Callable[[], object]:
    from curvlinops import HessianLinearOperator

    module, inputs, targets = trained(network, state)
    parameters = list(module.parameters())
    return lambda: HessianLinearOperator(module, CrossEntropyLoss(), parameters, [(inputs, targets)])


def _by_eigsh(which: str, network: Array, k: Array, state: dict[str, Array]) -> Run:
    from scipy.sparse.linalg import eigsh

    make = _operator(network, state)

    def run() -> dict[str, Array]:
        found = eigsh(make().to_scipy(), int(k), which=which, return_eigenvectors=False, tol=1e-5)
        return {"values": np.sort(found) if which == "SA" else np.sort(found)[::-1]}

    return run


def curvlinops_highest(network: Array, k: Array, **state: Array) -> Run:
    """Its operator in scipy's eigsh, to the tolerance that ours has."""
    return _by_eigsh("LA", network, k, state)


def curvlinops_lowest(network: Array, k: Array, **state: Array) -> Run:
    """Its operator in scipy's eigsh, to the tolerance that ours has."""
    return _by_eigsh("SA", network, k, state)


def curvlinops_trace(network: Array, k: Array, **state: Array) -> Run:
    """Hutch++ with as many products as ours."""
    from curvlinops import hutchpp_trace

    make = _operator(network, state)

    def run() -> dict[str, Array]:
        torch.manual_seed(0)
        return {"values": np.array([float(hutchpp_trace(make(), 48))])}

    return run


def landscaper_highest(network: Array, k: Array, **state: Array) -> Run:
    make = _landscaper(network, state)

    def run() -> dict[str, Array]:
        torch.manual_seed(0)
        return {"values": np.array(make().eigenvalues(top_n=int(k))[0])}

    return run


def landscaper_trace(network: Array, k: Array, **state: Array) -> Run:
    make = _landscaper(network, state)

    def run() -> dict[str, Array]:
        torch.manual_seed(0)
        return {"values": np.array([float(make().trace())])}

    return run


def _landscaper(network: Array, state: dict[str, Array]) -> Callable[[], object]:
    """Gradients and their graphs kept, which is its faster way."""
    from landscaper import PyHessian

    module, inputs, targets = trained(network, state)
    return lambda: PyHessian(module, CrossEntropyLoss(), [(inputs, targets)], "cpu", try_cache=True)


def pyhessian_highest(network: Array, k: Array, **state: Array) -> Run:
    make = _pyhessian(network, state)

    def run() -> dict[str, Array]:
        torch.manual_seed(0)
        return {"values": np.array(make().eigenvalues(top_n=int(k))[0])}

    return run


def pyhessian_trace(network: Array, k: Array, **state: Array) -> Run:
    make = _pyhessian(network, state)

    def run() -> dict[str, Array]:
        torch.manual_seed(0)
        return {"values": np.array([np.mean(make().trace())])}

    return run


def _pyhessian(network: Array, state: dict[str, Array]) -> Callable[[], object]:
    """All rows as one batch, whose gradients it keeps: its faster way."""
    from pyhessian import hessian

    module, inputs, targets = trained(network, state)
    return lambda: hessian(module, CrossEntropyLoss(), data=(inputs, targets), cuda=False)
