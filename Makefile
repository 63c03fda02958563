# Two of these do everything on a fresh machine with Python 3.11 or newer:
#   make train    install, make the phantom, train, say where to look
#   make test     install the tools, run the tests

PYTHON ?= python3
VENV ?= .venv
# Anything pip should be told besides, for example where CPU builds of torch lie.
PIP_ARGS ?=
PYTEST_ARGS ?=
PHANTOM ?= data/ga_phantom
MARKED ?= data/ga_marked
BIRDS ?= data/bird_phantom
BUNDLE ?= bundles/ga_ppi
LIDC_PHANTOM ?= data/lidc_phantom
MLFLOW_DB ?= mlruns.db
PORT ?= 5000

BIN := $(VENV)/bin
# Inside the environment, so that they go when it goes.
STAMPS := $(VENV)/.stamps
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Nothing here asks the network for news.
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install install-dev phantom birds train shortcut test lint format docs notebooks ui lock clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "ppi_med needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/install: $(STAMPS)/venv pyproject.toml constraints.txt
	@echo "installing (a few minutes; longer where torch has to be downloaded)"
	$(PIP) install $(PIP_ARGS) -c constraints.txt -e .
	@touch $@

$(STAMPS)/install-dev: $(STAMPS)/venv pyproject.toml constraints.txt
	@echo "installing with the tools (a few minutes; longer where torch has to be downloaded)"
	$(PIP) install $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	@touch $@ $(STAMPS)/install

install: $(STAMPS)/install ## make .venv and install what training needs

install-dev: $(STAMPS)/install-dev ## install the tests', docs' and checks' tools too

# The stamp is written last: an interrupted phantom is made again.
$(PHANTOM)/.complete: | $(STAMPS)/install
	$(BIN)/python data_prep/make_phantom.py oct --output $(PHANTOM)
	@touch $@

phantom: $(PHANTOM)/.complete ## write the synthetic OCT data set

# The datalist is written last.
$(BIRDS)/datalist.json: | $(STAMPS)/install
	$(BIN)/python data_prep/make_phantom.py birds --output $(BIRDS)

birds: $(BIRDS)/datalist.json ## write the synthetic photographs of birds

train: install phantom ## install, make the phantom, train, say where to look
	$(BIN)/python -m monai.bundle run --config_file $(BUNDLE)/train.json
	@echo
	@echo "The runs, their curves, pictures and models: make ui"
	@echo "The same training as a MONAI bundle:"
	@echo "  $(BIN)/python -m monai.bundle run --config_file $(BUNDLE)/train.json"

# In training and validation the mark goes with the label, in the test by chance.
$(MARKED)/.complete: | $(STAMPS)/install
	$(BIN)/python data_prep/make_phantom.py oct --output $(MARKED) --sites site_a --subjects 120 \
	  --agreement 1.0 --test-agreement 0.5
	@touch $@

MARKED_TRAINING = $(BIN)/python -m monai.bundle run --config_file $(BUNDLE)/train.json \
  --dataset_dir $(MARKED)

shortcut: install $(MARKED)/.complete ## a phantom whose eyes with GA have a mark: trained plainly, then by default
	$(MARKED_TRAINING) --method plain --run_name marked_plain
	$(MARKED_TRAINING) --run_name marked_auto
	@echo
	@echo "Two held-out AUCs, where the mark is by chance: plain training, then auto."
	@echo "Where each looks: $(BUNDLE)/runs/marked_plain/pictures, $(BUNDLE)/runs/marked_auto/pictures"

# What the CT phantom needs besides: outlines, DICOM, Zarr.
$(STAMPS)/install-lidc: $(STAMPS)/install
	$(PIP) install $(PIP_ARGS) -c constraints.txt -e '.[dicom,lidc,scale]'
	@touch $@

$(LIDC_PHANTOM)/.complete: | $(STAMPS)/install-lidc
	$(BIN)/python data_prep/make_phantom.py lidc --output $(LIDC_PHANTOM) --count 240 --variant nodule
	@touch $@

train-lidc: $(STAMPS)/install-lidc $(LIDC_PHANTOM)/.complete ## the same for lung nodules in CT: phantom, PPI
	$(BIN)/python -m monai.bundle run --config_file bundles/lidc_ppi/train.json

test: install-dev ## run the tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: install-dev ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install-dev ## put the code in its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install-dev ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

notebooks: install-dev ## execute the notebooks
	$(BIN)/python -m pytest tests/notebooks

ui: install ## open MLflow on this machine only
	$(BIN)/ppi-med ui --port $(PORT) --tracking-uri sqlite:///$(MLFLOW_DB)

# Exact versions without addresses: the same file serves CPU and GPU builds.
lock: install-dev ## write constraints.txt anew
	$(PIP) install -qq uv
	echo "torch==2.13.0" > $(VENV)/torch-pin.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header \
	  pyproject.toml --all-extras -c $(VENV)/torch-pin.txt -o constraints.txt

clean: ## remove what was built; data, runs and .venv stay
	rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find ppi_med tests data_prep benchmarks -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean ## remove .venv and the phantoms too
	rm -rf $(VENV) $(PHANTOM) $(LIDC_PHANTOM) $(BIRDS)
