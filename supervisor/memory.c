/*
 * memory.c: how much memory a worker's tree holds that others cannot have: what its cgroup counts,
 * where a memory controller does, else what /proc says of each of its processes.  Asked for after
 * an answer, in the loop, so nothing is read here that the kernel would have to walk page tables
 * for (smaps_rollup does: 20 ms a GiB).
 */
#include "supervisor/memory.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PROCESSES_MAX = 512 };

struct tree {
    pid_t *pids;
    size_t count, most;
};

/* ---- who is in it ---- */

static void add_all(struct tree *tree, FILE *file)
{
    int pid;
    while (file && tree->count < tree->most && fscanf(file, "%d", &pid) == 1)
        tree->pids[tree->count++] = pid;
    if (file)
        fclose(file);
}

/* Each thread has the children that it forked. */
static void add_children(struct tree *tree, pid_t pid)
{
    char path[320];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *threads = opendir(path);
    for (struct dirent *entry; threads && (entry = readdir(threads));) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/children", (int)pid, entry->d_name);
        add_all(tree, fopen(path, "re"));
    }
    if (threads)
        closedir(threads);
}

size_t tree_pids(pid_t pid, pid_t *pids, size_t most)
{
    struct tree tree = {.pids = pids, .most = most};
    pids[tree.count++] = pid;
    for (size_t i = 0; i < tree.count; i++)
        add_children(&tree, pids[i]);
    return tree.count;
}

static size_t leaf_pids(const struct leaf *leaf, pid_t *pids, size_t most)
{
    struct tree tree = {.pids = pids, .most = most};
    int fd = openat(leaf_directory(leaf), "cgroup.procs", O_RDONLY | O_CLOEXEC);
    add_all(&tree, fd >= 0 ? fdopen(fd, "r") : NULL);
    return tree.count;
}

/* ---- what they hold ---- */

/* Resident pages, and how many of those are of files and shared memory. */
static bool pages_of(pid_t pid, uint64_t *resident, uint64_t *shared)
{
    char path[64];
    unsigned long long all = 0, files = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *file = fopen(path, "re");
    bool read = file && fscanf(file, "%*u %llu %llu", &all, &files) == 2;
    if (file)
        fclose(file);
    *resident = all;
    *shared = files < all ? files : all;
    return read;
}

uint64_t memory_of_tree(const struct leaf *leaf, pid_t pid)
{
    static pid_t pids[PROCESSES_MAX];
    uint64_t bytes, resident, shared, pages = 0;
    if (leaf && leaf_memory(leaf, &bytes))
        return bytes;
    size_t count =
        leaf ? leaf_pids(leaf, pids, PROCESSES_MAX) : tree_pids(pid, pids, PROCESSES_MAX);
    for (size_t i = 0; i < count; i++)
        if (pids[i] != pid && pages_of(pids[i], &resident, &shared))
            pages += resident - shared; /* which it has of the first one, most often */
    if (pages_of(pid, &resident, &shared))
        pages += resident;
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}
