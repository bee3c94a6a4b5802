# make figures   the figures and numbers of all exercises, from the trained models in checkpoints/
# make exN       those of exercise N, after those whose models it uses; for instance make ex5
# make explorer  figures/explorer.html, which shows the latent spaces in a browser, and its picture
# make train     all models trained anew, two at a time, then what is made from them
# make studies   the studies behind choices and claims, in studies/
# make report    REPORT.md and REPORT.pdf
# make test      the tests
# Each creates .venv and installs what it needs there. DATA_DIR=DIR takes MNIST from DIR, and
# OPTIONS="..." is for the script of the goal: make ex6 OPTIONS="--noise 0.1 --out runs/noise".

PYTHON ?= python3
PY = .venv/bin/python
DATA = $(if $(DATA_DIR),--data-dir "$(DATA_DIR)")
RUN = $(DATA) $(if $(filter $@,$(MAKECMDGOALS)),$(OPTIONS))
SCRIPTS = $(wildcard ex*.py)
TRAINED = ex8 ex7 ex1 ex4 ex4-augment
STUDIES = seeds balance capacity initialization regularization weights explanations

.PHONY: figures $(TRAINED) ex2 ex3 ex5 ex6 explorer train studies $(STUDIES) report test

figures: .venv/installed
	$(PY) run_all.py $(RUN)
$(TRAINED) ex2 ex3 ex5 ex6: .venv/installed
	$(PY) $(firstword $(filter $(@:-augment=)_%,$(SCRIPTS))) $(if $(filter %-augment,$@),--augment) $(TRAIN) $(RUN)
explorer: .venv/installed
	$(PY) -m report.explorer $(RUN)
	-chromium --headless --virtual-time-budget=9999 --window-size=1400,900 --screenshot=figures/explorer.png figures/explorer.html

# An exercise runs after those that train its models, where there are none.
ex2 ex3 ex5 ex6 ex7: ex1
ex5 ex6 ex7 ex8: ex4
# On one thread the weights do not depend on the number of cores.
train: .venv/installed
	OMP_NUM_THREADS=1 $(MAKE) -j2 $(TRAINED) TRAIN=--retrain
	$(PY) run_all.py $(RUN)
	$(PY) ex8_map_denoise.py --test-set $(RUN)
	$(PY) -m report.explorer $(RUN)
	sha256sum checkpoints/*.pt > .sha256.part && mv .sha256.part tests/checkpoints.sha256

studies: $(STUDIES)
$(STUDIES): .venv/installed-report
	$(PY) -m studies.$@ $(DATA) $(OPTIONS)
report: .venv/installed-report
	$(PY) -m report.build $(OPTIONS)
test: .venv/installed-dev
	.venv/bin/ruff check . && .venv/bin/ruff format --check .
	DATA_DIR="$(or $(DATA_DIR),data)" .venv/bin/pytest $(OPTIONS)

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	{ echo "$(PYTHON) is no Python 3.10 or newer; give one, as in make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet -r requirements.txt && touch $@
.venv/installed-report .venv/installed-dev: .venv/installed-%: requirements-%.txt .venv/installed
	$(PY) -m pip install --quiet -r $< && touch $@
