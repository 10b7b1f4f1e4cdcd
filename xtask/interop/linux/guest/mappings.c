/* Files in memory. */
#include "check.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { SIZE = 300000 };

static void mapped_for_reading(void)
{
    int fd = WORKS(open("file", O_RDWR | O_CREAT, 0644));
    write_pattern(fd, SIZE, 65536, 5);
    unsigned char *map = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
    HOLDS(map != MAP_FAILED);
    for (size_t at = 0; at < SIZE; at++)
        if (map[at] != pattern(at, 5))
            FAIL("another byte at %zu", at);
}

static void mapped_privately(void)
{
    put("file", "content");
    int fd = WORKS(open("file", O_RDONLY));
    char *map = mmap(NULL, 7, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    HOLDS(map != MAP_FAILED);
    map[0] = 'C';
    expect("file", "content");
    WORKS(unlink("file"));
    HOLDS(!memcmp(map, "Content", 7));
}

static void mapped_for_writing(void)
{
    int fd = WORKS(open("kept", O_RDWR | O_CREAT, 0644));
    write_pattern(fd, SIZE, 65536, 6);
    unsigned char *map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    HOLDS(map != MAP_FAILED);
    for (size_t at = 0; at < SIZE; at += 1000)
        map[at] = pattern(at, 7);
    WORKS(msync(map, SIZE, MS_SYNC));
    unsigned char byte;
    HOLDS(pread(fd, &byte, 1, 5000) == 1 && byte == pattern(5000, 7));
    WORKS(munmap(map, SIZE));
    WORKS(close(fd));
    fd = WORKS(open("kept", O_RDONLY));
    HOLDS(pread(fd, &byte, 1, 299000) == 1 && byte == pattern(299000, 7));
    HOLDS(look("kept").st_size == SIZE);
}

static void beyond_the_end(void)
{
    put("file", "short");
    int fd = WORKS(open("file", O_RDONLY));
    unsigned char *map = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, fd, 0);
    HOLDS(map != MAP_FAILED);
    HOLDS(map[4] == 't' && map[5] == 0 && map[4095] == 0);
    pid_t pid = WORKS(fork());
    if (pid == 0)
        _exit(map[4096]);
    int status = 0;
    WORKS(waitpid(pid, &status, 0));
    HOLDS((status & 0x7f) == SIGBUS);
}

const struct check mapping_checks[] = {
    {"mapped_for_reading", mapped_for_reading},
    {"mapped_privately", mapped_privately},
    {"mapped_for_writing", mapped_for_writing},
    {"beyond_the_end", beyond_the_end},
    {NULL, NULL},
};
