# Headrace: everything that is done with this repository, one target each. `make help` lists them.
#
# One profile (release) serves the demo, the tests and the labs, so that nothing is compiled twice.

# What the build and the labs need from Debian.
PACKAGES := clang llvm libbpf-dev linux-libc-dev pkg-config make gcc libc6-dev \
	containerd runc busybox-static containernetworking-plugins iproute2 iptables nftables ethtool iperf3 tcpdump strace iputils-ping procps util-linux \
	tmux tshark \
	chromium fonts-inter prometheus curl openssl valgrind
# Labs run two at a time: each measures on the same cores.
LAB_THREADS ?= 2
# A failed check says what and where; the way through the test harness adds nothing.
export RUST_LIB_BACKTRACE ?= 0
# The plugin in the image is linked statically, which a native build cannot be, for its compiler plugins.
HOST = $(shell rustc -vV | sed -n 's/^host: //p')

.PHONY: help deps build image demo test fmt lint web screenshots kube-proxy-oracle kube-cluster unit labs fuzz-replay bench \
	bench-pipeline bench-wire bench-cost bench-services bench-commit bench-readme bench-counters bench-capture soak bench-cni clean-labs

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

deps: ## install what the build and the labs need (Debian, as root); quick when all is there
	@dpkg-query -W -f='$${db:Status-Abbrev}\n' $(PACKAGES) 2>/dev/null | grep -c '^ii' | grep -qx $(words $(PACKAGES)) \
		|| { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $(PACKAGES); }

build: ## compile all binaries into target/release
	cargo build --release --workspace --locked

image: deps build ## one OCI image of all programs (target/headrace.tar), for containerd, podman or docker to import
	cargo build --release --locked -p headrace-cni --target $(HOST) --config 'target.$(HOST).rustflags=["-C","target-feature=+crt-static"]'
	deploy/image/build.sh target/release target/$(HOST)/release/headrace-cni target/headrace.tar

demo: deps build ## bring a lab up, measure every path beside the kernel's, print one table (target/demo.json); KEEP=1 leaves it up
	target/release/headrace-lab demo --json target/demo.json $(if $(KEEP),--keep)

test: deps lint web build kube-proxy-oracle unit fuzz-replay labs ## all that CI checks

lint: ## formatting, and clippy's findings as errors
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets --locked -- -D warnings

web: ## check and test the dashboard's page (control/web), and that its built form is up to date; needs node 20
	@if command -v npm >/dev/null; then cd control/web && npm ci --no-fund --no-audit && npm run check && npm test && npm run verify; \
	else echo "SKIPPED: the dashboard's page is not checked: node 20 or later is not installed"; [ "$$CI" != true ]; fi

screenshots: deps build web ## pictures of the dashboard in both themes, with a lab behind it (docs/)
	control/web/e2e/screenshots.sh docs/dashboard

fmt: ## format all code
	cargo fmt --all

unit: ## unit tests, property tests, packet walks, examples in the documentation
	cargo test --release --workspace --locked --exclude headrace-lab
	cargo test --release --locked -p headrace-lab --lib --bins

kube-proxy-oracle: ## kube-proxy's own choice of endpoints as a program, which the tests compare ours with (Go)
	@$(call go-program,oracle,comparison with kube-proxy)

kube-cluster: ## Kubernetes as one program, for the labs with an API server (Go; minutes the first time)
	@$(call go-program,cluster,lab with an API server)
	@$(call go-program,dns,lab with a DNS server)
	@$(call go-program,flannel,lab with flanneld)

# Without Go it says so and goes on; with CI=true that is an error.
go-program = tests/k8s/build.sh $(1) >/dev/null || { [ $$? = 3 ] && [ "$$CI" != true ] && echo "SKIPPED: no $(2)"; }

labs: image kube-cluster ## tests on real frames between network namespaces (root)
	cargo test --release --locked -p headrace-lab --test labs -- --test-threads=$(LAB_THREADS)

fuzz-replay: ## every input that fuzzing has kept, as a normal test
	@if [ -d dataplane/fuzz/corpus ]; then cargo test --release --locked -p headrace-dataplane --test corpus; \
	else echo "SKIPPED: there is no dataplane/fuzz/corpus"; [ "$$CI" != true ]; fi

# Written to target/bench: result.json, report.html, plots.
BENCH = target/release/headrace-lab bench $(if $(QUICK),--scope quick) $(if $(COMPARE),--compare $(COMPARE))

bench: deps build ## measure everything, ~20 minutes (QUICK=1: three); COMPARE=old.json prints what moved beyond the noise (root)
	$(BENCH)

bench-pipeline: deps build ## ns per packet with ports in memory (criterion), and instructions counted by callgrind
	$(BENCH) pipeline

bench-wire: deps build ## throughput and latency of every path and driver, in turns with the kernel's (root)
	$(BENCH) wire

bench-cost: deps build ## cores per Gbit/s, and what an idle node takes (root)
	$(BENCH) cost

bench-services: deps build ## what Services cost against their number (root)
	$(BENCH) services

bench-commit: bench ## the same as bench, then keep the result in docs/bench and put its figures into README.md
	mkdir -p docs/bench && cp target/bench/result.json docs/bench/
	$(MAKE) bench-readme

bench-readme: build ## make README.md's figures, the page and the plots from docs/bench/result.json
	target/release/headrace-lab bench-readme

soak: build ## what tests do for seconds, for longer: changes of endpoints (root)
	HEADRACE_SOAK_SECONDS=30 cargo test --release --locked -p headrace-lab --test labs -- endpoint_churn --nocapture

bench-counters: ## what the counters cost: the pipeline with them and without, in turns; ratios of times
	cargo bench --locked -p headrace-bench --bench counters --no-default-features --target-dir target/without-counters --no-run
	cargo bench --locked -p headrace-bench --bench counters -- \
		$(CURDIR)/$$(ls -t target/without-counters/release/deps/counters-* | grep -v '\.d$$' | head -1)

bench-capture: build ## throughput beside a capture of everything against without it, in turns (root)
	HEADRACE_ROUNDS=15 cargo test --release --locked -p headrace-lab --test labs -- --ignored a_capture_of_everything --nocapture

bench-cni: build ## how long the CNI plugin takes, for pods one after another and fifty at once
	target/release/headrace-lab cni-latency

clean-labs: ## remove every lab of this machine, also what a crash has left
	target/release/headrace-lab down --all
