/* Bytes of files. */
#include "check.h"

#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/wait.h>

static void small_file(void)
{
    put("file", "hello\n");
    expect("file", "hello\n");
    HOLDS(look("file").st_size == 6);
    HOLDS(S_ISREG(look("file").st_mode));
}

static void big_file(void)
{
    int fd = WORKS(open("kept", O_RDWR | O_CREAT | O_EXCL, 0644));
    write_pattern(fd, 6 << 20, 1 << 20, 1);
    WORKS(lseek(fd, 0, SEEK_SET));
    expect_pattern(fd, 6 << 20, 100000, 1);
    WORKS(close(fd));
    fd = WORKS(open("kept", O_RDONLY));
    expect_pattern(fd, 6 << 20, 1 << 20, 1);
}

/* Sizes about those where a message is full, for the usual msizes, and where a page is. */
static void sizes_at_the_edges(void)
{
    size_t edges[] = {1, 4096, 8192 - 24, 8192, 65536 - 24, 131072 - 24, 131072, 262144};
    for (size_t index = 0; index < sizeof edges / sizeof *edges; index++)
        for (int off = -1; off <= 1; off++) {
            size_t size = edges[index] + off;
            int fd = WORKS(open("file", O_RDWR | O_CREAT | O_TRUNC, 0644));
            if (size)
                write_pattern(fd, size, size, index);
            HOLDS((size_t)look("file").st_size == size);
            WORKS(lseek(fd, 0, SEEK_SET));
            expect_pattern(fd, size, size + 1, index);
            WORKS(close(fd));
        }
}

static void holes(void)
{
    int fd = WORKS(open("kept", O_RDWR | O_CREAT, 0644));
    off_t far = 5LL << 30;
    HOLDS(pwrite(fd, "end", 3, far) == 3);
    HOLDS(look("kept").st_size == far + 3);
    char buffer[8] = "";
    HOLDS(pread(fd, buffer, 8, 1L << 30) == 8 && !memcmp(buffer, "\0\0\0\0\0\0\0", 8));
    HOLDS(pread(fd, buffer, 8, far) == 3 && !memcmp(buffer, "end", 3));
    WORKS(fsync(fd));
}

static void appending(void)
{
    int one = WORKS(open("file", O_WRONLY | O_CREAT | O_APPEND, 0644));
    HOLDS(write(one, "one ", 4) == 4);
    WORKS(lseek(one, 0, SEEK_SET));
    HOLDS(write(one, "two ", 4) == 4);
    int other = WORKS(open("file", O_WRONLY | O_APPEND));
    HOLDS(write(other, "three ", 6) == 6);
    HOLDS(write(one, "four", 4) == 4);
    WORKS(close(one));
    WORKS(close(other));
    expect("file", "one two three four");
    WORKS(truncate("file", 3));
    other = WORKS(open("file", O_WRONLY | O_APPEND));
    HOLDS(write(other, "+", 1) == 1);
    WORKS(close(other));
    expect("file", "one+");
}

static void truncating(void)
{
    put("file", "0123456789");
    WORKS(truncate("file", 4));
    expect("file", "0123");
    int fd = WORKS(open("file", O_RDWR));
    WORKS(ftruncate(fd, 8));
    char buffer[9] = "";
    HOLDS(pread(fd, buffer, 9, 0) == 8 && !memcmp(buffer, "0123\0\0\0\0", 8));
    WORKS(ftruncate(fd, 100000));
    HOLDS(look("file").st_size == 100000);
    WORKS(ftruncate(fd, 0));
    HOLDS(look("file").st_size == 0 && pread(fd, buffer, 9, 0) == 0);
    REFUSED(ftruncate(fd, -1), EINVAL);
    REFUSED(truncate("missing", 0), ENOENT);
    REFUSED(truncate(".", 0), EISDIR);
}

static void truncated_when_opened(void)
{
    put("file", "old and long");
    int fd = WORKS(open("file", O_WRONLY | O_TRUNC));
    HOLDS(look("file").st_size == 0);
    HOLDS(write(fd, "new", 3) == 3);
    WORKS(close(fd));
    expect("file", "new");
}

static void overwriting(void)
{
    int fd = WORKS(open("file", O_RDWR | O_CREAT, 0644));
    write_pattern(fd, 300000, 65536, 2);
    unsigned char middle[10000], read_back[10000];
    memset(middle, 0xa5, sizeof middle);
    HOLDS(pwrite(fd, middle, sizeof middle, 130000) == sizeof middle);
    HOLDS(pread(fd, read_back, sizeof read_back, 130000) == sizeof read_back);
    HOLDS(!memcmp(middle, read_back, sizeof middle));
    HOLDS(pread(fd, read_back, 1, 129999) == 1 && read_back[0] == pattern(129999, 2));
    HOLDS(pread(fd, read_back, 1, 140000) == 1 && read_back[0] == pattern(140000, 2));
    HOLDS(look("file").st_size == 300000);
}

static void pieces_of_one_call(void)
{
    int fd = WORKS(open("file", O_RDWR | O_CREAT, 0644));
    char one[5] = "head ", two[4] = "body", a[3], b[6];
    struct iovec out[] = {{one, 5}, {two, 4}}, in[] = {{a, 3}, {b, 6}};
    HOLDS(writev(fd, out, 2) == 9);
    WORKS(lseek(fd, 0, SEEK_SET));
    HOLDS(readv(fd, in, 2) == 9 && !memcmp(a, "hea", 3) && !memcmp(b, "d body", 6));
    int copy = WORKS(open("copy", O_WRONLY | O_CREAT, 0644));
    off_t from = 0;
    HOLDS(sendfile(copy, fd, &from, 9) == 9);
    WORKS(close(copy));
    expect("copy", "head body");
}

static void direct_data(void)
{
    unsigned char *page;
    HOLDS(posix_memalign((void **)&page, 4096, 8192) == 0);
    for (int at = 0; at < 8192; at++)
        page[at] = pattern(at, 3);
    int fd = WORKS(open("file", O_RDWR | O_CREAT | O_DIRECT, 0644));
    HOLDS(write(fd, page, 8192) == 8192);
    memset(page, 0, 8192);
    HOLDS(pread(fd, page, 4096, 4096) == 4096);
    for (int at = 0; at < 4096; at++)
        HOLDS(page[at] == pattern(4096 + at, 3));
}

static void synced(void)
{
    int fd = WORKS(open("file", O_WRONLY | O_CREAT, 0644));
    HOLDS(write(fd, "safe", 4) == 4);
    WORKS(fsync(fd));
    WORKS(fdatasync(fd));
    WORKS(close(fd));
    fd = WORKS(open("file", O_WRONLY | O_APPEND | O_SYNC));
    HOLDS(write(fd, " now", 4) == 4);
    WORKS(close(fd));
    fd = WORKS(open(".", O_RDONLY | O_DIRECTORY));
    WORKS(fsync(fd));
    WORKS(syncfs(fd));
    expect("file", "safe now");
}

static void two_descriptors_agree(void)
{
    int writer = WORKS(open("file", O_WRONLY | O_CREAT, 0644));
    int reader = WORKS(open("file", O_RDONLY));
    char buffer[8] = "";
    HOLDS(pread(reader, buffer, 8, 0) == 0);
    HOLDS(write(writer, "first", 5) == 5);
    HOLDS(pread(reader, buffer, 8, 0) == 5 && !memcmp(buffer, "first", 5));
    HOLDS(pwrite(writer, "F", 1, 0) == 1);
    HOLDS(pread(reader, buffer, 8, 0) == 5 && !memcmp(buffer, "First", 5));
    struct stat found;
    WORKS(fstat(reader, &found));
    HOLDS(found.st_size == 5);
}

static void four_writers(void)
{
    pid_t pids[4];
    for (int worker = 0; worker < 4; worker++) {
        pids[worker] = WORKS(fork());
        if (pids[worker] == 0) {
            char path[16];
            snprintf(path, sizeof path, "kept-%d", worker);
            int fd = WORKS(open(path, O_RDWR | O_CREAT, 0644));
            write_pattern(fd, 1 << 20, 50000, 10 + worker);
            WORKS(lseek(fd, 0, SEEK_SET));
            expect_pattern(fd, 1 << 20, 70000, 10 + worker);
            _exit(0);
        }
    }
    for (int worker = 0; worker < 4; worker++) {
        int status = 0;
        WORKS(waitpid(pids[worker], &status, 0));
        HOLDS(status == 0);
    }
}

const struct check data_checks[] = {
    {"small_file", small_file},
    {"big_file", big_file},
    {"sizes_at_the_edges", sizes_at_the_edges},
    {"holes", holes},
    {"appending", appending},
    {"truncating", truncating},
    {"truncated_when_opened", truncated_when_opened},
    {"overwriting", overwriting},
    {"pieces_of_one_call", pieces_of_one_call},
    {"direct_data", direct_data},
    {"synced", synced},
    {"two_descriptors_agree", two_descriptors_agree},
    {"four_writers", four_writers},
    {NULL, NULL},
};
