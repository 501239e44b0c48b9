PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: setup demo test check format bench clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@echo "Setting up $(VENV): two to five minutes, about 6 GB where torch comes with CUDA"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[cpu,serve,test,check]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/simat demo $(if $(PHOTOS),--photos "$(PHOTOS)")

test: $(INSTALLED)
	HF_HUB_OFFLINE=1 $(BIN)/pytest

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	HF_HUB_OFFLINE=1 $(BIN)/pytest

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(INSTALLED)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[cpu,bench]'
	@test -n "$(PHOTOS)" || { echo "usage: make bench PHOTOS=dir"; exit 2; }
	$(BIN)/python -m benchmarks.photos "$(PHOTOS)"
	$(BIN)/python -m benchmarks.encoders "$(PHOTOS)"
	$(BIN)/python -m benchmarks.build "$(PHOTOS)"
	$(BIN)/python -m benchmarks.build "$(PHOTOS)" --memory
	$(BIN)/python -m benchmarks.query

clean:
	rm -rf $(VENV) demo
