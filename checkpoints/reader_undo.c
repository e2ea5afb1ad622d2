/*
 * reader_undo.c: a VFS for readers of a database whose writer died amid a save.  SQLite would first
 * play the rollback journal back, which changes the file, and refuses where it may not; here pages
 * that stand in the journal are read from there, and the file ends where it ended before the save.
 * Nothing is written.  Knows the format of SQLite's rollback journal (sqlite.org/fileformat2.html);
 * a record whose checksum does not fit is the end of it, as for SQLite.
 */
#include "checkpoints/reader.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { HEADER = 28, PAGE_MAX = 65536, CHECKED_EACH = 200 };

static const uint8_t MAGIC[8] = {0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7};

struct undo_page {
    uint32_t number;
    off_t at; /* of its bytes in the journal */
};

struct undo_file {
    sqlite3_file base;
    sqlite3_file *real; /* in the memory behind */
    int journal;
    uint32_t page_size, page_count; /* before the save; page_size 0: there is nothing to undo */
    struct undo_page *pages;        /* by number */
    size_t count, room;
};

static sqlite3_vfs *real_vfs;

static uint32_t big32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* ---- the journal ---- */

static bool add_page(struct undo_file *file, uint32_t number, off_t at)
{
    struct undo_page *pages = hasup_grow(file->pages, file->count, &file->room, sizeof *pages);
    if (!pages)
        return false;
    file->pages = pages;
    file->pages[file->count++] = (struct undo_page){number, at};
    return true;
}

/* One record at `at`; false: it is not whole, and so the end.  `bytes` has room for a record. */
static bool read_record(struct undo_file *file, off_t at, uint32_t nonce, uint8_t *bytes)
{
    size_t len = file->page_size + 8;
    if (pread(file->journal, bytes, len, at) != (ssize_t)len)
        return false;
    const uint8_t *page = bytes + 4;
    uint32_t number = big32(bytes), sum = nonce;
    for (uint32_t i = file->page_size - CHECKED_EACH; i > 0 && i < file->page_size;
         i -= CHECKED_EACH)
        sum += page[i];
    if (!number || sum != big32(page + file->page_size))
        return false;
    return number > file->page_count || add_page(file, number, at + 4);
}

/* A header and the records behind it; where the next one stands, or -1: that was the last. */
static off_t read_segment(struct undo_file *file, off_t at, uint8_t *bytes)
{
    uint8_t header[HEADER];
    if (pread(file->journal, header, HEADER, at) != HEADER || memcmp(header, MAGIC, sizeof MAGIC))
        return -1;
    uint32_t records = big32(header + 8), nonce = big32(header + 12), sector = big32(header + 20);
    uint32_t page_size = big32(header + 24);
    if (page_size < 512 || page_size > PAGE_MAX || sector < 32 || sector > PAGE_MAX)
        return -1;
    if (at == 0) {
        file->page_size = page_size;
        file->page_count = big32(header + 16);
    }
    if (page_size != file->page_size)
        return -1;
    at += sector;
    for (uint32_t i = 0; i < records; i++, at += page_size + 8)
        if (!read_record(file, at, nonce, bytes))
            return -1;
    return (at + sector - 1) / sector * sector;
}

static int by_number(const void *a, const void *b)
{
    const struct undo_page *x = a, *y = b;
    return x->number != y->number ? (x->number > y->number) - (x->number < y->number)
                                  : (x->at > y->at) - (x->at < y->at);
}

static int read_journal(struct undo_file *file, const char *path)
{
    char name[1024];
    snprintf(name, sizeof name, "%s-journal", path);
    file->journal = open(name, O_RDONLY | O_CLOEXEC);
    if (file->journal < 0)
        return SQLITE_OK;
    uint8_t *bytes = malloc(PAGE_MAX + 8);
    if (!bytes)
        return SQLITE_NOMEM;
    for (off_t at = 0; at >= 0;)
        at = read_segment(file, at, bytes);
    free(bytes);
    if (file->count)
        qsort(file->pages, file->count, sizeof *file->pages, by_number);
    return SQLITE_OK;
}

static const struct undo_page *find_page(const struct undo_file *file, uint32_t number)
{
    size_t low = 0, high = file->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (file->pages[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < file->count && file->pages[low].number == number ? &file->pages[low] : NULL;
}

/* ---- SQLite's methods ---- */

static struct undo_file *undo_of(sqlite3_file *file)
{
    return (struct undo_file *)file;
}

#define REAL(file) (undo_of(file)->real->pMethods)

static int undo_close(sqlite3_file *file)
{
    struct undo_file *mine = undo_of(file);
    if (mine->journal >= 0)
        close(mine->journal);
    free(mine->pages);
    return mine->real->pMethods ? REAL(file)->xClose(mine->real) : SQLITE_OK;
}

static int undo_read(sqlite3_file *file, void *to, int len, sqlite3_int64 at)
{
    const struct undo_file *mine = undo_of(file);
    if (!mine->page_size)
        return REAL(file)->xRead(mine->real, to, len, at);
    const struct undo_page *page = find_page(mine, (uint32_t)(at / mine->page_size) + 1);
    if (page)
        return pread(mine->journal, to, (size_t)len, page->at + at % mine->page_size) == len
                   ? SQLITE_OK
                   : SQLITE_IOERR_READ;
    if (at < (sqlite3_int64)mine->page_count * mine->page_size)
        return REAL(file)->xRead(mine->real, to, len, at);
    memset(to, 0, (size_t)len);
    return SQLITE_IOERR_SHORT_READ;
}

static int undo_write(sqlite3_file *file, const void *from, int len, sqlite3_int64 at)
{
    (void)file, (void)from, (void)len, (void)at;
    return SQLITE_READONLY;
}

static int undo_truncate(sqlite3_file *file, sqlite3_int64 len)
{
    (void)file, (void)len;
    return SQLITE_READONLY;
}

static int undo_flags(sqlite3_file *file, int flags) /* sync, lock, unlock: nothing to do */
{
    (void)file, (void)flags;
    return SQLITE_OK;
}

static int undo_size(sqlite3_file *file, sqlite3_int64 *size)
{
    const struct undo_file *mine = undo_of(file);
    if (!mine->page_size)
        return REAL(file)->xFileSize(mine->real, size);
    *size = (sqlite3_int64)mine->page_count * mine->page_size;
    return SQLITE_OK;
}

static int undo_check_lock(sqlite3_file *file, int *result)
{
    (void)file;
    *result = 0;
    return SQLITE_OK;
}

static int undo_control(sqlite3_file *file, int op, void *arg)
{
    (void)file, (void)op, (void)arg;
    return SQLITE_NOTFOUND;
}

static int undo_sector_size(sqlite3_file *file)
{
    return REAL(file)->xSectorSize(undo_of(file)->real);
}

static int undo_characteristics(sqlite3_file *file)
{
    (void)file;
    return SQLITE_IOCAP_IMMUTABLE;
}

static const sqlite3_io_methods METHODS = {.iVersion = 1,
                                           .xClose = undo_close,
                                           .xRead = undo_read,
                                           .xWrite = undo_write,
                                           .xTruncate = undo_truncate,
                                           .xSync = undo_flags,
                                           .xFileSize = undo_size,
                                           .xLock = undo_flags,
                                           .xUnlock = undo_flags,
                                           .xCheckReservedLock = undo_check_lock,
                                           .xFileControl = undo_control,
                                           .xSectorSize = undo_sector_size,
                                           .xDeviceCharacteristics = undo_characteristics};

static int undo_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *file, int flags, int *out)
{
    struct undo_file *mine = undo_of(file);
    (void)vfs;
    *mine = (struct undo_file){.real = (sqlite3_file *)(mine + 1), .journal = -1};
    mine->real->pMethods = NULL;
    int got = real_vfs->xOpen(real_vfs, path, mine->real, flags, out);
    if (!mine->real->pMethods)
        return got;
    mine->base.pMethods = &METHODS;
    return got == SQLITE_OK && flags & SQLITE_OPEN_MAIN_DB ? read_journal(mine, path) : got;
}

static void register_vfs(void)
{
    static sqlite3_vfs vfs;
    real_vfs = sqlite3_vfs_find(NULL);
    vfs = *real_vfs;
    vfs.zName = "hasup-undo";
    vfs.pNext = NULL;
    vfs.szOsFile = (int)sizeof(struct undo_file) + real_vfs->szOsFile;
    vfs.xOpen = undo_open;
    sqlite3_vfs_register(&vfs, 0);
}

const char *reader_undo_vfs(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_vfs);
    return "hasup-undo";
}
