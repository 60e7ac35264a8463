# maskloop, from an empty clone. Every target sets up .venv by itself when it is missing or stale.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow pretrain pretrain-clip pretrain-text lint format bench clean

# Set-up compiles no module beforehand: each process compiles what it imports, and must keep it for
# the next, or every start takes several times as long.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
# Written last by infra/setup.sh, so an interrupted set-up is taken up again.
STAMP := $(VENV)/.maskloop-setup

# A virtual environment does not survive being copied or moved: its scripts name its old folder.
ifneq ($(wildcard $(STAMP)),)
ifneq ($(shell cat $(STAMP)),$(CURDIR))
.PHONY: $(STAMP)
endif
endif

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

# Folders are among them, whose times tell of files that are gone.
PAGE := $(shell find annotator/web -mindepth 1 -name node_modules -prune -o -print)

$(STAMP): pyproject.toml constraints.txt infra/setup.sh infra/web.sh $(PAGE)
	@sh infra/setup.sh $(VENV) $(notdir $(STAMP))

setup: $(STAMP) ## the virtual environment .venv, the annotator's page, and Chromium for the browser tests

demo: $(STAMP) ## the whole loop on drawn images, about a quarter of an hour on 2 cores; run again to resume
	@$(BIN)/maskloop demo

test: $(STAMP) ## the fast tests (ARGS="..." goes to pytest)
	@sh infra/test.sh $(BIN)/python fast $(ARGS)

test-slow: $(STAMP) ## chaos, fuzz and scale (ARGS="..." goes to pytest)
	@sh infra/test.sh $(BIN)/python slow $(ARGS)

pretrain: $(STAMP) ## the weights that ship, from nothing: an hour on a GPU, days on 2 cores; run again to resume
	@$(BIN)/python -m engine.training.pretrain --out build/pretrain-first.safetensors
	@$(BIN)/python -m engine.training.pretrain --start build/pretrain-first.safetensors \
		--steps 4800 --estimate-steps 500 --worlds 10000 --first-world 8000 \
		--out build/pretrain-second.safetensors
	@$(BIN)/python -m engine.training.pretrain --start build/pretrain-second.safetensors \
		--steps 2200 --estimate-steps 500 --worlds 8000 --first-world 18000 --batch 128 \
		--out build/pretrain-third.safetensors
	@$(BIN)/python -m engine.training.pretrain --start build/pretrain-third.safetensors \
		--steps 2700 --estimate-steps 0 --worlds 12000 --first-world 26000 --batch 128 --at-once 128 \
		--out build/pretrain-fourth.safetensors
	@$(BIN)/python -m engine.training.pretrain --start build/pretrain-fourth.safetensors \
		--steps 2650 --estimate-steps 400 --worlds 5000 --first-world 38000 --batch 128 --at-once 128

pretrain-clip: $(STAMP) ## the weights of nano-clip, on captioned scenes: an hour on 2 cores; run again to resume
	@$(BIN)/python -m engine.clip.pretrain

pretrain-text: $(STAMP) ## text prompts for nano and nano-clip, on captioned scenes: two hours on 2 cores; run again to resume
	@$(BIN)/python -m engine.training.pretrain_text --first-scene 1000000 --scenes 2800 \
		--steps 4000 --map-steps 1500 --learning-rate 2e-3 --out build/nano-text-first.safetensors
	@$(BIN)/python -m engine.training.pretrain_text --start build/nano-text-first.safetensors \
		--first-scene 1000000 --scenes 2800 --steps 1500 --map-steps 0 --learning-rate 1e-3 \
		--absent 8 --presence-weight 1 --text-share 0.75
	@$(BIN)/python benchmarks/text_prompts.py --card

lint: $(STAMP) ## ruff, mypy, the import contracts, and the types of the annotator's page
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=benchmarks $(BIN)/mypy benchmarks/*.py
	$(BIN)/lint-imports
	@sh infra/web.sh run check

format: $(STAMP) ## rewrite the code as `make lint` wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## each figure that the README quotes, in its quick form
	@for file in $$(grep -l '^def main' benchmarks/*.py); do \
		echo "== $$file --quick"; \
		$(BIN)/python "$$file" --quick || exit 1; \
	done

clean: ## remove .venv, what was built and the caches; the demo's workspace stays
	rm -rf $(VENV) annotator/built annotator/web/node_modules build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
