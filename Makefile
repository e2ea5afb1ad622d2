# hasup: one non-recursive Makefile.  `make` builds the release; `make check` and `make demo` set the
# machine up first (tools/setup).  FLAVOUR is release, debug, asan or tsan.

# Each file that is compiled is one short line; V=1 shows the commands.
ifneq ($(V),1)
.SILENT:
endif

FLAVOUR ?= release
B := build/$(FLAVOUR)
.DEFAULT_GOAL := all

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wmissing-prototypes -Wstrict-prototypes \
        -Wswitch-enum -Wvla
ifeq ($(CI),true)
WARN += -Werror
endif
CFLAGS_release := -O2 -g -D_FORTIFY_SOURCE=2
CFLAGS_debug := -O0 -g
CFLAGS_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
CFLAGS_tsan := -O1 -g -fsanitize=thread
LDFLAGS_asan := -fsanitize=address,undefined
LDFLAGS_tsan := -fsanitize=thread
CFLAGS_ALL := -std=c11 -D_GNU_SOURCE -I. -fPIC -fstack-protector-strong $(WARN) $(CFLAGS_$(FLAVOUR)) $(CFLAGS)
LDFLAGS_ALL := -pie -Wl,-z,relro,-z,now,--gc-sections $(LDFLAGS_$(FLAVOUR)) $(LDFLAGS)

# A module is a directory: its sources become one archive.
MODULES := ipc worker client checkpoints supervisor/core supervisor/sim supervisor/http supervisor
src = $(filter-out %/main.c,$(wildcard $(1)/*.c))
lib = $(B)/$(subst /,_,$(1)).a

define module
$(call lib,$(1)): $(patsubst %.c,$(B)/%.o,$(call src,$(1)))
	@rm -f $$@
	@ar rcs $$@ $$^
endef
$(foreach m,$(MODULES),$(eval $(call module,$(m))))

# Debian's node-llhttp ships its C source; the parser is built from it as it is.
LLHTTP := /usr/share/llhttp
$(B)/llhttp.a: $(LLHTTP)/api.c $(LLHTTP)/http.c $(LLHTTP)/llhttp.c
	@mkdir -p $(B)/llhttp
	@for s in api http llhttp; do $(CC) -O2 -fPIC -w -I/usr/share/include/llhttp $(CFLAGS_$(FLAVOUR)) \
	  -c $(LLHTTP)/$$s.c -o $(B)/llhttp/$$s.o || exit 1; done
	@rm -f $@
	@ar rcs $@ $(B)/llhttp/api.o $(B)/llhttp/http.o $(B)/llhttp/llhttp.o

$(B)/supervisor/http/%.o $(B)/supervisor/probe_http.o: CFLAGS_ALL += -isystem /usr/share/include
$(B)/%.o: %.c
	@mkdir -p $(@D)
	@echo "cc $<"
	$(CC) $(CFLAGS_ALL) -MMD -MP -c $< -o $@

# Unit tests: tests/unit/AREA_name.c links what its AREA needs, no more.
LINK_ipc := ipc
LIBS_ipc := -ljansson
LINK_core := supervisor/core ipc
LINK_sim := supervisor/sim supervisor/core ipc
LINK_checkpoints := checkpoints ipc
LIBS_checkpoints := -lsqlite3 -lxxhash -ljansson
LINK_worker := worker ipc
LIBS_worker := -lxxhash -ljansson -lm
LINK_client := client ipc
LINK_ctl := hasupctl ipc
LIBS_ctl := -ljansson
LINK_shell := supervisor/http supervisor supervisor/core checkpoints ipc
LIBS_shell := $(B)/llhttp.a -lev -lyaml -lsqlite3 -lxxhash -ljansson -lm

ALSO_shell_when := $(B)/hasupctl/when.o # which takes values as the configuration does

UNIT := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/*.c))
area = $(firstword $(subst _, ,$(1)))
define unit
$(B)/tests/$(1): $(B)/tests/unit/$(1).o $(ALSO_$(1)) $(foreach m,$(LINK_$(call area,$(1))),$(call lib,$(m)))
	@mkdir -p $$(@D)
	$(CC) $(LDFLAGS_ALL) -o $$@ $$^ $(LIBS_$(call area,$(1))) -lcmocka -lpthread
endef
$(foreach t,$(UNIT),$(eval $(call unit,$(t))))
$(patsubst %,$(B)/tests/%,$(filter shell_%,$(UNIT))): | $(B)/llhttp.a

# Programs: a main.c each.  Libraries that Debian has as archives are linked in, which starts faster and
# costs less memory than loading them.
STATIC = -Wl,-Bstatic $(1) -Wl,-Bdynamic
OUT := $(if $(filter release,$(FLAVOUR)),build,$(B)/out)
PROGRAMS := $(OUT)/hasupd $(OUT)/hasupctl $(OUT)/hasup-http $(OUT)/libhasup.a $(OUT)/libhasup.so \
            $(if $(wildcard supervisor/sim/main.c),$(B)/hasup-sim)

$(PROGRAMS): | $(OUT)
$(OUT):
	@mkdir -p $@

$(OUT)/hasupd: $(B)/supervisor/main.o $(foreach m,$(LINK_shell),$(call lib,$(m))) $(B)/llhttp.a
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(call STATIC,-lev -lyaml -lsqlite3 -lxxhash -ljansson) -lm -lpthread

$(B)/hasupctl.a: $(patsubst %.c,$(B)/%.o,$(call src,hasupctl))
	@rm -f $@
	@ar rcs $@ $^

# Of supervisor/ the configuration, the cgroups and the filter of events, which need nothing else of it.
CTL_SUPERVISOR := address config config_adapter config_envfile config_json config_keys config_model_keys config_models config_order \
                  config_probe config_process config_sockets config_start config_template config_top_keys config_value config_yaml \
                  cgroup event_filter signals
$(OUT)/hasupctl: $(B)/hasupctl/main.o $(B)/hasupctl.a $(call lib,client) $(call lib,checkpoints) $(call lib,ipc) \
                 $(CTL_SUPERVISOR:%=$(B)/supervisor/%.o)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(call STATIC,-lsqlite3 -lxxhash -ljansson -lyaml -lncurses -ltinfo) -lm -lpthread

LIBHASUP := $(patsubst %.c,$(B)/%.o,$(call src,worker) $(call src,ipc))
$(OUT)/libhasup.a: $(LIBHASUP)
	@rm -f $@
	ar rcs $@ $^

$(OUT)/libhasup.so: $(LIBHASUP)
	$(CC) $(filter-out -pie,$(LDFLAGS_ALL)) -shared -Wl,-soname,libhasup.so.0 -o $@ $^

# hasupd looks for it beside itself.
$(OUT)/hasup-http: $(patsubst %.c,$(B)/%.o,$(wildcard worker/adapters/*.c)) $(OUT)/libhasup.a
	$(CC) $(LDFLAGS_ALL) -o $@ $^ -lcurl

$(B)/hasup-sim: $(B)/supervisor/sim/main.o $(foreach m,$(LINK_sim),$(call lib,$(m)))
	$(CC) $(LDFLAGS_ALL) -o $@ $^

# The bench: hasup, the floors and the peers in one run.
BENCH_WORKERS := first held large noted storm sum
BENCH := $(patsubst %.c,$(B)/%.o,$(filter-out bench/worker_%.c,$(wildcard bench/*.c)))
$(B)/bench/floor_http.o: CFLAGS_ALL += -isystem /usr/share/include
$(B)/bench-all: $(BENCH) $(call lib,client) $(call lib,supervisor/core) $(call lib,checkpoints) $(call lib,ipc) \
                $(B)/llhttp.a
	$(CC) $(LDFLAGS_ALL) -o $@ $^ -lev $(LIBS_checkpoints) -lm -lpthread
$(patsubst %,$(B)/bench-workers/%,$(BENCH_WORKERS)): $(B)/bench-workers/%: $(B)/bench/worker_%.o $(OUT)/libhasup.a
	@mkdir -p $(@D)
	$(CC) -static -o $@ $^

E := $(OUT)/examples
# The simulator with bugs on purpose (supervisor/core/plant.h).
PLANT_SOURCES := $(call src,supervisor/core) $(call src,supervisor/sim) supervisor/sim/main.c
$(B)/hasup-sim-plant: $(PLANT_SOURCES) $(wildcard supervisor/core/*.h supervisor/sim/*.h)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -DHASUP_PLANT $(LDFLAGS_ALL) -o $@ $(PLANT_SOURCES) ipc/base.c

# End to end: the real binaries, killed at chosen points.
E2E_WORKERS := $(patsubst tests/e2e/%.c,$(B)/tests/e2e/%,$(wildcard tests/e2e/*.c))
$(E2E_WORKERS): $(B)/tests/e2e/%: $(B)/tests/e2e/%.o $(OUT)/libhasup.a
	$(CC) $(LDFLAGS_ALL) -o $@ $^

# hasupd with the points where a test may kill it (checkpoints/fault.h): the files that have some are compiled
# anew and stand before the archives, which then have nothing of theirs to add.
FAULT_SOURCES := $(shell grep -l '"checkpoints/fault.h"' $(foreach m,$(LINK_shell),$(call src,$(m)))) \
                 tests/faults/fault.c
FAULT_OBJECTS := $(patsubst %.c,$(B)/faults/%.o,$(FAULT_SOURCES))
$(B)/faults/supervisor/http/%.o: CFLAGS_ALL += -isystem /usr/share/include
$(B)/faults/%.o: %.c
	@mkdir -p $(@D)
	@echo "cc $< (faults)"
	$(CC) $(CFLAGS_ALL) -DHASUP_FAULTS -MMD -MP -c $< -o $@
$(B)/tests/hasupd-faults: $(B)/supervisor/main.o $(FAULT_OBJECTS) $(foreach m,$(LINK_shell),$(call lib,$(m))) \
                          $(B)/llhttp.a
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(call STATIC,-lev -lyaml -lsqlite3 -lxxhash -ljansson) -lm -lpthread

# Writes a slot's newest good state to stdout, for tests that compare states bit for bit.
$(B)/tests/store-state: $(B)/tests/e2e/tools/store_state.o $(call lib,checkpoints) $(call lib,ipc)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS_checkpoints)

# The main job under fire: make demo, make soak.
$(B)/tests/chaos/%.o: CFLAGS_ALL += -isystem /usr/share/include
CHAOS := $(patsubst %.c,$(B)/%.o,$(wildcard tests/chaos/*.c))
$(B)/hasup-chaos: $(CHAOS) $(call lib,client) $(call lib,ipc) $(B)/llhttp.a
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(call STATIC,-ljansson) -lpthread

# Examples: one file each, linked with the worker library as anybody's worker would be.
EXAMPLES := $(patsubst examples/%.c,$(E)/%,$(wildcard examples/*.c))
LIBS_digits := -lfann -lm
LIBS_learner := -lfann -ljansson -lm
LIBS_textgen := -ljansson -lm
$(B)/examples/%.o: CFLAGS_ALL += -DEXAMPLES_DATA='"$(CURDIR)/examples/data"'
$(EXAMPLES): $(E)/%: $(B)/examples/%.o $(OUT)/libhasup.a
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS_$*)

# The programs that trained the examples' weights; no other target needs them.
$(E)/train_%: $(B)/examples/train/train_%.o
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ -lfann -lm

.PHONY: help all setup lint packages bench demo soak e2e check check-release check-asan check-tsan unit tsan python-unit purity sim clean
all: $(foreach m,$(MODULES),$(if $(call src,$(m)),$(call lib,$(m)))) $(PROGRAMS) $(EXAMPLES)

help:
	@echo "make          build the release: build/hasupd, build/hasupctl, build/libhasup.a"
	@echo "make demo     kill workers and hasupd under load for 20 s; set up, build, one minute"
	@echo "make check    everything that a change must pass; sets up and builds"
	@echo "make bench    what it costs, beside the floors and the peers; a few minutes"
	@echo "make soak     hasupd killed at random points, RUNS=300 SEED=1; the demo, longer: SEEDS=\"1 2 3\" SECONDS=120; package-check"
	@echo "make install | uninstall    DESTDIR=, prefix=/usr/local (docs/deploy.md); make dist: the source as one file"
	@echo "make package-check    Debian packages built, checked and installed; a few minutes"
	@echo "make man      the man pages, into build/man/; make install has them built"
	@echo "make setup    install the Debian packages that are missing"
	@echo "make unit | python-unit | sim | e2e | purity | lint    parts of check"
	@echo "make clean    remove build/"
	@echo "FLAVOUR=release|debug|asan|tsan picks a build; V=1 shows its commands"

setup:
	@tools/setup

# Each test is a target of its own (test/unit/ipc_json, test/e2e/test_disk), so that some run side by side: they wait more
# than they compute. Each has its own ports and directories. The long ones are named first, so that none is the last alone.
LONG := checkpoints_audit checkpoints_store checkpoints_journalfault test_killed test_promises test_watchdogs
long_first = $(filter $(LONG),$(1)) $(filter-out $(LONG),$(1))
names = $(call long_first,$(patsubst tests/$(1)/%.py,%,$(wildcard tests/$(1)/test_*.py)))
UNIT_TESTS := $(addprefix test/unit/,$(call long_first,$(UNIT)))
PYTHON_TESTS := $(addprefix test/python/,$(call names,unit))
E2E_TESTS := $(addprefix test/e2e/,$(call names,e2e))
PACKAGE_TESTS := $(addprefix test/packages/,$(call names,packages))
.PHONY: $(UNIT_TESTS) $(PYTHON_TESTS) $(E2E_TESTS) $(PACKAGE_TESTS)

$(UNIT_TESTS): test/unit/%: $(B)/tests/%
	@tools/run-test "$(FLAVOUR) $*" $<

$(PYTHON_TESTS): test/python/%: all $(E2E_WORKERS)
	@tools/run-test "$*" python3 -B tests/unit/$*.py

$(E2E_TESTS): test/e2e/%: all $(E2E_WORKERS) $(B)/tests/store-state $(B)/tests/hasupd-faults
	@HASUP_BUILD=$(OUT) HASUP_OBJECTS=$(B) tools/run-test "$(FLAVOUR) $*" python3 -B tests/e2e/$*.py

$(PACKAGE_TESTS): test/packages/%: all
	@tools/run-test "$*" python3 -B tests/packages/$*.py

unit: $(UNIT_TESTS)
packages: $(PACKAGE_TESTS)
python-unit: $(PYTHON_TESTS)
e2e: $(E2E_TESTS)

# What has threads of its own, under ThreadSanitizer (any flavour's name works; tsan is meant).
tsan: $(filter test/unit/checkpoints_% test/unit/shell_logfiles,$(UNIT_TESTS))

# 2,000 seeds of an hour each, some of them with the core saved and loaded again and again, every planted
# bug is found, and it serves as docs/admission.md says.
sim: $(B)/hasup-sim $(B)/hasup-sim-plant
	@$(B)/hasup-sim --seeds 2000
	@$(B)/hasup-sim --seeds 400 --handover
	@$(B)/hasup-sim --serving
	@tests/sim/plants.sh $(B)/hasup-sim-plant

purity: $(call lib,supervisor/core)
	@tools/purity $<

lint:
	@tools/lint

# Real models answer 16 clients while their workers are killed; fails unless nothing was lost.
PYTHON_DIGITS = $(shell /usr/bin/python3 -c 'import sklearn' 2>/dev/null && echo --python)
demo: setup
	@$(MAKE) --no-print-directory FLAVOUR=release all build/release/hasup-chaos
	@build/release/hasup-chaos --build build --seconds 20 $(PYTHON_DIGITS)

# The same, longer and with other seeds: make soak SEEDS="1 2 3" SECONDS=120
SEEDS ?= 1 2 3
SECONDS ?= 120
# Then hasupd dies at RUNS random points (tests/e2e/killed.py), the first from seed SEED on; and for a
# minute comes five times what workers can do (tests/e2e/overload.py).  Then hasupd replaces itself under load, UPGRADES
# times, and may pause for 50 ms (tests/e2e/pause.py).  For ten seconds orphans come to `hasupd run`, 10,000 a second
# (tests/e2e/orphans.py); and the packages and containers are built and tried.
RUNS ?= 300
SEED ?= 1
UPGRADES ?= 30
soak: all $(B)/hasup-chaos $(E2E_WORKERS) $(B)/tests/hasupd-faults $(B)/bench-workers/storm
	@HASUP_BUILD=$(OUT) HASUP_OBJECTS=$(B) python3 -B tests/e2e/killed.py --seed $(SEED) --runs $(RUNS)
	@for s in $(SEEDS); do \
	  $(B)/hasup-chaos --build $(OUT) --seconds $(SECONDS) --seed $$s $(PYTHON_DIGITS) || exit 1; done
	@HASUP_BUILD=$(OUT) HASUP_OBJECTS=$(B) python3 -B tests/e2e/overload.py
	@HASUP_BUILD=$(OUT) HASUP_OBJECTS=$(B) python3 -B tests/e2e/pause.py $(UPGRADES)
	@HASUP_BUILD=$(OUT) HASUP_OBJECTS=$(B) python3 -B tests/e2e/orphans.py
	@$(MAKE) --no-print-directory package-check

# All of it, or make bench ONLY=relay (restart spares memory slots upgrade relay requests durable recovery bodies http
# checkpoint state serving init orphans core).
ONLY ?=
bench:
	@tools/setup bench
	@$(MAKE) --no-print-directory FLAVOUR=release all build/release/bench-all \
	  $(patsubst %,build/release/bench-workers/%,$(BENCH_WORKERS))
	@build/release/bench-all $(CURDIR)/build $(CURDIR)/build/release/bench-workers $(ONLY)

check:
	@tools/setup check
	@tools/lint
	@$(MAKE) --no-print-directory -j$(JOBS) -Otarget check-release check-asan check-tsan
	@echo "check: all passed"

# More at once than there are processors, because tests wait more than they compute.
JOBS ?= $(shell expr 2 \* $$(nproc))

check-release:
	@$(MAKE) --no-print-directory FLAVOUR=release CI=true all purity sim unit python-unit packages e2e

check-asan:
	@$(MAKE) --no-print-directory FLAVOUR=asan CI=true unit e2e

check-tsan:
	@$(MAKE) --no-print-directory FLAVOUR=tsan CI=true tsan

# ---- man pages: docs/man/NAME.N.scd becomes build/man/manN/NAME.N; where there is no scdoc, nothing is installed ----

page = build/man/man$(subst .,,$(suffix $(1)))/$(1)
PAGES := $(patsubst docs/man/%.scd,%,$(wildcard docs/man/*.scd))
MAN := $(if $(shell command -v scdoc),$(foreach p,$(PAGES),$(call page,$(p))))
MAN_SOURCES := tools/man supervisor.yaml.example $(wildcard docs/*.md)
define man_page
$(call page,$(1)): docs/man/$(1).scd $(MAN_SOURCES)
	@mkdir -p $$(@D)
	@tools/man $$< >$$@.$$$$$$$$ && mv $$@.$$$$$$$$ $$@ || { rm -f $$@.$$$$$$$$; exit 1; }
endef
$(foreach p,$(PAGES),$(eval $(call man_page,$(p))))

.PHONY: man
man: $(MAN)
	@$(if $(MAN),:,echo "make man: scdoc is missing, so there are no man pages; make setup installs it" >&2)

# ---- installing: DESTDIR, prefix and the usual directories; docs/deploy.md ----

VERSION := $(shell sed -n 's/^.define HASUP_VERSION "\(.*\)"/\1/p' ipc/base.h)
prefix ?= /usr/local
exec_prefix ?= $(prefix)
bindir ?= $(exec_prefix)/bin
libdir ?= $(exec_prefix)/lib
includedir ?= $(prefix)/include
datadir ?= $(prefix)/share
docdir ?= $(datadir)/doc/hasup
mandir ?= $(datadir)/man
schemadir ?= $(datadir)/hasup/schemas
zshdir ?= $(datadir)/zsh/site-functions
sysconfdir ?= $(if $(filter /usr,$(prefix)),/etc,$(prefix)/etc)
crondir ?= $(sysconfdir)/cron.d
pkgconfigdir ?= $(libdir)/pkgconfig
systemdsystemunitdir ?= $(prefix)/lib/systemd/system
sysusersdir ?= $(prefix)/lib/sysusers.d
# Where Debian's python3 looks.
pythondir ?= $(prefix)/lib/python3$(if $(filter /usr,$(prefix)),,$(shell python3 -c \
               'import sys; print(".%d" % sys.version_info[1])'))/dist-packages
INSTALL ?= install
# Who runs hasupd, and with it the audit of cron.
HASUP_USER ?= hasup

# MODE:FILE:WHERE.  What stands in build/install/ is made of a file of deploy/, with this prefix's paths.
MADE := build/install
INSTALLED := 755:build/hasupd:$(bindir)/hasupd 755:build/hasupctl:$(bindir)/hasupctl \
  755:build/hasup-http:$(bindir)/hasup-http \
  644:build/libhasup.a:$(libdir)/libhasup.a 644:build/libhasup.so:$(libdir)/libhasup.so.$(VERSION) \
  644:worker/hasup.h:$(includedir)/hasup.h 644:$(MADE)/libhasup.pc:$(pkgconfigdir)/libhasup.pc \
  644:$(MADE)/hasup.service:$(systemdsystemunitdir)/hasup.service \
  644:deploy/systemd/hasup.sysusers:$(sysusersdir)/hasup.conf 644:$(MADE)/hasup-audit:$(crondir)/hasup-audit \
  644:deploy/systemd/hasup.yaml:$(docdir)/examples/hasup.yaml \
  644:supervisor.yaml.example:$(docdir)/examples/supervisor.yaml.example \
  644:completion/hasup.bash:$(datadir)/bash-completion/completions/hasupctl \
  644:completion/hasup.bash:$(datadir)/bash-completion/completions/hasupd \
  $(foreach f,hasupctl hasupd,644:completion/_$(f):$(zshdir)/_$(f) \
    644:completion/$(f).fish:$(datadir)/fish/vendor_completions.d/$(f).fish) \
  $(foreach f,README.md CHANGELOG.md $(wildcard docs/*.md),644:$(f):$(docdir)/$(f)) \
  $(foreach f,$(wildcard docs/schemas/*.json),644:$(f):$(schemadir)/$(notdir $(f))) \
  $(foreach f,$(MAN),644:$(f):$(mandir)/$(f:build/man/%=%)) \
  $(foreach f,$(wildcard deploy/prometheus/* deploy/grafana/*),644:$(f):$(docdir)/examples/$(notdir $(f))) \
  $(foreach f,$(wildcard worker/python/hasup/*.py worker/python/hasup/py.typed), \
    644:$(f):$(pythondir)/hasup/$(notdir $(f)))
LINKS := libhasup.so.$(VERSION):$(libdir)/libhasup.so.0 libhasup.so.0:$(libdir)/libhasup.so
part = $(word $(2),$(subst :, ,$(1)))
WITH_PATHS = sed -e 's,/usr/bin/hasup,$(bindir)/hasup,g' -e 's,/etc/hasup\.yaml,$(sysconfdir)/hasup.yaml,g'

.PHONY: install uninstall dist package-check install-made
install-made:
	@mkdir -p $(MADE)
	@sed -e 's,@prefix@,$(prefix),' -e 's,@libdir@,$(libdir),' -e 's,@includedir@,$(includedir),' \
	  -e 's,@version@,$(VERSION),' worker/libhasup.pc.in >$(MADE)/libhasup.pc
	@$(WITH_PATHS) deploy/systemd/hasup.service >$(MADE)/hasup.service
	@$(WITH_PATHS) -e 's,  root  ,  $(HASUP_USER)  test ! -e $(sysconfdir)/hasup.yaml || ,' \
	  deploy/cron/hasup-audit >$(MADE)/hasup-audit

install: build/hasupd build/hasupctl build/hasup-http build/libhasup.a build/libhasup.so install-made man
	$(foreach i,$(INSTALLED),$(INSTALL) -D -m $(call part,$(i),1) $(call part,$(i),2) '$(DESTDIR)$(call part,$(i),3)' &&) :
	$(foreach i,$(LINKS),ln -sf $(call part,$(i),1) '$(DESTDIR)$(call part,$(i),2)' &&) :
	$(if $(DESTDIR),,ldconfig 2>/dev/null || :)

# What install put there, man pages also where scdoc is gone by now, and the directories that are of hasup alone; the
# configuration and the states stay.
uninstall:
	rm -f $(foreach p,$(PAGES),'$(DESTDIR)$(mandir)/$(patsubst build/man/%,%,$(call page,$(p)))') \
	  $(foreach i,$(INSTALLED),'$(DESTDIR)$(call part,$(i),3)') $(foreach i,$(LINKS),'$(DESTDIR)$(call part,$(i),2)')
	rm -rf '$(DESTDIR)$(pythondir)/hasup/__pycache__'
	for d in '$(pythondir)/hasup' '$(schemadir)' '$(datadir)/hasup' '$(docdir)/docs' '$(docdir)/examples' '$(docdir)'; do \
	  [ ! -d "$(DESTDIR)$$d" ] || rmdir --ignore-fail-on-non-empty "$(DESTDIR)$$d"; done

# The commit as a source tarball: the same bytes from the same commit, whoever makes it.
DIST := hasup-$(VERSION)
dist:
	@git rev-parse -q --verify HEAD >/dev/null || { echo "make dist: this is no git repository" >&2; exit 1; }
	@mkdir -p build
	@git -c tar.umask=0022 archive --format=tar --prefix=$(DIST)/ HEAD | gzip -n -9 >build/$(DIST).tar.gz
	@echo "build/$(DIST).tar.gz"

# What takes minutes: the tarball built; the Debian packages built, checked by lintian and installed; what is in deploy/ judged,
# and the container's image built and run.
package-check: build/libhasup.a
	@tools/setup package
	@python3 -B tests/packages/package_check.py
	@python3 -B tests/packages/deploy_check.py

clean:
	rm -rf build

-include $(shell find build -name '*.d' 2>/dev/null)
