/* Listings. */
#include "check.h"

#include <dirent.h>

enum { MANY = 2000 };

static void name_of(char *name, int index)
{
    sprintf(name, "entry-%04d", index);
}

/* Lists `path` and counts each entry in `seen`. */
static int list(const char *path, int *seen)
{
    int others = 0;
    DIR *dir = opendir(path);
    HOLDS(dir);
    memset(seen, 0, MANY * sizeof *seen);
    errno = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        int index;
        if (sscanf(entry->d_name, "entry-%d", &index) == 1 && index >= 0 && index < MANY)
            seen[index]++;
        else if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            others++;
    }
    HOLDS(errno == 0);
    closedir(dir);
    return others;
}

static void big_directory(void)
{
    static int seen[MANY];
    char name[32];
    WORKS(mkdir("kept", 0755));
    WORKS(chdir("kept"));
    for (int index = 0; index < MANY; index++) {
        name_of(name, index);
        WORKS(close(WORKS(open(name, O_WRONLY | O_CREAT | O_EXCL, 0644))));
    }
    HOLDS(list(".", seen) == 0);
    for (int index = 0; index < MANY; index++)
        if (seen[index] != 1)
            FAIL("entry %d is listed %d times", index, seen[index]);
    /* Every second one goes while the directory is being listed; the others stay listed once. */
    DIR *dir = opendir(".");
    HOLDS(dir);
    int listed = 0;
    memset(seen, 0, sizeof seen);
    for (struct dirent *entry; (entry = readdir(dir));) {
        int index;
        if (sscanf(entry->d_name, "entry-%d", &index) != 1)
            continue;
        seen[index]++;
        listed++;
        if (index % 2 == 0)
            WORKS(unlink(entry->d_name));
    }
    closedir(dir);
    for (int index = 0; index < MANY; index++)
        if (seen[index] != 1)
            FAIL("while some go, entry %d of %d is listed %d times", index, listed, seen[index]);
    HOLDS(list(".", seen) == 0);
    for (int index = 0; index < MANY; index++)
        if (seen[index] != index % 2)
            FAIL("afterwards, entry %d is listed %d times", index, seen[index]);
}

static void places_in_a_listing(void)
{
    char name[32], after[300];
    for (int index = 0; index < 300; index++) {
        name_of(name, index);
        put(name, "");
    }
    DIR *dir = opendir(".");
    HOLDS(dir);
    for (int count = 0; count < 150; count++)
        HOLDS(readdir(dir));
    long place = telldir(dir);
    struct dirent *entry = readdir(dir);
    HOLDS(entry);
    strcpy(after, entry->d_name);
    while (readdir(dir))
        ;
    seekdir(dir, place);
    entry = readdir(dir);
    HOLDS(entry && !strcmp(entry->d_name, after));
    rewinddir(dir);
    int count = 0;
    while (readdir(dir))
        count++;
    if (count != 302)
        FAIL("%d entries after rewinddir", count);
    put("later", "");
    rewinddir(dir);
    for (count = 0; readdir(dir);)
        count++;
    if (count != 303)
        FAIL("%d entries with a new one", count);
    closedir(dir);
}

static void types_in_a_listing(void)
{
    put("file", "");
    WORKS(mkdir("dir", 0755));
    WORKS(symlink("file", "link"));
    WORKS(mkfifo("fifo", 0644));
    DIR *dir = opendir(".");
    HOLDS(dir);
    int right = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char *name = entry->d_name;
        int want = !strcmp(name, "file") ? DT_REG
                   : !strcmp(name, "link") ? DT_LNK
                   : !strcmp(name, "fifo") ? DT_FIFO
                                           : DT_DIR;
        if (entry->d_type != want)
            FAIL("type of %s is %d, not %d", name, entry->d_type, want);
        right++;
    }
    closedir(dir);
    HOLDS(right == 6);
}

static void inode_numbers_of_a_listing(void)
{
    put("one", "");
    WORKS(mkdir("two", 0755));
    WORKS(symlink("x", "three"));
    DIR *dir = opendir(".");
    HOLDS(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        if (strcmp(entry->d_name, "..")) {
            unsigned long listed = entry->d_ino, found = look(entry->d_name).st_ino;
            if (listed != found)
                FAIL("%s is inode %lu in the listing and %lu", entry->d_name, listed, found);
        }
    closedir(dir);
}

static void listed_after_its_end(void)
{
    WORKS(mkdir("dir", 0755));
    DIR *dir = opendir("dir");
    HOLDS(dir);
    WORKS(rmdir("dir"));
    errno = 0;
    int count = 0;
    for (struct dirent *entry; (entry = readdir(dir));)
        count += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
    if (count)
        FAIL("%d entries of a directory that is gone", count);
    REFUSED(openat(dirfd(dir), "file", O_WRONLY | O_CREAT, 0644), ENOENT);
    closedir(dir);
    REFUSED(open("dir", O_RDONLY), ENOENT);
}

static void counts_of_links(void)
{
    WORKS(mkdir("dir", 0755));
    HOLDS(look("dir").st_nlink == 2);
    WORKS(mkdir("dir/one", 0755));
    WORKS(mkdir("dir/two", 0755));
    HOLDS(look("dir").st_nlink == 4);
    WORKS(rmdir("dir/one"));
    HOLDS(look("dir").st_nlink == 3);
}

const struct check directory_checks[] = {
    {"big_directory", big_directory},
    {"places_in_a_listing", places_in_a_listing},
    {"types_in_a_listing", types_in_a_listing},
    {"inode_numbers_of_a_listing", inode_numbers_of_a_listing},
    {"listed_after_its_end", listed_after_its_end},
    {"counts_of_links", counts_of_links},
    {NULL, NULL},
};
