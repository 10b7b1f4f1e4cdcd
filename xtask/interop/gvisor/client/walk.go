package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/lisafs"
)

var walkCases = []oneCase{
	{"walks", walks},
	{"walked_names", walkedNames},
	{"walk_stats", walkStats},
	{"walked_attributes", walkedAttributes},
}

func walkResult(status lisafs.WalkStatus, count int) string {
	return fmt.Sprintf("status %d, %d found", status, count)
}

// walked is how a walk ends; what it found is given back.
func (r *run) walked(from lisafs.ClientFD, names ...string) string {
	status, inodes, err := from.WalkMultiple(ctx, names)
	if err != nil {
		return errorName(err)
	}
	for _, inode := range inodes {
		r.client.CloseFD(ctx, inode.ControlFD, false)
	}
	return walkResult(status, len(inodes))
}

// tree makes what the cases of this file walk in.
func (r *run) tree() {
	r.place("a/b/c/d/e/f/g/file", "deep")
	r.need("symlink", os.Symlink("b", r.host("a/link")))
	r.need("symlink", os.Symlink("nowhere", r.host("a/dangling")))
}

// walks goes down a tree, as far as it goes.
func walks(r *run) {
	r.tree()
	deep := strings.Split("a/b/c/d/e/f/g/file", "/")
	for _, one := range []struct {
		names []string
		want  string
	}{
		{nil, "status 0, 0 found"},
		{deep[:1], "status 0, 1 found"},
		{deep, "status 0, 8 found"},
		{[]string{"none"}, "status 1, 0 found"},
		{[]string{"a", "none"}, "status 1, 1 found"},
		{[]string{"a", "none", "c", "d"}, "status 1, 1 found"},
		{[]string{"a", "link"}, "status 0, 2 found"},
		{[]string{"a", "dangling"}, "status 0, 2 found"},
		{[]string{"a", "link", "c"}, "status 2, 2 found"},
		{[]string{"a", "dangling", "c"}, "status 2, 2 found"},
		{append(append([]string{}, deep...), "below"), "ENOTDIR"},
	} {
		r.step(fmt.Sprintf("walk %q", one.names), r.walked(r.root, one.names...), one.want)
	}
	long := make([]string, 300)
	path := r.host("a")
	for i := range long {
		long[i] = "d"
		path += "/d"
	}
	r.need("mkdir of 300", os.MkdirAll(path, 0755))
	r.step("walk 300 names", r.walked(r.walk("a"), long...), "status 0, 300 found")
	long[200] = "e"
	r.step("walk to a missing one among them", r.walked(r.walk("a"), long...), "status 1, 200 found")
	file := r.walk("a/b/c/d/e/f/g/file")
	r.step("walk from a file", r.walked(file, "x"), "ENOTDIR")
	r.step("walk nothing from a file", r.walked(file), "ENOTDIR")
	link := r.walk("a/link")
	r.step("walk from a link", r.walked(link, "c"), "ENOTDIR")
	target, err := link.ReadLinkAt(ctx)
	r.works("read the link", err)
	r.step("its target", target, "b")
}

// walkedNames walks names that are none, or hardly.
func walkedNames(r *run) {
	r.tree()
	longest := strings.Repeat("n", 255)
	odd := "\xff\x01 \n\t'\"\\"
	r.place(longest, "")
	r.place(odd, "")
	r.step("the longest name", r.walked(r.root, longest), "status 0, 1 found")
	r.step("an odd name", r.walked(r.root, odd), "status 0, 1 found")
	r.step("a name too long", r.walked(r.root, longest+"n"), "ENAMETOOLONG")
	r.step("a name of 65535 bytes", r.walked(r.root, strings.Repeat("n", 65535)), "ENAMETOOLONG")
	for _, name := range []string{"", ".", "..", "/", "a/b", "/a", "a/", "../a"} {
		r.step(fmt.Sprintf("the name %q", name), r.walked(r.root, name), "EINVAL")
		r.step(fmt.Sprintf("the name %q after a good one", name), r.walked(r.root, "a", name), "EINVAL")
		r.step(fmt.Sprintf("the name %q after a link", name), r.walked(r.root, "a", "link", name), "EINVAL")
		r.step(fmt.Sprintf("the name %q after a missing one", name), r.walked(r.root, "none", name), "status 1, 0 found")
	}
	r.step("a name with NUL in it", r.walked(r.root, "a\x00b"), "EINVAL")
}

// walkStats looks at files without FDs.
func walkStats(r *run) {
	r.tree()
	kinds := func(from lisafs.ClientFD, names ...string) string {
		stats, err := from.WalkStat(ctx, names)
		if err != nil {
			return errorName(err)
		}
		letters := ""
		for _, stat := range stats {
			switch stat.Mode & unix.S_IFMT {
			case unix.S_IFDIR:
				letters += "d"
			case unix.S_IFREG:
				letters += "f"
			case unix.S_IFLNK:
				letters += "l"
			default:
				letters += "?"
			}
		}
		return letters
	}
	for _, one := range []struct {
		names []string
		want  string
	}{
		{nil, ""},
		{[]string{""}, "d"},
		{[]string{"a"}, "d"},
		{[]string{"", "a", "b", "c", "d", "e", "f", "g", "file"}, "dddddddd" + "f"},
		{[]string{"", "a", "none", "c"}, "dd"},
		{[]string{"none"}, ""},
		{[]string{"a", "link"}, "dl"},
		{[]string{"a", "link", "c"}, "dl"},
		{[]string{"a", ""}, "EINVAL"},
		{[]string{"none", ".."}, "EINVAL"},
		{[]string{"a", "link", "x/y"}, "EINVAL"},
		{[]string{"a", "b", "c", "d", "e", "f", "g", "file", "below"}, "ENOTDIR"},
		{[]string{strings.Repeat("n", 256)}, "ENAMETOOLONG"},
	} {
		r.step(fmt.Sprintf("walkstat %.40q", one.names), kinds(r.root, one.names...), one.want)
	}
	file := r.walk("a/b/c/d/e/f/g/file")
	r.step("walkstat of a file", kinds(file, ""), "f")
	r.step("walkstat of nothing from a file", kinds(file), "")
	r.step("walkstat below a file", kinds(file, "x"), "ENOTDIR")
	r.step("walkstat of a file and below", kinds(file, "", "x"), "ENOTDIR")
	link := r.walk("a/link")
	r.step("walkstat of a link", kinds(link, ""), "l")
	r.step("walkstat below a link", kinds(link, "c"), "ENOTDIR")
	stats, err := r.root.WalkStat(ctx, []string{"", "a", "b"})
	r.need("walkstat", err)
	r.same("root by walkstat", stats[0], r.lstat("."))
	r.same("b by walkstat", stats[2], r.lstat("a/b"))
}

// same compares all the attributes the protocol has with the host's, but for access times.
func (r *run) same(what string, got linux.Statx, host unix.Stat_t) {
	text := func(mode, nlink, uid, gid, major, minor, rmajor, rminor, ino, size, blocks any, mtime, ctime int64) string {
		return fmt.Sprint(mode, nlink, uid, gid, major, minor, rmajor, rminor, ino, size, blocks, mtime, ctime)
	}
	const second = 1e9
	theirs := text(uint32(got.Mode), got.Nlink, got.UID, got.GID, got.DevMajor, got.DevMinor, got.RdevMajor,
		got.RdevMinor, got.Ino, got.Size, got.Blocks,
		got.Mtime.Sec*second+int64(got.Mtime.Nsec), got.Ctime.Sec*second+int64(got.Ctime.Nsec))
	ours := text(host.Mode, uint32(host.Nlink), host.Uid, host.Gid, unix.Major(host.Dev), unix.Minor(host.Dev),
		unix.Major(host.Rdev), unix.Minor(host.Rdev), host.Ino, uint64(host.Size), uint64(host.Blocks),
		host.Mtim.Nano(), host.Ctim.Nano())
	if theirs == ours {
		r.step(what, "as on the host", "as on the host")
	} else {
		r.step(what, theirs, ours)
	}
	const basic = 0x7ff
	r.step(what+", fields given", got.Mask&basic, basic)
}

// walkedAttributes compares what walks and stats say with what the host does.
func walkedAttributes(r *run) {
	r.tree()
	r.place("file", "content")
	r.need("chmod", os.Chmod(r.host("file"), 04751|os.ModeSetuid))
	r.need("chown", os.Chown(r.host("file"), 1234, 5678))
	r.need("link", os.Link(r.host("file"), r.host("other")))
	for _, name := range []string{"file", "other", "a", "a/link", "a/b/c"} {
		status, inodes, err := r.root.WalkMultiple(ctx, strings.Split(name, "/"))
		r.need("walk", err)
		r.step(name+": status", status, lisafs.WalkSuccess)
		found := inodes[len(inodes)-1]
		r.same(name+" by walk", found.Stat, r.lstat(name))
		r.same(name+" by stat", r.stat(r.client.NewFD(found.ControlFD)), r.lstat(name))
	}
	open := r.open(r.walk("file"), unix.O_RDONLY)
	r.same("an open file", r.stat(open), r.lstat("file"))
}
