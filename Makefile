# make demo    a network and the digits data set to a barcode, a table and pictures
# make test    the tests
# make slow    the tests that take longer
# make wheel-tests  the tests on the built wheel in a fresh environment; PYTHON=python3.13 takes another Python
# make check   format, lint, types, import contracts
# make docs    the documentation, into build/docs
# make bench   the benchmarks, into benchmarks/results
# make race    the same work by ours and by other programs, which are put into build/peers
# make study   four architectures on digits, five seeds each: a report in runs/study
# make gallery the examples of docs/gallery.md in full
# make proofs  the experiments with passes and claims, which take more than an hour
# make torture  runs that are killed, on full disks, with damaged files: some minutes
# make fuzz    readers and the command line, given what nobody meant to write: ten minutes
# make clean   remove what the others made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo study test slow check docs bench race gallery proofs torture fuzz wheel wheel-tests clean

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

docs: $(VENV)/installed-docs
	rm -rf build/docs docs/reference
	$(BIN)/python -m sphinx -b html -W --keep-going docs build/docs

bench: $(VENV)/installed-dev
	$(BIN)/python benchmarks/merge.py --max-size 1e7
	$(BIN)/python benchmarks/losses.py
	$(BIN)/python benchmarks/morse.py
	$(BIN)/python benchmarks/refine.py
	$(BIN)/python benchmarks/graphs.py
	$(BIN)/python benchmarks/calibration.py
	$(BIN)/python benchmarks/cluster.py
	$(BIN)/python benchmarks/projection.py
	$(BIN)/python benchmarks/explorer.py
	$(BIN)/python benchmarks/beyond_memory.py
	$(BIN)/python benchmarks/study.py

race: $(VENV)/installed-dev build/peers/installed
	$(BIN)/python benchmarks/race.py

gallery: $(VENV)/installed-dev
	for example in $(filter-out %/gallery.py,$(wildcard docs/examples/*.py)); do $(BIN)/python $$example || exit 1; done

proofs: $(VENV)/installed-dev
	$(BIN)/python benchmarks/passes.py
	$(BIN)/python benchmarks/claims.py

torture: $(VENV)/installed-dev
	$(BIN)/python benchmarks/faults.py

# Without a wheel of atheris for this Python the inputs are found by Hypothesis.
fuzz: $(VENV)/installed-dev
	-$(BIN)/python -m pip install --only-binary :all: "atheris>=3.0"
	$(BIN)/python benchmarks/fuzz.py

wheel: $(VENV)/installed-dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

# From a folder where the sources are not.
wheel-tests: wheel
	rm -rf build/wheel
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip install --quiet --constraint constraints.txt "$$(ls dist/*.whl)[dev]"
	cp -r tests benchmarks docs pyproject.toml README.md CHANGELOG.md CITATION.cff CONTRIBUTING.md Makefile build/wheel
	cd build/wheel && venv/bin/python -c "import topolandscape, sys; assert sys.prefix in topolandscape.__file__"
	cd build/wheel && venv/bin/python -m pytest -m "not slow" -n 2 --dist loadfile tests

clean:
	rm -rf $(VENV) dist build runs docs/reference

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --constraint constraints.txt --editable .
	touch $@

build/peers/installed: benchmarks/peers/install.py $(wildcard benchmarks/peers/constraints-*.txt) | $(VENV)/installed-dev
	$(BIN)/python benchmarks/peers/install.py
	touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[dev]"
	touch $@ $(VENV)/installed

$(VENV)/installed-docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[docs]"
	touch $@ $(VENV)/installed
