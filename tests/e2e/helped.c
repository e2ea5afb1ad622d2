/* A worker made with the SDK's helpers, for tests; tests/unit/helped.py does the same in Python.
 * /v1: tells the words of the prompt (or of the last message) one by one, each followed by a
 * progress; the word "fail!" is an error. */
#include "worker/hasup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t count_words(const char *text)
{
    int64_t count = 0;
    for (text += strspn(text, " "); *text; text += strspn(text, " ")) {
        text += strcspn(text, " ");
        count++;
    }
    return count;
}

static int complete(const struct hasup_request *request, struct hasup_response *response)
{
    struct hasup_completion *asked = hasup_completion_read(request, response);
    if (!asked)
        return -1;
    const char *prompt =
        asked->chat ? asked->messages[asked->message_count - 1].text : asked->prompt;
    int64_t words = count_words(prompt), done = 0, from = 0;
    if (request->progress_len == sizeof from) {
        memcpy(&from, request->progress, sizeof from);
        hasup_completion_resume(asked, from);
    }
    const char *finish = "stop", *at = prompt;
    while (at += strspn(at, " "), *at) {
        size_t len = strcspn(at, " ");
        if (asked->max_tokens && done == asked->max_tokens) {
            finish = "length";
            break;
        }
        if (!strncmp(at, "fail!", 5)) {
            hasup_completion_free(asked);
            return hasup_error(response, 500, "it failed");
        }
        if (done++ >= from && (hasup_completion_text(asked, at, len, 1) ||
                               (asked->stream && hasup_progress(response, &done, sizeof done))))
            break;
        at += len;
    }
    return hasup_completion_end(asked, finish, words);
}

static int infer(void *model, const struct hasup_request *request, struct hasup_response *response)
{
    (void)model;
    return complete(request, response);
}

int main(void)
{
    return hasup_serve(&(struct hasup_worker){.infer = infer, .resumable = 1});
}
