VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
DEMO_STAMP := $(VENV)/.installed-demo
DOCS_STAMP := $(VENV)/.installed-docs
FORKS := .venv-forks
FORKS_STAMP := $(FORKS)/.installed

# What depends on the package family: engine and methods, one training, test, resume and deployment for each method and library
# library, and what stands for the walk of all configs. Left out: long runs of bandits, and recovery by pure algebra.
FORK_TESTS := tests/configs/forks.py tests/engine tests/methods tests/deploy tests/guarantees/test_bad_checkpoints.py \
	tests/test_check_env.py tests/test_compat.py tests/test_config_bases.py tests/test_host_internals.py \
	tests/test_import_effects.py tests/test_set_up.py \
	tests/tools/test_hosts.py tests/tools/test_train_test.py tests/tools/test_reparameterize_denoiserep.py \
	tests/tools/test_reparameterize_model.py
FORK_TESTS += $(addprefix --ignore=tests/methods/,repfusion/policy/test_bandit.py \
	repfusion/policy/test_bandit_small.py dvt/stage1/solvers/test_recovery.py)
FORK_TESTS += --ignore-glob='tests/methods/*/configs/*'

.PHONY: help demo test test-forks install install-forks lint docs pages clean

help:
	@echo 'make demo           set up what the demo needs, show each method on real images; ONLY="dvt pddr" shows some'
	@echo 'make test           set everything up, then run the tests'
	@echo 'make test-forks     set up the maintained forks of OpenMMLab, then run the tests that depend on the family'
	@echo 'make install        set everything up in $(VENV) (make -B install repeats it)'
	@echo 'make install-forks  the same with the forks, in $(FORKS)'
	@echo 'make lint           check style, types, spelling, links and paths'
	@echo 'make docs           build the documentation as a site: docs/_build/html/index.html'
	@echo 'make pages          write what is generated: model-index.yml, tables of docs/ and reprefine/methods/README.md'
	@echo 'make clean          remove build products, caches and what the demo wrote; $(VENV) and $(FORKS) stay'

# Set up again only when what is to be installed has changed.
$(STAMP): $(wildcard requirements/*.txt) setup.py tools/misc/install.sh
	@bash tools/misc/install.sh $(VENV)
	@touch $@

# The demo needs no compiled op, so that nothing has to be compiled before it.
$(DEMO_STAMP): $(wildcard requirements/*.txt) setup.py tools/misc/install.sh
	@bash tools/misc/install.sh --demo $(VENV)
	@touch $@

$(FORKS_STAMP): $(wildcard requirements/*.txt) setup.py tools/misc/install.sh
	@bash tools/misc/install.sh --forks $(FORKS)
	@touch $@

install: $(STAMP)
	@echo '$(VENV) is ready'

install-forks: $(FORKS_STAMP)
	@echo '$(FORKS) is ready'

demo: $(if $(wildcard $(STAMP)),$(STAMP),$(DEMO_STAMP))
	@PYTHONWARNINGS='ignore:Fail to import' $(PY) tools/experiments/tour.py $(if $(ONLY),--only $(ONLY)) # of ops

test: $(STAMP)
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(PY) -m pytest -n auto --maxprocesses 8 --dist loadfile

# The environment is activated, because the launch scripts of the tools would take $(VENV) otherwise.
test-forks: $(FORKS_STAMP)
	@export VIRTUAL_ENV='$(CURDIR)/$(FORKS)' PATH='$(CURDIR)/$(FORKS)/bin':"$$PATH" && \
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} python -m pytest -n auto --maxprocesses 8 --dist loadfile $(FORK_TESTS)

lint: $(STAMP)
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m codespell_lib -D - -D tools/misc/words.txt # the second holds words that are not the field's
	@$(PY) -m mypy
	@$(PY) -m pytest -q -p no:cacheprovider tests/test_repository.py # links, paths, sizes, docstrings

$(DOCS_STAMP): $(STAMP) requirements/docs.txt
	@$(PY) -m pip --disable-pip-version-check install -q -c requirements/build.txt -r requirements/docs.txt
	@touch $@

# A warning, such as a link to nowhere, is an error.
docs: $(DOCS_STAMP)
	@$(PY) -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo 'docs/_build/html/index.html'

PAGES := tests.configs.model_index tests.configs.published tests.combinations.matrix_page tests.helpers.methods_page tests.helpers.errors_page

pages: $(STAMP)
	@for page in $(PAGES); do $(PY) -m $$page --write; done
	@$(PY) tools/experiments/tables.py
	@$(PY) tools/analysis_tools/list_configs.py --page docs/model_zoo.md

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache docs/_build docs/api/generated work_dirs/demo
	find . -path './$(VENV)*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
