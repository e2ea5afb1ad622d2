/* infer.c: hasupctl infer: one request, and its answer as it comes. */
#include "hasupctl/hasupctl.h"

#include "ipc/base.h"
#include "ipc/standard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *read_all(int fd, size_t *len)
{
    size_t room = 65536;
    char *bytes = malloc(room);
    *len = 0;
    while (bytes) {
        ssize_t got = read(fd, bytes + *len, room - *len);
        if (got == 0)
            return bytes;
        if (got < 0)
            break;
        *len += (size_t)got;
        if (*len == room) {
            char *more = realloc(bytes, room *= 2);
            if (!more)
                break;
            bytes = more;
        }
    }
    free(bytes);
    return NULL;
}

static json_t *base64(const char *bytes, size_t len)
{
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *out = malloc((len + 2) / 3 * 4 + 1), *at = out;
    if (!out)
        return NULL;
    for (size_t i = 0; i < len; i += 3) {
        uint32_t group = 0;
        for (size_t k = 0; k < 3; k++)
            group = group << 8 | (i + k < len ? (uint8_t)bytes[i + k] : 0);
        for (size_t k = 0; k < 4; k++)
            *at++ = i + k > len ? '=' : DIGITS[group >> (18 - 6 * k) & 63];
    }
    json_t *json = json_stringn(out, (size_t)(at - out));
    free(out);
    return json;
}

/* The answer as JSON: a body that is no text stands in base64. */
static void print_infer_json(const struct hasup_client_answer *answer, const char *body, size_t len)
{
    json_t *json =
        json_pack("{s:i, s:i}", "status", (int)answer->status, "attempts", (int)answer->attempts);
    json_t *text = json_stringn(body, len); /* NULL: not UTF-8 */
    if (answer->code[0])
        json_object_set_new(json, "code", json_string(answer->code));
    if (answer->error[0])
        json_object_set_new(json, "error", json_string(answer->error));
    if (answer->content_type[0])
        json_object_set_new(json, "content_type", json_string(answer->content_type));
    if (answer->record[0])
        json_object_set_new(json, "id", json_string(answer->record));
    if (text)
        json_object_set_new(json, "body", text);
    else
        json_object_set_new(json, "body_base64", base64(body, len));
    ctl_print_json(json);
    json_decref(json);
}

int ctl_print_answer(const struct ctl *ctl, struct hasup_client *client)
{
    struct hasup_client_answer answer;
    char *body = NULL;
    size_t len = 0;
    FILE *to = ctl->json ? open_memstream(&body, &len) : stdout;
    do {
        int got = to ? hasup_client_wait(client, -1, &answer) : HASUP_ENOMEM;
        if (got <= 0) {
            fprintf(stderr, "hasupctl: no answer: %s\n", hasup_strerror(got));
            return CTL_UNREACHABLE;
        }
        if (answer.len && (answer.status < 400 || ctl->json))
            fwrite(answer.body, 1, answer.len, to);
        (void)hasup_standard_flush();
    } while (!answer.last);
    if (ctl->json) {
        fclose(to);
        print_infer_json(&answer, body, len);
        free(body);
    } else if (answer.status >= 400) {
        fprintf(stderr, "hasupctl: %u %s%s%s\n", answer.status, answer.code,
                answer.code[0] ? ": " : "", answer.error);
        if (answer.len)
            fwrite(answer.body, 1, answer.len, stderr);
    } else if (answer.record[0]) { /* accepted, or not answered yet */
        puts(answer.record);
    } else if (isatty(STDOUT_FILENO)) {
        putchar('\n');
    }
    return answer.status >= 400 ? CTL_FAILED : CTL_OK;
}

/* What infer was asked to do. */
struct infer {
    struct hasup_client_request request;
    const char *file;
};

/* CTL_USAGE: a word that is none of its own; said so. */
static int infer_words(const struct ctl *ctl, struct infer *infer)
{
    for (int i = 0; i < ctl->argc; i++) {
        const char *word = ctl->argv[i];
        if (strcmp(word, "--async") == 0)
            infer->request.async = 1;
        else if (strcmp(word, "--key") == 0 && i + 1 < ctl->argc && *ctl->argv[i + 1])
            infer->request.key = ctl->argv[++i];
        else if (word[0] == '-' && word[1])
            return ctl_usage(ctl, strcmp(word, "--key") ? "unknown option %s" : "%s wants a key",
                             word);
        else if (!infer->request.model)
            infer->request.model = word;
        else if (!infer->file)
            infer->file = word;
        else
            return ctl_usage(ctl, "one request at a time");
    }
    return infer->request.model ? CTL_OK : ctl_usage(ctl, "which model?");
}

static char *infer_body(const char *file, size_t *len)
{
    bool named = file && strcmp(file, "-") != 0;
    if (!named && isatty(STDIN_FILENO))
        fputs("hasupctl: the request is read from this terminal; Ctrl-D ends it\n", stderr);
    int fd = named ? open(file, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    char *body = fd < 0 ? NULL : read_all(fd, len);
    if (!body)
        fprintf(stderr, "hasupctl: %s: %s\n", named ? file : "standard input", strerror(errno));
    if (named && fd >= 0)
        close(fd);
    return body;
}

int ctl_infer(const struct ctl *ctl)
{
    struct infer infer = {0};
    uint64_t id;
    int code = infer_words(ctl, &infer);
    if (code)
        return code;
    char *body = infer_body(infer.file, &infer.request.len);
    if (!body)
        return CTL_FAILED;
    infer.request.body = body;
    struct hasup_client *client = ctl_open(ctl);
    code = CTL_UNREACHABLE;
    if (client) {
        int error = hasup_client_submit(client, &infer.request, &id);
        if (error)
            fprintf(stderr, "hasupctl: %s\n", hasup_strerror(error));
        else
            code = ctl_print_answer(ctl, client);
    }
    hasup_client_close(client);
    free(body);
    return code;
}
