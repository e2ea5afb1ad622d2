/*
 * config_process.c: the keys under `process:` as what the kernel is told.  Looks up no user: a name
 * that is not there yet is a start that fails, not a configuration that is wrong (check.c tells).
 * Failure mode: a value that means nothing is an error with its place.
 */
#include "supervisor/config_tree.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const capability_names[] = {
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid",
    "setpcap", "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw",
    "ipc_lock", "ipc_owner", "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct",
    "sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time", "sys_tty_config", "mknod",
    "lease", "audit_write", "audit_control", "setfcap", "mac_override", "mac_admin", "syslog",
    "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore"};

static const struct {
    const char *name;
    int resource;
} rlimit_names[] = {{"as", RLIMIT_AS},           {"core", RLIMIT_CORE},
                    {"cpu", RLIMIT_CPU},         {"data", RLIMIT_DATA},
                    {"fsize", RLIMIT_FSIZE},     {"locks", RLIMIT_LOCKS},
                    {"memlock", RLIMIT_MEMLOCK}, {"msgqueue", RLIMIT_MSGQUEUE},
                    {"nice", RLIMIT_NICE},       {"nofile", RLIMIT_NOFILE},
                    {"nproc", RLIMIT_NPROC},     {"rss", RLIMIT_RSS},
                    {"rtprio", RLIMIT_RTPRIO},   {"rttime", RLIMIT_RTTIME},
                    {"sigpending", RLIMIT_SIGPENDING}, {"stack", RLIMIT_STACK}};

/* A whole number, all of the text. */
static bool whole(const char *text, int base, long low, long high, int *value)
{
    char *end;
    errno = 0;
    long got = strtol(text, &end, base);
    if (end == text || *end || errno || got < low || got > high)
        return false;
    *value = (int)got;
    return true;
}

/* "0-3,6": false where it is no such list. */
static bool read_cpus(const char *text, cpu_set_t *cpus)
{
    CPU_ZERO(cpus);
    do {
        char *end;
        unsigned long from = strtoul(text, &end, 10), to = from;
        if (*text < '0' || *text > '9')
            return false;
        text = end;
        if (*text == '-') {
            if (text[1] < '0' || text[1] > '9')
                return false;
            to = strtoul(text + 1, &end, 10);
            text = end;
        }
        if (to < from || to >= CPU_SETSIZE)
            return false;
        for (unsigned long cpu = from; cpu <= to; cpu++)
            CPU_SET(cpu, cpus);
    } while (*text++ == ',');
    return text[-1] == '\0';
}

static void read_capabilities(const struct config_section *section,
                              const struct config_process *process, struct attributes *a)
{
    char **names = process->capabilities;
    a->sets_capabilities = names != NULL;
    for (; names && *names; names++) {
        const char *near = NULL;
        unsigned best = UINT32_MAX;
        bool known = strcmp(*names, "none") == 0;
        for (size_t i = 0; i < HASUP_LEN(capability_names) && !known; i++) {
            const char *name = capability_names[i];
            unsigned distance = config_distance(*names, name);
            known = distance == 0;
            if (known)
                a->capabilities |= UINT64_C(1) << i;
            else if (distance * 3 <= strlen(name) + 1 && distance < best) {
                best = distance;
                near = name;
            }
        }
        if (!known)
            config_complain(section, "process.capabilities",
                            "there is no capability \"%.40s\"%s%s%s", *names,
                            near ? "; did you mean \"" : "",
                            near ? near : "; they are written like net_admin",
                            near ? "\"?" : "");
    }
}

static bool read_limit(const char *text, rlim_t *limit)
{
    uint64_t value;
    *limit = RLIM_INFINITY;
    if (strcmp(text, "unlimited") == 0)
        return true;
    if (config_size(text, &value))
        return false;
    *limit = value;
    return true;
}

static void read_rlimits(const struct config_section *section, const struct config_process *process,
                         struct attributes *a)
{
    for (char **at = process->rlimits; at && *at; at++) {
        size_t len = strcspn(*at, "="), i = 0;
        const char *value = *at + len + 1;
        rlim_t limit;
        while (i < HASUP_LEN(rlimit_names) && (strlen(rlimit_names[i].name) != len ||
                                               strncmp(rlimit_names[i].name, *at, len) != 0))
            i++;
        if (i == HASUP_LEN(rlimit_names)) {
            config_complain(
                section, "process.rlimits",
                "there is no limit \"%.*s\"; known: as, core, cpu, data, fsize, locks, "
                "memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending, "
                "stack",
                (int)(len < 40 ? len : 40), *at);
        } else if (!read_limit(value, &limit)) {
            config_complain(
                section, "process.rlimits",
                "%s: expected a number, a size such as 64MiB, or unlimited; found \"%.40s\"",
                rlimit_names[i].name, value);
        } else { /* a map has each name once, so there is room */
            a->rlimits[a->rlimit_count].resource = rlimit_names[i].resource;
            a->rlimits[a->rlimit_count++].limit = (struct rlimit){limit, limit};
        }
    }
}

/* What the kernel is told, and a start that fails says. */
static bool read_paths(struct config_process *process, struct attributes *a)
{
    size_t count = 0;
    while (process->read_only_paths && process->read_only_paths[count])
        count++;
    process->read_only = count ? calloc(count + 1, sizeof *process->read_only) : NULL;
    for (size_t i = 0; process->read_only && i < count; i++)
        if (asprintf(&process->read_only[i], ATTRIBUTES_READ_ONLY "%s",
                     process->read_only_paths[i]) < 0) {
            process->read_only[i] = NULL;
            return false;
        }
    a->read_only = process->read_only;
    if (process->private_tmp)
        snprintf(a->tmp, sizeof a->tmp, "mode=1777,size=%llu",
                 (unsigned long long)process->private_tmp);
    return !count || process->read_only;
}

/* A copy, unless they say nothing: with a thousand programs that is a megabyte. */
static bool keep(struct config_process *process, const struct attributes *a)
{
    static const struct attributes nothing;
    if (memcmp(a, &nothing, sizeof *a) == 0)
        return true;
    process->attributes = malloc(sizeof *a);
    if (process->attributes)
        *process->attributes = *a;
    return process->attributes != NULL;
}

void config_process_read(struct config_process *process, const struct config_section *section)
{
    struct attributes all = {0}, *a = &all;
    int mask = 0;
    *a = (struct attributes){.sets_umask = process->umask,
                             .sets_nice = process->nice,
                             .sets_cpus = process->cpus,
                             .sets_oom_score = process->oom_score,
                             .sets_user = process->user || process->group,
                             .no_new_privs = process->no_new_privs};
    if (process->umask && !whole(process->umask, 8, 0, 0777, &mask))
        config_complain(section, "process.umask",
                        "expected octal digits such as \"027\"; found \"%.40s\"", process->umask);
    a->umask = (mode_t)mask;
    if (process->nice && !whole(process->nice, 10, -20, 19, &a->nice))
        config_complain(section, "process.nice", "expected -20 to 19; found \"%.40s\"",
                        process->nice);
    if (process->oom_score && !whole(process->oom_score, 10, -1000, 1000, &a->oom_score))
        config_complain(section, "process.oom_score", "expected -1000 to 1000; found \"%.40s\"",
                        process->oom_score);
    if (process->cpus && !read_cpus(process->cpus, &a->cpus))
        config_complain(section, "process.cpus",
                        "expected CPUs such as 0-3,6, below %d; found \"%.40s\"", CPU_SETSIZE,
                        process->cpus);
    if (!read_paths(process, a))
        config_complain(section, "process.read_only_paths", "out of memory");
    read_capabilities(section, process, a);
    read_rlimits(section, process, a);
    if (!keep(process, a))
        config_complain(section, "process", "out of memory");
}
