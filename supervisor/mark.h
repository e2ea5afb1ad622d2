/*
 * mark.h: how a worker says which request a line is about (docs/protocol.md, "What it prints"): an
 * escape sequence before the line, with a word that hasupd told that worker alone, so that no text
 * that a client sent can say it.
 */
#ifndef HASUP_SUPERVISOR_MARK_H
#define HASUP_SUPERVISOR_MARK_H

#include "ipc/message.h"

enum { MARK_WORD = 16 /* hexadecimal digits */, MARK_NAME = HASUP_REQUEST_NAME };

struct mark {
    size_t at, len;        /* where it stands */
    size_t name, name_len; /* the request's name */
    bool more;             /* the line goes on in the next one */
};

/* A word that nobody can guess; "": there is none to be had. */
void mark_word(char word[MARK_WORD + 1]);
/* The first mark; `word` "": there is none. */
bool mark_find(const char *word, const char *text, size_t len, struct mark *mark);
/* How much of a text that is cut at `len` does not end inside a mark. */
size_t mark_whole(const char *word, const char *text, size_t len);

#endif
