# make demo    set up .venv and run the main job: data in, a trained world model, a report out
# make test    set up .venv with everything the tests need, and run them
# make test-sims   set up .venv-sims with robosuite and Meta-World, which want an older MuJoCo, and run their tests
# make lint    ruff and mypy
# make setup   set up .venv for use
# make clean   remove .venv and everything that tools have left; never runs/ or outputs/
#
# PYTHON=...   interpreter to make .venv from
# ARGS="..."   more arguments for `scd-wm demo` or pytest

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

SIMS := .venv-sims
SIMS_PIP := $(SIMS)/bin/python -m pip --disable-pip-version-check install --quiet --constraint $(SIMS)/constraints.txt

.PHONY: demo test test-sims lint setup clean

demo: setup
	$(BIN)/scd-wm demo $(ARGS)

setup: $(VENV)/.package $(VENV)/.opengl

# Two processes, for two cores; a file stays in one, since its tests share what they have made.
test: $(VENV)/.development $(VENV)/.opengl
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

test-sims: $(SIMS)/.ready
	$(SIMS)/bin/python -m pytest tests/sims tests/envs/test_contract.py $(ARGS)

lint: $(VENV)/.development
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(SIMS) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A file in .venv stands for a finished step, so that a second call is quick.

$(VENV)/.torch: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "scd_wm needs Python 3.11 or newer, $(PYTHON) is older; say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "$(PYTHON) cannot make virtual environments; install python3-venv (Debian) or use another PYTHON=" >&2; exit 1; }
	@echo "setting up $(VENV): torch"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) torch
	@touch $@

$(VENV)/.package: pyproject.toml $(VENV)/.torch
	@echo "setting up $(VENV): scd_wm and its dependencies"
	@$(PIP) --editable ".[lerobot]"
	@touch $@

# robomimic's dependency egl_probe is built by whichever cmake is on PATH: ours, of a version that can. Its
# program and not the script in bin/, which needs a module that pip hides from the packages it builds.
$(VENV)/.development: $(VENV)/.package
	@echo "setting up $(VENV): robomimic, diffusers, Stable-Baselines3, tensorboard, weights of ST-LPIPS and the tools of development"
	@$(PIP) cmake
	@PATH="$$($(BIN)/python -c 'import cmake; print(cmake.CMAKE_BIN_DIR)'):$$PATH" $(PIP) --use-pep517 --editable ".[dev,latent,lerobot,perceptual,robomimic,sb3,tensorboard]"
	@touch $@

$(VENV)/.opengl: scripts/ensure_opengl.sh $(VENV)/.package
	@sh scripts/ensure_opengl.sh $(BIN)/python
	@touch $@

# robosuite without what it declares: that would take numpy back to 1.26 for robots that are not used here.
$(SIMS)/.ready: pyproject.toml constraints.txt scripts/ensure_opengl.sh
	@echo "setting up $(SIMS): torch, MuJoCo 3.3, Meta-World, robosuite, robomimic"
	@$(PYTHON) -m venv $(SIMS)
	@grep -v '^mujoco' constraints.txt > $(SIMS)/constraints.txt
	@$(SIMS_PIP) torch cmake
	@PATH="$$($(SIMS)/bin/python -c 'import cmake; print(cmake.CMAKE_BIN_DIR)'):$$PATH" $(SIMS_PIP) --use-pep517 --editable ".[dev,metaworld,robomimic]"
	@$(SIMS_PIP) numba termcolor opencv-python-headless scipy
	@$(SIMS_PIP) --no-deps robosuite==1.5.2
	@sh scripts/ensure_opengl.sh $(SIMS)/bin/python
	@touch $@
