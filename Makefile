# `make demo` runs the main job on bundled data, `make test` its tests; both set up what they need.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint caffe image bench clean

demo: $(VENV)/.installed caffe
	$(BIN)/caffesplit demo demo --force

test: $(VENV)/.installed caffe lint
	$(BIN)/pytest

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

caffe: $(VENV)/.installed
	$(BIN)/python tools/install_caffe.py

image:
	$(PYTHON) tools/build_image.py

bench: $(VENV)/.installed
	$(BIN)/python -m tools.bench

clean:
	rm -rf $(VENV) build *.egg-info demo

$(VENV)/.installed: setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[all,cluster,dev]'
	touch $@
