package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/lisafs"
)

var socketCases = []oneCase{
	{"bound_sockets", boundSockets},
	{"socket_types", socketTypes},
	{"socket_files", socketFiles},
	{"sockets_of_the_host", socketsOfTheHost},
}

// closedCases are for an export without sockets.
var closedCases = []oneCase{{"no_sockets", noSockets}}

// said is what arrives at the other end of a connection.
func said(from, to int, text string) string {
	if _, err := unix.Write(from, []byte(text)); err != nil {
		return errorName(err)
	}
	buffer := make([]byte, 64)
	n, err := unix.Read(to, buffer)
	if err != nil {
		return errorName(err)
	}
	return string(buffer[:n])
}

func boundSockets(r *run) {
	inode, bound, err := r.root.BindAt(ctx, linux.SOCK_STREAM, "socket", 0712, 1234, 5678)
	r.need("bind", err)
	host := r.lstat("socket")
	r.step("mode and owner", fmt.Sprintf("%o %d:%d", host.Mode, host.Uid, host.Gid), "140712 1234:5678")
	r.same("the file", inode.Stat, host)
	made := r.client.NewFD(inode.ControlFD)
	r.holds("its FD is the file", r.stat(made).Ino == host.Ino)
	_, err = bound.Accept(ctx)
	r.fails("accept before listening", err, unix.EINVAL)
	socket := r.walk("socket")
	_, err = socket.Connect(ctx, linux.SOCK_STREAM)
	r.fails("connect before listening", err, unix.ECONNREFUSED)
	r.works("listen", bound.Listen(ctx, 4))
	r.works("listen again", bound.Listen(ctx, 8))
	_, err = bound.Accept(ctx)
	r.fails("accept with nobody waiting", err, unix.EAGAIN)
	waiting := func() bool {
		events := []unix.PollFd{{Fd: bound.NotificationFD(), Events: unix.POLLIN}}
		n, _ := unix.Poll(events, 0)
		return n == 1
	}
	r.step("the descriptor says that nobody waits", waiting(), false)
	ours, err := socket.Connect(ctx, linux.SOCK_STREAM)
	r.need("connect", err)
	r.step("the descriptor says that somebody waits", waiting(), true)
	theirs, err := bound.Accept(ctx)
	r.need("accept", err)
	flags, _ := unix.FcntlInt(uintptr(ours), unix.F_GETFL, 0)
	r.step("the connected descriptor does not block", flags&unix.O_NONBLOCK != 0, true)
	r.step("to the one who accepted", said(ours, theirs, "hello"), "hello")
	r.step("to the one who connected", said(theirs, ours, "world"), "world")
	closeHost(ours)
	closeHost(theirs)
	r.works("unlink", r.root.UnlinkAt(ctx, "socket", 0))
	_, err = socket.Connect(ctx, linux.SOCK_STREAM)
	r.fails("connect when unlinked", err, unix.EINVAL)
	bound.Close(ctx)
	made.Close(ctx, true)
	r.holds("the connection still works", r.stat(r.root).Nlink > 0)
}

func socketTypes(r *run) {
	for kind, name := range map[linux.SockType]string{linux.SOCK_STREAM: "stream", linux.SOCK_SEQPACKET: "seqpacket"} {
		_, bound, err := r.root.BindAt(ctx, kind, name, 0700, uid, gid)
		r.need("bind "+name, err)
		r.works("listen "+name, bound.Listen(ctx, 1))
		socket := r.walk(name)
		ours, err := socket.Connect(ctx, kind)
		r.works("connect "+name, err)
		theirs, err := bound.Accept(ctx)
		r.works("accept "+name, err)
		r.step("over "+name, said(ours, theirs, "hello"), "hello")
		for _, other := range []linux.SockType{linux.SOCK_STREAM, linux.SOCK_DGRAM, linux.SOCK_SEQPACKET} {
			if other != kind {
				_, err := socket.Connect(ctx, other)
				r.fails(fmt.Sprintf("connect %s as type %d", name, other), err, unix.EPROTOTYPE)
			}
		}
		closeHost(ours)
		closeHost(theirs)
		bound.Close(ctx)
	}
	_, bound, err := r.root.BindAt(ctx, linux.SOCK_DGRAM, "datagram", 0700, uid, gid)
	r.need("bind datagram", err)
	r.fails("listen datagram", bound.Listen(ctx, 1), unix.EOPNOTSUPP)
	socket := r.walk("datagram")
	ours, err := socket.Connect(ctx, linux.SOCK_DGRAM)
	r.works("connect datagram", err)
	r.step("over datagram", said(ours, int(bound.NotificationFD()), "hello"), "hello")
	closeHost(ours)
	for _, kind := range []linux.SockType{linux.SOCK_RAW, 4, 99} {
		_, err := socket.Connect(ctx, kind)
		r.fails(fmt.Sprintf("connect as type %d", kind), err, unix.ENXIO)
		_, _, err = r.root.BindAt(ctx, kind, "other", 0700, uid, gid)
		r.fails(fmt.Sprintf("bind as type %d", kind), err, unix.ENXIO)
	}
	_, _, err = r.root.BindAt(ctx, 0, "other", 0700, uid, gid)
	r.fails("bind as type 0", err, unix.ENXIO)
}

func socketFiles(r *run) {
	r.place("file", "")
	r.need("mkdir", os.Mkdir(r.host("dir"), 0755))
	r.need("symlink", os.Symlink("elsewhere", r.host("link")))
	for _, one := range []struct {
		name string
		want unix.Errno
	}{
		{"", unix.EINVAL}, {".", unix.EINVAL}, {"..", unix.EINVAL}, {"dir/s", unix.EINVAL},
		{"file", unix.EADDRINUSE}, {"dir", unix.EADDRINUSE}, {"link", unix.EADDRINUSE},
		{strings.Repeat("n", 120), unix.EINVAL},
	} {
		_, _, err := r.root.BindAt(ctx, linux.SOCK_STREAM, one.name, 0700, uid, gid)
		r.fails(fmt.Sprintf("bind %.20q", one.name), err, one.want)
	}
	file, dir := r.walk("file"), r.walk("dir")
	_, _, err := file.BindAt(ctx, linux.SOCK_STREAM, "s", 0700, uid, gid)
	r.fails("bind in a file", err, unix.ENOTDIR)
	_, err = file.Connect(ctx, linux.SOCK_STREAM)
	r.fails("connect to a file", err, unix.ENOTSOCK)
	_, bound, err := r.root.BindAt(ctx, linux.SOCK_STREAM, "socket", 0700, uid, gid)
	r.need("bind", err)
	defer bound.Close(ctx)
	socket := r.walk("socket")
	_, _, err = socket.OpenAt(ctx, unix.O_RDWR)
	r.fails("open a socket", err, unix.ENXIO)
	change := linux.Statx{Mask: unix.STATX_MODE | unix.STATX_UID, Mode: 0611, UID: 7}
	r.step("set mode and owner", set(socket, change), "all")
	host := r.lstat("socket")
	r.step("mode and owner", fmt.Sprintf("%o %d", host.Mode, host.Uid), "140611 7")
	change = linux.Statx{Mask: unix.STATX_MTIME}
	change.Mtime.Sec = 99
	r.step("set the time", set(socket, change), "all")
	r.step("the time", r.lstat("socket").Mtim.Sec, 99)
	r.works("rename", r.root.RenameAt(ctx, "socket", dir.ID(), "moved"))
	r.works("listen after it", bound.Listen(ctx, 1))
	ours, err := socket.Connect(ctx, linux.SOCK_STREAM)
	r.works("connect after it", err)
	closeHost(ours)
	inode, err := r.root.LinkAt(ctx, socket.ID(), "linked")
	r.works("link", err)
	linked := r.client.NewFD(inode.ControlFD)
	theirs, err := linked.Connect(ctx, linux.SOCK_SEQPACKET)
	r.fails("connect by the link as another type", err, unix.EPROTOTYPE)
	closeHost(theirs)
}

// socketsOfTheHost connects to a socket that somebody else bound.
func socketsOfTheHost(r *run) {
	listener, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	r.need("socket", err)
	defer closeHost(listener)
	r.need("bind on the host", unix.Bind(listener, &unix.SockaddrUnix{Name: r.host("socket")}))
	r.need("listen on the host", unix.Listen(listener, 1))
	socket := r.walk("socket")
	ours, err := socket.Connect(ctx, linux.SOCK_STREAM)
	r.need("connect", err)
	theirs, _, err := unix.Accept(listener)
	r.need("accept on the host", err)
	r.step("to the host", said(ours, theirs, "hello"), "hello")
	r.step("from the host", said(theirs, ours, "world"), "world")
	closeHost(ours)
	closeHost(theirs)
}

// noSockets is refused everything to do with sockets.
func noSockets(r *run) {
	_, _, err := r.root.BindAt(ctx, linux.SOCK_STREAM, "socket", 0700, uid, gid)
	r.fails("bind", err, unix.EPERM)
	_, err = os.Lstat(r.host("socket"))
	r.holds("nothing was made", os.IsNotExist(err))
	listener, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	r.need("socket", err)
	defer closeHost(listener)
	r.need("bind on the host", unix.Bind(listener, &unix.SockaddrUnix{Name: r.host("socket")}))
	r.need("listen on the host", unix.Listen(listener, 1))
	r.step("walkstat of a socket", statCount(r.root, "socket"), "1")
	inode, err := r.root.Walk(ctx, "socket")
	r.works("walk to a socket", err)
	if err == nil {
		socket := r.client.NewFD(inode.ControlFD)
		_, err := socket.Connect(ctx, linux.SOCK_STREAM)
		r.fails("connect", err, unix.EPERM)
		_, _, err = socket.OpenAt(ctx, unix.O_RDWR)
		r.fails("open", err, unix.EPERM)
	}
}

func statCount(from lisafs.ClientFD, name string) string {
	stats, err := from.WalkStat(ctx, []string{name})
	if err != nil {
		return errorName(err)
	}
	return fmt.Sprint(len(stats))
}
