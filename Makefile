# `make` explains the targets. What they do is in make/, one script each.
.DEFAULT_GOAL := help
.PHONY: help up down test bench soak build images generate lint push tools

help: ## Explain the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  KUBECONFIG=FILE make up REGISTRY=HOST/PATH   the same on a cluster of yours, by way of your registry"

up: ## Start a local cluster, install Sparks, run the example; quick when nothing changed
	@make/up

down: ## Stop the local cluster and remove all of it
	@make/down

test: ## Run all tests, those that need a cluster included
	@make/test

bench: ## Measure forks, starts, memory, SSH and HTTP on the local cluster
	@make/test bench
	@make/test bench-ssh

soak: ## Keep the local cluster busy, and check that nothing is lost
	@make/test soak

build: ## Build the programs into build/bin
	@make/build

images: build ## Build the images into build/images
	@images/build

generate: tools ## Write crds/, manifests/ and the API reference from their sources
	@cargo run -q --locked -p xtask -- generate

lint: tools ## Check style, walls, generated files, scripts, charts and dependencies
	@make/lint

push: ## Build the images and push them: make push REGISTRY=HOST/PATH [TAG=…]
	@images/push "$(REGISTRY)" $(TAG)

tools: ## Check that the tools are there, and install what can be installed
	@make/tools
