package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/lisafs"
)

var batchCases = []oneCase{
	{"closes", closes},
	{"many_fds", manyFDs},
}

// closes gives FDs back, together and in odd ways.
func closes(r *run) {
	r.place("file", "content")
	file := r.walk("file")
	opened := make([]lisafs.ClientFD, 250)
	for i := range opened {
		opened[i] = r.open(file, unix.O_RDONLY)
	}
	ids := make([]lisafs.FDID, len(opened))
	for i := range opened {
		ids[i] = opened[i].ID()
		opened[i].Close(ctx, false)
	}
	r.client.CloseFD(ctx, ids[0], true)
	left := 0
	for _, id := range ids {
		if read(r.client.NewFD(id), 1, 0) != "EBADF" {
			left++
		}
	}
	r.step("FDs left after closing all", left, 0)
	open := r.open(file, unix.O_RDONLY)
	file.Close(ctx, true)
	r.step("read when the control FD is closed", read(open, 10, 0), "content")
	r.step("size then", r.stat(open).Size, 7)
	r.works("sync then", open.Sync(ctx))
	for _, id := range []lisafs.FDID{0, 1 << 40, open.ID(), open.ID()} {
		r.client.CloseFD(ctx, id, false)
	}
	r.client.CloseFD(ctx, 1<<50, true)
	r.step("read when closed twice", read(open, 10, 0), "EBADF")
	request := []byte{3, 0}
	for i := 0; i < 3*8; i++ {
		request = append(request, 0xee)
	}
	_, err := r.raw(lisafs.Close, request)
	r.works("close of three unknown FDs", err)
	_, err = r.raw(lisafs.Close, []byte{0, 0})
	r.works("close of none", err)
	r.step("walk", r.walked(r.root, "file"), "status 0, 1 found")
}

// manyFDs holds more FDs than a client usually has.
func manyFDs(r *run) {
	const count = 700
	r.need("mkdir", os.Mkdir(r.host("dir"), 0755))
	dir := r.walk("dir")
	files := make([]lisafs.ClientFD, count)
	opened := make([]lisafs.ClientFD, count)
	for i := range files {
		files[i], opened[i] = r.create(dir, fmt.Sprint(i))
		if got := write(opened[i], fmt.Sprint(i), 0); got != fmt.Sprint(len(fmt.Sprint(i))) {
			r.step(fmt.Sprintf("write %d", i), got, "all of it")
		}
	}
	wrong := 0
	for i := range files {
		if read(opened[i], 10, 0) != fmt.Sprint(i) || r.stat(files[i]).Size != uint64(len(fmt.Sprint(i))) {
			wrong++
		}
	}
	r.step("files with other content", wrong, 0)
	for i := range files {
		files[i].Close(ctx, false)
		opened[i].Close(ctx, false)
	}
	r.step("files on the host", len(r.names("dir")), count)
}
