/* Modes, owners, times, extended attributes, and the file system's own numbers. */
#include "check.h"

#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <time.h>

enum { ORDINARY = 1000, THEN = 981173106 };

static void modes(void)
{
    put("kept", "");
    unsigned all[] = {0, 0600, 0777, 02755, 01644, 04751};
    for (size_t index = 0; index < sizeof all / sizeof *all; index++) {
        WORKS(chmod("kept", all[index]));
        HOLDS((look("kept").st_mode & 07777) == all[index]);
    }
    int fd = WORKS(open("kept", O_RDONLY));
    WORKS(fchmod(fd, 0640));
    HOLDS((look("kept").st_mode & 07777) == 0640);
    WORKS(fchmod(fd, 04751));
    WORKS(mkdir("dir", 01777));
    HOLDS((look("dir").st_mode & 07777) == 01777);
    REFUSED(chmod("missing", 0600), ENOENT);
}

static void owners(void)
{
    put("kept", "");
    WORKS(chown("kept", 1234, 5678));
    HOLDS(look("kept").st_uid == 1234 && look("kept").st_gid == 5678);
    WORKS(chown("kept", -1, 42));
    HOLDS(look("kept").st_uid == 1234 && look("kept").st_gid == 42);
    int fd = WORKS(open("kept", O_RDONLY));
    WORKS(fchown(fd, 1234, 5678));
    WORKS(symlink("kept", "link"));
    WORKS(lchown("link", 77, 88));
    HOLDS(look("link").st_uid == 77 && look("link").st_gid == 88);
    HOLDS(look("kept").st_uid == 1234);
}

static void setgid_directories(void)
{
    WORKS(mkdir("dir", 0755));
    WORKS(chown("dir", 0, 4321));
    WORKS(chmod("dir", 02755));
    put("dir/file", "");
    HOLDS(look("dir/file").st_gid == 4321);
    WORKS(mkdir("dir/sub", 0755));
    HOLDS(look("dir/sub").st_gid == 4321 && look("dir/sub").st_mode & S_ISGID);
}

static void times(void)
{
    put("kept", "");
    struct timespec set[2] = {{THEN - 5, 0}, {THEN, 0}};
    WORKS(utimensat(AT_FDCWD, "kept", set, 0));
    HOLDS(look("kept").st_atime == THEN - 5 && look("kept").st_mtime == THEN);
    struct timespec one[2] = {{0, UTIME_OMIT}, {THEN + 9, 0}};
    WORKS(utimensat(AT_FDCWD, "kept", one, 0));
    HOLDS(look("kept").st_atime == THEN - 5 && look("kept").st_mtime == THEN + 9);
    WORKS(symlink("kept", "link"));
    WORKS(utimensat(AT_FDCWD, "link", set, AT_SYMLINK_NOFOLLOW));
    HOLDS(look("link").st_mtime == THEN && look("kept").st_mtime == THEN + 9);
    int fd = WORKS(open("kept", O_RDONLY));
    WORKS(futimens(fd, set));
    HOLDS(look("kept").st_mtime == THEN);
}

static void times_before_1970(void)
{
    struct timespec set[2] = {{-1000, 0}, {-1000, 0}};
    put("file", "");
    WORKS(utimensat(AT_FDCWD, "file", set, 0));
    if (look("file").st_mtime != -1000)
        FAIL("the time is %ld", (long)look("file").st_mtime);
}

static void times_to_the_nanosecond(void)
{
    put("file", "");
    struct timespec set[2] = {{THEN, 123456789}, {THEN, 987654321}};
    WORKS(utimensat(AT_FDCWD, "file", set, 0));
    HOLDS(look("file").st_mtim.tv_sec == THEN);
    HOLDS(look("file").st_mtim.tv_nsec == 987654321);
}

static void times_move_on(void)
{
    struct timespec set[2] = {{THEN, 0}, {THEN, 0}}, now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
    put("file", "x");
    WORKS(utimensat(AT_FDCWD, "file", set, 0));
    int fd = WORKS(open("file", O_WRONLY));
    HOLDS(write(fd, "y", 1) == 1);
    WORKS(fsync(fd));
    WORKS(close(fd));
    HOLDS(look("file").st_mtime > THEN);
    WORKS(utimensat(AT_FDCWD, "file", set, 0));
    WORKS(utimensat(AT_FDCWD, "file", now, 0));
    HOLDS(look("file").st_mtime > THEN);
    HOLDS(look("file").st_ctime > THEN);
    WORKS(utimensat(AT_FDCWD, ".", set, 0));
    put("new", "");
    HOLDS(look(".").st_mtime > THEN);
}

static void numbers_of_the_file_system(void)
{
    struct statfs found;
    WORKS(statfs(".", &found));
    HOLDS(found.f_bsize >= 512);
    HOLDS(found.f_blocks > 0 && found.f_bfree <= found.f_blocks);
    HOLDS(found.f_bavail <= found.f_bfree);
    HOLDS(found.f_files >= found.f_ffree);
    HOLDS(found.f_namelen == 255);
    struct statvfs other;
    WORKS(statvfs("..", &other));
    HOLDS(other.f_blocks == (fsblkcnt_t)found.f_blocks);
}

static void extended_attributes(void)
{
    char buffer[200] = "", names[400];
    put("kept", "");
    REFUSED(getxattr("kept", "user.none", buffer, sizeof buffer), ENODATA);
    WORKS(setxattr("kept", "user.one", "value", 5, XATTR_CREATE));
    REFUSED(setxattr("kept", "user.one", "x", 1, XATTR_CREATE), EEXIST);
    REFUSED(setxattr("kept", "user.two", "x", 1, XATTR_REPLACE), ENODATA);
    HOLDS(getxattr("kept", "user.one", buffer, sizeof buffer) == 5);
    HOLDS(!memcmp(buffer, "value", 5));
    HOLDS(getxattr("kept", "user.one", NULL, 0) == 5);
    REFUSED(getxattr("kept", "user.one", buffer, 2), ERANGE);
    WORKS(setxattr("kept", "user.one", "nul\0nul", 7, XATTR_REPLACE));
    WORKS(setxattr("kept", "user.two", "2", 1, 0));
    ssize_t size = WORKS(listxattr("kept", names, sizeof names));
    int found = 0;
    for (char *name = names; name < names + size; name += strlen(name) + 1)
        found += !strcmp(name, "user.one") || !strcmp(name, "user.two");
    HOLDS(found == 2);
    WORKS(removexattr("kept", "user.two"));
    REFUSED(removexattr("kept", "user.two"), ENODATA);
    int fd = WORKS(open("kept", O_RDONLY));
    HOLDS(fgetxattr(fd, "user.one", buffer, sizeof buffer) == 7);
    WORKS(fsetxattr(fd, "user.three", "3", 1, 0));
    WORKS(mkdir("dir", 0755));
    WORKS(setxattr("dir", "user.dir", "d", 1, 0));
    HOLDS(getxattr("dir", "user.dir", buffer, sizeof buffer) == 1);
}

static void large_attributes(void)
{
    static unsigned char value[3000], read_back[3001];
    put("file", "");
    for (size_t at = 0; at < sizeof value; at++)
        value[at] = pattern(at, 4);
    WORKS(setxattr("file", "user.large", value, sizeof value, 0));
    HOLDS(getxattr("file", "user.large", read_back, sizeof read_back) == sizeof value);
    HOLDS(!memcmp(value, read_back, sizeof value));
}

static void empty_attributes(void)
{
    char buffer[8];
    put("file", "");
    WORKS(setxattr("file", "user.empty", "", 0, 0));
    HOLDS(getxattr("file", "user.empty", buffer, sizeof buffer) == 0);
}

static void be_somebody(void)
{
    REFUSED(open("secret", O_RDONLY), EACCES);
    REFUSED(access("secret", R_OK), EACCES);
    REFUSED(open("new", O_WRONLY | O_CREAT, 0644), EACCES);
    REFUSED(unlink("public"), EACCES);
    REFUSED(chmod("public", 0777), EPERM);
    REFUSED(open("closed/file", O_RDONLY), EACCES);
    expect("public", "for all\n");
    int fd = WORKS(open("open/own", O_WRONLY | O_CREAT | O_EXCL, 0640));
    HOLDS(write(fd, "mine", 4) == 4);
    WORKS(close(fd));
    HOLDS(look("open/own").st_uid == ORDINARY && look("open/own").st_gid == ORDINARY);
    WORKS(chmod("open/own", 0600));
    REFUSED(unlink("open/others"), EPERM);
    WORKS(mkdir("open/dir", 0700));
    HOLDS(look("open/dir").st_uid == ORDINARY);
    WORKS(symlink("x", "open/link"));
    HOLDS(look("open/link").st_uid == ORDINARY);
    WORKS(unlink("open/link"));
}

static void permissions(void)
{
    put("secret", "for root\n");
    WORKS(chmod("secret", 0600));
    put("public", "for all\n");
    WORKS(mkdir("closed", 0700));
    put("closed/file", "");
    WORKS(mkdir("open", 01777));
    put("open/others", "");
    child(be_somebody, ORDINARY);
    expect("open/own", "mine");
}

const struct check attribute_checks[] = {
    {"modes", modes},
    {"owners", owners},
    {"setgid_directories", setgid_directories},
    {"times", times},
    {"times_before_1970", times_before_1970},
    {"times_to_the_nanosecond", times_to_the_nanosecond},
    {"times_move_on", times_move_on},
    {"numbers_of_the_file_system", numbers_of_the_file_system},
    {"extended_attributes", extended_attributes},
    {"large_attributes", large_attributes},
    {"empty_attributes", empty_attributes},
    {"permissions", permissions},
    {NULL, NULL},
};
