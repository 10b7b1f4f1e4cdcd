package main

import (
	"bytes"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/lisafs"
)

var concurrencyCases = []oneCase{
	{"many_at_once", manyAtOnce},
	{"reads_meet_renames", readsMeetRenames},
	{"large_transfers_at_once", largeTransfersAtOnce},
	{"closes_meet_uses", closesMeetUses},
}

// together runs work in several goroutines, and reports how many of them failed and one reason.
func (r *run) together(what string, count int, work func(int) error) {
	var all sync.WaitGroup
	problems := make(chan error, count)
	for i := 0; i < count; i++ {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			if err := work(i); err != nil {
				problems <- fmt.Errorf("of %d: %w", i, err)
			}
		}(i)
	}
	all.Wait()
	close(problems)
	failed, reason := 0, "no problem"
	for problem := range problems {
		failed++
		reason = problem.Error()
	}
	r.step(what, fmt.Sprintf("%d failed, %s", failed, reason), "0 failed, no problem")
}

// manyAtOnce makes, moves and removes files in more goroutines than there are channels.
func manyAtOnce(r *run) {
	r.together("create, write, read, rename, unlink", 16, func(worker int) error {
		for round := 0; round < 100; round++ {
			name := fmt.Sprintf("many-%d-%d", worker, round)
			inode, id, host, err := r.root.OpenCreateAt(ctx, name, unix.O_RDWR, 0640, uid, gid)
			if err != nil {
				return fmt.Errorf("create: %w", err)
			}
			closeHost(host)
			open := r.client.NewFD(id)
			if got := write(open, name, 0); got != fmt.Sprint(len(name)) {
				return fmt.Errorf("write: %s", got)
			}
			if got := read(open, 100, 0); got != name {
				return fmt.Errorf("read of %s: %s", name, got)
			}
			if err := r.root.RenameAt(ctx, name, r.root.ID(), name+"-moved"); err != nil {
				return fmt.Errorf("rename: %w", err)
			}
			if err := r.root.UnlinkAt(ctx, name+"-moved", 0); err != nil {
				return fmt.Errorf("unlink: %w", err)
			}
			open.Close(ctx, false)
			r.client.CloseFD(ctx, inode.ControlFD, false)
		}
		return nil
	})
	r.step("files left", len(r.names("")), 0)
}

// readsMeetRenames keeps files in use while the directories above them move.
func readsMeetRenames(r *run) {
	const workers, movers = 6, 2
	for i := 0; i < workers; i++ {
		r.place(fmt.Sprintf("tree/dir/sub-%d/file", i), fmt.Sprintf("content %d", i))
	}
	r.need("mkdir", os.MkdirAll(r.host("other"), 0755))
	tree, other := r.walk("tree"), r.walk("other")
	subs := make([]lisafs.ClientFD, workers)
	for i := range subs {
		subs[i] = r.walk(fmt.Sprintf("tree/dir/sub-%d", i))
	}
	r.together("use below directories that move", workers+movers, func(worker int) error {
		for round := 0; round < 150; round++ {
			if worker >= workers {
				// Whoever comes second finds nothing to move.
				there := tree.RenameAt(ctx, "dir", other.ID(), "dir")
				back := other.RenameAt(ctx, "dir", tree.ID(), "dir")
				for _, err := range []error{there, back} {
					if err != nil && err != unix.ENOENT {
						return fmt.Errorf("rename: %w", err)
					}
				}
				continue
			}
			inode, err := subs[worker].Walk(ctx, "file")
			if err != nil {
				return fmt.Errorf("walk: %w", err)
			}
			file := r.client.NewFD(inode.ControlFD)
			id, host, err := file.OpenAt(ctx, unix.O_RDONLY)
			if err != nil {
				return fmt.Errorf("open: %w", err)
			}
			closeHost(host)
			open := r.client.NewFD(id)
			if got, want := read(open, 100, 0), fmt.Sprintf("content %d", worker); got != want {
				return fmt.Errorf("read %q instead of %q", got, want)
			}
			made, err := subs[worker].MkdirAt(ctx, "made", 0755, uid, gid)
			if err != nil {
				return fmt.Errorf("mkdir: %w", err)
			}
			if err := subs[worker].UnlinkAt(ctx, "made", unix.AT_REMOVEDIR); err != nil {
				return fmt.Errorf("rmdir: %w", err)
			}
			r.client.CloseFD(ctx, made.ControlFD, false)
			open.Close(ctx, false)
			file.Close(ctx, false)
		}
		return nil
	})
	r.step("places of the directory", len(r.names("tree"))+len(r.names("other")), 1)
}

// largeTransfersAtOnce moves megabytes in all channels and the socket.
func largeTransfersAtOnce(r *run) {
	const size = 3 << 20
	r.together("write and read 3 MiB", 6, func(worker int) error {
		inode, id, host, err := r.root.OpenCreateAt(ctx, fmt.Sprint("large-", worker), unix.O_RDWR, 0600, uid, gid)
		if err != nil {
			return err
		}
		closeHost(host)
		open := r.client.NewFD(id)
		data := bytes.Repeat([]byte{byte('a' + worker), byte(worker)}, size/2)
		back := make([]byte, size)
		for round := 0; round < 4; round++ {
			if n, err := open.Write(ctx, data, 0); err != nil || n != size {
				return fmt.Errorf("wrote %d: %v", n, err)
			}
			if n, err := open.Read(ctx, back, 0); err != nil || n != size {
				return fmt.Errorf("read %d: %v", n, err)
			}
			if !bytes.Equal(data, back) {
				return fmt.Errorf("other bytes came back")
			}
		}
		open.Close(ctx, false)
		r.client.CloseFD(ctx, inode.ControlFD, false)
		return nil
	})
}

// closesMeetUses closes FDs while others use them: each use works or finds no FD.
func closesMeetUses(r *run) {
	r.place("file", "content")
	file := r.walk("file")
	for round := 0; round < 50; round++ {
		open := r.open(file, unix.O_RDONLY)
		id := open.ID()
		var problem error
		var both sync.WaitGroup
		both.Add(2)
		go func() {
			defer both.Done()
			for i := 0; i < 10; i++ {
				if got := read(r.client.NewFD(id), 10, 0); got != "content" && got != "EBADF" {
					problem = fmt.Errorf("read: %s", got)
				}
			}
		}()
		go func() {
			defer both.Done()
			r.client.CloseFD(ctx, id, true)
		}()
		both.Wait()
		if problem != nil {
			r.step("read while closing", problem, "content or EBADF")
			return
		}
	}
	r.step("read at the end", read(r.open(file, unix.O_RDONLY), 10, 0), "content")
}
