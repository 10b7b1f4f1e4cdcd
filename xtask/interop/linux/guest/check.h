/* What every check uses. A check is a function that runs in a process of its own, in a fresh
 * directory of the mount; the first condition that does not hold ends it. */
#ifndef CHECK_H
#define CHECK_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

struct check {
    const char *name;
    void (*run)(void);
};

/* One table for each file, ended by a name that is NULL. */
extern const struct check data_checks[], file_checks[], name_checks[], directory_checks[],
    attribute_checks[], lock_checks[], mapping_checks[], program_checks[];

/* Ends the check as failed. */
void fail(const char *file, int line, const char *format, ...)
    __attribute__((noreturn, format(printf, 3, 4)));

#define FAIL(...) fail(__FILE__, __LINE__, __VA_ARGS__)
/* Holds, or the check has failed. */
#define HOLDS(condition) \
    do { \
        if (!(condition)) \
            FAIL("%s (errno %d, %s)", #condition, errno, strerror(errno)); \
    } while (0)
/* A call that must work; its value. */
#define WORKS(call) \
    ({ \
        __typeof__(call) result_ = (call); \
        if (result_ == (__typeof__(call))-1) \
            FAIL("%s: %s", #call, strerror(errno)); \
        result_; \
    })
/* A call that must be refused with one errno. */
#define REFUSED(call, expected) \
    do { \
        errno = 0; \
        if ((long)(call) != -1L) \
            FAIL("%s works instead of %s", #call, strerror(expected)); \
        if (errno != (expected)) \
            FAIL("%s: %s instead of %s", #call, strerror(errno), strerror(expected)); \
    } while (0)

/* Byte `at` of a file's content that every program computes alike; `salt` tells files apart. */
unsigned char pattern(size_t at, unsigned salt);
/* Writes `size` bytes of the pattern from offset 0, `piece` bytes at a time. */
void write_pattern(int fd, size_t size, size_t piece, unsigned salt);
/* Reads them back, and the end of the file behind them. */
void expect_pattern(int fd, size_t size, size_t piece, unsigned salt);
/* A file with this content. */
void put(const char *path, const char *content);
/* The file has this content. */
void expect(const char *path, const char *content);
struct stat look(const char *path);
/* Runs `body` in a child, as user and group `id` if it is not 0; its status must be 0. */
void child(void (*body)(void), unsigned id);
/* What the command line says about the mount. */
extern const char *mount_point, *second_mount;

#endif
