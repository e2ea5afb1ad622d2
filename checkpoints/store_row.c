/*
 * store_row.c: one row of bytes on its way to the disk and back: packed where that pays, sealed
 * where there is a key.  A row's seal covers its id and its generation, so that a row cannot stand
 * for another.
 *
 * Whether packing pays is tried: a row that does not get smaller by a sixth is written as it is,
 * and after each such row twice as many are not tried, up to TRY_EACH.
 */
#include "checkpoints/store_db.h"

#include <stdio.h>
#include <stdlib.h>

enum { PACKED = 1, SEALED = 2, ENCRYPTED = 4, KINDS = PACKED | SEALED | ENCRYPTED };
enum { TRY_EACH = 64, ABOUT = 24 };

static void about_row(uint8_t about[ABOUT], int64_t id, int64_t generation, int64_t kind)
{
    hasup_put64(about, (uint64_t)id);
    hasup_put64(about + 8, (uint64_t)generation);
    hasup_put64(about + 16, (uint64_t)kind);
}

static void row_mac(uint8_t out[CRYPTO_HASH], const uint8_t about[ABOUT], struct sql_bytes bytes,
                    const struct key *key)
{
    struct crypto_hash hash;
    crypto_hash_begin(&hash, key->mac);
    crypto_hash_add(&hash, about, ABOUT);
    crypto_hash_add(&hash, bytes.at, bytes.len);
    crypto_hash_end(&hash, out);
}

const struct key *store_key(const struct store *store)
{
    return store->options.keys ? &store->options.keys->keys[0] : NULL;
}

/* ---- writing ---- */

int row_writer_begin(struct row_writer *writer, struct store *store, int64_t last,
                     char error[STORE_ERROR])
{
    *writer = (struct row_writer){.store = store, .id = last};
    writer->insert = store_prepare(store, "INSERT INTO pack VALUES (?, ?, ?, ?, ?)", error);
    return writer->insert ? 0 : sql_code(sqlite3_errcode(store->db));
}

void row_writer_end(struct row_writer *writer)
{
    sqlite3_finalize(writer->insert);
    free(writer->packed);
    free(writer->sealed);
}

/* Packs a row of chunks where that pays; whether it did. */
static bool pack(struct row_writer *writer, struct sql_bytes *bytes)
{
    if (!writer->store->options.compress || bytes->len > STORE_ROW || writer->skip-- > 0)
        return false;
    if (!writer->packed && !(writer->packed = malloc(STORE_ROW)))
        return false;
    size_t len = crypto_pack(writer->packed, bytes->len * 5 / 6, bytes->at, bytes->len);
    writer->skipped = len ? 0 : writer->skipped * 2 < TRY_EACH ? writer->skipped * 2 + 1 : TRY_EACH;
    writer->skip = (int)writer->skipped;
    if (len)
        *bytes = (struct sql_bytes){writer->packed, len};
    return len > 0;
}

/* The kind of the row that was made, or HASUP_ENOMEM. */
static int seal(struct row_writer *writer, int64_t generation, int kind, struct sql_bytes *bytes)
{
    const struct key *key = store_key(writer->store);
    uint8_t about[ABOUT];
    if (!key)
        return kind;
    kind |= writer->store->options.encrypt ? ENCRYPTED : SEALED;
    about_row(about, writer->id, generation, kind);
    memcpy(writer->seal, key->id, KEY_ID);
    writer->seal_len = KEY_ID + (kind & SEALED ? CRYPTO_HASH : CRYPTO_NONCE);
    if (kind & SEALED) {
        row_mac(writer->seal + KEY_ID, about, *bytes, key);
        return kind;
    }
    if (writer->sealed_room < bytes->len + CRYPTO_TAG) {
        uint8_t *room = realloc(writer->sealed, bytes->len + CRYPTO_TAG);
        if (!room)
            return HASUP_ENOMEM;
        writer->sealed = room;
        writer->sealed_room = bytes->len + CRYPTO_TAG;
    }
    crypto_encrypt(writer->sealed, writer->seal + KEY_ID,
                   (struct crypto_bytes){bytes->at, bytes->len},
                   (struct crypto_bytes){about, ABOUT}, key->cipher);
    *bytes = (struct sql_bytes){writer->sealed, bytes->len + CRYPTO_TAG};
    return kind;
}

int row_write(struct row_writer *writer, int64_t generation, const uint8_t *at, size_t len,
              bool chunks, char error[STORE_ERROR])
{
    struct sql_bytes bytes = {at, len};
    sqlite3_stmt *insert = writer->insert;
    writer->id++;
    writer->seal_len = 0;
    int kind = seal(writer, generation, chunks && pack(writer, &bytes) ? PACKED : 0, &bytes);
    if (kind < 0) {
        snprintf(error, STORE_ERROR, "out of memory");
        return kind;
    }
    sqlite3_bind_int64(insert, 1, writer->id);
    sqlite3_bind_int64(insert, 2, generation);
    sqlite3_bind_int64(insert, 3, kind);
    if (writer->seal_len)
        sqlite3_bind_blob(insert, 4, writer->seal, (int)writer->seal_len, SQLITE_STATIC);
    sql_bind_bytes(insert, 5, bytes.at, bytes.len);
    int got = sqlite3_step(insert);
    sqlite3_reset(insert);
    if (got != SQLITE_DONE)
        return store_failed(writer->store, "save", error);
    writer->rows++;
    writer->written += bytes.len;
    return 0;
}

/* ---- reading ---- */

int row_reader_begin(struct row_reader *reader, struct store *store, char error[STORE_ERROR])
{
    *reader = (struct row_reader){.store = store};
    reader->select =
        store_prepare(store, "SELECT generation, codec, seal, bytes FROM pack WHERE id = ?", error);
    return reader->select ? 0 : sql_code(sqlite3_errcode(store->db));
}

void row_reader_end(struct row_reader *reader)
{
    sqlite3_finalize(reader->select);
    free(reader->opened);
    free(reader->unpacked);
}

/* Opens what the seal closes; NULL, or what is wrong. */
static const char *open_seal(struct row_reader *reader, const uint8_t about[ABOUT], int64_t kind,
                             struct sql_bytes seal, struct sql_bytes *bytes)
{
    uint8_t mac[CRYPTO_HASH];
    size_t more = kind & SEALED ? CRYPTO_HASH : CRYPTO_NONCE;
    const struct key *key =
        seal.len == KEY_ID + more ? keys_find(reader->store->options.keys, seal.at) : NULL;
    if (!key)
        return "a part is sealed with another key than its manifest";
    if (kind & SEALED) {
        row_mac(mac, about, *bytes, key);
        return crypto_same(mac, seal.at + KEY_ID, sizeof mac) ? NULL : "a part's seal is broken";
    }
    if (bytes->len < CRYPTO_TAG)
        return "a part is shorter than it should be";
    free(reader->opened);
    reader->opened = malloc(bytes->len);
    if (!reader->opened)
        return "there is no memory for it";
    if (!crypto_decrypt(reader->opened, seal.at + KEY_ID,
                        (struct crypto_bytes){bytes->at, bytes->len},
                        (struct crypto_bytes){about, ABOUT}, key->cipher))
        return "a part's seal is broken";
    *bytes = (struct sql_bytes){reader->opened, bytes->len - CRYPTO_TAG};
    return NULL;
}

static const char *open_row(struct row_reader *reader, const struct checkpoint_info *info,
                            int64_t id, struct sql_bytes *bytes)
{
    uint8_t about[ABOUT];
    int64_t generation = sqlite3_column_int64(reader->select, 0);
    int64_t kind = sqlite3_column_int64(reader->select, 1);
    bool closed = kind & (SEALED | ENCRYPTED);
    if (generation != info->generation || kind & ~(int64_t)KINDS || closed != info->sealed)
        return "a part is not what it should be";
    *bytes = sql_column_bytes(reader->select, 3);
    about_row(about, id, generation, kind);
    const char *wrong =
        closed ? open_seal(reader, about, kind, sql_column_bytes(reader->select, 2), bytes) : NULL;
    if (wrong || !(kind & PACKED))
        return wrong;
    if (!reader->unpacked && !(reader->unpacked = malloc(STORE_ROW)))
        return "there is no memory for it";
    size_t len = crypto_unpack(reader->unpacked, STORE_ROW, bytes->at, bytes->len);
    *bytes = (struct sql_bytes){reader->unpacked, len};
    return len ? NULL : "a part cannot be unpacked (libzstd1)";
}

int row_read(struct row_reader *reader, const struct checkpoint_info *info, int64_t id,
             struct sql_bytes *bytes, char error[STORE_ERROR])
{
    sqlite3_reset(reader->select);
    sqlite3_bind_int64(reader->select, 1, id);
    int got = sqlite3_step(reader->select);
    if (got == SQLITE_DONE)
        return store_damaged(info, error, "a part is missing");
    if (got != SQLITE_ROW)
        return store_failed(reader->store, "read", error);
    const char *wrong = open_row(reader, info, id, bytes);
    return wrong ? store_damaged(info, error, wrong) : 0;
}
