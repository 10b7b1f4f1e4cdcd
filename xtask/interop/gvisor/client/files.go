package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

var fileCases = []oneCase{
	{"access_modes", accessModes},
	{"open_flags", openFlags},
	{"open_types", openTypes},
	{"donated_descriptors", donatedDescriptors},
}

// tried is what happens when a donated descriptor is used.
func tried(fd int) string {
	if fd < 0 {
		return "none"
	}
	_, reading := unix.Pread(fd, make([]byte, 1), 0)
	_, writing := unix.Pwrite(fd, []byte("w"), 0)
	return fmt.Sprintf("read %s, write %s", errorName(reading), errorName(writing))
}

// accessModes opens a file in every way, and uses FD and descriptor in every way.
func accessModes(r *run) {
	r.place("file", "content")
	file := r.walk("file")
	modes := []struct {
		name              string
		flags             uint32
		reads, writes, fd string
	}{
		{"for reading", unix.O_RDONLY, "w", "EBADF", "read ok, write EBADF"},
		{"for writing", unix.O_WRONLY, "EBADF", "1", "read EBADF, write ok"},
		{"for both", unix.O_RDWR, "w", "1", "read ok, write ok"},
		{"for neither", unix.O_ACCMODE, "EBADF", "EBADF", "read EBADF, write EBADF"},
	}
	r.need("write before", os.WriteFile(r.host("file"), []byte("w"), 0644))
	for _, mode := range modes {
		id, host, err := file.OpenAt(ctx, mode.flags)
		r.works("open "+mode.name, err)
		if err != nil {
			continue
		}
		open := r.client.NewFD(id)
		r.step("descriptor when open "+mode.name, tried(host), mode.fd)
		closeHost(host)
		r.step("read when open "+mode.name, read(open, 1, 0), mode.reads)
		r.step("write when open "+mode.name, write(open, "w", 0), mode.writes)
		allocated := unix.Errno(0)
		if mode.writes == "EBADF" {
			allocated = unix.EBADF
		}
		r.fails("allocate when open "+mode.name, open.Allocate(ctx, 0, 0, 1), allocated)
		r.works("sync when open "+mode.name, open.Sync(ctx))
		r.step("size when open "+mode.name, r.stat(open).Size, 1)
		open.Close(ctx, true)
	}
	r.step("content", r.content("file"), "w")
}

// openFlags sends flags that the protocol knows, and others, which count for nothing.
func openFlags(r *run) {
	r.place("file", "content")
	file := r.walk("file")
	ignored := uint32(unix.O_CREAT | unix.O_EXCL | unix.O_APPEND | unix.O_DIRECTORY | unix.O_PATH | unix.O_TMPFILE)
	open := r.open(file, unix.O_RDWR|ignored)
	r.step("write at 0 in spite of O_APPEND", write(open, "C", 0), "1")
	r.step("content after it", r.content("file"), "Content")
	id, host, err := file.OpenAt(ctx, unix.O_WRONLY|unix.O_TRUNC)
	r.works("open with O_TRUNC", err)
	closeHost(host)
	r.step("content after O_TRUNC", r.content("file"), "")
	r.client.CloseFD(ctx, id, true)
	r.step("write beyond the end", write(open, "x", 3), "1")
	r.step("content after it again", r.content("file"), "\x00\x00\x00x")
}

// openTypes opens what is no regular file.
func openTypes(r *run) {
	r.place("dir/file", "")
	r.need("symlink", os.Symlink("file", r.host("dir/link")))
	dir := r.walk("dir")
	for name, flags := range map[string]uint32{"O_WRONLY": unix.O_WRONLY, "O_RDWR": unix.O_RDWR, "O_TRUNC": unix.O_TRUNC} {
		_, _, err := dir.OpenAt(ctx, flags)
		r.fails("open a directory with "+name, err, unix.EISDIR)
	}
	id, host, err := dir.OpenAt(ctx, unix.O_RDONLY)
	r.works("open a directory", err)
	r.step("descriptor of a directory", host, -1)
	open := r.client.NewFD(id)
	r.step("read a directory", read(open, 1, 0), "EISDIR")
	r.works("sync a directory", open.Sync(ctx))
	link := r.walk("dir/link")
	_, _, err = link.OpenAt(ctx, unix.O_RDONLY)
	r.fails("open a link", err, unix.EINVAL)
	if err := unix.Mknod(r.host("null"), unix.S_IFCHR|0666, int(unix.Mkdev(1, 3))); err == nil {
		device := r.walk("null")
		stat := r.stat(device)
		r.step("device number", fmt.Sprintf("%d:%d", stat.RdevMajor, stat.RdevMinor), "1:3")
	}
	if err := unix.Mknod(r.host("block"), unix.S_IFBLK|0600, int(unix.Mkdev(7, 200))); err == nil {
		_, err := r.root.Walk(ctx, "block")
		r.fails("walk to a block device", err, unix.EPERM)
	}
	r.need("mkfifo", unix.Mkfifo(r.host("fifo"), 0600))
	inode, err := r.root.Walk(ctx, "fifo")
	r.works("walk to a fifo", err)
	if err == nil {
		fifo := r.client.NewFD(inode.ControlFD)
		_, _, err = fifo.OpenAt(ctx, unix.O_RDWR)
		r.fails("open a fifo", err, unix.EPERM)
	}
}

// donatedDescriptors looks at what comes with an opened file.
func donatedDescriptors(r *run) {
	r.place("file", "content")
	file := r.walk("file")
	id, host, err := file.OpenAt(ctx, unix.O_RDWR)
	r.need("open", err)
	r.holds("a descriptor comes", host >= 0)
	flags, err := unix.FcntlInt(uintptr(host), unix.F_GETFL, 0)
	r.works("get its flags", err)
	r.step("its flags", flags&(unix.O_ACCMODE|unix.O_NONBLOCK|unix.O_APPEND), unix.O_RDWR|unix.O_NONBLOCK)
	var stat unix.Stat_t
	r.works("fstat it", unix.Fstat(host, &stat))
	r.holds("it is the file", stat.Ino == r.lstat("file").Ino && stat.Ino == r.stat(file).Ino)
	r.client.CloseFD(ctx, id, true)
	file.Close(ctx, true)
	_, err = unix.Pwrite(host, []byte("CON"), 0)
	r.works("write to it when the FD is closed", err)
	r.step("content", r.content("file"), "CONtent")
	mapped, err := unix.Mmap(host, 0, 7, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	r.works("map it", err)
	if err == nil {
		copy(mapped[3:], "TENT")
		r.works("unmap it", unix.Munmap(mapped))
		r.step("content after mapping", r.content("file"), "CONTENT")
	}
	closeHost(host)
	inode, open, host, err := r.root.OpenCreateAt(ctx, "new", unix.O_WRONLY, 0600, uid, gid)
	r.need("create", err)
	r.step("descriptor of a new file", tried(host), "read EBADF, write ok")
	closeHost(host)
	r.client.CloseFD(ctx, inode.ControlFD, false)
	r.client.CloseFD(ctx, open, true)
	r.step("content of the new file", r.content("new"), "w")
}
