/*
 * suspect.c: requests that were in hand when a worker died, and how they are tried again: by
 * halves.
 *
 * What was in one worker's hands when it died was one batch, whose whole is tested by that; its two
 * halves come back as groups of their own, behind those that wait already.  So one culprit among n
 * stands alone after log2(n) more crashes, its mates are answered in the halves that live, and
 * right behind the half that died comes the other one, whose answers tell that the model is well.
 *
 * Owns the order and the numbers of groups.  Knows neither workers nor verdicts: a batch is any
 * list of requests that ran together.
 */
#include "supervisor/core/internal.h"

void suspects_put(struct suspects *suspects, struct item *item)
{
    item->place = PLACE_SUSPECTS;
    item->group = suspects->group;
    list_append(&suspects->list, item);
    suspects->count++;
    suspects->open++;
}

void suspects_close(struct suspects *suspects, bool halve)
{
    struct item *item = suspects->list.tail;
    uint32_t later = halve ? suspects->open / 2 : 0;
    for (; later; later--, item = item->prev)
        item->group = suspects->group + 1;
    suspects->open = 0;
    suspects->group += 2;
}

uint32_t suspects_next(const struct suspects *suspects)
{
    uint32_t count = 0;
    const struct item *head = suspects->list.head;
    for (const struct item *item = head; item && item->group == head->group; item = item->next)
        count++;
    return count;
}

void suspects_remove(struct suspects *suspects, struct item *item)
{
    list_remove(&suspects->list, item);
    suspects->count--;
    item->place = PLACE_NONE;
}

void suspects_check(const struct suspects *suspects)
{
    uint32_t count = 0;
    for (const struct item *item = suspects->list.head; item; item = item->next) {
        assert(item->place == PLACE_SUSPECTS && item->group < suspects->group);
        assert(!item->next || item->next->group >= item->group);
        count++;
    }
    assert(count == suspects->count && !suspects->open);
}
