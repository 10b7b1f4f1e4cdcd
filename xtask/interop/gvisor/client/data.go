package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/lisafs"
)

var dataCases = []oneCase{
	{"large_data", largeData},
	{"message_sizes", messageSizes},
	{"offsets", offsets},
	{"allocation", allocation},
	{"syncing", syncing},
}

func pattern(length int) []byte {
	data := make([]byte, length)
	for i := range data {
		data[i] = byte(i*7/3) ^ byte(i>>12)
	}
	return data
}

// largeData moves more than fits in one message.
func largeData(r *run) {
	_, open := r.create(r.root, "large")
	data := pattern(5<<20 + 123)
	n, err := open.Write(ctx, data, 11)
	r.works("write", err)
	r.step("written", n, len(data))
	back := make([]byte, len(data))
	n, err = open.Read(ctx, back, 11)
	r.works("read", err)
	r.step("read in all", n, len(data))
	r.holds("the same comes back", bytes.Equal(data, back))
	host, err := os.ReadFile(r.host("large"))
	r.works("read on the host", err)
	r.holds("the host has the same", bytes.Equal(append(make([]byte, 11), data...), host))
	n, err = open.Read(ctx, back, uint64(len(data)))
	r.works("read across the end", err)
	r.step("read before the end", n, 11)
	r.step("read at the end", read(open, 10, uint64(len(data)+11)), "end of file")
	r.step("read far beyond the end", read(open, 10, 1<<40), "end of file")
}

// messageSizes moves as much as one message holds, and a byte more or less.
func messageSizes(r *run) {
	const largest = 2<<20 - 4096
	_, open := r.create(r.root, "file")
	for _, size := range []int{largest - 21, largest - 20, largest - 19, largest - 9, largest - 8, largest - 7} {
		data := pattern(size)
		n, err := open.Write(ctx, data, 0)
		r.works(fmt.Sprintf("write %d bytes", size), err)
		back := make([]byte, size)
		read, err := open.Read(ctx, back, 0)
		r.works(fmt.Sprintf("read %d bytes", size), err)
		r.holds(fmt.Sprintf("all of %d bytes", size), n == uint64(size) && read == n && bytes.Equal(data, back))
	}
	ask := func(count uint32) error {
		request := make([]byte, 24)
		binary.LittleEndian.PutUint64(request[8:], uint64(open.ID()))
		binary.LittleEndian.PutUint32(request[16:], count)
		_, err := r.raw(lisafs.PRead, request)
		return err
	}
	r.works("ask for as much as fits", ask(largest-8))
	r.fails("ask for a byte more", ask(largest-7), unix.ENOBUFS)
	r.fails("ask for 0xfffffff7 bytes", ask(0xfffffff7), unix.ENOBUFS)
	r.fails("ask for 0xffffffff bytes", ask(math.MaxUint32), unix.ENOBUFS)
	answer := make([]byte, 28)
	binary.LittleEndian.PutUint64(answer[8:], uint64(open.ID()))
	binary.LittleEndian.PutUint32(answer[16:], 9)
	_, err := r.raw(lisafs.PWrite, answer)
	r.fails("write with fewer bytes than announced", err, unix.EIO)
	r.step("nothing was written", string(readExactly(open, 8)), string(pattern(8)))
}

func readExactly(open lisafs.ClientFD, length int) []byte {
	buffer := make([]byte, length)
	n, _ := open.Read(ctx, buffer, 0)
	return buffer[:n]
}

// offsets reads and writes in strange places.
func offsets(r *run) {
	_, open := r.create(r.root, "sparse")
	r.step("write far out", write(open, "end", 1<<40), "3")
	r.step("size", r.stat(open).Size, uint64(1<<40+3))
	r.step("read it back", read(open, 10, 1<<40), "end")
	r.step("read the hole", read(open, 3, 1<<39), "\x00\x00\x00")
	for _, offset := range []uint64{1 << 63, math.MaxUint64} {
		r.step(fmt.Sprintf("read at %#x", offset), read(open, 1, offset), "EINVAL")
		r.step(fmt.Sprintf("write at %#x", offset), write(open, "x", offset), "EINVAL")
	}
	r.step("write beyond any file", write(open, "x", math.MaxInt64), "EINVAL")
	r.step("read beyond any file", read(open, 1, math.MaxInt64), "EINVAL")
}

// allocation uses the modes of fallocate(2).
func allocation(r *run) {
	_, open := r.create(r.root, "file")
	r.step("write", write(open, "0123456789", 0), "10")
	r.works("allocate", open.Allocate(ctx, 0, 0, 1<<20))
	r.step("size after it", r.stat(open).Size, 1<<20)
	r.works("allocate beyond the end, keeping the size", open.Allocate(ctx, unix.FALLOC_FL_KEEP_SIZE, 1<<20, 1<<20))
	r.step("size after that", r.stat(open).Size, 1<<20)
	r.step("blocks after that", r.stat(open).Blocks >= 2<<11, true)
	r.works("punch a hole", open.Allocate(ctx, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 2, 3))
	r.step("content with a hole", read(open, 10, 0), "01\x00\x00\x0056789")
	r.fails("allocate nothing", open.Allocate(ctx, 0, 0, 0), unix.EINVAL)
	r.fails("allocate at a negative offset", open.Allocate(ctx, 0, 1<<63, 1), unix.EINVAL)
	r.fails("allocate more than any file", open.Allocate(ctx, 0, math.MaxInt64, 1), unix.EFBIG)
	r.fails("allocate in an unknown mode", open.Allocate(ctx, 0x8000, 0, 1), unix.EOPNOTSUPP)
	reading := r.open(r.walk("file"), unix.O_RDONLY)
	r.fails("allocate when open for reading", reading.Allocate(ctx, 0, 0, 1), unix.EBADF)
}

// syncing syncs one FD, several, and some that are none.
func syncing(r *run) {
	_, first := r.create(r.root, "first")
	control, second := r.create(r.root, "second")
	r.works("sync", first.Sync(ctx))
	r.works("sync two", r.client.SyncFDs(ctx, []lisafs.FDID{first.ID(), second.ID()}))
	r.works("sync one twice", r.client.SyncFDs(ctx, []lisafs.FDID{first.ID(), first.ID()}))
	_, err := r.raw(lisafs.FSync, []byte{0, 0})
	r.works("sync none", err)
	bad := lisafs.FDID(1 << 40)
	r.fails("sync a good one and an unknown one", r.client.SyncFDs(ctx, []lisafs.FDID{first.ID(), bad}), unix.EBADF)
	r.fails("sync an unknown one and a control FD", r.client.SyncFDs(ctx, []lisafs.FDID{bad, control.ID()}), unix.EBADF)
	r.fails("sync a control FD and an unknown one", r.client.SyncFDs(ctx, []lisafs.FDID{control.ID(), bad}), unix.EINVAL)
	many := make([]lisafs.FDID, 5000)
	for i := range many {
		many[i] = bad
	}
	many[0] = first.ID()
	r.fails("sync many unknown ones", r.client.SyncFDs(ctx, many), unix.EBADF)
}
