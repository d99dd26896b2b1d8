# make demo, make test, make lint: each makes .venv on the first call.
# PYTHON=/path/to/python chooses the interpreter, WORKERS=n the number of test processes, TESTS=path a part of the tests.
.PHONY: help install demo test test-all lint format docs clean
.DEFAULT_GOAL := help

RUN := .venv/bin/python
WORKERS ?= 2
TESTS ?= tests
export MPLBACKEND := Agg

DEMO := work_dirs/quickstart
DEMO_CONFIG := configs/quickstart/retinanet_r18_shapes.py

help:
	@echo 'make demo     train, test and draw a small RetinaNet on pictures of shapes (work_dirs/quickstart/)'
	@echo 'make test     run the tests, without those marked slow'
	@echo 'make test-all run all of them'
	@echo 'make lint     ruff, codespell and mypy'
	@echo 'make format   let ruff rewrite what it can'
	@echo 'make docs     these pages as HTML in work_dirs/docs/'
	@echo 'make install  only make .venv with the pinned requirements and the package'

install:
	@PYTHON='$(PYTHON)' .ci/venv

demo: install
	$(RUN) tools/dataset_converters/shapes.py data/shapes
	$(RUN) tools/train.py $(DEMO_CONFIG) --work-dir $(DEMO)
	$(RUN) tools/analysis_tools/analyze_logs.py plot_curve $(DEMO) --keys loss loss_cls loss_bbox --out $(DEMO)/loss.png
	$(RUN) tools/analysis_tools/analyze_logs.py plot_curve $(DEMO) --keys bbox_mAP bbox_mAP_50 bbox_mAP_75 --out $(DEMO)/mAP.png
	rm -rf $(DEMO)/test
	$(RUN) tools/test.py $(DEMO_CONFIG) $(DEMO)/epoch_16.pth --work-dir $(DEMO)/test --show-dir pictures
	$(RUN) tools/analysis_tools/picture_sheet.py $(DEMO)/test $(DEMO)/detections.jpg --size 480 200
	@echo 'Checkpoints, loss.png, mAP.png and detections.jpg are in $(DEMO)/'

test: export OMP_NUM_THREADS = 1
test: install
	$(RUN) -m pytest -n $(WORKERS) --timeout 900 $(TESTS)

test-all: export OMP_NUM_THREADS = 1
test-all: install
	$(RUN) -m pytest -m '' -n $(WORKERS) --timeout 3600 $(TESTS)

lint: install
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m codespell_lib
	$(RUN) -m mypy

format: install
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

docs: install
	$(RUN) -m pip install --quiet -r requirements/docs.txt
	$(RUN) -m sphinx -q docs work_dirs/docs

clean:
	rm -rf work_dirs/quickstart .pytest_cache .ruff_cache .mypy_cache
