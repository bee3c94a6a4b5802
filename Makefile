# make figures   every figure and number of the report, from the committed checkpoints
# make train     the same, after training every model anew
# make bench     the timings in benchmarks/README.md
# make report    REPORT.md, from figures/
# make test      the tests
# Each makes .venv and installs what it needs there. DATA_DIR=DIR takes MNIST from DIR.

PYTHON ?= python3
DATA_DIR ?= data
PY = .venv/bin/python
SCRIPTS = ex1_autoencoder.py ex2_latent.py ex3_knn.py ex4_classifier.py "ex4_classifier.py --augment" \
	"ex4_classifier.py --limit 1000" ex5_generate.py ex6_denoise.py ex7_vae.py ex8_map_denoise.py

.PHONY: figures train train-ex1 train-ex4 train-ex7 train-ex8 bench report test

figures: .venv/installed
	@set -e; for script in $(SCRIPTS); do \
		echo "== $$script"; $(PY) $$script --data-dir "$(DATA_DIR)"; done

# On one thread: small batches gain little from more, and the weights then do not depend on the
# number of processor cores. make -j2 train uses two cores.
retrain = OMP_NUM_THREADS=1 $(PY) $(1) --retrain --data-dir "$(DATA_DIR)"

train: train-ex1 train-ex4 train-ex7 train-ex8
	@$(MAKE) --no-print-directory figures

train-ex1: .venv/installed
	$(call retrain,ex1_autoencoder.py)

train-ex4: .venv/installed
	$(call retrain,ex4_classifier.py)
	$(call retrain,ex4_classifier.py --augment)
	$(call retrain,ex4_classifier.py --limit 1000)

train-ex7: train-ex1 train-ex4
	$(call retrain,ex7_vae.py --balance)

train-ex8: train-ex4
	$(call retrain,ex8_map_denoise.py --test-set)

bench: .venv/installed
	$(PY) benchmarks/bench.py --data-dir "$(DATA_DIR)"

report: .venv/installed
	$(PY) report.py

test: .venv/installed-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	DATA_DIR="$(DATA_DIR)" .venv/bin/pytest

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet -r requirements.txt
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(PY) -m pip install --quiet -r requirements-dev.txt
	@touch $@
