/*
 * fault.c: kills hasupd at a named point, for tests.  Linked into build/.../hasupd-faults only.
 *
 *   HASUP_FAULT=point:count   SIGKILL when the point is reached the count-th time
 *   HASUP_FAULT=list          prints the points' names and exits
 */
#include "checkpoints/fault.h"

#include "checkpoints/journal.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const names[] = {
#define FAULT_NAME(name) #name,
    FAULTS(FAULT_NAME)
#undef FAULT_NAME
};

static int armed = FAULT_COUNT;
static atomic_long left;

static void list_and_exit(void)
{
    for (int i = 0; i < FAULT_COUNT; i++)
        puts(names[i]);
    exit(0);
}

__attribute__((constructor)) static void arm(void)
{
    const char *text = getenv("HASUP_FAULT");
    char name[64];
    long count;
    if (!text || !*text)
        return;
    if (strcmp(text, "list") == 0)
        list_and_exit();
    if (sscanf(text, "%63[a-z_]:%ld", name, &count) == 2 && count > 0)
        for (int i = 0; i < FAULT_COUNT; i++)
            if (strcmp(names[i], name) == 0)
                armed = i;
    if (armed == FAULT_COUNT) {
        fprintf(stderr, "hasupd-faults: HASUP_FAULT=%s is not point:count\n", text);
        exit(2);
    }
    atomic_store(&left, count);
    unsetenv("HASUP_FAULT"); /* workers inherit the environment */
}

void fault_reached(enum fault point)
{
    if ((int)point == armed && atomic_fetch_sub(&left, 1) == 1)
        kill(getpid(), SIGKILL);
}

/* The points of commits stand in the order of enum journal_op_kind, two of each. */
_Static_assert(FAULT_lift_after_commit - FAULT_accept_before_commit ==
                   2 * (JOURNAL_LIFT - JOURNAL_ACCEPT) + 1,
               "every kind of operation that writes has its points");

void fault_commit(const struct journal_op *ops, int after)
{
    bool there[JOURNAL_FETCH + 1] = {false};
    for (; ops; ops = ops->next)
        there[ops->kind] = true;
    for (int kind = JOURNAL_ACCEPT; kind <= JOURNAL_LIFT; kind++)
        if (there[kind])
            fault_reached((enum fault)(FAULT_accept_before_commit + 2 * kind + !!after));
}
