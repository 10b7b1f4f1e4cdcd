// Drives a lisafs server with gVisor's own client and checks what it answers.
//
// Usage: client SOCKET DIR, where DIR is an empty directory that the server serves as its root and
// that this program can look at directly. Prints one line per case and a count at the end.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/context"
	"gvisor.dev/gvisor/pkg/lisafs"
	"gvisor.dev/gvisor/pkg/unet"
)

var ctx = context.Background()

type mount struct {
	client *lisafs.Client
	root   lisafs.ClientFD
	dir    string
}

// check stops the running case.
type failure struct{ text string }

func check(ok bool, format string, args ...any) {
	if !ok {
		panic(failure{fmt.Sprintf(format, args...)})
	}
}

func must(err error, what string) {
	check(err == nil, "%s: %v", what, err)
}

func refused(err error, want unix.Errno, what string) {
	check(errors.Is(err, want), "%s: %v, want %v", what, err, want)
}

func (m *mount) walk(names ...string) lisafs.ClientFD {
	status, inodes, err := m.root.WalkMultiple(ctx, names)
	must(err, "walk "+strings.Join(names, "/"))
	check(status == lisafs.WalkSuccess && len(inodes) == len(names), "walk: status %d, %d inodes", status, len(inodes))
	for _, inode := range inodes[:len(inodes)-1] {
		m.client.CloseFD(ctx, inode.ControlFD, false)
	}
	return m.client.NewFD(inodes[len(inodes)-1].ControlFD)
}

func (m *mount) stat(fd lisafs.ClientFD) linux.Statx {
	var stat linux.Statx
	must(fd.StatTo(ctx, &stat), "stat")
	return stat
}

func (m *mount) create(dir lisafs.ClientFD, name string) (lisafs.ClientFD, lisafs.ClientFD, int) {
	inode, open, host, err := dir.OpenCreateAt(ctx, name, unix.O_RDWR, 0640, lisafs.UID(os.Getuid()), lisafs.GID(os.Getgid()))
	must(err, "create "+name)
	return m.client.NewFD(inode.ControlFD), m.client.NewFD(open), host
}

func (m *mount) list(fd lisafs.ClientFD) []string {
	var names []string
	count := int32(-65536)
	for {
		entries, err := fd.Getdents64(ctx, count)
		must(err, "getdents")
		if len(entries) == 0 {
			sort.Strings(names)
			return names
		}
		for _, entry := range entries {
			names = append(names, string(entry.Name))
		}
		count = 65536
	}
}

func openClose(m *mount) {
	file, open, host := m.create(m.root, "donated")
	check(host >= 0, "no descriptor was donated")
	_, err := unix.Pwrite(host, []byte("by descriptor"), 0)
	must(err, "pwrite on the donated descriptor")
	flags, err := unix.FcntlInt(uintptr(host), unix.F_GETFL, 0)
	must(err, "fcntl")
	check(flags&unix.O_NONBLOCK != 0, "the donated descriptor blocks")
	unix.Close(host)
	buffer := make([]byte, 64)
	n, err := open.Read(ctx, buffer, 0)
	must(err, "read")
	check(string(buffer[:n]) == "by descriptor", "read %q", buffer[:n])
	open.Close(ctx, true)
	readOnly, host, err := file.OpenAt(ctx, unix.O_RDONLY)
	must(err, "open")
	_, err = unix.Pwrite(host, []byte("x"), 0)
	refused(err, unix.EBADF, "writing to a descriptor donated for reading")
	unix.Close(host)
	reader := m.client.NewFD(readOnly)
	_, err = reader.Write(ctx, []byte("x"), 0)
	refused(err, unix.EBADF, "writing to a file opened for reading")
	reader.Close(ctx, true)
	file.Close(ctx, true)
}

func largeData(m *mount) {
	_, open, host := m.create(m.root, "large")
	unix.Close(host)
	data := make([]byte, 5<<20+123)
	for i := range data {
		data[i] = byte(i * 7 / 3)
	}
	n, err := open.Write(ctx, data, 11)
	must(err, "write")
	check(n == uint64(len(data)), "wrote %d", n)
	back := make([]byte, len(data))
	n, err = open.Read(ctx, back, 11)
	must(err, "read")
	check(n == uint64(len(data)) && bytes.Equal(data, back), "other bytes came back")
	n, _ = open.Read(ctx, back, uint64(len(data))+11)
	check(n == 0, "read %d bytes beyond the end", n)
	must(open.Allocate(ctx, 0, 0, 6<<20), "allocate")
	check(m.stat(open).Size == 6<<20, "size after allocate")
	must(open.Sync(ctx), "fsync")
	open.Close(ctx, true)
}

func walks(m *mount) {
	must(os.MkdirAll(filepath.Join(m.dir, "a/b/c/d/e/f/g/h"), 0755), "mkdir")
	must(os.Symlink("b", filepath.Join(m.dir, "a/link")), "symlink")
	deep := m.walk("a", "b", "c", "d", "e", "f", "g", "h")
	check(m.stat(deep).Mode&unix.S_IFMT == unix.S_IFDIR, "not a directory")
	deep.Close(ctx, false)
	status, inodes, err := m.root.WalkMultiple(ctx, []string{"a", "none", "c"})
	must(err, "walk")
	check(status == lisafs.WalkComponentDoesNotExist && len(inodes) == 1, "missing: status %d, %d inodes", status, len(inodes))
	status, inodes, err = m.root.WalkMultiple(ctx, []string{"a", "link", "c"})
	must(err, "walk")
	check(status == lisafs.WalkComponentSymlink && len(inodes) == 2, "link: status %d, %d inodes", status, len(inodes))
	link := m.client.NewFD(inodes[1].ControlFD)
	target, err := link.ReadLinkAt(ctx)
	must(err, "readlink")
	check(target == "b", "target %q", target)
	_, err = m.root.Walk(ctx, "..")
	refused(err, unix.EINVAL, "walk ..")
	_, err = m.root.Walk(ctx, strings.Repeat("n", 256))
	refused(err, unix.ENAMETOOLONG, "walk of a long name")
	stats, err := m.root.WalkStat(ctx, []string{"", "a", "b", "none", "x"})
	must(err, "walkstat")
	check(len(stats) == 3, "walkstat saw %d", len(stats))
}

func names(m *mount) {
	uid, gid := lisafs.UID(os.Getuid()), lisafs.GID(os.Getgid())
	made, err := m.root.MkdirAt(ctx, "dir", 0751, uid, gid)
	must(err, "mkdir")
	dir := m.client.NewFD(made.ControlFD)
	check(made.Stat.Mode == unix.S_IFDIR|0751, "mode %o", made.Stat.Mode)
	_, err = m.root.MkdirAt(ctx, "dir", 0751, uid, gid)
	refused(err, unix.EEXIST, "mkdir twice")
	_, err = dir.SymlinkAt(ctx, "link", "anywhere/at all", uid, gid)
	must(err, "symlink")
	_, err = dir.MknodAt(ctx, "node", unix.S_IFREG|0600, uid, gid, 0, 0)
	must(err, "mknod")
	_, err = dir.MknodAt(ctx, "fifo", unix.S_IFIFO|0600, uid, gid, 0, 0)
	refused(err, unix.EPERM, "mknod of a fifo")
	node := m.walk("dir", "node")
	linked, err := dir.LinkAt(ctx, node.ID(), "second")
	must(err, "link")
	check(linked.Stat.Nlink == 2, "%d links", linked.Stat.Nlink)
	must(dir.RenameAt(ctx, "second", m.root.ID(), "moved"), "rename")
	listing, _, err := dir.OpenAt(ctx, unix.O_RDONLY|unix.O_DIRECTORY)
	must(err, "open the directory")
	open := m.client.NewFD(listing)
	check(strings.Join(m.list(open), " ") == "link node", "listing %v", m.list(open))
	refused(m.root.UnlinkAt(ctx, "dir", 0), unix.EISDIR, "unlink of a directory")
	refused(m.root.UnlinkAt(ctx, "dir", unix.AT_REMOVEDIR), unix.ENOTEMPTY, "rmdir of a full directory")
	refused(m.root.UnlinkAt(ctx, "moved", unix.AT_REMOVEDIR), unix.ENOTDIR, "rmdir of a file")
	must(dir.UnlinkAt(ctx, "link", 0), "unlink")
	must(dir.UnlinkAt(ctx, "node", 0), "unlink")
	must(m.root.UnlinkAt(ctx, "dir", unix.AT_REMOVEDIR), "rmdir")
	_, err = dir.MkdirAt(ctx, "late", 0755, uid, gid)
	refused(err, unix.EINVAL, "mkdir in a removed directory")
	check(m.stat(dir).Nlink == 0, "a removed directory has links")
}

func attributes(m *mount) {
	file, open, host := m.create(m.root, "attributes")
	unix.Close(host)
	set := linux.Statx{Mask: unix.STATX_MODE | unix.STATX_SIZE | unix.STATX_ATIME | unix.STATX_MTIME}
	set.Mode, set.Size = 0604, 1234
	set.Atime.Sec, set.Atime.Nsec = 1000, 5
	set.Mtime.Sec, set.Mtime.Nsec = 2000, 999999999
	failed, failure, err := file.SetStat(ctx, &set)
	must(err, "setstat")
	check(failed == 0, "could not set %x: %v", failed, failure)
	stat := m.stat(file)
	check(stat.Mode == unix.S_IFREG|0604 && stat.Size == 1234, "mode %o size %d", stat.Mode, stat.Size)
	check(stat.Atime.Sec == 1000 && stat.Atime.Nsec == 5, "atime %v", stat.Atime)
	check(stat.Mtime.Sec == 2000 && stat.Mtime.Nsec == 999999999, "mtime %v", stat.Mtime)
	set = linux.Statx{Mask: unix.STATX_INO}
	_, _, err = file.SetStat(ctx, &set)
	refused(err, unix.EPERM, "setting the inode number")
	var statfs lisafs.StatFS
	must(file.StatFSTo(ctx, &statfs), "statfs")
	check(statfs.NameLength == 255, "names of %d bytes", statfs.NameLength)
	open.Close(ctx, false)
}

func deleted(m *mount) {
	file, open, host := m.create(m.root, "doomed")
	unix.Close(host)
	_, err := open.Write(ctx, []byte("still here"), 0)
	must(err, "write")
	must(m.root.UnlinkAt(ctx, "doomed", 0), "unlink")
	buffer := make([]byte, 10)
	n, err := open.Read(ctx, buffer, 0)
	must(err, "read of a removed file")
	check(string(buffer[:n]) == "still here", "read %q", buffer[:n])
	set := linux.Statx{Mask: unix.STATX_SIZE}
	failed, failure, err := file.SetStat(ctx, &set)
	must(err, "truncate of a removed file")
	check(failed == 0, "truncate: %v", failure)
	check(m.stat(open).Nlink == 0 && m.stat(file).Size == 0, "attributes of a removed file")
	open.Close(ctx, true)
	file.Close(ctx, true)
}

func sockets(m *mount) {
	inode, bound, err := m.root.BindAt(ctx, linux.SOCK_STREAM, "socket", 0700, lisafs.UID(os.Getuid()), lisafs.GID(os.Getgid()))
	must(err, "bind")
	check(inode.Stat.Mode == unix.S_IFSOCK|0700, "mode %o", inode.Stat.Mode)
	must(bound.Listen(ctx, 4), "listen")
	_, err = bound.Accept(ctx)
	refused(err, unix.EAGAIN, "accept with nobody waiting")
	socket := m.walk("socket")
	ours, err := socket.Connect(ctx, linux.SOCK_STREAM)
	must(err, "connect")
	theirs, err := bound.Accept(ctx)
	must(err, "accept")
	_, err = unix.Write(ours, []byte("hi"))
	must(err, "write to the socket")
	buffer := make([]byte, 4)
	n, err := unix.Read(theirs, buffer)
	must(err, "read from the socket")
	check(string(buffer[:n]) == "hi", "read %q", buffer[:n])
	unix.Close(ours)
	unix.Close(theirs)
	bound.Close(ctx)
}

func manyAtOnce(m *mount) {
	var threads sync.WaitGroup
	problems := make(chan string, 16)
	for thread := 0; thread < 16; thread++ {
		threads.Add(1)
		go func(thread int) {
			defer threads.Done()
			defer func() {
				if problem := recover(); problem != nil {
					problems <- fmt.Sprint(problem)
				}
			}()
			for round := 0; round < 100; round++ {
				name := fmt.Sprintf("many-%d-%d", thread, round)
				file, open, host := m.create(m.root, name)
				unix.Close(host)
				text := []byte(name)
				_, err := open.Write(ctx, text, 0)
				must(err, "write")
				back := make([]byte, len(text))
				_, err = open.Read(ctx, back, 0)
				must(err, "read")
				check(bytes.Equal(text, back), "read %q from %q", back, text)
				must(m.root.RenameAt(ctx, name, m.root.ID(), name+"-moved"), "rename")
				must(m.root.UnlinkAt(ctx, name+"-moved", 0), "unlink")
				open.Close(ctx, false)
				file.Close(ctx, false)
			}
		}(thread)
	}
	threads.Wait()
	select {
	case problem := <-problems:
		check(false, "%s", problem)
	default:
	}
}

func bigDirectory(m *mount) {
	must(os.Mkdir(filepath.Join(m.dir, "big"), 0755), "mkdir")
	for i := 0; i < 5000; i++ {
		must(os.WriteFile(filepath.Join(m.dir, "big", fmt.Sprintf("entry-%05d", i)), nil, 0644), "create")
	}
	dir := m.walk("big")
	id, _, err := dir.OpenAt(ctx, unix.O_RDONLY)
	must(err, "open")
	open := m.client.NewFD(id)
	for round := 0; round < 2; round++ {
		names := m.list(open)
		check(len(names) == 5000 && names[0] == "entry-00000" && names[4999] == "entry-04999", "%d names", len(names))
	}
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: client SOCKET DIR")
		os.Exit(2)
	}
	socket, err := unet.Connect(os.Args[1], false)
	if err != nil {
		fmt.Fprintln(os.Stderr, "connect:", err)
		os.Exit(1)
	}
	client, inode, err := lisafs.NewClient(socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mount:", err)
		os.Exit(1)
	}
	m := &mount{client: client, root: client.NewFD(inode.ControlFD), dir: os.Args[2]}
	cases := []struct {
		name string
		run  func(*mount)
	}{
		{"open_close", openClose}, {"large_data", largeData}, {"walks", walks}, {"names", names},
		{"attributes", attributes}, {"deleted", deleted}, {"sockets", sockets},
		{"big_directory", bigDirectory}, {"many_at_once", manyAtOnce},
	}
	passed := 0
	for _, one := range cases {
		problem := attempt(m, one.run)
		if problem == "" {
			passed++
			fmt.Println("ok  ", one.name)
		} else {
			fmt.Println("FAIL", one.name, problem)
		}
	}
	client.Close()
	fmt.Printf("%d passed, %d failed\n", passed, len(cases)-passed)
	if passed != len(cases) {
		os.Exit(1)
	}
}

func attempt(m *mount, run func(*mount)) (problem string) {
	defer func() {
		if caught := recover(); caught != nil {
			if failed, ok := caught.(failure); ok {
				problem = failed.text
			} else {
				problem = fmt.Sprint("panic: ", caught)
			}
		}
	}()
	run(m)
	return ""
}
