/* Opening, and files that lose or change their names while they are open. */
#include "check.h"

static void refused_opens(void)
{
    put("file", "");
    WORKS(mkdir("dir", 0755));
    REFUSED(open("file", O_RDWR | O_CREAT | O_EXCL, 0644), EEXIST);
    REFUSED(open("missing", O_RDONLY), ENOENT);
    REFUSED(open("missing/below", O_RDWR | O_CREAT, 0644), ENOENT);
    REFUSED(open("file/below", O_RDONLY), ENOTDIR);
    REFUSED(open("dir", O_WRONLY), EISDIR);
    REFUSED(open("file", O_RDONLY | O_DIRECTORY), ENOTDIR);
    int fd = WORKS(open("file", O_RDONLY));
    REFUSED(write(fd, "x", 1), EBADF);
    char byte;
    fd = WORKS(open("file", O_WRONLY));
    REFUSED(read(fd, &byte, 1), EBADF);
    fd = WORKS(open("dir", O_RDONLY));
    REFUSED(read(fd, &byte, 1), EISDIR);
}

static void created_with_any_mode(void)
{
    int fd = WORKS(open("none", O_RDWR | O_CREAT | O_EXCL, 0));
    HOLDS(write(fd, "x", 1) == 1);
    HOLDS((look("none").st_mode & 07777) == 0);
    umask(027);
    WORKS(close(WORKS(open("masked", O_WRONLY | O_CREAT, 0666))));
    HOLDS((look("masked").st_mode & 07777) == 0640);
    WORKS(mkdir("dir", 0777));
    HOLDS((look("dir").st_mode & 07777) == 0750);
}

static void three_hundred_open_files(void)
{
    int fds[300];
    char path[16];
    for (int index = 0; index < 300; index++) {
        snprintf(path, sizeof path, "file-%d", index);
        fds[index] = WORKS(open(path, O_RDWR | O_CREAT, 0644));
        HOLDS(write(fds[index], path, strlen(path)) == (ssize_t)strlen(path));
    }
    for (int index = 0; index < 300; index++) {
        char buffer[16] = "";
        snprintf(path, sizeof path, "file-%d", index);
        HOLDS(pread(fds[index], buffer, sizeof buffer, 0) == (ssize_t)strlen(path));
        HOLDS(!strcmp(buffer, path));
        WORKS(close(fds[index]));
    }
}

static void unlinked_while_open(void)
{
    int fd = WORKS(open("file", O_RDWR | O_CREAT, 0644));
    HOLDS(write(fd, "content", 7) == 7);
    WORKS(unlink("file"));
    REFUSED(access("file", F_OK), ENOENT);
    char buffer[16] = "";
    HOLDS(pread(fd, buffer, 16, 0) == 7 && !memcmp(buffer, "content", 7));
    HOLDS(pwrite(fd, "C", 1, 0) == 1);
    HOLDS(pread(fd, buffer, 16, 0) == 7 && !memcmp(buffer, "Content", 7));
    put("file", "another");
    HOLDS(pread(fd, buffer, 16, 0) == 7 && !memcmp(buffer, "Content", 7));
    WORKS(close(fd));
    expect("file", "another");
}

static void unlinked_and_changed(void)
{
    int fd = WORKS(open("file", O_RDWR | O_CREAT, 0644));
    HOLDS(write(fd, "content", 7) == 7);
    WORKS(unlink("file"));
    struct stat found;
    WORKS(fstat(fd, &found));
    HOLDS(found.st_size == 7);
    HOLDS(found.st_nlink == 0);
    WORKS(ftruncate(fd, 3));
    WORKS(fchmod(fd, 0600));
    WORKS(fstat(fd, &found));
    HOLDS(found.st_size == 3 && (found.st_mode & 07777) == 0600);
    WORKS(fsync(fd));
}

static void renamed_while_open(void)
{
    int fd = WORKS(open("old", O_RDWR | O_CREAT, 0644));
    HOLDS(write(fd, "before ", 7) == 7);
    WORKS(rename("old", "new"));
    HOLDS(write(fd, "after", 5) == 5);
    WORKS(ftruncate(fd, 11));
    struct stat found;
    WORKS(fstat(fd, &found));
    HOLDS(found.st_size == 11);
    WORKS(close(fd));
    expect("new", "before afte");
    REFUSED(access("old", F_OK), ENOENT);
}

static void below_a_renamed_directory(void)
{
    WORKS(mkdir("old", 0755));
    WORKS(mkdir("old/sub", 0755));
    int fd = WORKS(open("old/sub/file", O_RDWR | O_CREAT, 0644));
    HOLDS(write(fd, "one", 3) == 3);
    int dir = WORKS(open("old/sub", O_RDONLY | O_DIRECTORY));
    WORKS(rename("old", "new"));
    HOLDS(write(fd, " two", 4) == 4);
    WORKS(fchmod(fd, 0640));
    int other = WORKS(openat(dir, "other", O_WRONLY | O_CREAT, 0644));
    HOLDS(write(other, "x", 1) == 1);
    WORKS(close(other));
    WORKS(close(fd));
    expect("new/sub/file", "one two");
    expect("new/sub/other", "x");
    HOLDS((look("new/sub/file").st_mode & 07777) == 0640);
}

static void replaced_while_open(void)
{
    put("new", "new content");
    int fd = WORKS(open("file", O_RDWR | O_CREAT, 0644));
    HOLDS(write(fd, "old", 3) == 3);
    WORKS(rename("new", "file"));
    char buffer[16] = "";
    HOLDS(pread(fd, buffer, 16, 0) == 3 && !memcmp(buffer, "old", 3));
    HOLDS(pwrite(fd, "OLD", 3, 0) == 3);
    WORKS(close(fd));
    expect("file", "new content");
}

/* Seen through another mount of the same server: somebody else's changes. */
static void changed_by_somebody_else(void)
{
    char path[400], here[300];
    put("file", "old");
    HOLDS(look("file").st_size == 3);
    HOLDS(getcwd(here, sizeof here));
    snprintf(path, sizeof path, "%s%s/file", second_mount, here + strlen(mount_point));
    put(path, "new and longer");
    HOLDS(look("file").st_size == 14);
    expect("file", "new and longer");
    WORKS(unlink(path));
    REFUSED(access("file", F_OK), ENOENT);
}

const struct check file_checks[] = {
    {"refused_opens", refused_opens},
    {"created_with_any_mode", created_with_any_mode},
    {"three_hundred_open_files", three_hundred_open_files},
    {"unlinked_while_open", unlinked_while_open},
    {"unlinked_and_changed", unlinked_and_changed},
    {"renamed_while_open", renamed_while_open},
    {"below_a_renamed_directory", below_a_renamed_directory},
    {"replaced_while_open", replaced_while_open},
    {"changed_by_somebody_else", changed_by_somebody_else},
    {NULL, NULL},
};
