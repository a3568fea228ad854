# run    the main job: boot the patched kernel, insmod modules from a share
# test   every test: unit, process and end-to-end
# Everything else is a step of these two or a convenience; see `make help`.

SHELL := /bin/bash
.DEFAULT_GOAL := help

CARGO ?= cargo
BIN := $(or $(CARGO_TARGET_DIR),target)/release

# SETUP=no leaves the system's packages alone.
SETUP ?= yes
# For file systems in images, and for other users.
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo --preserve-env=HOME,PATH,XDG_CACHE_HOME,MINUTES,TEST_SANDBOX)
# What `make run` boots and shares.
KERNEL_VERSION ?= 6.1
# Where make install puts things; DESTDIR before it for packages.
PREFIX ?= /usr/local

# What `make test` boots. A version takes a tree for patched, which makes stock on the way,
# and one for test.
KERNEL_VERSIONS := 6.1 6.12

.PHONY: install deb static test-ci test-suites test-install test-kconfig help run test conformance conformance-short mutants fuzz test-driver test-debug unit e2e compare perf perf-gate perf-slower perf-build sandbox-cost kernel kernels series build setup check fmt clean

help:
	@echo 'make run      boot the patched guest kernel and insmod modules from a shared directory'
	@echo 'make test     unit, process and end-to-end tests (in the lab where KVM cannot boot Linux)'
	@echo 'make install  vmm, its manual pages and completions, below DESTDIR and PREFIX ($(PREFIX))'
	@echo 'make deb      a Debian package of the same'
	@echo 'make static   vmm without shared libraries, for any x86-64 Linux, in $(BIN)/static'
	@echo 'make test-install  make install, deb and static, and what they make'
	@echo 'make test-ci  the files for CI services, against their schemas'
	@echo 'make test-suites  KUnit and kselftest in a guest, as the README has them'
	@echo 'make test-kconfig  kernels of make defconfig and vmm kconfig, built and booted, and'
	@echo '              gdb with the scripts of the kernel; an hour or two, not part of make test'
	@echo 'make compare  measure the strategies of the guest driver again, into guest-kernel/comparison.md'
	@echo 'make perf     count what requests cost, natively and in the lab, and find regressions'
	@echo '              (BASE=REVISION: against that; else against the counts on record;'
	@echo '              PEER=yes: beside QEMU with virtiofsd)'
	@echo 'make sandbox-cost  instructions of the whole host with and without the sandbox'
	@echo 'make build    the vmm and lab programs, in $(BIN)'
	@echo 'make kernel   the guest kernel of make run, patched and stock, with its modules'
	@echo 'make kernels  every guest kernel that make test boots'
	@echo 'make test-driver only the tests of the guest driver, on 6.1 and 6.12'
	@echo 'make test-debug  the same on kernels with KASAN, lockdep and kmemleak; not part of make test'
	@echo 'make conformance  suites of others on native mounts, into tests/conformance/results.md; hours'
	@echo 'make mutants  a sample of small changes to the devices, which their unit tests must notice'
	@echo '              (ALL=yes: all of them; hours)'
	@echo 'make fuzz     what a guest and a user write, by libFuzzer, for MINUTES=10'
	@echo 'make series   the kernel patches: they apply, build without a warning, pass checkpatch'
	@echo '              (NEXT=yes: on the newest source that Debian has)'
	@echo 'make check    formatting and lints, and of make series what takes seconds'
	@echo 'make fmt      format the code'
	@echo
	@echo 'SETUP=no      do not install Debian packages that are missing'

setup:
	@[ '$(SETUP)' = no ] || resources/setup/install-packages \
	    resources/setup/packages.txt guest-kernel/packages.txt tests/packages.txt

build: setup
	$(CARGO) build --release --locked -p vmm -p tests -p perf

# Builds nothing, since it may be root that installs.
install:
	@[ -x $(BIN)/vmm ] || { echo 'make install: error: no $(BIN)/vmm; run make build first' >&2; exit 1; }
	install -D -m 755 $(BIN)/vmm $(DESTDIR)$(PREFIX)/bin/vmm
	set -e; for page in vmm vmm-run vmm-kconfig vmm-man vmm-completions; do \
	    mkdir -p $(DESTDIR)$(PREFIX)/share/man/man1; \
	    $(BIN)/vmm man $$page >$(DESTDIR)$(PREFIX)/share/man/man1/$$page.1; \
	done
	set -e; while read -r shell file; do \
	    mkdir -p "$$(dirname "$(DESTDIR)$(PREFIX)/share/$$file")"; \
	    $(BIN)/vmm completions $$shell >"$(DESTDIR)$(PREFIX)/share/$$file"; \
	done <<<$$'bash bash-completion/completions/vmm\nzsh zsh/vendor-completions/_vmm\nfish fish/vendor_completions.d/vmm.fish'

# cargo install cargo-deb, if there is none. The tree is what make install makes.
deb: build
	@command -v cargo-deb >/dev/null || { echo 'make deb: error: no cargo-deb; run cargo install cargo-deb' >&2; exit 1; }
	rm -rf target/deb && $(MAKE) --no-print-directory install DESTDIR=target/deb PREFIX=/usr
	$(CARGO) deb --no-build --no-strip -p vmm

# The target is named, so that build scripts are linked as usual.
TARGET := x86_64-unknown-linux-gnu

static: setup
	RUSTFLAGS='-C target-feature=+crt-static' $(CARGO) build --release --locked -p vmm --target $(TARGET)
	install -D -m 755 $(or $(CARGO_TARGET_DIR),target)/$(TARGET)/release/vmm $(BIN)/static/vmm

test-install: deb static
	BIN=$(BIN) tests/install/check

kernel: setup
	guest-kernel/build --version $(KERNEL_VERSION)

# One after the other: each uses all processors.
kernels: setup
	set -e; for version in $(KERNEL_VERSIONS); do \
	    for variant in patched stock test; do \
	        guest-kernel/build --version $$version --variant $$variant; \
	    done; \
	done

# Looks only at what changed since it last passed. NEXT=yes tries the newest source
# that Debian has.
series: setup
	guest-kernel/check-series $(if $(filter yes,$(NEXT)),--newest)

run: build kernel
	BIN=$(BIN) KERNEL_VERSION=$(KERNEL_VERSION) resources/demo/insmod-from-share

test: unit test-ci conformance-short e2e test-suites perf-gate sandbox-cost

# What CI services read, against their schemas.
test-ci: setup
	tests/ci/check

# The suites of the kernel's own, as the README has them.
test-suites: build kernels
	BIN=$(BIN) tests/suites/run

# Not part of test: a full kernel for each version takes half an hour.
test-kconfig: build
	set -e; for version in $(KERNEL_VERSIONS); do \
	    BIN=$(BIN) tests/kconfig/boot $$version; \
	    BIN=$(BIN) tests/gdb/kernel-scripts $$version; \
	done

# The native tests mount, and are several users: for root.
TEST_AS_ROOT := CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER='$(or $(AS_ROOT),env)' $(CARGO) test

unit: setup
	CARGO='$(CARGO)' AS_ROOT='$(AS_ROOT)' tests/unit

e2e: build kernels
	$(CARGO) test --locked -p tests --test lab -- --test-threads=1
	CARGO='$(CARGO)' tests/able || export E2E_LAB=1; $(CARGO) test --locked -p tests --test e2e

# What others wrote: every suite on every file system in every cache mode, for
# root and an ordinary user; then random operations for so many MINUTES; then the suites
# in guests. Hours; make test has the short part. FILTER, such as
# FILTER='--suite git --backend xfs', runs a part of the first, and the page of results
# keeps the rest.
MINUTES ?= 60

conformance: build
	@[ '$(SETUP)' = no ] || resources/setup/install-packages tests/conformance/packages.txt
	$(BIN)/conformance --install
	$(AS_ROOT) $(BIN)/conformance --results tests/conformance/results.md $(FILTER)
	MINUTES=$(MINUTES) $(TEST_AS_ROOT) --locked -p tests --test differential -- \
	    --ignored --nocapture for_an_hour
	$(CARGO) test --locked -p tests --test e2e -- --ignored ::all_of_

conformance-short: build
	$(BIN)/conformance --install --short
	$(AS_ROOT) $(BIN)/conformance --short
	$(TEST_AS_ROOT) --locked -p tests --test differential

# Whether the unit tests of the devices notice what is wrong with these. Half an
# hour; not part of test. ONLY, such as ONLY=passthrough/budget, takes those with
# a matching name.
mutants: setup
	tests/mutants/run $(if $(filter yes,$(ALL)),--all) $(if $(ONLY),--only '$(ONLY)')

# What it finds is left in target/fuzz; what is kept of it goes into tests/fuzz/corpus,
# which make test runs once more.
fuzz: MINUTES = 10
fuzz: setup
	CARGO='$(CARGO)' tests/fuzz/run $(MINUTES)

# A part of e2e, for those who change the driver.
test-driver: build kernels
	for theme in driver_6_1:: driver_6_12:: insmod_6_12::; do \
	    $(CARGO) test --locked -p tests --test e2e -- --test-threads=1 $$theme || exit; \
	done

# Not part of test: the kernels take longer to build and to run than all else.
test-debug: build
	for theme in driver_debug_6_1:: driver_debug_6_12::; do \
	    $(CARGO) test --locked -p tests --test e2e -- --test-threads=1 --ignored $$theme || exit; \
	done

compare: build
	@[ '$(SETUP)' = no ] || resources/setup/install-packages guest-kernel/comparison/packages.txt
	$(BIN)/compare

# What requests cost, counted: by the device alone and by a guest in the lab, or by one of
# them (SOURCE=native, SOURCE=lab). Against the revision BASE, or else the counts on record,
# which UPDATE=yes replaces. PEER=yes has QEMU with virtiofsd do the same in the lab. FILTER
# takes the operations with that in their name, JSON=FILE keeps the results. The program says
# by its status what make makes a 2 of.
perf: SOURCE = native lab
perf: HTML = $(or $(CARGO_TARGET_DIR),target)/perf.html
perf: perf-build build kernel
	$(BIN)/perf $(SOURCE:%=--source %) $(if $(BASE),--base '$(BASE)') \
	    $(if $(filter yes,$(UPDATE)),--update) $(if $(filter yes,$(PEER)),--peer) \
	    $(if $(JSON),--json '$(JSON)') --html '$(HTML)' $(FILTER)

# As make test has it.
perf-gate: perf-build build kernel
	CARGO='$(CARGO)' tests/perf/gate

# By a clock that counts instructions, so in the lab on any host.
sandbox-cost: build kernel
	BIN=$(BIN) tests/sandbox/cost

# Whether it notices what it is for; it builds what is measured once for each patch.
perf-slower: perf-build build kernel
	tests/perf/slower/run

# The bench by itself, as it is built of BASE: features that other packages want
# change it.
perf-build: setup
	$(CARGO) build --release --locked -p perf
	$(CARGO) build --release --locked -p device-bench

check: setup
	resources/setup/check-dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --locked -p tests --test e2e --test lab --test native --test differential \
	    -- -D warnings
	guest-kernel/check-series --no-build

fmt:
	$(CARGO) fmt --all

clean:
	$(CARGO) clean
