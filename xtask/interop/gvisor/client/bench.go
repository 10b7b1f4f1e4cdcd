package main

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/lisafs"
)

// What a measurement takes: samples for so long, and so many operations in a sample that the closes
// they leave to a later message are in it.
const (
	warmUp      = 20 * time.Millisecond
	measureFor  = 100 * time.Millisecond
	sampleSmall = 100
	sampleLarge = 1
)

// bencher is the tree that operations are measured in.
type bencher struct {
	client             *lisafs.Client
	root, file, fresh  lisafs.ClientFD
	data, list, target lisafs.ClientFD
	buffer             []byte
}

// operation is measured, count times to a sample.
type operation struct {
	count int
	run   func(*bencher) error
}

var deep = strings.Split("a/b/c/d/e/f/g/file", "/")

var operations = map[string]operation{
	"stat":          {sampleSmall, (*bencher).stat},
	"walk-1":        {sampleSmall, func(b *bencher) error { return b.walk(1) }},
	"walk-8":        {sampleSmall, func(b *bencher) error { return b.walk(8) }},
	"walkstat-8":    {sampleSmall, (*bencher).walkStat},
	"open-close":    {sampleSmall, (*bencher).openClose},
	"read-4k":       {sampleSmall, func(b *bencher) error { return b.read(4 << 10) }},
	"write-4k":      {sampleSmall, func(b *bencher) error { return b.write(4 << 10) }},
	"read-1m":       {sampleLarge, func(b *bencher) error { return b.read(1 << 20) }},
	"write-1m":      {sampleLarge, func(b *bencher) error { return b.write(1 << 20) }},
	"readdir-10000": {sampleLarge, (*bencher).readDir},
	"create-unlink": {sampleSmall, (*bencher).createUnlink},
}

// bench prints the median cost of each operation, in nanoseconds.
func bench(socket string, names []string) error {
	client, root, err := mounted(socket)
	if err != nil {
		return err
	}
	defer client.Close()
	b := &bencher{client: client, root: root, buffer: make([]byte, 1<<20)}
	if err := b.prepare(); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	for _, name := range names {
		one, known := operations[name]
		if !known {
			return fmt.Errorf("no operation is called %s", name)
		}
		median, err := b.measure(one)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Println(name, median)
	}
	return nil
}

func (b *bencher) prepare() error {
	for _, one := range []struct {
		name  string
		flags uint32
		place *lisafs.ClientFD
	}{{"data", unix.O_RDONLY, &b.data}, {"target", unix.O_RDWR, &b.target}, {"list", unix.O_RDONLY, &b.list}} {
		inode, err := b.root.Walk(ctx, one.name)
		if err != nil {
			return err
		}
		file := b.client.NewFD(inode.ControlFD)
		id, host, err := file.OpenAt(ctx, one.flags)
		if err != nil {
			return err
		}
		closeHost(host)
		*one.place = b.client.NewFD(id)
	}
	for name, place := range map[string]*lisafs.ClientFD{"data": &b.file, "new": &b.fresh} {
		inode, err := b.root.Walk(ctx, name)
		if err != nil {
			return err
		}
		*place = b.client.NewFD(inode.ControlFD)
	}
	return nil
}

// measure is the median over samples of the time per operation.
func (b *bencher) measure(one operation) (int64, error) {
	for end := time.Now().Add(warmUp); time.Now().Before(end); {
		if err := one.run(b); err != nil {
			return 0, err
		}
	}
	var samples []int64
	for end := time.Now().Add(measureFor); len(samples) < 5 || time.Now().Before(end); {
		start := time.Now()
		for i := 0; i < one.count; i++ {
			if err := one.run(b); err != nil {
				return 0, err
			}
		}
		samples = append(samples, time.Since(start).Nanoseconds()/int64(one.count))
	}
	sort.Slice(samples, func(i, j int) bool { return samples[i] < samples[j] })
	return samples[len(samples)/2], nil
}

func (b *bencher) stat() error {
	var stat linux.Statx
	return b.file.StatTo(ctx, &stat)
}

func (b *bencher) walk(count int) error {
	status, inodes, err := b.root.WalkMultiple(ctx, deep[:count])
	if err != nil || len(inodes) != count {
		return fmt.Errorf("%s: %w", walkResult(status, len(inodes)), err)
	}
	for _, inode := range inodes {
		b.client.CloseFD(ctx, inode.ControlFD, false)
	}
	return nil
}

func (b *bencher) walkStat() error {
	stats, err := b.root.WalkStat(ctx, deep)
	if err != nil || len(stats) != len(deep) {
		return fmt.Errorf("saw %d: %w", len(stats), err)
	}
	return nil
}

func (b *bencher) openClose() error {
	id, host, err := b.file.OpenAt(ctx, unix.O_RDONLY)
	closeHost(host)
	b.client.CloseFD(ctx, id, false)
	return err
}

func (b *bencher) read(size int) error {
	n, err := b.data.Read(ctx, b.buffer[:size], 0)
	if err == nil && n != uint64(size) {
		err = fmt.Errorf("read %d bytes", n)
	}
	return err
}

func (b *bencher) write(size int) error {
	n, err := b.target.Write(ctx, b.buffer[:size], 0)
	if err == nil && n != uint64(size) {
		err = fmt.Errorf("wrote %d bytes", n)
	}
	return err
}

func (b *bencher) readDir() error {
	total := 0
	for count := int32(-page); ; count = page {
		entries, err := b.list.Getdents64(ctx, count)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			break
		}
		total += len(entries)
	}
	if total != 10000 {
		return fmt.Errorf("listed %d entries", total)
	}
	return nil
}

func (b *bencher) createUnlink() error {
	inode, id, host, err := b.fresh.OpenCreateAt(ctx, "name", unix.O_RDWR, 0600, uid, gid)
	if err != nil {
		return err
	}
	closeHost(host)
	b.client.CloseFD(ctx, id, false)
	b.client.CloseFD(ctx, inode.ControlFD, false)
	return b.fresh.UnlinkAt(ctx, "name", 0)
}
