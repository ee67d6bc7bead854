# `make run` serves taskapp; `make test` runs every check. Both install what they need.

PYTHON ?= python3
ENGINE ?= docker
VENV := .venv
BIN := $(VENV)/bin
NODE_MODULES := tests/node_modules
DEPLOY_MODULES := tests/deploy/node_modules
# In the order of tests/conftest.py: xdist would leave the files with few but slow tests to the end.
PARALLEL := --numprocesses=4 --dist=loadfile --no-loadscope-reorder
MACHINE := $(shell uname -m)
# Percent of the code; without root, the tests of what only root does are skipped.
FLOOR := $(if $(filter 0,$(shell id -u)),,--cov-fail-under=94)
# The address of the repository, in a release: the workflows set it.
REPOSITORY_URL ?=
# What a person does from the account to the restore, and what Python's releases differ in.
CORE := tests/api/test_auth_api.py tests/api/test_task_api.py tests/auth tests/backups tests/config tests/forms \
    tests/postgres tests/runtime/test_background.py

# What a person has set for other programs would find other packages, or another folder.
unexport CDPATH GREP_OPTIONS $(filter-out PYTHON PYTHONS,$(filter PYTHON%,$(.VARIABLES)))

.PHONY: FORCE run test test-deploy test-cluster cluster cluster-down test-postgres test-python test-binary binary man wheel browser image release-files lint format types pytest soak bench system system-deploy lock licences messages images clean help

run: $(VENV)/.runtime  ## set up and serve on http://127.0.0.1:8000
	@$(BIN)/python server.py

test:  ## set up and run every check
	@$(MAKE) --no-print-directory --jobs=3 lint types system
	@$(MAKE) --no-print-directory pytest

test-deploy:  ## set up and run the tests of deploy/
	@$(MAKE) --no-print-directory --jobs=4 $(VENV)/.development $(VENV)/.deploy $(VENV)/.cluster $(VENV)/.release $(DEPLOY_MODULES)/.installed system-deploy
	$(BIN)/pytest tests/deploy

test-cluster: $(VENV)/.development $(VENV)/.cluster system-deploy  ## as root: run each playbook of a cluster of three machines, and break each part
	$(BIN)/pytest tests/cluster

cluster: $(VENV)/.development $(VENV)/.cluster system-deploy  ## as root: run three machines on this one, until Ctrl-C
	@$(BIN)/python -m tests.deploy.serve_cluster

cluster-down:  ## remove what `make cluster` has left
	@$(BIN)/python -m tests.deploy.serve_cluster down

test-postgres: $(VENV)/.development $(NODE_MODULES)/.installed system-deploy  ## run the tests on Debian's PostgreSQL, or TASKAPP_TEST_DATABASE_URL
	$(BIN)/python -m tests.deploy.serve_postgres $(BIN)/pytest --ignore=tests/deploy --ignore=tests/cluster -m "not alone" \
	    $(PARALLEL)

test-python:  ## run the core of the tests on each Python from 3.11 on that is here, Debian's own too
	@sh tests/system_packages.sh python
	sh tests/each_python.sh $(VENV)/pythons $(CORE)

lint: $(VENV)/.development $(NODE_MODULES)/.installed  ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry --no-ansi .
	$(NODE_MODULES)/.bin/stylelint --config tests/.stylelintrc.json "static/*.css"
	$(BIN)/bandit --quiet --recursive --severity-level medium server.py taskapp handlers schema
	@git ls-files 2>/dev/null | sh deploy/find_secrets.sh $(BIN)/detect-secrets-hook

types: $(VENV)/.development  ## check types
	$(BIN)/mypy

pytest: $(VENV)/.development $(NODE_MODULES)/.installed system  ## run the tests in parallel, with coverage
	@bash tests/in_turn.sh \
	    '$(BIN)/pytest --ignore=tests/deploy --ignore=tests/cluster -m "not alone" $(PARALLEL) --cov --cov-report=term $(FLOOR)' \
	    '$(BIN)/pytest tests/browser -m alone'

browser: $(VENV)/.development $(NODE_MODULES)/.installed system  ## run the tests that open a browser
	$(BIN)/pytest tests/browser -m "not alone" $(PARALLEL)

image:  ## build the image taskapp with $(ENGINE), and save it in dist/
	$(ENGINE) build --tag taskapp \
	    $(if $(REPOSITORY_URL),--label org.opencontainers.image.source=$(REPOSITORY_URL)) .
	@mkdir -p dist
	$(ENGINE) save taskapp | gzip -n > dist/taskapp-image-linux-$(MACHINE).tar.gz

release-files: $(VENV)/.release  ## complete dist/ for the release of TAG: list of parts, and digests
	$(VENV)/release/bin/python deploy/release/make_files.py "$(TAG)"

man: $(VENV)/.development  ## write the man pages of the commands to dist/man
	@$(BIN)/python deploy/man_pages.py dist/man

wheel: man  ## build dist/taskapp-*.whl, for pipx install
	rm -rf build taskapp.egg-info dist/taskapp-*.whl
	$(BIN)/python deploy/run_pip.py wheel --no-deps --no-build-isolation --wheel-dir dist .
	rm -rf build taskapp.egg-info

binary: wheel $(VENV)/.binary  ## build dist/taskapp, one file that needs no Python
	$(VENV)/binary/bin/python deploy/run_pip.py install --no-deps --force-reinstall dist/taskapp-*.whl
	@echo "Collecting taskapp and Python; PyInstaller says what it does ..."
	$(VENV)/binary/bin/python -m PyInstaller --noconfirm --log-level INFO --distpath build/collected --workpath build/work deploy/binary/taskapp.spec
	@echo "Compressing them with PostgreSQL into one file; this takes half a minute ..."
	$(VENV)/binary/bin/python -m deploy.binary.pack build/collected/taskapp dist/taskapp
	ln -f dist/taskapp dist/taskapp-linux-$(MACHINE)
	rm -rf build

test-binary: $(VENV)/.development system-deploy  ## build dist/taskapp and test it
	$(BIN)/pytest tests/deploy/test_binary.py

soak: $(VENV)/.development system  ## run for ten minutes, and check that nothing grows
	SOAK_SECONDS=600 $(BIN)/pytest -s tests/faults/test_soak.py

bench: $(VENV)/.runtime  ## measure speed, with the installed peers; OPTIONS=--help
	@$(BIN)/python -m bench.compare_peers $(OPTIONS)

system:  ## install, or list, the system packages that the tests need
	@sh tests/system_packages.sh

system-deploy: system  ## install, or list, those that the tests of deploy/ need
	@sh tests/system_packages.sh deploy

format: $(VENV)/.development  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/.development  ## write the lock files from pyproject.toml; OPTIONS=--upgrade
	sh deploy/lock.sh $(BIN)/pip-compile $(OPTIONS)

licences: $(VENV)/.development  ## list the licences of the installed packages
	$(BIN)/python deploy/licences.py

messages: $(VENV)/.development  ## collect the sentences of the pages for translation
	sh deploy/messages.sh $(BIN)/pybabel

images:  ## copy the digests of .github/images/Dockerfile into the workflows, and of Compose's Redis for Kubernetes
	sed -i "$$(sed -n 's/^FROM \([^@]*\)@\(.*\)/s|\1@sha256:[0-9a-f]*|\1@\2|/p' .github/images/Dockerfile)" \
	    .github/workflows/*.yml .gitlab-ci.yml
	sed -i "$$(sed -n 's/^ *image: \(redis:[^@]*\)@\(.*\)/s|\1@sha256:[0-9a-f]*|\1@\2|/p' deploy/compose.yaml)" \
	    deploy/kubernetes/base/limits.yaml deploy/kubernetes/chart/values.yaml

clean:  ## remove the environment and caches; the data folder stays
	rm -rf $(VENV) $(NODE_MODULES) $(DEPLOY_MODULES) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage_data

help:  ## list these targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 16

# Looked at each time: after an upgrade of Python, an environment has no packages for the new one.
$(VENV)/pyvenv.cfg: FORCE
	@sh deploy/environment.sh "$(PYTHON)" $(VENV)

$(VENV)/.runtime: requirements.lock $(VENV)/pyvenv.cfg
	@echo "Installing taskapp's dependencies; this takes a minute, once ..."
	@$(BIN)/python deploy/run_pip.py install --require-hashes -r requirements.lock
	@touch $@

$(VENV)/.development: requirements-dev.lock $(VENV)/pyvenv.cfg
	@echo "Installing the dependencies of the tests; this takes some minutes, once ..."
	@$(BIN)/python deploy/run_pip.py install --require-hashes -r requirements-dev.lock
	@touch $@ $(VENV)/.runtime

$(VENV)/.deploy: tests/deploy/requirements.lock $(VENV)/pyvenv.cfg
	@echo "Installing the dependencies of the tests of deploy/; this takes some minutes, once ..."
	@$(BIN)/python -m venv $(VENV)/deploy
	@$(VENV)/deploy/bin/python deploy/run_pip.py install --require-hashes -r tests/deploy/requirements.lock
	@touch $@

$(VENV)/.cluster: deploy/cluster/requirements.lock $(VENV)/pyvenv.cfg
	@echo "Installing what sets a cluster up; this takes a minute, once ..."
	@$(BIN)/python -m venv $(VENV)/cluster
	@$(VENV)/cluster/bin/python deploy/run_pip.py install --require-hashes -r deploy/cluster/requirements.lock
	@touch $@

$(VENV)/.release: deploy/release/requirements.lock $(VENV)/pyvenv.cfg
	@echo "Installing the tools for a release; this takes a minute, once ..."
	@$(BIN)/python -m venv $(VENV)/release
	@$(VENV)/release/bin/python deploy/run_pip.py install --require-hashes -r deploy/release/requirements.lock
	@touch $@

$(VENV)/.binary: requirements.lock deploy/binary/requirements.lock $(VENV)/pyvenv.cfg
	@echo "Installing the tools for the one file; this takes a minute, once ..."
	@$(BIN)/python -m venv $(VENV)/binary
	@$(VENV)/binary/bin/python deploy/run_pip.py install --require-hashes -r requirements.lock -r deploy/binary/requirements.lock
	@touch $@

$(NODE_MODULES)/.installed: tests/package-lock.json tests/.npmrc | system
	@echo "Installing the npm packages of the tests, once ..."
	@cd tests && npm ci --loglevel=error --no-progress >/dev/null
	@touch $@

$(DEPLOY_MODULES)/.installed: tests/deploy/package-lock.json tests/.npmrc | system
	@echo "Installing what the tests of the OpenAPI document need from npm, once ..."
	@cd tests/deploy && npm ci --loglevel=error --no-progress >/dev/null
	@touch $@
