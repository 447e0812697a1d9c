# The commands for users; `make help` lists them. Everything else is in workflow/Snakefile.
PYTHON  ?= python3
VENV    ?= .venv
PROFILE ?= quick
DATA    ?= standin
KERNEL  ?= galaxynb
BACKEND ?= tensorflow
RUNS    ?= runs
BENCH   ?=
CORES   ?= all
SWEEP   ?= config/sweeps/seeds.yaml
EXECUTOR ?= local
DRY_RUN ?=
PYTEST_ARGS ?=
CPUS ?=
SNAKEMAKE_ARGS ?=

BIN := $(abspath $(VENV))/bin
# workflow/ holds Snakemake's logger plugin, which prints a few lines in place of Snakemake's own.
WITH_PATHS = PATH="$(BIN):$$PATH" PYTHONPATH="workflow$${PYTHONPATH:+:$$PYTHONPATH}" TF_CPP_MIN_LOG_LEVEL=3
SNAKEMAKE = $(WITH_PATHS) snakemake --logger galaxynb --snakefile workflow/Snakefile --cores $(CORES) \
	--rerun-incomplete --quiet host --configfile "config/$(PROFILE).yaml" \
	--config profile="$(PROFILE)" source="$(DATA)" kernel="$(KERNEL)" runs="$(RUNS)" $(if $(CPUS),cpus=$(CPUS))
SNAKEMAKE_SWEEP = $(WITH_PATHS) snakemake $(if $(DRY_RUN),,--logger galaxynb) --snakefile workflow/Snakefile \
	--workflow-profile "workflow/profiles/$(EXECUTOR)" --config sweep="$(SWEEP)" kernel="$(KERNEL)" runs="$(RUNS)" $(if $(CPUS),cpus=$(CPUS))

.DEFAULT_GOAL := help
# Arguments are checked before the environment is made, and Snakemake and pytest use the cores themselves.
.NOTPARALLEL:
.PHONY: help book profile test test-all test-slow check-reference test-slurm lab kernel reference committed reference-run reference-sweeps reference-bench bench sweep lint lock unlock clean

help: ## list the targets
	@echo "make TARGET [PROFILE=quick|half|paper|smoke] [DATA=standin|galaxy10|file.h5] [KERNEL=galaxynb] [CORES=all]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

book: profile $(VENV)/ready ## set up, run the study, render the book and print its path
	@$(SNAKEMAKE) $(SNAKEMAKE_ARGS)
	@"$(BIN)"/python workflow/study.py --runs "$(RUNS)" --profile "$(PROFILE)" --data "$(DATA)" --book

# Check the arguments before making the environment, which takes minutes.
profile:
	@file="$(DATA)"; case "$$file" in "~/"*) file="$$HOME/$${file#??}";; esac; \
		case "$$file" in standin|galaxy10) ;; *) test -f "$$file" || { echo "DATA is $(DATA), but standin, galaxy10 or" \
		"the path of a Galaxy10 DECaLS file is needed: give one of them." >&2; exit 2; };; esac
	@test -f "config/$(PROFILE).yaml" || { echo "PROFILE is $(PROFILE), but config/$(PROFILE).yaml does not exist: choose" \
		"one of" $$(ls config | sed -n '/schema/d; s/\.yaml$$//p') >&2; exit 2; }

test: $(VENV)/ready ## run the tests (under 5 minutes)
	@"$(BIN)"/python -m pytest --numprocesses 2 --dist loadfile $(PYTEST_ARGS)

test-all: test test-slow check-reference test-slurm ## run all tests, with kills, full disks, another backend, Slurm and the kept results

test-slow: $(VENV)/ready ## run only the tests that take minutes
	@"$(BIN)"/python -m pytest --numprocesses 2 --dist loadfile tests/slow --ignore tests/slow/test_slurm.py $(PYTEST_ARGS)

check-reference: $(VENV)/ready ## check the kept results in book/reference/
	@"$(BIN)"/python -m pytest tests/reference $(PYTEST_ARGS)

test-slurm: $(VENV)/ready ## run the smoke sweep through a Slurm on this machine (as root on Debian)
	@GALAXYNB_TEST_SLURM=1 "$(BIN)"/python -m pytest tests/slow/test_slurm.py

lab: $(VENV)/ready ## open JupyterLab on the notebooks
	@"$(BIN)"/jupyter lab --notebook-dir=. notebooks/01_data.ipynb

kernel: $(VENV)/ready ## register a Jupyter kernel: galaxynb, or galaxynb-jax with BACKEND=jax
	@case "$(BACKEND)" in tensorflow|jax|torch) ;; *) echo "BACKEND is $(BACKEND), but tensorflow, jax or" \
		"torch is needed: choose one of them." >&2; exit 2;; esac
	@"$(BIN)"/python -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("$(BACKEND)") is None and \
		"BACKEND is $(BACKEND), but it is not installed: run $(VENV)/bin/python -m pip install $(BACKEND), then repeat the command.")'
	@"$(BIN)"/python -m ipykernel install --user --name galaxynb$(patsubst %,-%,$(filter-out tensorflow,$(BACKEND))) \
		--display-name "galaxynb ($(BACKEND))" --env TF_CPP_MIN_LOG_LEVEL 3 --env KERAS_BACKEND $(BACKEND)

# Measure the stand-in first: the other two programs change tracked files, and its records would then say "uncommitted
# changes".
reference: $(VENV)/ready ## repeat the measurements in book/reference/ (after make book; REAL=file.h5 for real images)
	@"$(BIN)"/python workflow/reference/standin_closeness.py book/reference/standin_closeness.csv --work "$(RUNS)/closeness" \
		$(if $(REAL),--real "$(REAL)")
	@"$(BIN)"/python workflow/reference/noise_calibration.py "$(RUNS)/quick-standin" book/reference/noise_calibration.csv
	@"$(BIN)"/python workflow/reference/autoencoder_trials.py "$(RUNS)/quick-standin" book/reference/autoencoder_trials.csv

# Kept results name the commit that made them, so the checkout must have no uncommitted changes.
committed:
	@test -z "$$(git status --porcelain)" || { echo "There are uncommitted changes, but kept results must name a commit:" \
		"commit the changes first." >&2; exit 2; }

reference-run: PROFILE = half
reference-run: committed $(VENV)/ready ## run PROFILE=half (hours) and keep it in book/reference/run/
	@folder="$$("$(BIN)"/python workflow/study.py --runs "$(RUNS)" --profile "$(PROFILE)" --data "$(DATA)")"; \
		$(SNAKEMAKE) -- stages && "$(BIN)"/python workflow/reference/keep.py "$$folder" book/reference/run

# Run both sweeps before keeping either: keeping one changes tracked files, and the other's record would then say
# "uncommitted changes". A sweep with failed points is kept too.
reference-sweeps: committed $(VENV)/ready ## run the sweeps seeds and noise (hours) and keep them in book/reference/sweeps/
	@for name in seeds noise; do $(MAKE) --no-print-directory sweep SWEEP=config/sweeps/$$name.yaml; done; true
	@set -e; for name in seeds noise; do \
		"$(BIN)"/python workflow/reference/keep.py "$(RUNS)/sweeps/$$name" book/reference/sweeps/$$name; done

reference-bench: committed $(VENV)/ready ## run all benchmarks (an hour) and keep them in book/reference/benchmarks/
	@set -e; export TF_CPP_MIN_LOG_LEVEL=3; \
		"$(BIN)"/python benchmarks/bench.py --out "$(RUNS)/benchmarks/parts"; \
		"$(BIN)"/python benchmarks/bench.py study sweep --out "$(RUNS)/benchmarks/study"; \
		rm -rf book/reference/benchmarks; mkdir book/reference/benchmarks; \
		cp -R "$(RUNS)/benchmarks/parts" "$(RUNS)/benchmarks/study" book/reference/benchmarks/

bench: $(VENV)/ready ## compare the speed of the study with other implementations (BENCH="pairs start-up" for some rows)
	@TF_CPP_MIN_LOG_LEVEL=3 "$(BIN)"/python benchmarks/bench.py $(BENCH) --out "$(RUNS)/benchmarks"

# On this machine, memory limits the number of jobs at the same time. On a cluster, the scheduler does.
sweep: $(VENV)/ready ## run SWEEP=config/sweeps/NAME.yaml (EXECUTOR=slurm for a cluster; DRY_RUN=1 only lists the jobs)
	@$(SNAKEMAKE_SWEEP) $(if $(DRY_RUN),--dry-run --quiet rules) \
		$(if $(filter local,$(EXECUTOR)),--cores $(CORES) --resources mem_mb=$$("$(BIN)"/python -c \
			'import psutil; print(psutil.virtual_memory().total >> 20)')) $(SNAKEMAKE_ARGS)

lint: $(VENV)/ready ## check the style of the code
	@"$(BIN)"/ruff check . && "$(BIN)"/ruff format --check .

lock: ## update the pinned versions in requirements.lock (needs uv)
	@uv pip compile pyproject.toml --extra book --extra test --extra slurm --universal --python-version 3.11 --fork-strategy fewest \
		--no-header --no-annotate --no-emit-find-links --upgrade -o requirements.lock

unlock: $(VENV)/ready ## unlock a run after make was killed (SWEEP=... for a sweep)
	@$(if $(filter-out file,$(origin SWEEP)),$(SNAKEMAKE_SWEEP),$(SNAKEMAKE)) --unlock

clean: ## remove all results; keep the environment and the downloads
	@rm -rf "$(RUNS)" .snakemake
	@echo "removed $(RUNS)/; downloads/ and $(VENV)/ are kept"

$(VENV)/ready: requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("Python is %d.%d, but 3.11 to 3.13 is needed: give make PYTHON=python3.12 or similar." % v)'
	@test ! -d $(VENV) || test -f $(VENV)/pyvenv.cfg || { echo "VENV is $(VENV), but this folder holds no venv: choose another." >&2; exit 2; }
	@echo "Setting up $(VENV) with $$(grep -c == requirements.lock) pinned packages (2 to 5 minutes, once)"
	@$(PYTHON) -m venv --clear $(VENV)
	@began=$$(date +%s); log=$(VENV)/setup.log; { \
		"$(BIN)"/python -m pip install --quiet --disable-pip-version-check -r requirements.lock && \
		"$(BIN)"/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable . && \
		"$(BIN)"/python -m ipykernel install --sys-prefix --name galaxynb --display-name "galaxynb" --env TF_CPP_MIN_LOG_LEVEL 3; \
		} > "$$log" 2>&1 || { cat "$$log" >&2; echo "$(VENV) could not be set up: see the last lines above (log: $$log)" >&2; exit 1; }; \
		echo "$(VENV) is set up after $$(( $$(date +%s) - began )) s (log: $$log)"
	@touch $@
