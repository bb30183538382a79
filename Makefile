# The README's commands are `make demo`, `make up` and `make test`; `make` alone lists all.
VENV := .venv
PYTHON := $(VENV)/bin/python
TORCH := torch==2.13.0
CHECKPOINT ?= demo/checkpoint
REPOSITORY ?= $(or $(TRITOUCH_REPOSITORY),model_repository)
DEMO_ADAPTERS := $(foreach file,$(wildcard demo/adapters/*.safetensors),--adapter $(basename $(notdir $(file)))=$(file))
EXPORT_FLAGS ?= $(if $(filter demo/checkpoint,$(CHECKPOINT)),--max-pixels 147456 --guidance-when-zero 1 $(DEMO_ADAPTERS))
TORCH_BACKEND ?= cpu
RIVALS := build/rivals
# What makes stable-diffusion.cpp fastest on a processor, with its server, and without what an edit needs not.
SDCPP_FLAGS := -DGGML_NATIVE=ON -DGGML_LLAMAFILE=ON -DSD_BUILD_EXAMPLES=ON -DSD_SERVER_BUILD_FRONTEND=OFF -DSD_WEBP=OFF -DSD_WEBM=OFF
PACKAGES := gateway families export backends embedded tritouch demo bench deploy
READY := $(VENV)/.ready
# Without bytecode, as some images ask for, pytest would rewrite all tests every time.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(PYTHON) -m pytest
USUAL := not families and not long and not browser and not containers and not fleet
# schemathesis takes a second to import, and is for tests/gateway/test_contract.py alone, which is slow.
FAST := env GENERATED_CASES=20 $(PYTEST) -q -p no:schemathesis -m "not server and not slow and $(USUAL)"

.DEFAULT_GOAL := help
.PHONY: help setup demo export up test test-fast test-fast-rest test-fast-first test-fast-second test-served test-beside test-waiting test-exporting test-families test-browser test-families-served test-families-beside test-long test-long-served test-long-beside test-containers test-chart test-fleet rivals check format lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "make %-10s %s\n", $$1, $$2 }'

setup: $(READY) ## install everything that is pinned into .venv (CPU build of torch)

# torch first and alone: its CPU build has another version name than the one with CUDA, and is not on every index.
$(READY): requirements/cpu.lock requirements/tools.lock
	@python=$$($(find_python)) && $$python -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements/tools.lock
	$(call install_torch,$(VENV))
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements/cpu.lock
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(PYTHON) -m pip check
	touch $@

# $(1): the environment.
define install_torch
$(PYTHON) -m pip --python $(1)/bin/python install --quiet --disable-pip-version-check "$(TORCH)+cpu" 2>$(1)/torch.log \
  || $(PYTHON) -m uv pip install --quiet --python $(1)/bin/python --torch-backend $(TORCH_BACKEND) "$(TORCH)" \
  || { cat $(1)/torch.log; echo "no CPU build of $(TORCH) found on the configured indexes"; exit 1; }
endef

# uv fetches one where the machine's own is another (Debian 13, Ubuntu 26.04).
define find_python
for python in python3.11 python3.12 python3; do \
  $$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null \
    && { echo $$python; exit; }; done; \
export UV_PYTHON_PREFERENCE=only-managed PATH="$$PATH:$$HOME/.local/bin"; \
if command -v uv >/dev/null; then uv python install 3.12 >&2 && exec uv python find 3.12; \
  fetch="uv python install 3.12"; else fetch="curl -LsSf https://astral.sh/uv/install.sh | sh"; fi; \
echo "Python 3.11 or 3.12 with venv is needed. This gets it, and then make again: $$fetch" >&2; exit 1
endef

demo: export ## export the demo checkpoint, serve it, edit a sample picture, write before/after
	$(PYTHON) -m demo --repository $(REPOSITORY)

export: $(READY) ## export CHECKPOINT into REPOSITORY (flags: EXPORT_FLAGS="--precision fp32")
	$(PYTHON) -m export --model $(CHECKPOINT) --repository $(REPOSITORY) $(EXPORT_FLAGS)

# An export that is asked for by name is made first, and that of the demo where there is none.
ASKED := $(filter command environment,$(firstword $(origin CHECKPOINT)) $(firstword $(origin EXPORT_FLAGS)))
INSTALLED := $(wildcard $(REPOSITORY)/edit/.tritouch/current)
up: $(if $(ASKED)$(if $(INSTALLED),,none),export,$(READY)) ## serve what is exported: Triton and the gateway, until Ctrl-C
	$(PYTHON) -m embedded --repository $(REPOSITORY)

test: $(READY) ## run every test, the real Triton included
	$(MAKE) --no-print-directory --jobs=4 --keep-going test-served test-exporting test-waiting test-beside

test-families: $(READY) ## export and serve a tiny checkpoint of every family, and compare it with diffusers
	$(MAKE) --no-print-directory --jobs=2 --keep-going test-families-served test-families-beside

# All that starts Triton or shares a repository in one process, for ports are chosen before Triton takes them, and an export
# has its repository for itself; beside it all that computes, which lets it go first. In `test` another one has what needs no
# torch, which waits for the network and for processes as long as it computes, and another exports, so that no processor
# is idle in the end. What those say comes whole when they have ended, and grows in build/ until then.
WITHOUT_TORCH := tests/gateway tests/tritouch tests/embedded
EXPORTING := tests/export
SERVED := (server or exported)
test-served test-beside test-waiting test-exporting: TESTS := $(USUAL)
test-families-served test-families-beside: TESTS := families
test-long-served test-long-beside: TESTS := long
BESIDE = nice $(PYTEST) -m "$(TESTS) and not $(SERVED)"
TOLD_AFTERWARDS = >build/$@.log 2>&1; code=$$?; echo; cat build/$@.log; exit $$code

test-served test-families-served:
	$(PYTEST) -m "$(TESTS) and $(SERVED)"

test-beside: ELSEWHERE = $(addprefix --ignore=,$(WITHOUT_TORCH) $(EXPORTING))
test-waiting: ELSEWHERE = $(WITHOUT_TORCH)
test-exporting: ELSEWHERE = $(EXPORTING)
test-beside test-waiting test-exporting test-families-beside:
	@mkdir -p build; $(BESIDE) $(ELSEWHERE) $(TOLD_AFTERWARDS)

test-browser: $(READY) ## edit by the playground in a real browser (Debian's chromium)
	$(PYTHON) -m pytest -m browser tests/playground tests/server/test_playground.py

test-fast: $(READY) ## run what is worth running after every edit: no server, no export, nothing slow
	$(MAKE) --no-print-directory --jobs=3 --output-sync test-fast-rest test-fast-first test-fast-second

# Three processes on two cores, of which those without torch let the one that computes all the time go first.
SECOND_HALF := tests/embedded $(wildcard tests/gateway/test_[m-z]*.py)
test-fast-rest:
	$(FAST) $(addprefix --ignore=,$(WITHOUT_TORCH))

test-fast-first:
	nice $(FAST) tests/gateway tests/tritouch $(addprefix --ignore=,tests/gateway/test_contract.py $(SECOND_HALF))

test-fast-second:
	nice $(FAST) $(SECOND_HALF)

test-long: $(READY) ## thousands of generated requests, Triton killed twenty times, and each of its processes
	$(MAKE) --no-print-directory --jobs=2 --keep-going test-long-served test-long-beside

test-long-served:
	TRITON_KILLS=20 $(PYTEST) tests/gateway/test_server.py -k killed
	$(PYTEST) -m "$(TESTS) and $(SERVED)"

GENERATED := tests/gateway/test_contract.py tests/gateway/test_stream_cases.py
test-long-beside:
	@mkdir -p build; { GENERATED_CASES=600 nice $(PYTEST) $(GENERATED) && $(BESIDE); } $(TOLD_AFTERWARDS)

test-containers: $(READY) ## build the images and run docker-compose.yml, in an engine of its own (root, Debian 12)
	$(PYTHON) -m pytest -m containers tests/containers

test-chart: $(READY) ## check the chart, and run what it deploys: Envoy, gateways, Tritons of two models (Debian 12, npm)
	$(PYTHON) -m pytest -m fleet tests/fleet --ignore=tests/fleet/test_storm.py

test-fleet: $(READY) ## the same, and run its Tritons through a storm
	$(PYTHON) -m pytest -m fleet --log-cli-level=INFO tests/fleet

rivals: $(RIVALS)/optimum-intel/.ready $(RIVALS)/stable-diffusion-cpp/.ready ## install what `bench compare` sets Tritouch beside (C++, CMake)

# Each in an environment of its own, and nothing of them in .venv. All of a lock is installed, and nothing that it lacks.
# What is compiled for this processor, and with these flags, is taken from no cache.
RIVAL = $(PYTHON) -m uv pip install --quiet --no-deps --python $(@D)/bin/python --requirements $<

$(RIVALS)/optimum-intel/.ready: requirements/rivals/optimum-intel.lock | $(READY)
	$(PYTHON) -m venv --clear --without-pip $(@D)
	$(call install_torch,$(@D))
	$(RIVAL)
	touch $@

$(RIVALS)/stable-diffusion-cpp/.ready: requirements/rivals/stable-diffusion-cpp.lock | $(READY)
	$(PYTHON) -m venv --clear --without-pip $(@D)
	CMAKE_BUILD_PARALLEL_LEVEL=$$(nproc) CMAKE_ARGS="$(SDCPP_FLAGS)" nice $(RIVAL) --no-cache --build-constraints $<
	test -x $(@D)/lib/python3*/site-packages/bin/sd-server
	touch $@

check: $(READY) ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy $(foreach package,$(PACKAGES),$(if $(wildcard $(package)/*.py),$(package)))
	for model in edit edit_stream preprocess postprocess; do \
	  MYPYPATH=typings:model_repository/$$model/1:. $(VENV)/bin/mypy model_repository/$$model/1/*.py || exit 1; done

format: $(READY) ## format the code
	$(VENV)/bin/ruff check --fix . ; $(VENV)/bin/ruff format .

lock: $(READY) ## pin the newest versions that fit pyproject.toml
	$(PYTHON) -m uv pip compile --quiet --upgrade --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	  --no-emit-package torch $(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND)) --python-version 3.11 \
	  pyproject.toml --group dev --output-file requirements/cpu.lock
	$(PYTHON) -m uv pip compile --quiet --upgrade --no-header --no-annotate --no-emit-index-url \
	  --python-version 3.11 --constraint requirements/cpu.lock --group gateway --output-file requirements/gateway.lock
	for image in triton export; do \
	  $(PYTHON) -m uv pip compile --quiet --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	    --no-python-downloads --python-version 3.12 --constraint requirements/cpu.lock --override requirements/no-torch.txt \
	    --group $$(test $$image = triton && echo repository || echo export) requirements/triton.in \
	    $$(test $$image = triton || echo requirements/export.in) --output-file requirements/$$image.lock || exit 1; done
	for rival in requirements/rivals/*.in; do \
	  $(PYTHON) -m uv pip compile --quiet --upgrade --no-header --no-annotate --no-emit-index-url --python-version 3.11 \
	    --override requirements/no-torch.txt $$rival --output-file $${rival%.in}.lock || exit 1; done

clean: ## remove what export and the tests have built
	rm -rf build model_repository/edit/.tritouch
	find model_repository -maxdepth 2 -type l -lname '*.tritouch/*' -delete
