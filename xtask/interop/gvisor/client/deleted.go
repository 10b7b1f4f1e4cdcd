package main

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/lisafs"
)

var deletedCases = []oneCase{
	{"deleted_files", deletedFiles},
	{"deleted_directories", deletedDirectories},
	{"deleted_outside", deletedOutside},
}

func deletedFiles(r *run) {
	file, open := r.create(r.root, "doomed")
	r.need("symlink", os.Symlink("target", r.host("link")))
	link := r.walk("link")
	r.step("write before", write(open, "still here", 0), "10")
	r.works("unlink", r.root.UnlinkAt(ctx, "doomed", 0))
	r.step("read", read(open, 20, 0), "still here")
	r.step("write", write(open, "S", 0), "1")
	r.works("sync", open.Sync(ctx))
	r.works("allocate", open.Allocate(ctx, 0, 0, 100))
	r.step("size", set(file, linux.Statx{Mask: unix.STATX_SIZE, Size: 5}), "all")
	r.step("mode", set(file, linux.Statx{Mask: unix.STATX_MODE, Mode: 0600}), "all")
	stat := r.stat(file)
	r.step("attributes by the control FD", []any{stat.Nlink, stat.Size, stat.Mode & 0777}, []any{0, 5, 0600})
	r.step("size by the open FD", r.stat(open).Size, 5)
	var statfs lisafs.StatFS
	r.works("statfs", file.StatFSTo(ctx, &statfs))
	id, host, err := file.OpenAt(ctx, unix.O_RDONLY)
	r.works("open", err)
	if err == nil {
		closeHost(host)
		r.step("read what was opened", read(r.client.NewFD(id), 20, 0), "Still")
	}
	_, err = r.root.LinkAt(ctx, file.ID(), "back")
	r.fails("link", err, unix.EINVAL)
	r.fails("unlink again", r.root.UnlinkAt(ctx, "doomed", 0), unix.ENOENT)
	_, again := r.create(r.root, "doomed")
	r.step("a new file of that name is empty", r.stat(again).Size, 0)
	r.step("the old one is not", r.stat(open).Size, 5)
	r.works("unlink the link", r.root.UnlinkAt(ctx, "link", 0))
	r.step("mode of the link", r.stat(link).Mode&unix.S_IFMT, uint16(unix.S_IFLNK))
	open.Close(ctx, true)
	file.Close(ctx, true)
	r.step("content of the new file", r.content("doomed"), "")
}

func deletedDirectories(r *run) {
	r.need("mkdir", os.MkdirAll(r.host("dir/sub"), 0755))
	r.place("file", "")
	dir, sub, file := r.walk("dir"), r.walk("dir/sub"), r.walk("file")
	open := r.open(dir, unix.O_RDONLY)
	r.works("rmdir below", dir.UnlinkAt(ctx, "sub", unix.AT_REMOVEDIR))
	r.works("rmdir", r.root.UnlinkAt(ctx, "dir", unix.AT_REMOVEDIR))
	r.step("walk", r.walked(dir, "x"), "status 1, 0 found")
	r.step("walk in what was below", r.walked(sub, "x"), "status 1, 0 found")
	r.step("walk nothing", r.walked(dir), "status 0, 0 found")
	stats, err := dir.WalkStat(ctx, []string{"", "x"})
	r.works("walkstat", err)
	r.step("walkstat sees", len(stats), 1)
	r.step("links", r.stat(dir).Nlink, 0)
	for _, creator := range r.creators() {
		_, err := creator.make(dir, "late", 0700, uid, gid)
		r.fails(creator.kind, err, unix.EINVAL)
		_, err = creator.make(sub, "late", 0700, uid, gid)
		r.fails(creator.kind+" in what was below", err, unix.EINVAL)
	}
	_, err = dir.LinkAt(ctx, file.ID(), "late")
	r.fails("link", err, unix.EINVAL)
	r.fails("unlink", dir.UnlinkAt(ctx, "x", 0), unix.EINVAL)
	r.fails("rename to it", r.root.RenameAt(ctx, "file", dir.ID(), "late"), unix.EINVAL)
	r.fails("rename from it", dir.RenameAt(ctx, "x", r.root.ID(), "late"), unix.EINVAL)
	_, err = open.Getdents64(ctx, 4096)
	r.fails("list", err, unix.EINVAL)
	_, _, err = dir.BindAt(ctx, linux.SOCK_STREAM, "late", 0700, uid, gid)
	r.fails("bind", err, unix.EINVAL)
	r.step("mode", set(dir, linux.Statx{Mask: unix.STATX_MODE, Mode: 0700}), "all")
	made, err := r.root.MkdirAt(ctx, "dir", 0755, uid, gid)
	r.works("mkdir of that name", err)
	again := r.client.NewFD(made.ControlFD)
	_, err = again.MkdirAt(ctx, "sub", 0755, uid, gid)
	r.works("mkdir in the new one", err)
	r.step("walk in the old one", r.walked(dir, "sub"), "status 1, 0 found")
	r.step("names", strings.Join(r.names("dir"), " "), "sub")
}

// deletedOutside removes on the host, which no server notices.
func deletedOutside(r *run) {
	r.place("dir/file", "content")
	dir, file := r.walk("dir"), r.walk("dir/file")
	open := r.open(file, unix.O_RDWR)
	r.need("remove on the host", os.RemoveAll(r.host("dir")))
	r.step("read", read(open, 10, 0), "content")
	r.step("links", r.stat(file).Nlink, 0)
	r.step("open", read(r.open(file, unix.O_RDONLY), 10, 0), "content")
	r.step("walk", r.walked(dir, "file"), "status 1, 0 found")
	r.fails("unlink", dir.UnlinkAt(ctx, "file", 0), unix.ENOENT)
	r.fails("rename", dir.RenameAt(ctx, "file", r.root.ID(), "x"), unix.ENOENT)
	r.place("dir/file", "another")
	r.step("the old FD", read(open, 10, 0), "content")
	r.step("a new walk", read(r.open(r.walk("dir/file"), unix.O_RDONLY), 10, 0), "another")
	r.step("the old directory", r.walked(dir, "file"), "status 1, 0 found")
}
