# make demo, make test, make lint: each makes .venv on the first call.
# PYTHON=/path/to/python chooses the interpreter, WORKERS=n the number of test processes, TESTS=path a part of the tests.
.PHONY: help install demo test lint format clean
.DEFAULT_GOAL := help

RUN := .venv/bin/python
WORKERS ?= 2
TESTS ?= tests
export OMP_NUM_THREADS ?= 1
export MPLBACKEND := Agg

help:
	@echo 'make demo     train, test and draw a small RetinaNet on pictures of shapes (work_dirs/quickstart/)'
	@echo 'make test     run the tests'
	@echo 'make lint     ruff, codespell and mypy'
	@echo 'make format   let ruff rewrite what it can'
	@echo 'make install  only make .venv with the pinned requirements and the package'

install:
	@PYTHON='$(PYTHON)' .ci/venv

demo: install
	@.ci/demo

test: install
	$(RUN) -m pytest -n $(WORKERS) $(TESTS)

lint: install
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m codespell_lib
	$(RUN) -m mypy

format: install
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

clean:
	rm -rf work_dirs/quickstart .pytest_cache .ruff_cache .mypy_cache
