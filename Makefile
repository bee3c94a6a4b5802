# make figures   the exercises' figures and numbers, from the trained models in checkpoints/
# make explorer  figures/explorer.html, which shows the latent spaces in a browser
# make exN       those of exercise N, after those whose models it uses; for instance make ex5
# make train     the same after training every model anew, and the MAP estimate of all test images
# make studies   the studies behind choices and claims, in studies/
# make bench     the timings in studies/README.md
# make report    REPORT.md and REPORT.pdf
# make test      the tests
# Each creates .venv and installs what it needs there. With -j2, two scripts run at a time, on one
# processor core each.
# DATA_DIR=DIR takes MNIST from DIR.

PYTHON ?= python3
DATA_DIR ?= data
PY = .venv/bin/python
EXERCISES = ex8 ex7 ex1 ex2 ex3 ex4 ex5 ex6
STUDIES = augmentation beta between error_split filters initialization kl_weights latent_size \
	map_solvers noise_path regularization seeds worst_images

.PHONY: figures $(EXERCISES) ex4-augment ex4-few explorer dataset train studies $(STUDIES) bench report test

figures: $(EXERCISES) ex4-augment ex4-few explorer

# An exercise runs after those whose models it uses: they train them where there is no checkpoint.
ex1 ex4: dataset
ex4-augment ex4-few: ex4
ex2 ex3: ex1
ex5 ex6 ex7: ex1 ex4
ex8: ex4
explorer: ex1 ex7 ex8

on_data = --data-dir "$(DATA_DIR)" --dataset "$$(cat .venv/dataset)"
python = $(if $(filter -j%,$(MAKEFLAGS)),OMP_NUM_THREADS=1) $(PY)
run = $(python) $(wildcard $(firstword $(subst -, ,$@))_*.py) $(on_data)

ex2 ex3 ex5 ex6:
	$(run)

ex1 ex4 ex7:
	$(run) $(TRAIN)

ex8:
	$(run) $(TRAIN) $(if $(TRAIN),--test-set)

ex4-augment:
	$(run) $(TRAIN) --augment

ex4-few:
	$(run) $(TRAIN) --limit 1000

explorer:
	$(python) -m report.explorer $(on_data)

# Downloads MNIST once for all exercises; without it they use scikit-learn's digits.
dataset: .venv/installed
	@$(PY) -m common.dataset "$(DATA_DIR)" > .venv/dataset

# On one thread the weights do not depend on the number of processor cores.
train:
	OMP_NUM_THREADS=1 $(MAKE) --no-print-directory figures TRAIN=--retrain

studies: $(STUDIES)

$(STUDIES) bench: .venv/installed
	$(PY) -m studies.$@ --data-dir "$(DATA_DIR)"

report: .venv/installed-report
	$(PY) -m report.build

test: .venv/installed-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	DATA_DIR="$(DATA_DIR)" .venv/bin/pytest

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet -r requirements.txt
	@touch $@

.venv/installed-report: .venv/installed requirements-report.txt
	$(PY) -m pip install --quiet -r requirements-report.txt
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(PY) -m pip install --quiet -r requirements-dev.txt
	@touch $@
