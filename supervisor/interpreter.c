/*
 * interpreter.c: why a program file that is there could not be started: the kernel says "No such
 * file or directory" of a script whose interpreter is missing, and of an ELF file whose loader is,
 * as if it were the file.  Reads the file's beginning, decides nothing, keeps nothing.
 */
#include "supervisor/interpreter.h"

#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LINE = INTERPRETER_NAME / 2 };

static void script_name(const char *line, size_t len, char name[LINE])
{
    line += 2;
    len -= 2;
    size_t blank = strspn(line, " \t");
    size_t end = blank + strcspn(line + blank, " \t\n");
    if (blank > len)
        blank = len;
    if (end > len)
        end = len;
    snprintf(name, LINE, "%.*s", (int)(end - blank), line + blank);
}

/* The first PT_INTERP; files of the other word size are left alone. */
static void elf_name(int fd, char name[LINE])
{
    ElfW(Ehdr) header;
    ElfW(Phdr) part;
    if (pread(fd, &header, sizeof header, 0) != (ssize_t)sizeof header ||
        header.e_phentsize != sizeof part)
        return;
    for (unsigned i = 0; i < header.e_phnum; i++) {
        const off_t at = (off_t)(header.e_phoff + i * sizeof part);
        if (pread(fd, &part, sizeof part, at) != (ssize_t)sizeof part)
            return;
        if (part.p_type != PT_INTERP)
            continue;
        const size_t len = part.p_filesz < LINE - 1 ? part.p_filesz : LINE - 1;
        const ssize_t got = pread(fd, name, len, (off_t)part.p_offset);
        name[got > 0 ? got : 0] = '\0';
        return;
    }
}

/* A script edited elsewhere asks for "/bin/sh\r". */
static void show(const char *from, char name[INTERPRETER_NAME])
{
    for (; *from; from++) {
        const bool plain = (unsigned char)*from >= ' ' && *from != 127;
        if (*from == '\r')
            *name++ = '\\';
        *name++ = *from == '\r' ? 'r' : plain ? *from : '?';
    }
    *name = '\0';
}

bool interpreter_missing(const char *path, char name[INTERPRETER_NAME])
{
    char line[LINE] = "", found[LINE] = "";
    name[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return false;
    const ssize_t got = read(fd, line, sizeof line - 1);
    if (got > 2 && memcmp(line, "#!", 2) == 0)
        script_name(line, (size_t)got, found);
    else if (got > SELFMAG && memcmp(line, ELFMAG, SELFMAG) == 0)
        elf_name(fd, found);
    close(fd);
    if (!found[0] || access(found, F_OK) == 0)
        return false;
    show(found, name);
    return true;
}
