/*
 * keys.c: reads a key file.  Refuses one that others can read.  Never shows a key: messages name
 * the file, the line and the key's id.
 */
#include "checkpoints/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoints/crypto.h"

enum { FILE_MAX = 16 * 1024, KEY_LEN = 32 };

char *key_id_text(const uint8_t id[KEY_ID], char out[KEY_ID_TEXT])
{
    for (int i = 0; i < KEY_ID; i++)
        snprintf(out + 2 * i, 3, "%02x", id[i]);
    return out;
}

const struct key *keys_find(const struct keys *keys, const uint8_t id[KEY_ID])
{
    for (unsigned i = 0; keys && i < keys->count; i++)
        if (memcmp(keys->keys[i].id, id, KEY_ID) == 0)
            return &keys->keys[i];
    return NULL;
}

void keys_free(struct keys *keys)
{
    if (!keys)
        return;
    explicit_bzero(keys, sizeof *keys);
    free(keys);
}

static void derive(uint8_t out[32], const uint8_t key[KEY_LEN], const char *use)
{
    struct crypto_hash hash;
    crypto_hash_begin(&hash, key);
    crypto_hash_add(&hash, use, strlen(use));
    crypto_hash_end(&hash, out);
}

static int digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static int add_key(struct keys *keys, const char *line, size_t len, unsigned number,
                   char error[KEYS_ERROR])
{
    uint8_t bytes[KEY_LEN], id[32];
    bool right = len == 2 * KEY_LEN;
    for (size_t i = 0; right && i < KEY_LEN; i++) {
        int high = digit(line[2 * i]), low = digit(line[2 * i + 1]);
        right = high >= 0 && low >= 0;
        bytes[i] = right ? (uint8_t)(high * 16 + low) : 0;
    }
    if (!right || keys->count == KEYS_MAX) {
        snprintf(error, KEYS_ERROR, "%.150s:%u: %s", keys->path, number,
                 right ? "more than 16 keys: remove those that no checkpoint needs"
                       : "a key is 64 hexadecimal digits; openssl rand -hex 32 makes one");
        return HASUP_EINVAL;
    }
    struct key *key = &keys->keys[keys->count++];
    derive(id, bytes, "hasup checkpoint key id");
    memcpy(key->id, id, KEY_ID);
    derive(key->mac, bytes, "hasup checkpoint seal");
    derive(key->cipher, bytes, "hasup checkpoint cipher");
    explicit_bzero(bytes, sizeof bytes);
    return 0;
}

static int parse(struct keys *keys, const char *text, char error[KEYS_ERROR])
{
    unsigned number = 0;
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        size_t len = strcspn(line, "\r\n #\t");
        number++;
        if (!len)
            continue;
        int code = add_key(keys, line, len, number, error);
        if (code)
            return code;
    }
    if (keys->count)
        return 0;
    snprintf(error, KEYS_ERROR, "%.150s: holds no key; openssl rand -hex 32 makes one", keys->path);
    return HASUP_EINVAL;
}

static int read_file(const char *path, char text[FILE_MAX + 1], char error[KEYS_ERROR])
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY), why = errno;
    if (fd < 0 || fstat(fd, &st)) {
        snprintf(error, KEYS_ERROR, "%.150s: %.80s", path, strerror(fd < 0 ? why : errno));
        if (fd >= 0)
            close(fd);
        return HASUP_EINVAL;
    }
    ssize_t got = S_ISREG(st.st_mode) ? read(fd, text, FILE_MAX) : -1;
    close(fd);
    if (st.st_mode & 077) {
        snprintf(error, KEYS_ERROR, "%.150s: mode %04o lets others at the key: chmod 0600 it", path,
                 (unsigned)(st.st_mode & 07777));
        return HASUP_EDENIED;
    }
    if (st.st_uid != geteuid() && st.st_uid != 0) {
        snprintf(error, KEYS_ERROR, "%.150s: belongs to user %u, who could change the key", path,
                 (unsigned)st.st_uid);
        return HASUP_EDENIED;
    }
    if (got < 0 || got == FILE_MAX) {
        snprintf(error, KEYS_ERROR, "%.150s: is not a file of keys", path);
        return HASUP_EINVAL;
    }
    text[got] = '\0';
    return 0;
}

int keys_load(const char *path, struct keys **out, char error[KEYS_ERROR])
{
    char text[FILE_MAX + 1];
    struct keys *keys = calloc(1, sizeof *keys);
    int code = keys ? crypto_load(error) : HASUP_ENOMEM;
    if (!keys || strlen(path) >= sizeof keys->path) {
        snprintf(error, KEYS_ERROR, "%s", keys ? "the key file's path is too long" : "no memory");
        code = keys ? HASUP_EINVAL : HASUP_ENOMEM;
    }
    if (!code) {
        strcpy(keys->path, path);
        code = read_file(path, text, error);
    }
    if (!code)
        code = parse(keys, text, error);
    explicit_bzero(text, sizeof text);
    *out = code ? NULL : keys;
    if (code)
        keys_free(keys);
    return code;
}
