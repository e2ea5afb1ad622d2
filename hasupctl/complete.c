/*
 * complete.c: hasupctl --complete WORD…: what may stand where the last of these words does, for the
 * shells' completion (completion/).  It reads the same usage texts as a person does, so that a new
 * verb or option completes by itself.  A line is a word, a tab and what it does; or :files or
 * :directories where a path is wanted.  Never says anything else, and never waits for long.
 */
#include "hasupctl/events.h"

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TOKEN = 40, HELP = 80, OPTIONS = 24, PLACES = 4, LINE = 256, GIVE_UP_S = 1 };

/* What may follow a verb, as its usage says. */
struct syntax {
    struct option_text {
        char name[TOKEN], value[TOKEN], help[HELP]; /* value: "" where it takes none */
    } options[OPTIONS];
    char places[PLACES][TOKEN]; /* words that are no options, in their order */
    int n_options, n_places;
    bool repeats; /* the last place may stand several times: "[MODEL …]" */
};

static bool fits(const char *word, const char *begun)
{
    return strncmp(word, begun, strlen(begun)) == 0;
}

static void offer(const char *word, const char *help, const char *begun)
{
    if (*word && fits(word, begun))
        printf("%s\t%s\n", word, help);
}

/* ---- reading usage texts ---- */

/* Cuts "  now MODEL[/SLOT]   take one" into "now MODEL[/SLOT]" and "take one".  The next line, or
 * NULL. */
static const char *next_line(const char *text, char usage[LINE], char help[HELP])
{
    const char *end = strchrnul(text, '\n');
    snprintf(usage, LINE, "%.*s", (int)(end - text), text);
    size_t indent = strspn(usage, " ");
    memmove(usage, usage + indent, strlen(usage + indent) + 1);
    help[0] = '\0';
    char *gap = strstr(usage, "  ");
    if (indent > 2) { /* the help of the one before */
        snprintf(help, HELP, "%s", usage);
        usage[0] = '\0';
    } else if (gap) {
        snprintf(help, HELP, "%s", gap + strspn(gap, " "));
        *gap = '\0';
    }
    return *end ? end + 1 : NULL;
}

static void trim(const char *token, char out[TOKEN])
{
    snprintf(out, TOKEN, "%s", token + strspn(token, "["));
    out[strcspn(out, *out == '-' ? "]," : "")] = '\0';
}

static void add_option(struct syntax *syntax, const char *token, const char *next, const char *help)
{
    if (syntax->n_options == OPTIONS)
        return;
    struct option_text *option = &syntax->options[syntax->n_options++];
    trim(token, option->name);
    snprintf(option->help, HELP, "%s", help);
    option->value[0] = '\0';
    if (next && isalnum((unsigned char)*next) && !strchr(token, ']'))
        snprintf(option->value, TOKEN, "%s", next);
}

/* Options and places of one line of usage; places count in the first line alone. */
static void read_usage(struct syntax *syntax, char *usage, const char *help)
{
    bool places = syntax->n_places == 0, aliased = false;
    char *rest = usage;
    for (char *bar = usage; (bar = strstr(bar, "|-")) != NULL;)
        *bar = ' ';
    for (char *token = strtok_r(rest, " ", &rest), *next; token; token = next) {
        next = strtok_r(NULL, " ", &rest);
        char word[TOKEN];
        trim(token, word);
        if (*word == '-') {
            add_option(syntax, token, next, help);
            struct option_text *last = &syntax->options[syntax->n_options - 1];
            if (aliased) /* "-n, --tail N": the short one takes what the long one does */
                memcpy(last[-1].value, last->value, TOKEN);
            aliased = strchr(token, ',') != NULL;
            if (*last->value)
                next = strtok_r(NULL, " ", &rest);
        } else if (places && syntax->n_places && strcmp(word, "…]") == 0) {
            syntax->repeats = true;
        } else if (places && isupper((unsigned char)*word) && strcmp(word, "OPTIONS]") != 0 &&
                   syntax->n_places < PLACES) {
            memcpy(syntax->places[syntax->n_places++], word, TOKEN);
        }
    }
}

/* The first word of a line of usage, and whether it may be left out ("[list] …"). */
static bool first_word(const char *usage, char out[TOKEN])
{
    bool optional = *usage == '[';
    snprintf(out, TOKEN, "%.*s", (int)strcspn(usage + optional, " ]"), usage + optional);
    return optional;
}

static bool has_subverbs(const struct ctl_verb *verb)
{
    const char *more = ctl_verb_more(verb);
    return *more && more[strspn(more, " ")] != '-';
}

static void offer_subverbs(const struct ctl_verb *verb, const char *begun)
{
    char usage[LINE], help[HELP], name[TOKEN], pending[TOKEN] = "";
    for (const char *at = ctl_verb_more(verb); at && *at;) {
        at = next_line(at, usage, help);
        first_word(usage, name);
        if (*name)
            memcpy(pending, name, TOKEN);
        if (*help)
            offer(pending, help, begun);
    }
}

/* What follows `verb`, or its second word `sub` (NULL: none is there). */
static void read_verb(struct syntax *syntax, const struct ctl_verb *verb, const char *sub)
{
    char usage[LINE], help[HELP], name[TOKEN];
    bool subverbs = has_subverbs(verb);
    if (!subverbs) {
        snprintf(usage, sizeof usage, "%s", verb->usage);
        read_usage(syntax, usage, "");
    }
    for (const char *at = ctl_verb_more(verb); at && *at;) {
        at = next_line(at, usage, help);
        bool optional = first_word(usage, name);
        if (*usage && (!subverbs || (sub ? strcmp(name, sub) == 0 : optional)))
            read_usage(syntax, usage, subverbs ? "" : help);
    }
}

/* ---- offering ---- */

static void offer_options(const struct syntax *syntax, const char *begun)
{
    for (int i = 0; i < syntax->n_options; i++) {
        const char *name = syntax->options[i].name;
        int j = 0;
        while (strcmp(syntax->options[j].name, name) != 0)
            j++;
        if (j == i || *syntax->options[i].help) /* named twice: the line that explains it */
            offer(name, syntax->options[i].help, begun);
    }
}

static void give_up(int signal)
{
    (void)signal;
    _exit(CTL_OK);
}

/* Of the models, or of the programs, of an answer. */
static void offer_all(json_t *models, bool slots, bool only, const char *begun)
{
    json_t *model, *slot;
    size_t i, j;
    json_array_foreach(models, i, model)
    {
        const char *name = json_string_value(json_object_get(model, "name"));
        if (name && !only)
            offer(name, json_object_get(model, "kind") ? "program" : "model", begun);
        json_array_foreach(json_object_get(model, "slots"), j, slot)
        {
            const char *of = json_string_value(json_object_get(slot, "slot"));
            if (name && of && slots && (only || fits(begun, name)))
                offer(of, "slot", begun);
        }
    }
}

/* Models and programs of the hasupd that runs; the slots of one once its name is there; `only`:
 * slots alone. */
static void offer_names(const struct ctl *ctl, bool slots, bool only, const char *begun)
{
    static const char NOWHERE[] = "/dev/null";
    json_t *answer;
    fflush(stdout);
    signal(SIGALRM, give_up);
    alarm(GIVE_UP_S);
    if (!freopen(NOWHERE, "w", stderr) ||
        ctl_call(ctl, json_pack("{s:s}", "verb", "status"), &answer) != CTL_OK)
        return;
    offer_all(json_object_get(answer, "models"), slots, only, begun);
    offer_all(json_object_get(answer, "programs"), slots, only, begun);
    alarm(0);
    json_decref(answer);
}

/* What a word of the usage ("MODEL[/SLOT]", "FILE") stands for. */
static void offer_kind(const struct ctl *ctl, const char *kind, const char *begun)
{
    if (strstr(kind, "MODEL"))
        offer_names(ctl, strstr(kind, "/SLOT"), fits(kind, "MODEL/SLOT"), begun);
    else if (fits(kind, "EVENT"))
        events_complete(offer, begun);
    else if (fits(kind, "LEVEL"))
        for (size_t i = 0; i < EVENT_LEVELS; i++)
            offer(EVENT_LEVEL_NAMES[i], "", begun);
    else if (fits(kind, "FILE") || fits(kind, "PATH") || fits(kind, "SOCKET"))
        puts(":files");
    else if (fits(kind, "DIR"))
        puts(":directories");
}

/* ---- the words ---- */

static const struct option_text *find_option(const struct syntax *syntax, const char *name)
{
    for (int i = 0; i < syntax->n_options; i++)
        if (strcmp(syntax->options[i].name, name) == 0)
            return &syntax->options[i];
    return NULL;
}

/* Passes the options that begin at `at`: the index of the word after them; or -1 where the last
 * word is the value of one, and is done with. */
static int pass_options(struct ctl *ctl, const struct syntax *syntax, int at)
{
    while (at < ctl->argc - 1 && ctl->argv[at][0] == '-') {
        const struct option_text *option = find_option(syntax, ctl->argv[at]);
        if (option && *option->value) {
            if (++at == ctl->argc - 1) {
                offer_kind(ctl, option->value, ctl->argv[at]);
                return -1;
            }
            if (fits(option->value, "SOCKET"))
                ctl->socket = ctl->argv[at];
        }
        at++;
    }
    return at;
}

static void after_verb(struct ctl *ctl, const struct ctl_verb *verb, int at)
{
    struct syntax syntax = {0};
    int last = ctl->argc - 1, place = 0;
    const char *sub = NULL;
    if (has_subverbs(verb) && ctl->argv[at][0] != '-') {
        if (at == last) {
            offer_subverbs(verb, ctl->argv[at]);
            return;
        }
        sub = ctl->argv[at++];
    }
    read_verb(&syntax, verb, sub);
    add_option(&syntax, "--json", NULL, "answer in JSON");
    add_option(&syntax, "--help", NULL, "how it is used");
    while ((at = pass_options(ctl, &syntax, at)) >= 0 && at < last) {
        place++;
        at++;
    }
    if (at < 0)
        return;
    if (ctl->argv[last][0] == '-')
        offer_options(&syntax, ctl->argv[last]);
    else if (place < syntax.n_places || (syntax.repeats && syntax.n_places))
        offer_kind(ctl, syntax.places[place < syntax.n_places ? place : syntax.n_places - 1],
                   ctl->argv[last]);
}

int ctl_complete(struct ctl *ctl, const char *globals, const struct ctl_verb *verbs, size_t n)
{
    struct syntax syntax = {0};
    char usage[LINE];
    int last = ctl->argc - 1;
    snprintf(usage, sizeof usage, "%s", globals);
    read_usage(&syntax, usage, "");
    int at = last < 0 ? -1 : pass_options(ctl, &syntax, 0);
    if (at < 0)
        return CTL_OK;
    if (at == last && ctl->argv[at][0] == '-')
        offer_options(&syntax, ctl->argv[at]);
    for (size_t i = 0; i < n; i++)
        if (at == last)
            offer(verbs[i].name, verbs[i].help, ctl->argv[at]);
        else if (strcmp(verbs[i].name, ctl->argv[at]) == 0)
            after_verb(ctl, &verbs[i], at + 1);
    return CTL_OK;
}
