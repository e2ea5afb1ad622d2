/*
 * journal_row.c: the rows of journal.db: their checksums (XXH3-64) and their reading.  A checksum
 * covers the table's kind, the record and every field with its length, so that a row in the wrong
 * place does not verify either.
 */
#include "checkpoints/journal_db.h"

#include <xxhash.h>

static uint64_t sum_bytes(uint64_t seed, const void *at, size_t len)
{
    return len ? XXH3_64bits_withSeed(at, len, seed) : seed;
}

/* Of numbers, then two byte strings, whose lengths stand among the numbers. */
static uint64_t sum(const uint64_t *numbers, size_t count, struct journal_bytes a,
                    struct journal_bytes b)
{
    uint8_t fields[8 * 16];
    for (size_t i = 0; i < count; i++)
        hasup_put64(fields + 8 * i, numbers[i]);
    hasup_put64(fields + 8 * count, a.len);
    hasup_put64(fields + 8 * (count + 1), b.len);
    uint64_t seed = XXH3_64bits(fields, 8 * (count + 2));
    return sum_bytes(sum_bytes(seed, a.at, a.len), b.at, b.len);
}

static struct journal_bytes text_bytes(const char *text)
{
    return text ? (struct journal_bytes){(const uint8_t *)text, strlen(text) + 1}
                : (struct journal_bytes){0};
}

uint64_t row_run_sum(const struct row_run *run)
{
    const uint64_t numbers[] = {ROW_RUN, (uint64_t)run->began_wall_ns, (uint64_t)run->last_wall_ns,
                                run->clean, run->reserved};
    return sum(numbers, HASUP_LEN(numbers), (struct journal_bytes){0}, (struct journal_bytes){0});
}

uint64_t row_request_sum(const struct journal_row *row)
{
    const uint64_t numbers[] = {ROW_REQUEST,
                                row->record,
                                row->token,
                                row->flags,
                                row->priority,
                                row->body_hash,
                                (uint64_t)row->created_wall_ns,
                                (uint64_t)row->deadline_wall_ns};
    return sum(numbers, HASUP_LEN(numbers), text_bytes(row->model), row->key);
}

uint64_t row_result_flags(const struct row_result *result)
{
    uint32_t chunks = result->chunks < CHUNKS_UNKNOWN ? result->chunks : CHUNKS_UNKNOWN;
    return result->flags | chunks << FLAG_BITS | (uint64_t)result->batch_place << 32;
}

uint64_t row_result_sum(const struct row_result *result)
{
    const uint64_t numbers[] = {ROW_RESULT,
                                result->record,
                                result->status,
                                result->attempts,
                                row_result_flags(result),
                                (uint64_t)result->finished_wall_ns,
                                (uint64_t)result->expires_wall_ns,
                                result->ordinal,
                                result->position,
                                result->digest};
    return sum(numbers, HASUP_LEN(numbers), text_bytes(result->model), (struct journal_bytes){0});
}

uint64_t row_letter_sum(const struct journal_letter *letter)
{
    const uint64_t numbers[] = {ROW_LETTER,
                                letter->number,
                                letter->hash[0],
                                letter->hash[1],
                                letter->record,
                                letter->attempts,
                                letter->flags,
                                letter->priority,
                                (uint64_t)letter->created_wall_ns,
                                (uint64_t)letter->expires_wall_ns,
                                letter->body_len};
    return sum(numbers, HASUP_LEN(numbers), text_bytes(letter->model), letter->reports);
}

uint64_t row_trim_sum(const char *model, uint32_t ordinal, uint64_t position, uint64_t done)
{
    const uint64_t numbers[] = {ROW_TRIM, ordinal, position, done};
    return sum(numbers, HASUP_LEN(numbers), text_bytes(model), (struct journal_bytes){0});
}

uint64_t row_payload_sum(enum row_kind kind, uint64_t record, uint64_t number,
                         struct journal_bytes meta, struct journal_bytes body)
{
    const uint64_t numbers[] = {kind, record, number};
    return sum(numbers, HASUP_LEN(numbers), meta, body);
}

uint64_t row_letter_payload_sum(const struct journal_letter *letter)
{
    return row_payload_sum(ROW_LETTER, letter->number, letter->hash[0], letter->meta, letter->body);
}

/* ---- reading ---- */

static uint64_t number(sqlite3_stmt *statement, int column)
{
    return (uint64_t)sqlite3_column_int64(statement, column);
}

struct journal_bytes row_bytes(sqlite3_stmt *statement, int column)
{
    struct sql_bytes bytes = sql_column_bytes(statement, column);
    return (struct journal_bytes){bytes.at, bytes.len};
}

bool row_request_read(sqlite3_stmt *statement, int at, struct journal_row *row)
{
    row->record = number(statement, at);
    row->token = number(statement, at + 1);
    row->flags = (uint32_t)number(statement, at + 2);
    row->priority = (uint8_t)number(statement, at + 3);
    row->body_hash = number(statement, at + 4);
    row->created_wall_ns = sqlite3_column_int64(statement, at + 5);
    row->deadline_wall_ns = sqlite3_column_int64(statement, at + 6);
    row->model = (const char *)sqlite3_column_text(statement, at + 7);
    row->key = row_bytes(statement, at + 8);
    return row->model && number(statement, at + 9) == row_request_sum(row);
}

bool row_result_read(sqlite3_stmt *statement, int at, struct row_result *result)
{
    result->record = number(statement, at);
    result->status = (uint32_t)number(statement, at + 1);
    result->attempts = (uint32_t)number(statement, at + 2);
    uint64_t flags = number(statement, at + 3);
    result->flags = flags & ((1 << FLAG_BITS) - 1);
    result->chunks = (uint32_t)flags >> FLAG_BITS;
    result->batch_place = (uint32_t)(flags >> 32);
    result->finished_wall_ns = sqlite3_column_int64(statement, at + 4);
    result->expires_wall_ns = sqlite3_column_int64(statement, at + 5);
    result->ordinal = (uint32_t)number(statement, at + 6);
    result->position = number(statement, at + 7);
    result->digest = number(statement, at + 8);
    result->model = (const char *)sqlite3_column_text(statement, at + 9);
    return number(statement, at + 10) == row_result_sum(result);
}

bool row_letter_read(sqlite3_stmt *statement, int at, struct journal_letter *letter)
{
    letter->number = number(statement, at);
    letter->hash[0] = number(statement, at + 1);
    letter->hash[1] = number(statement, at + 2);
    letter->record = number(statement, at + 3);
    letter->attempts = (uint32_t)number(statement, at + 4);
    letter->flags = (uint32_t)number(statement, at + 5);
    letter->priority = (uint8_t)number(statement, at + 6);
    letter->created_wall_ns = sqlite3_column_int64(statement, at + 7);
    letter->expires_wall_ns = sqlite3_column_int64(statement, at + 8);
    letter->model = (const char *)sqlite3_column_text(statement, at + 9);
    letter->reports = row_bytes(statement, at + 10);
    letter->body_len = number(statement, at + 12);
    return letter->model && number(statement, at + 11) == row_letter_sum(letter);
}
