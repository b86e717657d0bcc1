# make demo    a network and the digits data set to a barcode, a table and pictures
# make test    the tests
# make slow    the tests that take longer
# make check   format, lint, types, import contracts
# make bench   the benchmarks, into benchmarks/results
# make study   four architectures on digits, five seeds each: a report in runs/study
# make gallery the examples of docs/gallery.md in full
# make proofs  the experiments with passes and claims, which take more than an hour
# make clean   remove what the others made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo study test slow check bench gallery proofs wheel clean

demo: $(VENV)/installed
	$(BIN)/topolandscape barcode mlp:64-16-10 digits --region plane --out runs/demo

study: $(VENV)/installed
	$(BIN)/topolandscape compare docs/examples/studies/digits.toml --jobs 2 --out runs/study

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m slow

check: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/installed-dev
	$(BIN)/python benchmarks/merge.py --max-size 1e7
	$(BIN)/python benchmarks/losses.py
	$(BIN)/python benchmarks/morse.py
	$(BIN)/python benchmarks/refine.py
	$(BIN)/python benchmarks/calibration.py
	$(BIN)/python benchmarks/cluster.py
	$(BIN)/python benchmarks/projection.py
	$(BIN)/python benchmarks/explorer.py

gallery: $(VENV)/installed-dev
	for example in $(filter-out %/gallery.py,$(wildcard docs/examples/*.py)); do $(BIN)/python $$example || exit 1; done

proofs: $(VENV)/installed-dev
	$(BIN)/python benchmarks/passes.py
	$(BIN)/python benchmarks/claims.py

wheel: $(VENV)/installed-dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

clean:
	rm -rf $(VENV) dist build runs

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[dev]"
	touch $@ $(VENV)/installed
