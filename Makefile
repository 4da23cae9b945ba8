# Each target does its own set-up. Tools are cached in ~/.cache/backstay (BACKSTAY_CACHE), outside the clone.
.DEFAULT_GOAL := help
.PHONY: help setup
PYTHON ?= python3
CARGO ?= cargo

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## fetch the pinned tools (mongod, mongodump, mongorestore, rclone), each checked by its sum
	@$(PYTHON) tools/setup.py
