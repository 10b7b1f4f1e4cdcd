package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/lisafs"
)

var sessionCases = []oneCase{
	{"mounting", mounting},
	{"messages", messages},
	{"short_payloads", shortPayloads},
	{"fd_kinds", fdKinds},
}

// windows counts the packet windows in this process: shared mappings of memory files.
func windows() int {
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return -1
	}
	defer maps.Close()
	count := 0
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		if strings.Contains(lines.Text(), "rw-s") && strings.Contains(lines.Text(), "/memfd:") {
			count++
		}
	}
	return count
}

// mounting looks at what a new connection has, and whether others share it.
func mounting(r *run) {
	want := runtime.GOMAXPROCS(0)
	if want < 2 {
		want = 2
	}
	if want > 4 {
		want = 4
	}
	r.step("channels", windows(), want)
	answer, err := r.raw(lisafs.Mount, nil)
	r.works("mount again", err)
	r.step("length of the second answer to mount", len(answer) > 158, true)
	_, err = r.raw(lisafs.Mount, []byte("a payload that means nothing"))
	r.works("mount with a payload", err)
	_, err = r.raw(lisafs.Channel, nil)
	r.fails("one more channel than there may be", err, unix.ENOMEM)
	first := r.stat(r.top)
	again := r.stat(r.top)
	r.holds("the root is the root again", first.Ino == again.Ino && first.DevMinor == again.DevMinor)
	r.place("seen", "by both")
	seen := r.walk("seen")
	another := r.walk("seen")
	r.holds("two walks give two FDs", seen.ID() != another.ID())
	seen.Close(ctx, true)
	r.step("size by the other FD after one is closed", r.stat(another).Size, 7)
}

// messages looks at what the server says it understands.
func messages(r *run) {
	for id := lisafs.Mount; id <= lisafs.Accept; id++ {
		r.step(fmt.Sprintf("message %d is supported", id), r.client.IsSupported(id), id != lisafs.Flush)
	}
	r.holds("message 65535 is not supported", !r.client.IsSupported(65535))
	r.works("flush succeeds without a message", r.root.Flush(ctx))
}

// shortPayloads sends messages that end too early.
func shortPayloads(r *run) {
	for id := lisafs.FStat; id <= lisafs.Accept; id++ {
		if !r.client.IsSupported(id) {
			continue
		}
		_, err := r.raw(id, nil)
		r.fails(fmt.Sprintf("message %d without a payload", id), err, unix.EIO)
		_, err = r.raw(id, []byte{1})
		r.fails(fmt.Sprintf("message %d with one byte", id), err, unix.EIO)
	}
	array := []byte{0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 0}
	_, err := r.raw(lisafs.Close, array)
	r.fails("close of more FDs than there are bytes", err, unix.EIO)
	_, err = r.raw(lisafs.FSync, array)
	r.fails("sync of more FDs than there are bytes", err, unix.EIO)
	r.holds("the connection still works", r.stat(r.root).Mode&unix.S_IFMT == unix.S_IFDIR)
}

// fdKinds uses FDs for what they are not.
func fdKinds(r *run) {
	file, open := r.create(r.root, "file")
	var unknown = []struct {
		what string
		fd   lisafs.ClientFD
	}{{"FD 0", r.client.NewFD(0)}, {"an FD that never was", r.client.NewFD(1 << 40)}}
	for _, one := range unknown {
		fd := one.fd
		_, err := fd.Walk(ctx, "file")
		r.fails("walk from "+one.what, err, unix.EBADF)
		_, err = fd.MkdirAt(ctx, "dir", 0755, uid, gid)
		r.fails("mkdir in "+one.what, err, unix.EBADF)
		r.step("read of "+one.what, read(fd, 1, 0), "EBADF")
		r.step("write to "+one.what, write(fd, "x", 0), "EBADF")
		r.fails("sync of "+one.what, fd.Sync(ctx), unix.EBADF)
		r.fails("rename to "+one.what, r.root.RenameAt(ctx, "file", fd.ID(), "new"), unix.EBADF)
		_, err = r.root.LinkAt(ctx, fd.ID(), "new")
		r.fails("link of "+one.what, err, unix.EBADF)
	}
	r.step("read of a control FD", read(file, 1, 0), "EINVAL")
	r.step("write to a control FD", write(file, "x", 0), "EINVAL")
	r.fails("allocate on a control FD", file.Allocate(ctx, 0, 0, 1), unix.EINVAL)
	r.fails("sync of a control FD", file.Sync(ctx), unix.EINVAL)
	_, err := r.root.Getdents64(ctx, 4096)
	r.fails("list a control FD", err, unix.EINVAL)
	_, err = open.Walk(ctx, "x")
	r.fails("walk from an open FD", err, unix.EINVAL)
	_, _, err = open.OpenAt(ctx, unix.O_RDONLY)
	r.fails("open an open FD", err, unix.EINVAL)
	var statfs lisafs.StatFS
	r.fails("statfs of an open FD", open.StatFSTo(ctx, &statfs), unix.EINVAL)
	_, err = file.Walk(ctx, "x")
	r.fails("walk from a file", err, unix.ENOTDIR)
	_, err = file.ReadLinkAt(ctx)
	r.fails("read a file as a link", err, unix.EINVAL)
	open.Close(ctx, true)
	r.step("read of a closed FD", read(r.client.NewFD(open.ID()), 1, 0), "EBADF")
}
