package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/lisafs"
)

var createCases = []oneCase{
	{"created_files", createdFiles},
	{"created_names", createdNames},
	{"created_in_vain", createdInVain},
	{"device_nodes", deviceNodes},
}

const nobody = 0xffffffff

// creator makes a file of one kind.
type creator struct {
	kind string
	bits int
	make func(dir lisafs.ClientFD, name string, mode linux.FileMode, uid lisafs.UID, gid lisafs.GID) (lisafs.Inode, error)
}

// creators are all messages that make files, but for links and sockets.
func (r *run) creators() []creator {
	return []creator{
		{"mkdir", unix.S_IFDIR, func(dir lisafs.ClientFD, name string, mode linux.FileMode, uid lisafs.UID, gid lisafs.GID) (lisafs.Inode, error) {
			return dir.MkdirAt(ctx, name, mode, uid, gid)
		}},
		{"mknod", unix.S_IFREG, func(dir lisafs.ClientFD, name string, mode linux.FileMode, uid lisafs.UID, gid lisafs.GID) (lisafs.Inode, error) {
			return dir.MknodAt(ctx, name, unix.S_IFREG|mode, uid, gid, 0, 0)
		}},
		{"create", unix.S_IFREG, func(dir lisafs.ClientFD, name string, mode linux.FileMode, uid lisafs.UID, gid lisafs.GID) (lisafs.Inode, error) {
			inode, open, host, err := dir.OpenCreateAt(ctx, name, unix.O_RDWR, mode, uid, gid)
			if err == nil {
				closeHost(host)
				r.client.CloseFD(ctx, open, false)
			}
			return inode, err
		}},
		{"symlink", unix.S_IFLNK, func(dir lisafs.ClientFD, name string, _ linux.FileMode, uid lisafs.UID, gid lisafs.GID) (lisafs.Inode, error) {
			return dir.SymlinkAt(ctx, name, "target", uid, gid)
		}},
	}
}

// createdFiles makes one of each kind and looks at it from both sides.
func createdFiles(r *run) {
	for _, creator := range r.creators() {
		for _, one := range []struct {
			name string
			mode linux.FileMode
			uid  lisafs.UID
			gid  lisafs.GID
			want string
		}{
			{"plain", 0640, 0, 0, "640 0:0"},
			{"all", 0777, 0, 0, "777 0:0"},
			{"none", 0, 0, 0, "0 0:0"},
			{"owned", 0604, 1234, 5678, "604 1234:5678"},
			{"group", 0604, nobody, 5678, "604 0:5678"},
			{"user", 0604, 1234, nobody, "604 1234:0"},
			{"neither", 0604, nobody, nobody, "604 0:0"},
			{"sticky", 01755, 0, 0, "1755 0:0"},
		} {
			if creator.kind == "symlink" {
				one.want = "777" + one.want[strings.Index(one.want, " "):]
			}
			what := creator.kind + " " + one.name
			name := creator.kind + "-" + one.name
			inode, err := creator.make(r.root, name, one.mode, one.uid, one.gid)
			r.works(what, err)
			if err != nil {
				continue
			}
			r.same(what+": attributes", inode.Stat, r.lstat(name))
			host := r.lstat(name)
			r.step(what+": kind", host.Mode&unix.S_IFMT == uint32(creator.bits), true)
			r.step(what+": mode and owner", fmt.Sprintf("%o %d:%d", host.Mode&07777, host.Uid, host.Gid), one.want)
			made := r.client.NewFD(inode.ControlFD)
			r.holds(what+": its FD is the file", r.stat(made).Ino == host.Ino)
			made.Close(ctx, false)
		}
	}
	_, err := r.root.MkdirAt(ctx, "typed", unix.S_IFREG|0700, uid, gid)
	r.works("mkdir with the type bits of a file", err)
	r.step("what it made", fmt.Sprintf("%o", r.lstat("typed").Mode), "40700")
	_, _, host, err := r.root.OpenCreateAt(ctx, "typed-file", unix.O_RDWR, unix.S_IFDIR|0600, uid, gid)
	closeHost(host)
	r.works("create with the type bits of a directory", err)
	r.step("what that made", fmt.Sprintf("%o", r.lstat("typed-file").Mode), "100600")
}

// createdNames uses bad names, and names that are taken.
func createdNames(r *run) {
	r.place("file", "content")
	r.need("mkdir", os.Mkdir(r.host("dir"), 0755))
	r.need("symlink", os.Symlink("nowhere", r.host("dangling")))
	file := r.walk("file")
	makers := append(r.creators(), creator{"link", 0, func(dir lisafs.ClientFD, name string, _ linux.FileMode, _ lisafs.UID, _ lisafs.GID) (lisafs.Inode, error) {
		return dir.LinkAt(ctx, file.ID(), name)
	}})
	longest := strings.Repeat("n", 254)
	for i, creator := range makers {
		for _, bad := range []struct {
			name string
			want unix.Errno
		}{
			{"", unix.EINVAL}, {".", unix.EINVAL}, {"..", unix.EINVAL}, {"a/b", unix.EINVAL}, {"/", unix.EINVAL},
			{"a\x00b", unix.EINVAL}, {longest + "nn", unix.ENAMETOOLONG},
			{"file", unix.EEXIST}, {"dir", unix.EEXIST}, {"dangling", unix.EEXIST},
		} {
			_, err := creator.make(r.root, bad.name, 0700, uid, gid)
			r.fails(fmt.Sprintf("%s %.20q", creator.kind, bad.name), err, bad.want)
		}
		_, err := creator.make(r.root, longest+fmt.Sprint(i), 0700, uid, gid)
		r.works(creator.kind+" with the longest name", err)
		_, err = creator.make(r.root, creator.kind+" \xff\n", 0700, uid, gid)
		r.works(creator.kind+" with an odd name", err)
		_, err = creator.make(file, "name", 0700, uid, gid)
		r.fails(creator.kind+" in a file", err, unix.ENOTDIR)
		_, err = creator.make(r.walk("dangling"), "name", 0700, uid, gid)
		r.fails(creator.kind+" in a link", err, unix.ENOTDIR)
	}
	r.step("content of what was in the way", r.content("file"), "content")
	_, err := r.root.SymlinkAt(ctx, "empty", "", uid, gid)
	r.fails("symlink to nothing", err, unix.ENOENT)
	for _, length := range []int{1, 127, 128, 129, 4095} {
		name, target := fmt.Sprintf("link-%d", length), strings.Repeat("t", length)
		inode, err := r.root.SymlinkAt(ctx, name, target, uid, gid)
		r.works(fmt.Sprintf("symlink to %d bytes", length), err)
		link := r.client.NewFD(inode.ControlFD)
		got, err := link.ReadLinkAt(ctx)
		r.works(fmt.Sprintf("read the link to %d bytes", length), err)
		r.holds(fmt.Sprintf("all %d bytes come back", length), got == target)
	}
	_, err = r.root.SymlinkAt(ctx, "longer", strings.Repeat("t", 4096), uid, gid)
	r.fails("symlink to 4096 bytes", err, unix.ENAMETOOLONG)
}

// createdInVain creates where the host will not have it, and expects nothing to stay behind.
func createdInVain(r *run) {
	r.need("mkdir", os.Mkdir(r.host("gone"), 0755))
	gone := r.walk("gone")
	r.need("rmdir on the host", os.Remove(r.host("gone")))
	for _, creator := range r.creators() {
		_, err := creator.make(gone, "name", 0700, uid, gid)
		r.fails(creator.kind+" in a directory that the host removed", err, unix.ENOENT)
	}
	entries, err := os.ReadDir(r.dir)
	r.works("list on the host", err)
	r.step("entries", len(entries), 0)
}

// deviceNodes asks for what only a client itself can make.
func deviceNodes(r *run) {
	for _, one := range []struct {
		name string
		mode linux.FileMode
	}{
		{"a fifo", unix.S_IFIFO}, {"a socket", unix.S_IFSOCK}, {"a block device", unix.S_IFBLK},
		{"a character device", unix.S_IFCHR}, {"a directory", unix.S_IFDIR}, {"a link", unix.S_IFLNK},
		{"nothing at all", 0},
	} {
		_, err := r.root.MknodAt(ctx, "node", one.mode|0600, uid, gid, 3, 1)
		r.fails("mknod of "+one.name, err, unix.EPERM)
		_, err = os.Lstat(r.host("node"))
		r.holds("nothing is left of "+one.name, os.IsNotExist(err))
	}
}
