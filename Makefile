VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
DEMO_STAMP := $(VENV)/.installed-demo

.PHONY: help demo test install lint clean

help:
	@echo 'make demo     set up what the demo needs, run the main job on real images and show the result'
	@echo 'make test     set everything up, then run the tests'
	@echo 'make install  set everything up in $(VENV) (make -B install repeats it)'
	@echo 'make lint     check code style'
	@echo 'make clean    remove build products, caches and what the demo wrote; $(VENV) stays'

# Set up again only when what is to be installed has changed.
$(STAMP): $(wildcard requirements/*.txt) setup.py tools/misc/install.sh
	@bash tools/misc/install.sh $(VENV)
	@touch $@

# The demo needs no compiled op, so that nothing has to be compiled before it.
$(DEMO_STAMP): $(wildcard requirements/*.txt) setup.py tools/misc/install.sh
	@bash tools/misc/install.sh --demo $(VENV)
	@touch $@

install: $(STAMP)
	@echo '$(VENV) is ready'

demo: $(if $(wildcard $(STAMP)),$(STAMP),$(DEMO_STAMP))
	@PYTHONWARNINGS='ignore:Fail to import' $(PY) tools/demo/run.py # of compiled ops, which it does without

test: $(STAMP)
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(PY) -m pytest -n auto --maxprocesses 8 --dist loadfile

lint: $(STAMP)
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache work_dirs/demo
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
