/* What many checks do. */
#include "check.h"

#include <sys/wait.h>

unsigned char pattern(size_t at, unsigned salt)
{
    unsigned long mixed = (at / 7 + 1) * 2654435761UL + at + salt * 97UL;
    return (unsigned char)(mixed >> 8 ^ mixed);
}

void write_pattern(int fd, size_t size, size_t piece, unsigned salt)
{
    unsigned char *buffer = malloc(piece);
    HOLDS(buffer);
    for (size_t at = 0; at < size;) {
        size_t now = size - at < piece ? size - at : piece;
        for (size_t index = 0; index < now; index++)
            buffer[index] = pattern(at + index, salt);
        ssize_t wrote = WORKS(write(fd, buffer, now));
        if (wrote == 0)
            FAIL("no byte is written at %zu", at);
        /* A short write is made good by the next. */
        WORKS(lseek(fd, at += wrote, SEEK_SET));
    }
    free(buffer);
}

void expect_pattern(int fd, size_t size, size_t piece, unsigned salt)
{
    unsigned char *buffer = malloc(piece);
    HOLDS(buffer);
    for (size_t at = 0; at < size;) {
        ssize_t got = WORKS(read(fd, buffer, piece));
        if (got == 0)
            FAIL("the file ends at %zu of %zu", at, size);
        if (at + got > size)
            FAIL("the file goes on behind %zu", size);
        for (ssize_t index = 0; index < got; index++)
            if (buffer[index] != pattern(at + index, salt))
                FAIL("another byte at %zu", at + index);
        at += got;
    }
    if (read(fd, buffer, 1) != 0)
        FAIL("no end at %zu", size);
    free(buffer);
}

void put(const char *path, const char *content)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0)
        FAIL("create %s: %s", path, strerror(errno));
    ssize_t size = strlen(content);
    if (write(fd, content, size) != size)
        FAIL("write %s: %s", path, strerror(errno));
    if (close(fd))
        FAIL("close %s: %s", path, strerror(errno));
}

void expect(const char *path, const char *content)
{
    char buffer[4096] = "";
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        FAIL("open %s: %s", path, strerror(errno));
    ssize_t got = read(fd, buffer, sizeof buffer - 1);
    if (got < 0)
        FAIL("read %s: %s", path, strerror(errno));
    if ((size_t)got != strlen(content) || memcmp(buffer, content, got))
        FAIL("%s is `%s`, not `%s`", path, buffer, content);
    close(fd);
}

struct stat look(const char *path)
{
    struct stat found;
    if (lstat(path, &found))
        FAIL("lstat %s: %s", path, strerror(errno));
    return found;
}

void child(void (*body)(void), unsigned id)
{
    pid_t pid = WORKS(fork());
    if (pid == 0) {
        if (id && (setgid(id) || setuid(id)))
            FAIL("become user %u: %s", id, strerror(errno));
        body();
        _exit(0);
    }
    int status = 0;
    WORKS(waitpid(pid, &status, 0));
    /* It has said why. */
    if (status)
        _exit(1);
}
