/* Programs that people run. All of them are busybox. */
#include "check.h"

static void shell(const char *script)
{
    char command[1000];
    snprintf(command, sizeof command, "set -e; %s", script);
    int status = system(command);
    if (status)
        FAIL("status 0x%x of: %s", status, script);
}

static void tree(void)
{
    shell("mkdir -p tree/a/b tree/empty; for i in 1 2 3 4 5 6 7 8; do echo $i >tree/a/f$i; done;"
          "dd if=/bin/busybox of=tree/a/b/program bs=64k 2>/dev/null; ln -s ../f1 tree/a/b/link;"
          "ln tree/a/f2 tree/a/b/hard; chmod 640 tree/a/f3");
}

static void copies(void)
{
    tree();
    shell("cp -a tree copy; diff -r tree copy; rm -r tree; test ! -e tree;"
          "test $(find copy | wc -l) = 15");
}

static void archives(void)
{
    tree();
    shell("tar -cf tree.tar tree; mkdir out; tar -xf tree.tar -C out; diff -r tree out/tree;"
          "cmp out/tree/a/b/program /bin/busybox; test out/tree/a/f2 -ef out/tree/a/b/hard;"
          "tar -cf - tree | gzip | gunzip | tar -tf - | wc -l | grep -qx 15");
}

static void executed(void)
{
    shell("cp /bin/busybox busybox; chmod 755 busybox; ./busybox echo it runs >out;"
          "grep -qx 'it runs' out;"
          "printf '#!/bin/sh\\necho script $1\\n' >script; chmod 755 script;"
          "./script runs | grep -qx 'script runs'");
}

static void edited(void)
{
    shell("seq 1 5000 >lines; sed -i 's/^7$/seven/' lines; grep -qx seven lines;"
          "sort -n -r lines >sorted; head -n 1 sorted | grep -qx 5000; wc -l <lines | grep -qx 5000;"
          "seq 5001 6000 >>lines; wc -l <lines | grep -qx 6000;"
          "dd if=/dev/zero of=lines bs=1 seek=10 count=5 conv=notrunc 2>/dev/null;"
          "md5sum lines >sum; md5sum -c sum >/dev/null; mv lines sorted; test ! -e lines");
}

const struct check program_checks[] = {
    {"copies", copies},
    {"archives", archives},
    {"executed", executed},
    {"edited", edited},
    {NULL, NULL},
};
