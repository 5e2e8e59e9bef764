# Everyday commands. `just` alone lists them.

bin := ".venv/bin"

_default:
    @just --list

# start the service on this machine
up *ARGS:
    {{bin}}/rgrid up {{ARGS}}

# run the demonstration and stop
demo *ARGS:
    {{bin}}/rgrid demo {{ARGS}}

# everything that must hold before a commit, but the tests
check: lint types arch

fmt:
    {{bin}}/ruff format src projections tests examples
    {{bin}}/ruff check --fix-only -q src projections tests examples

lint:
    {{bin}}/ruff check src projections tests examples
    {{bin}}/ruff format --check src projections tests examples

types:
    {{bin}}/mypy

# the import contracts
arch:
    {{bin}}/lint-imports --no-cache

test *ARGS:
    {{bin}}/python -m pytest {{ARGS}}

# ratios against peers and limits, as a table and JSON
bench *ARGS:
    {{bin}}/python -m tests.benchmarks {{ARGS}}

# the container image, with whatever engine is here
image *ARGS:
    .ci/image {{ARGS}}

# the hashed locks, anew
lock:
    {{bin}}/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-package pandas --no-emit-package numpy --extra demo --group build pyproject.toml -o requirements.lock
    {{bin}}/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-package pandas --no-emit-package numpy --extra demo --extra audit --group build --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock
