/*
 * letters_retry.c: second chances: a quarantine that is lifted, and a dead letter's request that is
 * submitted again.  Its door hears how that began and no more: the answer is stored for who asks.
 */
#include "supervisor/letters.h"

#include <stdlib.h>

void letters_lift(struct engine *engine, const uint64_t hash[2])
{
    engine_post(engine,
                &(struct event){.type = EVENT_LIFTED, .lifted = {.hash = {hash[0], hash[1]}}});
}

struct retry {
    letters_retried *done;
    void *context;
};

static void retry_end(struct retry *retry, const char *id, const struct refusal_text *refusal)
{
    if (retry->done)
        retry->done(retry->context, id, refusal);
    free(retry);
}

static void retry_reply(void *context, const struct reply *reply)
{
    (void)reply;
    retry_end(context, "", NULL);
}

static void retry_chunk(void *context, const struct reply *head, const uint8_t *bytes, size_t len)
{
    (void)context;
    (void)head;
    (void)bytes;
    (void)len;
}

static void retry_refuse(void *context, const struct refusal_text *refusal)
{
    retry_end(context, NULL, refusal);
}

static void retry_accepted(void *context, const char *id)
{
    retry_end(context, id, NULL);
}

static const struct door RETRY_DOOR = {.name = "retry",
                                       .reply = retry_reply,
                                       .chunk = retry_chunk,
                                       .refuse = retry_refuse,
                                       .accepted = retry_accepted};

int letters_retry(struct engine *engine, const struct journal_letter *letter, letters_retried *done,
                  void *context)
{
    struct request *request;
    int model = engine_model(engine, letter->model, strlen(letter->model));
    if (model < 0)
        return HASUP_ENOTFOUND;
    if (!(letter->flags & JOURNAL_KEPT))
        return HASUP_EINVAL;
    struct retry *retry = malloc(sizeof *retry);
    if (!retry)
        return HASUP_ENOMEM;
    *retry = (struct retry){done, context};
    letters_lift(engine, letter->hash);
    const struct submission submission = {
        .door = &RETRY_DOOR,
        .context = retry,
        .model = (uint32_t)model,
        .priority = letter->priority,
        .meta = letter->meta.at,
        .meta_len = letter->meta.len,
        .body = {.bytes = letter->body.at, .len = letter->body.len},
        .async = true};
    int error = engine_submit(engine, &submission, &request);
    if (error)
        free(retry);
    return error;
}
