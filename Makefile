# The commands for users; `make help` lists them. Everything else is in workflow/Snakefile.
$(if $(wildcard workflow/launch.py),,$(error the working folder is $(CURDIR), but the repository's is needed: give make --directory FOLDER))

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
REMEDY ?=
REMEDIES ?=
IMAGES ?=
RUN ?=
OUT ?=
SHARDS ?=

# Programs read these variables from the environment. No shell parses them, so values may hold spaces and quotes.
GIVEN := PROFILE DATA KERNEL BACKEND RUNS CORES SWEEP EXECUTOR DRY_RUN CPUS SNAKEMAKE_ARGS REMEDY REMEDIES IMAGES RUN OUT SHARDS
ifeq ($(MAKELEVEL),0)
$(foreach name,$(GIVEN) VENV PYTHON,$(if $(filter environment,$(origin $(name))),$(info $(name)=$(value $(name)) is taken from the environment)))
endif
$(foreach name,profile data kernel runs sweep remedy remedies images run out shards,$(if $(filter command,$(origin $(name))),$(error $(name) is no argument, but capitals are needed: write $(shell echo $(name) | tr a-z A-Z))))
ASKED_PROFILE := $(filter command,$(origin PROFILE))
$(foreach name,$(GIVEN),$(if $(filter command environment,$(origin $(name))),$(eval override $(name) := $$(value $(name)))))
export $(GIVEN)

$(if $(filter ~%,$(firstword $(value RUNS))),$(error RUNS is $(value RUNS), but a path without ~ is needed: write $$HOME instead))
$(if $(word 2,$(VENV)),$(error VENV is $(VENV), but a path without spaces is needed: choose another folder))

# Start a program in an environment that the user's settings do not change: see workflow/launch.py.
LAUNCH = "$(VENV)/bin/python" -I workflow/launch.py
ANY_PYTHON = $(if $(wildcard $(VENV)/bin/python),$(VENV)/bin/python,$(PYTHON))
# $(VENV)/ready names the checkout that the environment was set up for. A copied or moved checkout sets it up again.
MOVED := $(shell test "$$(cat '$(VENV)/ready' 2>/dev/null)" = "$$(pwd -P)" || echo moved)

.DEFAULT_GOAL := help
# Arguments are checked before the environment is made, and Snakemake and pytest use the cores themselves.
.NOTPARALLEL:
.PHONY: help book profile sweep-file apply apply-images onnx test test-all test-slow check-reference test-slurm lab kernel reference committed reference-sky reference-ranges reference-run reference-sweeps reference-networks reference-remedies reference-bench bench sweep lint lock unlock clean moved

help: ## list the targets
	@echo "make TARGET [PROFILE=quick|half|paper|smoke] [DATA=standin|galaxy10|PATH] [KERNEL=galaxynb] [CORES=all] [REMEDY=FILE.py:NAME] [REMEDIES=all]"
	@echo "  REMEDY adds a remedy of your own to notebook 06; REMEDIES=all tries all remedies (slow)"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-20s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

book: profile $(VENV)/ready ## set up, run the study, render the book and print its path (DRY_RUN=1 only lists the jobs)
	@$(LAUNCH) book
	@$(if $(DRY_RUN),,$(LAUNCH) workflow/study.py --runs "$$RUNS" --profile "$$PROFILE" --data "$$DATA" --book)

# Check the arguments before making the environment, which takes minutes.
profile:
	@$(ANY_PYTHON) -I workflow/launch.py check

test: $(VENV)/ready ## run the tests (6 to 13 minutes)
	@$(LAUNCH) pytest --numprocesses 2 --dist loadfile $(PYTEST_ARGS)

test-all: test test-slow check-reference test-slurm ## run all tests, with kills, full disks, another backend, Slurm and the kept results

test-slow: $(VENV)/ready ## run only the tests that take minutes
	@$(LAUNCH) pytest --numprocesses 2 --dist loadfile tests/slow --ignore tests/slow/test_slurm.py $(PYTEST_ARGS)

check-reference: $(VENV)/ready ## check the kept results in book/reference/
	@$(LAUNCH) pytest tests/reference $(PYTEST_ARGS)

test-slurm: $(VENV)/ready ## run the smoke sweep through a Slurm on this machine (as root on Debian)
	@GALAXYNB_TEST_SLURM=1 $(LAUNCH) pytest tests/slow/test_slurm.py

lab: $(VENV)/ready ## open JupyterLab on the notebooks
	@$(LAUNCH) lab --notebook-dir=. notebooks/01_data.ipynb

kernel: $(VENV)/ready ## register a Jupyter kernel: galaxynb, or galaxynb-jax with BACKEND=jax
	@case "$$BACKEND" in tensorflow|jax|torch) ;; *) echo "BACKEND is $$BACKEND, but tensorflow, jax or" \
		"torch is needed: choose one of them." >&2; exit 2;; esac
	@"$(VENV)/bin/python" -I -c 'import importlib.util, os, sys; name = os.environ["BACKEND"]; \
		sys.exit(importlib.util.find_spec(name) is None and f"BACKEND is {name}, but it is not installed: run" \
		f" $(VENV)/bin/python -m pip install {name}, then repeat the command.")'
	@$(LAUNCH) kernel --user --name galaxynb$(patsubst %,-%,$(filter-out tensorflow,$(BACKEND)))

# Measure a folder of published images first, because the stand-in is compared with them. The same images give the same
# file.
reference: $(VENV)/ready ## repeat the measurements in book/reference/ (after make book PROFILE=half; REAL=FOLDER for real images)
	@test ! -d "$(REAL)" || $(LAUNCH) workflow/reference/published_cutouts.py "$(REAL)" galaxynb/standin/published_cutouts.csv
	@$(LAUNCH) workflow/reference/standin_closeness.py book/reference/standin_closeness.csv --work "$$RUNS/closeness" \
		$(if $(REAL),--real "$(REAL)")
	@$(if $(REAL),$(LAUNCH) workflow/reference/real_recovery.py "$$RUNS/half-standin" "$(REAL)" book/reference/real_recovery.csv)
	@$(LAUNCH) workflow/reference/noise_fit.py "$$RUNS/half-standin" book/reference/noise_fit.csv
	@$(LAUNCH) workflow/reference/autoencoder_trials.py "$$RUNS/half-standin" book/reference/autoencoder_trials.csv

reference-sky: $(VENV)/ready ## fit the stand-in's sky to published images (minutes) and print it
	@$(LAUNCH) workflow/reference/standin_sky.py

reference-ranges: $(VENV)/ready ## fit the stand-in's ranges to published images (half an hour) and print them
	@$(LAUNCH) workflow/reference/standin_ranges.py --work "$$RUNS/ranges"

# Kept results name the commit that made them, so the checkout must have no uncommitted changes.
committed:
	@test -z "$$(git status --porcelain -- . ':!book/reference')" || { echo "There are uncommitted changes, but kept results must name a commit:" \
		"commit the changes first." >&2; exit 2; }

# A dry run keeps nothing.
KEEP = $(if $(DRY_RUN),:,$(LAUNCH) workflow/reference/keep.py)

reference-run: override PROFILE := $(if $(ASKED_PROFILE),$(PROFILE),half)
reference-run: committed $(VENV)/ready ## run PROFILE=half (hours) and keep it in book/reference/run/
	@folder="$$($(LAUNCH) workflow/study.py --runs "$$RUNS" --profile "$$PROFILE" --data "$$DATA")"; \
		$(LAUNCH) book -- all_evaluation && $(KEEP) "$$folder" book/reference/run

# A sweep with failed points is kept too.
reference-sweeps: committed $(VENV)/ready ## run the sweeps seeds, noise and remedies (hours) and keep them in book/reference/sweeps/
	@for name in seeds noise remedies; do \
		$(MAKE) --no-print-directory sweep SWEEP=config/sweeps/$$name.yaml; \
		$(KEEP) "$$RUNS/sweeps/$$name" book/reference/sweeps/$$name || exit; done

reference-networks: committed $(VENV)/ready ## keep the two networks of a finished run of PROFILE=half in book/reference/networks/
	@$(LAUNCH) workflow/reference/pack.py "$$RUNS/half-standin" book/reference/networks

reference-remedies: committed $(VENV)/ready ## try all remedies on the kept networks (hours; REAL=FOLDER for real images) and keep the results
	@PROFILE=half DATA=standin $(LAUNCH) book -- all_data
	@$(LAUNCH) workflow/reference/remedies.py "$$RUNS/half-standin" book/reference/remedies --work "$$RUNS/remedies" $(if $(REAL),--real "$(REAL)")

reference-bench: committed $(VENV)/ready ## run all benchmarks (an hour) and keep them in book/reference/benchmarks/
	@set -e; $(LAUNCH) benchmarks/bench.py --out "$$RUNS/benchmarks/parts"; \
		$(LAUNCH) benchmarks/bench.py study sweep --out "$$RUNS/benchmarks/study"; \
		rm -rf book/reference/benchmarks; mkdir book/reference/benchmarks; \
		cp -R "$$RUNS/benchmarks/parts" "$$RUNS/benchmarks/study" book/reference/benchmarks/

bench: $(VENV)/ready ## compare the speed of the study with other implementations (BENCH="pairs start-up" for some rows)
	@$(LAUNCH) benchmarks/bench.py $(BENCH) --out "$$RUNS/benchmarks"

apply: apply-images $(VENV)/ready ## denoise and classify IMAGES=FOLDER or file ([RUN=FOLDER of a run] [OUT=FOLDER] [SHARDS=200 EXECUTOR=slurm DRY_RUN=1])
	@$(LAUNCH) apply

onnx: $(VENV)/ready ## write both networks in ONNX to OUT=runs/onnx ([RUN=FOLDER of a run])
	@$(LAUNCH) workflow/export.py --out "$${OUT:-$$RUNS/onnx}" $(if $(value RUN),--run "$$RUN")

apply-images:
	@$(ANY_PYTHON) -I workflow/launch.py check apply

sweep: sweep-file $(VENV)/ready ## run SWEEP=config/sweeps/NAME.yaml (EXECUTOR=slurm for a cluster; DRY_RUN=1 only lists the jobs)
	@$(LAUNCH) sweep

sweep-file:
	@$(ANY_PYTHON) -I workflow/launch.py check sweep

lint: $(VENV)/ready ## check the style of the code
	@$(LAUNCH) ruff check . && $(LAUNCH) ruff format --check .

lock: ## update the pinned versions in requirements.lock (needs uv)
	@uv pip compile pyproject.toml --extra book --extra test --extra slurm --extra onnx --universal --python-version 3.11 --fork-strategy fewest \
		--no-header --no-annotate --no-emit-find-links --upgrade -o requirements.lock

unlock: $(VENV)/ready ## unlock a run after make was killed (SWEEP=... for a sweep)
	@$(LAUNCH) $(if $(filter-out file,$(origin SWEEP)),sweep,book) --unlock

clean: ## remove all results; keep the environment and the downloads
	@rm -rf -- "$$RUNS" .snakemake
	@echo "removed $$RUNS/; downloads/ and $(VENV)/ are kept"

$(VENV)/ready: requirements.lock $(MOVED)
	@$(PYTHON) -I -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("Python is %d.%d, but 3.11 to 3.13 is needed: give make PYTHON=python3.12 or similar." % v)'
	@test ! -d $(VENV) || test -f $(VENV)/pyvenv.cfg || { echo "VENV is $(VENV), but this folder holds no venv: choose another." >&2; exit 2; }
	@owner="$$(cat $(VENV)/ready 2>/dev/null || true)"; case "$$owner" in ""|"$$(pwd -P)") ;; *) \
		case "$$(cd $(VENV) && pwd -P)/" in "$$(pwd -P)/"*) echo "$(VENV) was set up for the checkout in $$owner, so it is set up again";; \
		*) echo "VENV is $(VENV), but it was set up for the checkout in $$owner: choose another folder." >&2; exit 2;; esac;; esac
	@echo "Setting up $(VENV) with $$(grep -c == requirements.lock) pinned packages (2 to 5 minutes, once)"
	@$(PYTHON) -I -m venv --clear $(VENV)
	@began=$$(date +%s); log=$(VENV)/setup.log; { \
		$(LAUNCH) pip install --quiet -r requirements.lock && $(LAUNCH) pip install --quiet --no-deps --no-build-isolation --editable . && \
		$(LAUNCH) kernel --sys-prefix --name galaxynb; \
		} > "$$log" 2>&1 || { cat "$$log" >&2; echo "$(VENV) could not be set up: see the last lines above (log: $$log)" >&2; exit 1; }; \
		echo "$(VENV) is set up after $$(( $$(date +%s) - began )) s (log: $$log)"
	@pwd -P > $@
