# make demo and make test do all the set-up themselves, in .venv. On a machine with its own environment (no network, say)
# run them with PYTHON=python3 VENV=none.
VENV ?= .venv
SYSTEM_PYTHON ?= python3
GPU_PYTHON ?= python3
# a process a core: most tests keep one core busy at a time. Those that share costly fixtures stay together
PARALLEL ?= -n auto --dist loadgroup

ifeq ($(VENV),none)
PYTHON ?= python3
READY = build/in-place
else
PYTHON ?= $(VENV)/bin/python
READY = $(VENV)/ready
endif

SOURCES = $(shell find csrc -type f 2>/dev/null)

.PHONY: demo test asan bench bench-gpu static lint format clean

demo: $(READY)
	$(PYTHON) -m bertkernels demo

test: $(READY)
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q $(PARALLEL) tests --ignore tests/triton
	OMP_NUM_THREADS=1 TRITON_INTERPRET=1 $(PYTHON) -m pytest -q $(PARALLEL) tests/triton

# The op tests on CPU kernels built with AddressSanitizer and UBSan, in a copy of the checkout. torch.compile is left
# out: its compiler would run under the sanitizer too.
ASAN = build/asan
asan: $(READY)
	rm -rf $(ASAN) && mkdir -p $(ASAN)
	git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t $(ASAN)
	cd $(ASAN) && BERTKERNELS_BUILD=cpu BERTKERNELS_SANITIZE=address,undefined $(abspath $(PYTHON)) setup.py -q build_ext --inplace
	cd $(ASAN) && ASAN_OPTIONS=detect_leaks=0 OMP_NUM_THREADS=2 \
		LD_PRELOAD="$$($${CXX:-g++} -print-file-name=libasan.so) $$($${CXX:-g++} -print-file-name=libstdc++.so.6)" \
		$(abspath $(PYTHON)) -m pytest -q -p no:cacheprovider --capture=sys tests/ops \
		-k "not compile and not inductor and not reference"

# Measures, about 20 minutes on two cores (interrupted, it goes on where it was), and writes the tables and pictures.
PAGES = --update README.md --details docs/performance.md --plot docs/speed.svg
bench: $(READY)
	$(PYTHON) -m bertkernels bench
	$(PYTHON) -m bertkernels bench --report $$(ls benchmarks/results/cpu.jsonl benchmarks/results/cuda.jsonl 2>/dev/null) $(PAGES)

# Everything on a GPU machine in one command, with that machine's own torch: build, test, profile, measure; under ten
# minutes. PHASES="build tune" does these alone; RESULTS_COPY=folder in the environment copies all that comes of it.
bench-gpu:
	$(GPU_PYTHON) benchmarks/gpu_session.py $(if $(PHASES),--phases $(PHASES))

# What compilers say of the GPU kernels, without a GPU: benchmarks/results/static*. Compiles what has changed.
static: $(READY)
	$(PYTHON) benchmarks/static_triton.py
	$(PYTHON) benchmarks/static_cuda.py
	$(PYTHON) benchmarks/static_report.py

lint: $(READY)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

format: $(READY)
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

$(VENV)/installed: requirements-dev.txt
	$(SYSTEM_PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q --no-compile -r requirements-dev.txt
	touch $@

$(VENV)/ready: $(VENV)/installed setup.py pyproject.toml $(SOURCES)
	$(VENV)/bin/python -m pip install -q --no-build-isolation --no-deps -e .
	touch $@

build/in-place: setup.py $(SOURCES)
	$(PYTHON) setup.py -q build_ext --inplace
	mkdir -p build && touch $@

clean:
	rm -rf build dist *.egg-info bertkernels/_C*.so $(VENV)/ready
