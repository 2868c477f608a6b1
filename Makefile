# Two commands do all the set-up, each by itself: `make demo` and `make test`.
# TORCH chooses the torch requirement, e.g. `TORCH=torch==2.13.0 make test`.

PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= torch
# For `make bench`: the folder of the data to race on, the python of an environment with nnU-Net, and options such as
# --quick (docs/benchmarks.md).
DATA   ?= ../shared/data
NNUNET ?= nnunet/bin/python
BENCH  ?=
# How many processes share the tests, file by file.
JOBS   ?= 2
BIN    := $(VENV)/bin
# A change of the metadata or of the chosen torch installs again.
STAMP   = $(VENV)/.installed-$(subst :,_,$(subst /,_,$(subst =,_,$(subst $() ,_,$(TORCH)))))

.PHONY: demo test lint format bench clean

demo: $(STAMP)
	$(BIN)/msseg_demo

# The tests' arrays are so small that a second thread only waits for the first; a second process does not.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/python benchmarks/race.py --data "$(DATA)" --nnunet "$(NNUNET)" $(BENCH)
	$(BIN)/python benchmarks/cost_curves.py $(BENCH)

$(STAMP): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	rm -f $(VENV)/.installed-*
	touch "$@"

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
