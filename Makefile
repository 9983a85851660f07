# `make demo` runs the main job on bundled data, `make test` its tests; both set up what they need.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint caffe image bench clean

# Where no Caffe can be had, PyTorch trains.
demo: $(VENV)/.installed
	$(BIN)/python tools/install_caffe.py || $(MAKE) $(VENV)/.torch
	$(BIN)/caffesplit demo demo --force

test: $(VENV)/.installed $(VENV)/.torch caffe lint
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
	$(BIN)/python -m pip install --quiet --editable '.[all,cluster,leveldb,dev]'
	touch $@

# This very one, so that no release made since can turn tests red.
$(VENV)/.torch: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet torch==2.13.0
	touch $@
