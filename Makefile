# nxmpi: `make demo` shows it, `make test` checks it; both install what is missing first.
#
# With an MPI and a parallel HDF5 of your own (modules of a cluster):
#   make setup MPICC=mpicc HDF5_DIR=/path/to/parallel/hdf5

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
MPICC ?= $(shell command -v mpicc.openmpi || command -v mpicc || echo mpicc)
WHEELS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/nxmpi/wheels
H5PY := 3.16.0
DEMO := demo
BIN := $(CURDIR)/.venv/bin
NXREFINE_PYTHON ?= $(CURDIR)/.venv-nxrefine/bin/python

# as root (containers) and with more ranks than cores, Open MPI wants to be told
export OMPI_ALLOW_RUN_AS_ROOT := 1
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM := 1
export OMPI_MCA_rmaps_base_oversubscribe := 1
export OMPI_MCA_btl_vader_single_copy_mechanism := none
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export NUMBA_NUM_THREADS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
export NXREFINE_PYTHON

.PHONY: help setup system slurm demo test check-full benchmark lint types serial mpi system-tests clean

help:
	@echo "make demo        simulate a small experiment, reduce it with 2 ranks, draw it"
	@echo "make test        all checks and tests of CI"
	@echo "make check-full  the slow proofs too"
	@echo "make benchmark   speed, memory and traffic of the transform; frames and refinement beside NXRefine"
	@echo "make setup       only install what these need, into .venv"
	@echo "make clean       remove what the others made, but for the wheels kept in $(WHEELS)"

# --- what the operating system has to bring
system:
	@missing=""
	command -v $(MPICC) >/dev/null || missing="$$missing openmpi-bin libopenmpi-dev"
	[ -n "$${HDF5_DIR:-}" ] || ls /usr/lib/*/libhdf5_openmpi.so >/dev/null 2>&1 || missing="$$missing libhdf5-openmpi-dev"
	$(PYTHON) -c 'import ensurepip, sysconfig, os, sys; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' 2>/dev/null || missing="$$missing python3-venv python3-dev"
	[ -n "$${HDF5_DIR:-}" ] || command -v pkg-config >/dev/null || missing="$$missing pkg-config"
	command -v gcc >/dev/null || missing="$$missing gcc libc6-dev"
	if [ -z "$$missing" ]; then exit 0; fi
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	  echo "missing:$$missing (Debian's names). Load modules of an MPI and a parallel HDF5, then:" >&2
	  echo "  make $(MAKECMDGOALS) MPICC=mpicc HDF5_DIR=/path/to/parallel/hdf5" >&2
	  exit 1
	fi
	echo "installing Debian packages:$$missing"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null

# for the tests of batch jobs, which do without where it cannot be had
slurm:
	@missing=""
	for program in slurmctld slurmd munged sbatch; do
	  PATH=$$PATH:/usr/sbin command -v $$program >/dev/null || missing="$$missing $$program"
	done
	if [ -z "$$missing" ]; then exit 0; fi
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	  echo "no Slurm here: tests of batch jobs are skipped (Debian's slurmctld, slurmd, slurm-client and munge)"
	  exit 0
	fi
	echo "installing Debian packages: slurmctld slurmd slurm-client munge"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge >/dev/null || \
	  echo "no Slurm here: tests of batch jobs are skipped"

# --- the virtual environment, with an h5py of its own for parallel HDF5
setup: system .venv/.ready

.venv/.ready: pyproject.toml .ci/constraints.txt
	@echo "making the virtual environment .venv"
	[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -U -c .ci/constraints.txt pip
	$(BIN)/pip install -q -U -c .ci/constraints.txt mpi4py numpy cython pkgconfig setuptools wheel packaging
	tag=$$($(BIN)/python -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
	built="$(WHEELS)/$$( { $(MPICC) --version; $(MPICC) -show 2>/dev/null || true; echo "$${HDF5_DIR:-}"; ls -l /usr/lib/*/libhdf5_openmpi.so* 2>/dev/null || true; echo "$$tag $(H5PY)"; } | sha256sum | cut -c1-12)"
	if ! ls "$$built"/h5py-$(H5PY)-*.whl >/dev/null 2>&1; then
	  echo "building h5py $(H5PY) for parallel HDF5 (a minute, once; kept in $(WHEELS))"
	  mkdir -p "$$built"
	  config=$$(mktemp); trap 'rm -f "$$config"' EXIT
	  printf '[build_ext]\nparallel=4\n' > "$$config"
	  # no build isolation: it would compile mpi4py from source; no cache: pip's knows nothing of MPI
	  DIST_EXTRA_CONFIG="$$config" CFLAGS='-O2 -g0' HDF5_MPI=ON CC="$(MPICC)" \
	    $(BIN)/pip wheel -q --no-cache-dir --no-deps --no-build-isolation --no-binary=h5py -w "$$built" h5py==$(H5PY)
	fi
	$(BIN)/pip install -q --force-reinstall --no-deps "$$built"/h5py-$(H5PY)-*.whl
	echo "installing nxmpi and what it needs"
	$(BIN)/pip install -q -c .ci/constraints.txt --group dev --editable .
	$(BIN)/python -c 'import h5py, sys; sys.exit(not h5py.get_config().mpi and "h5py has lost parallel HDF5")'
	touch $@

# --- NXRefine, whose own classes read our files in the tests
.venv-nxrefine/.ready: tests/system/nxrefine-requirements.txt
	@echo "making the environment of NXRefine, .venv-nxrefine"
	if ! ldconfig -p | grep -q libglib-2.0.so.0 && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	  apt-get update -qq
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libglib2.0-0 >/dev/null
	fi
	[ -x .venv-nxrefine/bin/python ] || $(PYTHON) -m venv .venv-nxrefine
	.venv-nxrefine/bin/pip install -q --no-deps -r tests/system/nxrefine-requirements.txt
	touch $@

demo: setup
	@echo "simulating an experiment in $(DEMO)/"
	mpiexec -n 2 $(BIN)/nxmpi simulate $(DEMO) --preset demo --no-orientation --overwrite
	scan=$$(ls $(DEMO)/*/*/*.nxs)
	echo "reducing it"
	mpiexec -n 2 $(BIN)/nxmpi reduce "$$scan"
	$(BIN)/nxmpi plot "$$scan" --output $(DEMO)/demo.png
	echo
	echo "scan file   $$scan (opens in NeXpy)"
	echo "volumes     $${scan%/*}/*/*transform.nxs"
	echo "3D-ΔPDF     $$(ls $${scan%/*}/*/pdf.nxs)"
	echo "truth       $$(ls $${scan%/*}/*/truth.h5)"
	echo "picture     $(DEMO)/demo.png"

# --- the checks of CI, in order
test: setup .venv-nxrefine/.ready lint types serial mpi system-tests
	@echo "all checks passed"

lint: setup
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	@$(BIN)/mypy
	PATH=$(BIN):$$PATH lint-imports

SUITE := not full
TIMEOUT := 2400
HANG := 300
JOBS := 2
RANKS := 2 3 4
SERIAL := tests/unit tests/property tests/regression tests/mpi

serial: setup
	@timeout $(TIMEOUT) $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile -o faulthandler_timeout=$(HANG) -m "parallel[1] and ($(SUITE))" $(SERIAL)
	timeout $(TIMEOUT) $(BIN)/python -m pytest -q --benchmark-disable benchmarks

mpi: setup
	@for n in $(RANKS); do
	  echo "MPI tests on $$n ranks"
	  timeout $(TIMEOUT) mpiexec -n $$n $(BIN)/python -m pytest -q --color=no -m "parallel[$$n] and ($(SUITE))" tests/mpi
	done

# several at once, as they wait for something a third of the time: ranks that wait leave the core to
# others, and none is bound to one
system-tests: JOBS := 3
system-tests: export OMPI_MCA_mpi_yield_when_idle := 1
system-tests: export OMPI_MCA_hwloc_base_binding_policy := none
system-tests: setup slurm .venv-nxrefine/.ready
	@timeout $(TIMEOUT) $(BIN)/python -m pytest -q -p no:pytest_mpi -n $(JOBS) --dist loadfile -o faulthandler_timeout=$(HANG) -m "$(SUITE)" tests/system

check-full: SUITE := full or not full
check-full: RANKS := 2 3 4 7 16
check-full: TIMEOUT := 7200
check-full: HANG := 1800
check-full: test

benchmark: setup
	@unset OMPI_MCA_btl_vader_single_copy_mechanism  # as Open MPI is without our word
	$(BIN)/python benchmarks/transform.py
	$(BIN)/python benchmarks/frames.py
	$(BIN)/python benchmarks/orient.py
	$(BIN)/python benchmarks/symmetrize.py
	$(BIN)/python benchmarks/fill.py
	$(BIN)/python benchmarks/pdf.py

clean:
	rm -rf .venv .venv-nxrefine $(DEMO)
