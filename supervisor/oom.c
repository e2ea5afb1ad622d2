/*
 * oom.c: the kernel's count of kills for lack of memory, of hasupd's cgroup or else of the machine.
 * Owns the counter's descriptor.
 *
 * The machine's count grows for anybody's kills.  Those that no worker's death has claimed within a
 * moment were somebody else's, and are forgotten.
 */
#include "supervisor/oom.h"

#include "supervisor/cgroup.h"

#include <fcntl.h>
#include <unistd.h>

static const hasup_ns CLAIMED = 10 * HASUP_S, LOOKED = HASUP_S;

/* False: it cannot be read. */
static bool look(struct oom *oom, hasup_ns now, uint64_t *kills)
{
    if (!oom_counter_read(oom->counter, kills))
        return false;
    if (!oom->machine)
        return true;
    if (oom->seen > oom->told && now - oom->grown > CLAIMED)
        oom->told = oom->seen;
    if (*kills != oom->seen)
        oom->grown = now;
    oom->seen = *kills;
    oom->looked = now;
    return true;
}

void oom_open(struct oom *oom, hasup_ns now)
{
    uint64_t kills;
    *oom = (struct oom){.counter = oom_counter_open()};
    if (oom->counter < 0) {
        oom->counter = open("/proc/vmstat", O_RDONLY | O_CLOEXEC);
        oom->machine = true;
    }
    if (look(oom, now, &kills))
        oom->told = kills;
}

void oom_close(struct oom *oom)
{
    if (oom->counter >= 0)
        close(oom->counter);
    oom->counter = -1;
}

void oom_begin(struct oom *oom, bool only, hasup_ns now)
{
    uint64_t kills;
    if (only && look(oom, now, &kills))
        oom->told = kills;
}

enum oom_verdict oom_judge(struct oom *oom, hasup_ns now)
{
    uint64_t kills;
    if (!look(oom, now, &kills))
        return OOM_NO;
    bool more = kills > oom->told;
    oom->told = more ? oom->told + 1 : kills;
    return !more ? OOM_NO : oom->machine ? OOM_EVIDENT : OOM_COUNTED;
}

void oom_look(struct oom *oom, hasup_ns now)
{
    uint64_t kills;
    if (oom->machine && now - oom->looked >= LOOKED)
        (void)look(oom, now, &kills);
}
