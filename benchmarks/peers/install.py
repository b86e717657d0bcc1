"""Make the environments of the peers, outside our own: build/peers/NAME, from the package index.

    python benchmarks/peers/install.py

Peers that ask for different versions of the same library cannot share an environment, hence three. Versions are pinned
in constraints-NAME.txt. What does not install is written down with its error in build/peers/failed.json, which the race
reads.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "peers"

# What each environment is made of: distributions as the package index names them. The functions of the zoo are read
# from the repository in each of them, which takes lazy-loader.
ENVIRONMENTS = {
    "homology": ("gudhi", "ripser", "cripser", "oineus", "scipy", "lazy-loader"),
    "searches": ("topsearch", "pele", "lazy-loader"),
    "landscapes": (
        "torch",
        "landscaper",
        "loss-landscapes",
        "curvlinops-for-pytorch",
        "pyhessian",
        "lazy-loader",
        "scikit-learn",
    ),
}


def main() -> None:
    failed = {}
    for name, packages in ENVIRONMENTS.items():
        print(f"{name}: {', '.join(packages)}", flush=True)
        failed |= install(name, packages)
    (BUILD / "failed.json").write_text(json.dumps(failed, indent=2) + "\n")
    for package, error in failed.items():
        print(f"{package} does not install: {error}")


def python_of(environment: str) -> Path:
    """Return the interpreter of an environment."""
    return BUILD / environment / "bin" / "python"


def install(name: str, packages: tuple[str, ...]) -> dict[str, str]:
    """Make an environment; return the error of each package that does not install."""
    if not python_of(name).exists():
        venv.create(BUILD / name, with_pip=True)
    constraints = HERE / f"constraints-{name}.txt"
    failed = {}
    for package in packages:
        command = [python_of(name), "-m", "pip", "install", "--quiet", "--constraint", constraints, package]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            failed[package] = (lines or done.stderr.splitlines() or ["no message"])[-1]
    return failed


if __name__ == "__main__":
    sys.exit(main())
