# make figures   the exercises' figures and numbers, from the trained models in checkpoints/
# make exN       those of exercise N, after those whose models it uses; for instance make ex5
# make explorer  figures/explorer.html, which shows the latent spaces in a browser
# make train     make figures, after training every model anew, and all test images in exercise 8
# make studies   the studies behind choices and claims, in studies/
# make report    REPORT.md and REPORT.pdf
# make test      the tests
# Each creates .venv and installs what it needs there. DATA_DIR=DIR takes MNIST from DIR, and
# OPTIONS="..." is for the script of the goal, for instance make ex6 OPTIONS="--noise 0.1".

PYTHON ?= python3
DATA_DIR ?= data
DATASET = auto
OPTIONS =
PY = .venv/bin/python
RUN = --data-dir "$(DATA_DIR)" --dataset $(DATASET) $(if $(filter $@,$(MAKECMDGOALS)),$(OPTIONS))
EXERCISES = ex8 ex7 ex6 ex3 ex2 ex5 ex1 ex4 ex4-augment
STUDIES = seeds balance capacity error_split explanations initialization map_minima regularization
# MNIST is looked for once, before all exercises.
THERE = $(wildcard $(DATA_DIR)/MNIST/raw/t10k-labels-idx1-ubyte)
AUTO = $(if $(THERE),mnist,$$($(PY) -m common.dataset "$(DATA_DIR)"))
FOUND = $(if $(filter auto,$(DATASET)),$(AUTO),$(DATASET))
# Two exercises at a time, on one thread each, where make can keep apart what they print.
TWO = $(if $(filter output-sync,$(.FEATURES)),OMP_NUM_THREADS=1 $(MAKE) -j2 --output-sync,$(MAKE))

.PHONY: figures train $(EXERCISES) explorer studies $(STUDIES) report test

figures: .venv/installed
	+@found=$(FOUND) && $(TWO) --no-print-directory $(EXERCISES) DATASET=$$found

# On one thread the weights do not depend on the number of cores. It takes long: no output waits.
train: .venv/installed
	+@found=$(FOUND) && OMP_NUM_THREADS=1 $(MAKE) -j2 --no-print-directory $(EXERCISES) explorer \
	DATASET=$$found TRAIN=--retrain

# An exercise runs after those whose models it uses: they train them where there is no checkpoint.
ex2 ex3: ex1
ex5 ex6 ex7: ex1 ex4
ex8: ex4
explorer: ex1 ex7 ex8

ex1: .venv/installed
	$(PY) ex1_autoencoder.py $(TRAIN) $(RUN)
ex2: .venv/installed
	$(PY) ex2_latent.py $(RUN)
ex3: .venv/installed
	$(PY) ex3_knn.py $(RUN)
ex4: .venv/installed
	$(PY) ex4_classifier.py $(TRAIN) $(RUN)
ex4-augment: .venv/installed
	$(PY) ex4_classifier.py --augment $(TRAIN) $(RUN)
ex5: .venv/installed
	$(PY) ex5_generate.py $(RUN)
ex6: .venv/installed
	$(PY) ex6_denoise.py $(RUN)
ex7: .venv/installed
	$(PY) ex7_vae.py $(TRAIN) $(RUN)
ex8: .venv/installed
	$(PY) ex8_map_denoise.py $(if $(TRAIN),$(TRAIN) --test-set) $(RUN)
explorer: .venv/installed
	$(PY) -m report.explorer $(RUN)

studies: $(STUDIES)

$(STUDIES): .venv/installed-report
	$(PY) -m studies.$@ --data-dir "$(DATA_DIR)" $(OPTIONS)

report: .venv/installed-report
	$(PY) -m report.build $(OPTIONS)

test: .venv/installed-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	DATA_DIR="$(DATA_DIR)" .venv/bin/pytest $(OPTIONS)

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	{ echo "$(PYTHON) is older than Python 3.10; give another, as in make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet -r requirements.txt
	@touch $@

.venv/installed-report .venv/installed-dev: .venv/installed-%: requirements-%.txt .venv/installed
	$(PY) -m pip install --quiet -r $<
	@touch $@
