/* Names: links, renames, and bytes that are rarely met in a name. */
#include "check.h"

#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

static void odd_names(void)
{
    const char *names[] = {"with space", "new\nline", "\xff\xfe\x80", "...", "-rf",
                           "\xc3\xa4\xc3\xb6", "back\\slash", "quote\"'", ".hidden"};
    WORKS(mkdir("kept", 0755));
    WORKS(chdir("kept"));
    for (size_t index = 0; index < sizeof names / sizeof *names; index++) {
        put(names[index], names[index]);
        expect(names[index], names[index]);
    }
}

static void long_names(void)
{
    char name[257];
    memset(name, 'n', 256);
    name[256] = 0;
    REFUSED(open(name, O_WRONLY | O_CREAT, 0644), ENAMETOOLONG);
    REFUSED(mkdir(name, 0755), ENAMETOOLONG);
    name[255] = 0;
    put(name, "long");
    expect(name, "long");
    WORKS(rename(name, "short"));
    WORKS(rename("short", name));
    WORKS(unlink(name));
}

static void symbolic_links(void)
{
    char target[4096], buffer[4096];
    put("target", "the target\n");
    WORKS(symlink("target", "kept"));
    expect("kept", "the target\n");
    HOLDS(S_ISLNK(look("kept").st_mode) && look("kept").st_size == 6);
    HOLDS(readlink("kept", buffer, sizeof buffer) == 6 && !memcmp(buffer, "target", 6));
    WORKS(symlink("nowhere", "dangling"));
    REFUSED(open("dangling", O_RDONLY), ENOENT);
    WORKS(symlink("loop", "loop"));
    REFUSED(open("loop", O_RDONLY), ELOOP);
    REFUSED(open("kept", O_RDONLY | O_NOFOLLOW), ELOOP);
    REFUSED(symlink("x", "kept"), EEXIST);
    memset(target, 't', 4000);
    for (int at = 200; at < 4000; at += 200)
        target[at] = '/';
    target[4000] = 0;
    WORKS(symlink(target, "long"));
    HOLDS(readlink("long", buffer, sizeof buffer) == 4000 && !memcmp(buffer, target, 4000));
}

static void hard_links(void)
{
    put("one", "shared");
    WORKS(link("one", "kept"));
    HOLDS(look("one").st_nlink == 2 && look("kept").st_nlink == 2);
    HOLDS(look("one").st_ino == look("kept").st_ino);
    int fd = WORKS(open("kept", O_WRONLY));
    HOLDS(write(fd, "S", 1) == 1);
    WORKS(close(fd));
    expect("one", "Shared");
    REFUSED(link("one", "kept"), EEXIST);
    REFUSED(link("missing", "third"), ENOENT);
    WORKS(mkdir("dir", 0755));
    REFUSED(link("dir", "third"), EPERM);
    WORKS(link("one", "third"));
    WORKS(unlink("third"));
    HOLDS(look("one").st_nlink == 2);
}

static void renames(void)
{
    put("one", "one");
    put("two", "two");
    WORKS(mkdir("dir", 0755));
    WORKS(mkdir("full", 0755));
    put("full/file", "");
    WORKS(rename("one", "three"));
    REFUSED(access("one", F_OK), ENOENT);
    WORKS(rename("three", "two"));
    expect("two", "one");
    WORKS(rename("two", "dir/two"));
    expect("dir/two", "one");
    REFUSED(rename("missing", "x"), ENOENT);
    REFUSED(rename("dir", "dir/below"), EINVAL);
    REFUSED(rename("dir", "full"), ENOTEMPTY);
    REFUSED(rename("dir/two", "full"), EISDIR);
    REFUSED(rename("full", "dir/two"), ENOTDIR);
    WORKS(unlink("full/file"));
    WORKS(rename("dir", "full"));
    expect("full/two", "one");
}

static void removals(void)
{
    put("file", "");
    WORKS(mkdir("dir", 0755));
    put("dir/file", "");
    REFUSED(rmdir("dir"), ENOTEMPTY);
    REFUSED(rmdir("file"), ENOTDIR);
    REFUSED(unlink("dir"), EISDIR);
    REFUSED(unlink("missing"), ENOENT);
    REFUSED(rmdir("missing"), ENOENT);
    REFUSED(mkdir("file", 0755), EEXIST);
    REFUSED(mkdir("dir", 0755), EEXIST);
    WORKS(unlink("dir/file"));
    WORKS(rmdir("dir"));
    REFUSED(access("dir", F_OK), ENOENT);
    WORKS(unlink("file"));
}

static void deep_paths(void)
{
    char path[400] = "";
    for (int level = 0; level < 40; level++) {
        strcat(path, level ? "/d" : "d");
        WORKS(mkdir(path, 0755));
    }
    strcat(path, "/file");
    put(path, "deep");
    expect(path, "deep");
    strcpy(strrchr(path, '/'), "/../../d/d/file");
    expect(path, "deep");
    REFUSED(open("d/d/d/x/d/d/d", O_RDONLY), ENOENT);
    HOLDS(look("d/..").st_ino == look(".").st_ino);
}

/* Where the root is, `..` leads nowhere else. */
static void above_the_root(void)
{
    struct stat root = look(mount_point), above;
    char path[300];
    snprintf(path, sizeof path, "%s/.", mount_point);
    HOLDS(look(path).st_ino == root.st_ino);
    WORKS(chdir(mount_point));
    WORKS(stat("..", &above));
    HOLDS(above.st_dev != root.st_dev);
}

static void talk(void)
{
    int fd = WORKS(open("fifo", O_WRONLY));
    HOLDS(write(fd, "over the fifo", 13) == 13);
}

static void fifos(void)
{
    WORKS(mkfifo("fifo", 0640));
    HOLDS(S_ISFIFO(look("fifo").st_mode) && (look("fifo").st_mode & 07777) == 0640);
    pid_t pid = WORKS(fork());
    if (pid == 0) {
        talk();
        _exit(0);
    }
    char buffer[32] = "";
    int fd = WORKS(open("fifo", O_RDONLY));
    HOLDS(read(fd, buffer, sizeof buffer) == 13 && !strcmp(buffer, "over the fifo"));
}

static void sockets(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "socket"};
    int server = WORKS(socket(AF_UNIX, SOCK_STREAM, 0));
    WORKS(bind(server, (struct sockaddr *)&name, sizeof name));
    HOLDS(S_ISSOCK(look("socket").st_mode));
    WORKS(listen(server, 1));
    int client = WORKS(socket(AF_UNIX, SOCK_STREAM, 0));
    WORKS(connect(client, (struct sockaddr *)&name, sizeof name));
    HOLDS(write(client, "x", 1) == 1);
    char byte = 0;
    HOLDS(read(WORKS(accept(server, NULL, NULL)), &byte, 1) == 1 && byte == 'x');
}

static void devices(void)
{
    WORKS(mknod("null", S_IFCHR | 0666, makedev(1, 3)));
    struct stat found = look("null");
    HOLDS(S_ISCHR(found.st_mode) && found.st_rdev == makedev(1, 3));
    int fd = WORKS(open("null", O_RDWR));
    HOLDS(write(fd, "gone", 4) == 4);
    WORKS(mknod("plain", S_IFREG | 0600, 0));
    HOLDS(S_ISREG(look("plain").st_mode) && look("plain").st_size == 0);
}

const struct check name_checks[] = {
    {"odd_names", odd_names},
    {"long_names", long_names},
    {"symbolic_links", symbolic_links},
    {"hard_links", hard_links},
    {"renames", renames},
    {"removals", removals},
    {"deep_paths", deep_paths},
    {"above_the_root", above_the_root},
    {"fifos", fifos},
    {"sockets", sockets},
    {"devices", devices},
    {NULL, NULL},
};
