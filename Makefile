# Two commands do all the set-up: `make demo` and `make test`.
SHELL := /bin/bash
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

# hnswlib has no wheel and compiles for the building machine unless told otherwise; a build that
# is copied to an older processor would die with SIGILL.
export HNSWLIB_NO_NATIVE = 1
export CORPUS
ifeq ($(shell uname -m),x86_64)
export CXXFLAGS = -O3 -march=x86-64-v3
else
export CXXFLAGS = -O3
endif

# Peers that the tests talk to: DCMTK, Orthanc, dciodvfy, the SR validator of PixelMed (Java), etcd.
DEBIAN_PACKAGES := dcmtk orthanc dicom3tools pixelmed-apps etcd-server

.PHONY: demo test lint unit wheel peers lock fuzz bench-receive bench-find bench-report bench-index \
  bench-read bench-embed bench-train bench-scaling compare-readers ha-failover clean

demo: $(VENV)/.demo
	$(BIN)/similis demo

test: peers lint unit wheel

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# A worker a core, which has its files to itself; one thread each, or they would wait for each other.
unit: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --dist loadfile

# The wheel alone, in an empty environment, from another folder.
wheel: $(VENV)/.dev
	rm -rf build/wheel && mkdir -p build/wheel
	$(BIN)/python -m build --no-isolation --outdir build/wheel .
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip install -q -c constraints.txt build/wheel/*.whl
	cd / && "$(CURDIR)/build/wheel/venv/bin/similis" import --data "$(CURDIR)/build/wheel/data" \
	  "$(CURDIR)"/build/wheel/venv/lib/python3*/site-packages/pydicom/data/test_files/CT_small.dcm
	cd / && "$(CURDIR)/build/wheel/venv/bin/similis" status --data "$(CURDIR)/build/wheel/data"

bench-receive: $(VENV)/.dev
	$(BIN)/python tests/bench/receive.py

# CLIPS=number of indexed clips, 100000 unless said; the graph takes minutes to build.
bench-find: $(VENV)/.dev
	$(BIN)/python tests/bench/find.py $(CLIPS)

# SIZE=number of vectors, THREADS=that build, DATABASE=URL of an empty database with pgvector,
# PEERS=names that the other engines begin with, all if none is given.
bench-index: $(VENV)/.bench
	$(BIN)/python tests/bench/vectors.py --size $(or $(SIZE),100000) \
	  --threads $(or $(THREADS),2) --database "$(DATABASE)" --peers "$(PEERS)"

fuzz: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python tests/bench/fuzz_worker.py $(FUZZ)

bench-report: $(VENV)/.dev
	$(BIN)/python tests/bench/report.py

# CORPUS=folder: a real CT series for bench-read, any DICOM files for compare-readers.
bench-read: $(VENV)/.dev
	$(BIN)/python tests/bench/read.py

bench-embed: $(VENV)/.dev
	$(BIN)/python tests/bench/embed.py

# DATA=manifest.csv
bench-train: $(VENV)/.dev
	$(BIN)/python tests/bench/train.py

# DATA=manifest.csv OUT=folder [TFLOP=400] [CACHE=folder] [THREADS=2]: hours, goes on where it was
bench-scaling: $(VENV)/.dev
	$(BIN)/python tests/bench/scaling.py

compare-readers: $(VENV)/.dev
	$(BIN)/python tests/bench/compare_readers.py

# Two PostgreSQL nodes under Patroni on loopback, of which the leader is killed: a minute and a half.
ha-failover: $(VENV)/.dev peers
	OMP_NUM_THREADS=1 $(BIN)/python deploy/ha/failover.py

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/.made
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.made
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev,bench]'
	@touch $@

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Similis needs Python 3.11 or newer; set PYTHON=/path/to/python3"; exit 1; }
	@command -v c++ > /dev/null \
	  || { echo "hnswlib is compiled here and needs a C++ compiler: apt-get install g++ python3-dev"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "the venv module is missing: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install -q --upgrade pip
	@touch $@

peers:
	@missing=$$(dpkg-query -W -f='$${Package} $${Status}\n' $(DEBIAN_PACKAGES) 2> /dev/null \
	  | awk '/install ok installed/ { print $$1 }' | sort | comm -13 - \
	  <(printf '%s\n' $(DEBIAN_PACKAGES) | sort)); \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ]; then \
	  apt-get update -q && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
	    apt-get install -q -y --no-install-recommends $$missing; \
	else echo "the tests need these Debian packages: apt-get install" $$missing; exit 1; fi

# Pin what is installed now; run it in a fresh environment after changing pyproject.toml.
lock: $(VENV)/.bench
	$(BIN)/python -m pip freeze --exclude-editable | grep -v '^pip==' > constraints.txt

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
