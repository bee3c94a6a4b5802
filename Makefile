# make figures   every figure and number of the report, from the committed checkpoints
# make train     the same, after training every model anew
# make test      the tests
# Each makes .venv and installs what it needs there. DATA_DIR=DIR takes MNIST from DIR.

PYTHON ?= python3
DATA_DIR ?= data
PY = .venv/bin/python
SCRIPTS = ex1_autoencoder.py ex2_latent.py ex3_knn.py ex4_classifier.py "ex4_classifier.py --augment" \
	ex5_generate.py ex6_denoise.py

.PHONY: figures train test lint

figures: .venv/installed
	@set -e; for script in $(SCRIPTS); do \
		echo "== $$script"; $(PY) $$script --data-dir "$(DATA_DIR)"; done

train: .venv/installed
	@set -e; for script in ex1_autoencoder.py ex4_classifier.py "ex4_classifier.py --augment"; do \
		echo "== $$script"; $(PY) $$script --retrain --data-dir "$(DATA_DIR)"; done
	@$(MAKE) --no-print-directory figures

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
