package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/lisafs"
)

var readOnlyCases = []oneCase{
	{"read_only_changes", readOnlyChanges},
	{"read_only_reads", readOnlyReads},
	{"read_only_payloads", readOnlyPayloads},
	{"read_only_sockets", readOnlySockets},
}

// readOnlyChanges asks for every change there is.
func readOnlyChanges(r *run) {
	r.place("file", "content")
	r.place("dir/file", "")
	file, dir := r.walk("file"), r.walk("dir")
	for _, creator := range r.creators() {
		_, err := creator.make(dir, "new", 0700, uid, gid)
		r.fails(creator.kind, err, unix.EROFS)
		_, err = creator.make(dir, "file", 0700, uid, gid)
		r.fails(creator.kind+" of a name that is taken", err, unix.EROFS)
		_, err = creator.make(r.client.NewFD(1<<40), "a/b", 0700, uid, gid)
		r.fails(creator.kind+" with nothing right", err, unix.EROFS)
	}
	_, err := dir.LinkAt(ctx, file.ID(), "new")
	r.fails("link", err, unix.EROFS)
	r.fails("unlink", dir.UnlinkAt(ctx, "file", 0), unix.EROFS)
	r.fails("rmdir", r.root.UnlinkAt(ctx, "dir", unix.AT_REMOVEDIR), unix.EROFS)
	r.fails("rename", r.root.RenameAt(ctx, "file", dir.ID(), "new"), unix.EROFS)
	for _, mask := range []uint32{0, unix.STATX_MODE, unix.STATX_SIZE, unix.STATX_UID, unix.STATX_MTIME, unix.STATX_INO} {
		r.step(fmt.Sprintf("set %#x", mask), set(file, linux.Statx{Mask: mask}), "EROFS")
	}
	for _, flags := range []uint32{unix.O_WRONLY, unix.O_RDWR, unix.O_ACCMODE, unix.O_RDONLY | unix.O_TRUNC} {
		_, _, err := file.OpenAt(ctx, flags)
		r.fails(fmt.Sprintf("open with %#o", flags), err, unix.EROFS)
		_, _, err = dir.OpenAt(ctx, flags)
		r.fails(fmt.Sprintf("open a directory with %#o", flags), err, unix.EROFS)
	}
	reading := r.open(file, unix.O_RDONLY)
	r.step("write", write(reading, "x", 0), "EROFS")
	r.fails("allocate", reading.Allocate(ctx, 0, 0, 1), unix.EROFS)
	r.fails("set an xattr", file.SetXattr(ctx, "user.x", "x", 0), unix.EROFS)
	r.fails("remove an xattr", file.RemoveXattr(ctx, "user.x"), unix.EROFS)
	r.step("what is there", strings.Join(r.names(""), " ")+" "+strings.Join(r.names("dir"), " "), "dir file file")
	r.step("what is in it", r.content("file"), "content")
}

// readOnlyReads does what is allowed.
func readOnlyReads(r *run) {
	r.place("dir/file", "content")
	r.need("symlink", os.Symlink("target", r.host("link")))
	file := r.walk("dir/file")
	id, host, err := file.OpenAt(ctx, unix.O_RDONLY)
	r.need("open", err)
	open := r.client.NewFD(id)
	r.step("descriptor", tried(host), "read ok, write EBADF")
	_, err = unix.FcntlInt(uintptr(host), unix.F_SETFL, unix.O_RDWR)
	r.step("descriptor after asking for more", tried(host), "read ok, write EBADF")
	again, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", host), unix.O_RDONLY, 0)
	r.works("open it again for reading", err)
	closeHost(again)
	closeHost(host)
	r.step("read", read(open, 10, 0), "content")
	r.works("sync", open.Sync(ctx))
	r.same("attributes", r.stat(file), r.lstat("dir/file"))
	list := r.open(r.walk("dir"), unix.O_RDONLY)
	r.step("list", strings.Join(r.list(list), " "), "file")
	link := r.walk("link")
	target, err := link.ReadLinkAt(ctx)
	r.works("read a link", err)
	r.step("its target", target, "target")
	var statfs lisafs.StatFS
	r.works("statfs", file.StatFSTo(ctx, &statfs))
	r.step("walkstat", statCount(r.root, "dir"), "1")
}

// readOnlyPayloads sends changes that are not even well-formed: read-only comes first.
func readOnlyPayloads(r *run) {
	changes := map[lisafs.MID]bool{
		lisafs.SetStat: true, lisafs.OpenCreateAt: true, lisafs.PWrite: true, lisafs.MkdirAt: true,
		lisafs.MknodAt: true, lisafs.SymlinkAt: true, lisafs.LinkAt: true, lisafs.FAllocate: true,
		lisafs.UnlinkAt: true, lisafs.RenameAt: true, lisafs.FSetXattr: true, lisafs.FRemoveXattr: true,
		lisafs.BindAt: true,
	}
	for id := lisafs.FStat; id <= lisafs.Accept; id++ {
		if !r.client.IsSupported(id) {
			continue
		}
		want := unix.EIO
		if changes[id] {
			want = unix.EROFS
		}
		_, err := r.raw(id, nil)
		r.fails(fmt.Sprintf("message %d without a payload", id), err, want)
	}
}

// readOnlySockets may use sockets, but make none.
func readOnlySockets(r *run) {
	listener, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	r.need("socket", err)
	defer closeHost(listener)
	r.need("bind on the host", unix.Bind(listener, &unix.SockaddrUnix{Name: r.host("socket")}))
	r.need("listen on the host", unix.Listen(listener, 1))
	socket := r.walk("socket")
	ours, err := socket.Connect(ctx, linux.SOCK_STREAM)
	r.works("connect", err)
	closeHost(ours)
	_, _, err = r.root.BindAt(ctx, linux.SOCK_STREAM, "new", 0700, uid, gid)
	r.fails("bind", err, unix.EROFS)
	_, err = os.Lstat(r.host("new"))
	r.holds("nothing was made", os.IsNotExist(err))
}
