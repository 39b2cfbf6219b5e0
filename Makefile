# make try    open a page to outline objects in your own images; FOLDER=images says where they are
# make demo   find the nuclei of a real image and draw them: demo/out/overlay.png
# make test   lint, type check and every test
# make lint   lint and type check alone
# make bench  compare speed and memory with the method as specified (an hour and a half)
# make evaluate  measure precision and recall on pictures with known objects (two hours)
# make docs   build the documentation: site/index.html
# make docs-tables  update the generated pages: fields, messages, reference
# make train  train models/sam_vit_mini2.pth anew (two cores: three hours and a half)
# make lock   update requirements.lock, the versions of the images
# make clean  remove what these have made

PYTHON ?= python3
FOLDER ?= images
VENV := .venv
RUN := $(VENV)/bin/python -m

.PHONY: try demo test lint bench evaluate docs docs-tables train lock clean

try: $(VENV)/installed
	@mkdir -p "$(FOLDER)"
	@$(RUN) annotation_server "$(FOLDER)"

demo: $(VENV)/installed
	$(RUN) demo

test: lint
	$(RUN) pytest

lint: $(VENV)/installed
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(VENV)/bin/hadolint Dockerfile Dockerfile_M1 tests/Dockerfile_Test

bench: $(VENV)/installed
	$(RUN) benchmarks
	$(RUN) benchmarks.repeated

evaluate: $(VENV)/installed
	$(RUN) evaluation

docs: $(VENV)/docs-installed
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict

docs-tables: $(VENV)/installed
	$(RUN) docs.tables

train: $(VENV)/installed
	$(RUN) training.train
	$(RUN) training.calibrate

# torch 2.7.1 is the last with wheels for CUDA 11.8. arm64 needs fewer packages than x86_64, and no others.
lock: $(VENV)/installed
	$(RUN) pip install --quiet uv
	echo torch==2.7.1 | UV_CUSTOM_COMPILE_COMMAND='make lock' $(RUN) uv pip compile --quiet \
		--upgrade --no-annotate --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
		--extra server --extra test --output-file requirements.lock pyproject.toml -

clean:
	rm -rf $(VENV) demo/out training/out site .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or later is needed, and $(PYTHON) is " + sys.version.split()[0] + ": name another one with make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) pip install --editable '.[server,page,demo,test,browser,lint]'
	touch $@

# Apart from the others: neither the demo nor the tests need these packages.
$(VENV)/docs-installed: $(VENV)/installed
	$(RUN) pip install --editable '.[docs]'
	touch $@
