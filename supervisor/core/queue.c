/*
 * queue.c: which request is next: priority, then deadline, then arrival.  Requests nearly always
 * come in the order of their deadlines; those are appended to a list.  The others go into a pairing
 * heap, so that no insertion looks at more than a few.  Owns the links of what it holds.
 */
#include "supervisor/core/internal.h"

void list_append(struct list *list, struct item *item)
{
    item->next = NULL;
    item->prev = list->tail;
    if (list->tail)
        list->tail->next = item;
    else
        list->head = item;
    list->tail = item;
}

static void list_prepend(struct list *list, struct item *item)
{
    item->prev = NULL;
    item->next = list->head;
    if (list->head)
        list->head->prev = item;
    else
        list->tail = item;
    list->head = item;
}

void list_remove(struct list *list, struct item *item)
{
    if (item->prev)
        item->prev->next = item->next;
    else
        list->head = item->next;
    if (item->next)
        item->next->prev = item->prev;
    else
        list->tail = item->prev;
    item->next = item->prev = NULL;
}

static bool before(const struct item *a, const struct item *b)
{
    return a->deadline != b->deadline ? a->deadline < b->deadline : a->arrival < b->arrival;
}

/* ---- pairing heap: child is the first child, next a sibling, prev the sibling before or the
 * parent */

static struct item *heap_join(struct item *a, struct item *b)
{
    if (!a || !b)
        return a ? a : b;
    if (before(b, a)) {
        struct item *swap = a;
        a = b;
        b = swap;
    }
    b->prev = a;
    b->next = a->child;
    if (b->next)
        b->next->prev = b;
    a->child = b;
    a->next = a->prev = NULL;
    return a;
}

/* Joins siblings two by two from the left, then the pairs from the right; without recursion. */
static struct item *heap_join_siblings(struct item *first)
{
    struct item *pairs = NULL, *root = NULL;
    while (first) {
        struct item *a = first, *b = a->next;
        first = b ? b->next : NULL;
        a->next = a->prev = NULL;
        if (b)
            b->next = b->prev = NULL;
        struct item *pair = heap_join(a, b);
        pair->next = pairs;
        pairs = pair;
    }
    while (pairs) {
        struct item *pair = pairs;
        pairs = pair->next;
        pair->next = NULL;
        root = heap_join(root, pair);
    }
    return root;
}

static void heap_remove(struct item **root, struct item *item)
{
    struct item *rest = heap_join_siblings(item->child);
    item->child = NULL;
    if (*root == item) {
        *root = rest;
    } else {
        if (item->prev->child == item)
            item->prev->child = item->next;
        else
            item->prev->next = item->next;
        if (item->next)
            item->next->prev = item->prev;
        *root = heap_join(*root, rest);
    }
    item->next = item->prev = NULL;
}

/* ---- the queues of a model: one for all its slots, and one of each slot ---- */

static struct queue *queue_of(struct core *core, const struct item *item)
{
    return item->home == UINT32_MAX ? &core->models[item->model].queue
                                    : &core->slots[item->home].queue;
}

void queue_push(struct core *core, struct item *item)
{
    struct model *model = &core->models[item->model];
    struct queue *queue = queue_of(core, item);
    struct queue_class *class = &queue->classes[item->priority - 1];
    item->place = PLACE_QUEUE;
    item->in_heap = false;
    item->child = NULL;
    if (!class->list.tail || !before(item, class->list.tail)) {
        list_append(&class->list, item);
    } else if (before(item, class->list.head)) {
        list_prepend(&class->list, item);
    } else {
        item->in_heap = true;
        item->next = item->prev = NULL;
        class->heap = heap_join(class->heap, item);
    }
    class->count++;
    queue->used |= 1u << (item->priority - 1);
    queue->count++;
    model->queued++;
    model->queued_bytes += item->size;
    if (item->home != UINT32_MAX)
        dispatch_due(core, &core->slots[item->home]);
}

void queue_remove(struct core *core, struct item *item)
{
    struct model *model = &core->models[item->model];
    struct queue *queue = queue_of(core, item);
    struct queue_class *class = &queue->classes[item->priority - 1];
    if (item->in_heap)
        heap_remove(&class->heap, item);
    else
        list_remove(&class->list, item);
    if (!--class->count)
        queue->used &= ~(1u << (item->priority - 1));
    queue->count--;
    item->place = PLACE_NONE;
    model->queued--;
    model->queued_bytes -= item->size;
    if (item->home != UINT32_MAX)
        dispatch_due(core, &core->slots[item->home]);
}

static struct item *class_first(const struct queue_class *class)
{
    struct item *item = class->list.head;
    return !item || (class->heap && before(class->heap, item)) ? class->heap : item;
}

/* Who waits gains a class for each `age`, so that nobody starves behind those who come first. */
static int64_t rank(const struct item *item, hasup_ns age, hasup_ns now)
{
    return item->priority - (age ? (now - item->entered) / age : 0);
}

static struct item *first_of(const struct queue *queue, hasup_ns age, hasup_ns now)
{
    struct item *best = NULL;
    if (!queue->used)
        return NULL;
    if (!age || !(queue->used & (queue->used - 1)))
        return class_first(&queue->classes[__builtin_ctz(queue->used)]);
    for (unsigned i = 0; i < PRIORITIES; i++) {
        struct item *item = queue->used & 1u << i ? class_first(&queue->classes[i]) : NULL;
        if (item && (!best || rank(item, age, now) < rank(best, age, now)))
            best = item;
    }
    return best;
}

struct item *queue_first(const struct core *core, const struct model *model,
                         const struct slot *slot)
{
    const hasup_ns age = model->policy.queue.priority_age, now = core->now;
    struct item *a = first_of(&model->queue, age, now);
    struct item *b = slot ? first_of(&slot->queue, age, now) : NULL;
    if (!a || !b)
        return a ? a : b;
    if (model->rollout.state == ROLLOUT_CANARY)
        return b; /* which version runs the others is not for this slot to say */
    int64_t x = rank(a, age, now), y = rank(b, age, now);
    return x < y || (x == y && before(a, b)) ? a : b;
}

struct item *queue_own(const struct core *core, const struct slot *slot)
{
    return first_of(&slot->queue, 0, core->now);
}

struct item *queue_any(const struct core *core, const struct model *model)
{
    struct item *item = queue_first(core, model, NULL);
    for (uint32_t i = 0; i < core->slots_high && !item && model->queued; i++)
        if (core->slots[i].used && core->slots[i].model == model->index)
            item = queue_own(core, &core->slots[i]);
    return item;
}

struct item *queue_pop(struct core *core, const struct model *model, const struct slot *slot)
{
    struct item *item = queue_first(core, model, slot);
    if (PLANT(PLANT_OVERTAKE_SESSION) && item && item->session && !item->in_heap && item->next)
        item = item->next;
    if (item)
        queue_remove(core, item);
    return item;
}

/* ---- invariants ---- */

static uint32_t heap_check(const struct item *root, uint64_t *bytes)
{
    /* Depth first over child and sibling links, without recursion. */
    const struct item *at = root;
    uint32_t count = 0;
    while (at) {
        assert(at->place == PLACE_QUEUE && at->in_heap);
        count++;
        *bytes += at->size;
        if (at->child) {
            assert(!before(at->child, at) && at->child->prev == at);
            at = at->child;
            continue;
        }
        while (at && !at->next) {
            /* Up to the parent: back over the siblings before. */
            while (at->prev && at->prev->child != at)
                at = at->prev;
            at = at->prev;
        }
        if (at)
            at = at->next;
    }
    return count;
}

static void check_one(const struct queue *queue, uint32_t home, uint64_t *bytes)
{
    uint32_t whole = 0;
    for (unsigned i = 0; i < PRIORITIES; i++) {
        const struct queue_class *class = &queue->classes[i];
        uint32_t count = 0;
        for (const struct item *at = class->list.head; at; at = at->next) {
            assert(at->place == PLACE_QUEUE && !at->in_heap && at->priority == i + 1);
            assert(at->home == home);
            assert(!at->next || (!before(at->next, at) && at->next->prev == at));
            assert(at->next || class->list.tail == at);
            count++;
            *bytes += at->size;
        }
        count += heap_check(class->heap, bytes);
        assert(count == class->count);
        assert(!class->count == !(queue->used & 1u << i));
        whole += count;
    }
    assert(whole == queue->count);
}

void queue_check(const struct core *core, const struct model *model)
{
    uint32_t count = model->queue.count;
    uint64_t bytes = 0;
    check_one(&model->queue, UINT32_MAX, &bytes);
    for (uint32_t i = 0; i < core->slots_high; i++)
        if (core->slots[i].used && core->slots[i].model == model->index) {
            check_one(&core->slots[i].queue, i, &bytes);
            count += core->slots[i].queue.count;
        }
    assert(count == model->queued && bytes == model->queued_bytes);
}
