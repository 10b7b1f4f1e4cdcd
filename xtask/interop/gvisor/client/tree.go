package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

var treeCases = []oneCase{
	{"links", links},
	{"removal", removal},
	{"listing_after_changes", listingAfterChanges},
}

// links gives files further names.
func links(r *run) {
	r.place("file", "content")
	r.need("mkdir", os.Mkdir(r.host("dir"), 0755))
	r.need("symlink", os.Symlink("file", r.host("symlink")))
	file, dir := r.walk("file"), r.walk("dir")
	inode, err := dir.LinkAt(ctx, file.ID(), "other")
	r.works("link", err)
	r.same("the new name", inode.Stat, r.lstat("dir/other"))
	r.step("names", r.stat(file).Nlink, 2)
	r.holds("the same file", r.lstat("file").Ino == r.lstat("dir/other").Ino)
	other := r.client.NewFD(inode.ControlFD)
	r.step("write by the new name", write(r.open(other, unix.O_WRONLY), "CON", 0), "3")
	r.step("read by the old name", read(r.open(file, unix.O_RDONLY), 10, 0), "CONtent")
	_, err = r.root.LinkAt(ctx, dir.ID(), "name")
	r.fails("link of a directory", err, unix.EPERM)
	symlink := r.walk("symlink")
	inode, err = r.root.LinkAt(ctx, symlink.ID(), "symlink-too")
	r.works("link of a symlink", err)
	r.step("it is a symlink, too", fmt.Sprintf("%o", inode.Stat.Mode&unix.S_IFMT), "120000")
	again, err := r.root.LinkAt(ctx, other.ID(), "third")
	r.works("link of the second name", err)
	r.step("names now", again.Stat.Nlink, 3)
	r.works("unlink the first", r.root.UnlinkAt(ctx, "file", 0))
	r.step("names then", r.stat(other).Nlink, 2)
	r.step("by the FD of the first", r.stat(file).Nlink, 2)
	_, err = r.root.LinkAt(ctx, file.ID(), "back")
	r.fails("link of an unlinked name", err, unix.EINVAL)
}

// removal removes, and fails to.
func removal(r *run) {
	r.place("file", "")
	r.place("full/file", "")
	r.need("mkdir", os.Mkdir(r.host("empty"), 0755))
	r.need("symlink", os.Symlink("full", r.host("link")))
	file := r.walk("file")
	for _, one := range []struct {
		name  string
		flags uint32
		want  unix.Errno
	}{
		{"", 0, unix.EINVAL}, {".", 0, unix.EINVAL}, {"..", unix.AT_REMOVEDIR, unix.EINVAL}, {"full/file", 0, unix.EINVAL},
		{strings.Repeat("n", 256), 0, unix.ENAMETOOLONG}, {"a\x00b", 0, unix.EINVAL},
		{"none", 0, unix.ENOENT}, {"none", unix.AT_REMOVEDIR, unix.ENOENT},
		{"empty", 0, unix.EISDIR}, {"file", unix.AT_REMOVEDIR, unix.ENOTDIR}, {"link", unix.AT_REMOVEDIR, unix.ENOTDIR},
		{"full", unix.AT_REMOVEDIR, unix.ENOTEMPTY}, {"file", 0x100, unix.EINVAL},
		{"empty", unix.AT_REMOVEDIR, 0}, {"file", 0, 0}, {"link", 0, 0},
	} {
		r.fails(fmt.Sprintf("unlink %.20q with %#x", one.name, one.flags), r.root.UnlinkAt(ctx, one.name, one.flags), one.want)
	}
	r.fails("unlink again", r.root.UnlinkAt(ctx, "file", 0), unix.ENOENT)
	r.fails("unlink in a file", file.UnlinkAt(ctx, "x", 0), unix.ENOTDIR)
	r.step("what is left", strings.Join(r.names(""), " "), "full")
	r.step("what is left below", strings.Join(r.names("full"), " "), "file")
	full := r.walk("full")
	r.works("unlink the file", full.UnlinkAt(ctx, "file", 0))
	r.works("rmdir", r.root.UnlinkAt(ctx, "full", unix.AT_REMOVEDIR))
}

// listingAfterChanges lists while names come and go.
func listingAfterChanges(r *run) {
	open := r.open(r.root, unix.O_RDONLY)
	r.step("nothing", strings.Join(r.list(open), " "), "")
	for _, name := range []string{"a", "b", "c"} {
		_, file := r.create(r.root, name)
		file.Close(ctx, false)
	}
	r.step("three", strings.Join(r.list(open), " "), "a b c")
	r.need("unlink", r.root.UnlinkAt(ctx, "b", 0))
	r.need("rename", r.root.RenameAt(ctx, "c", r.root.ID(), "d"))
	r.step("two", strings.Join(r.list(open), " "), "a d")
	r.need("unlink on the host", os.Remove(r.host("a")))
	r.place("e", "")
	r.step("as the host has it", strings.Join(r.list(open), " "), "d e")
}
