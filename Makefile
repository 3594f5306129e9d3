PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Of an emoji there are four designs: with one of them held out, what is scored is how alike vendors draw, and rare
# classes score nothing at all. Here the test part shows the same designs, in other pictures.
SCENES := examples/scenes/scenes.py:size=128:held_out=no

.PHONY: demo detect-demo check test thorough install lint docs pictures clean
.DEFAULT_GOAL := install

install: $(READY)  ## set up .venv with everything that the demo and the tests need

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bisector needs Python 3.11 or newer; try: make PYTHON=python3.12")'
	@echo 'Setting up $(VENV): some minutes, about 6 GB, most of it PyTorch.'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]' --constraint constraints.txt
	touch $(READY)

demo: $(READY)  ## compare every loss on long-tailed digits; prints a table, writes runs/demo/report.html
	$(BIN)/bisector demo --out runs/demo

detect-demo: $(READY)  ## compare heads of a detector on composed scenes; writes runs/detect-demo/detections.html; needs npm
	$(BIN)/bisector detect compare --data $(SCENES) --heads linear-softmax,normalized-softmax,c2am,igam \
	  --model small-fpn --image-size 128 --no-flip --epochs 8 --batch-size 16 --learning-rate 0.04 --validate-every 4 \
	  --out runs/detect-demo

lint: $(READY)  ## ruff and mypy, both strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

FAST := functional guides heads metrics networks optim posthoc statistics measurement test_*.py

check: lint  ## linters, types and the fast tests of the core: for the daily loop
	OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1 $(BIN)/pytest --quiet --numprocesses 2 -m 'not slow' $(addprefix tests/,$(FAST))

test: lint  ## linters, types, doctests and all tests
	OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2

thorough: $(READY)  ## the property tests alone, with a thousand new examples each
	OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1 $(BIN)/pytest --quiet --numprocesses 2 -m hypothesis --hypothesis-profile=thorough

docs: $(READY)  ## the documentation as a site, in site/; `make test` builds it too
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

pictures: $(READY)  ## the documentation's pictures: the circles, and the page of the last demo; needs Chromium
	$(BIN)/python examples/circle.py
	$(BIN)/python docs/pictures.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist site
