/* shared.c: memfds for large bodies.  Keeps nothing: descriptors and mappings are the caller's. */
#include "ipc/shared.h"

#include "ipc/frame.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

uint64_t hasup_shared_size(uint64_t len)
{
    uint64_t size = HASUP_INLINE_MAX;
    while (size < len)
        size *= 2;
    return size;
}

int hasup_shared_make(const char *name, uint64_t size, uint8_t **map)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return HASUP_ESYS;
    void *at = MAP_FAILED;
    if (ftruncate(fd, (off_t)size) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0)
        at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        close(fd);
        return HASUP_ESYS;
    }
    *map = at;
    return fd;
}

int hasup_shared_map(int fd, uint64_t size, uint8_t **map)
{
    struct stat st;
    if (fd < 0 || !size || fstat(fd, &st) || (uint64_t)st.st_size < size)
        return HASUP_EPROTO;
    void *at = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        return HASUP_EPROTO;
    *map = at;
    return 0;
}
