package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/lisafs"
)

var attributeCases = []oneCase{
	{"set_attributes", setAttributes},
	{"set_times", setTimes},
	{"set_owners", setOwners},
	{"set_in_part", setInPart},
	{"file_system_numbers", fileSystemNumbers},
}

// set changes attributes and tells what could not be changed.
func set(fd lisafs.ClientFD, stat linux.Statx) string {
	failed, why, err := fd.SetStat(ctx, &stat)
	switch {
	case err != nil:
		return errorName(err)
	case failed != 0:
		return fmt.Sprintf("not %#x: %s", failed, errorName(why))
	default:
		return "all"
	}
}

func setAttributes(r *run) {
	r.place("file", "content")
	file := r.walk("file")
	set4 := linux.Statx{Mask: unix.STATX_MODE | unix.STATX_SIZE | unix.STATX_ATIME | unix.STATX_MTIME, Mode: 0604, Size: 1234}
	set4.Atime.Sec, set4.Atime.Nsec = 1000, 5
	set4.Mtime.Sec, set4.Mtime.Nsec = 2000, 999999999
	r.step("mode, size and times", set(file, set4), "all")
	host := r.lstat("file")
	r.step("as the host sees them", fmt.Sprintf("%o %d %d %d", host.Mode, host.Size, host.Atim.Nano(), host.Mtim.Nano()),
		"100604 1234 1000000000005 2000999999999")
	r.same("as the server sees them", r.stat(file), host)
	r.step("nothing", set(file, linux.Statx{}), "all")
	r.step("mode with type bits", set(file, linux.Statx{Mask: unix.STATX_MODE, Mode: unix.S_IFDIR | 06711}), "all")
	r.step("the mode", fmt.Sprintf("%o", r.lstat("file").Mode), "106711")
	for _, bit := range []uint32{unix.STATX_TYPE, unix.STATX_NLINK, unix.STATX_CTIME, unix.STATX_INO, unix.STATX_BLOCKS, unix.STATX_BTIME, 1 << 31} {
		r.step(fmt.Sprintf("with bit %#x", bit), set(file, linux.Statx{Mask: bit | unix.STATX_MODE, Mode: 0600}), "EPERM")
	}
	r.step("the mode after that", fmt.Sprintf("%o", r.lstat("file").Mode), "106711")
	reading := r.open(file, unix.O_RDONLY)
	r.step("by an open FD", set(reading, linux.Statx{Mask: unix.STATX_SIZE}), "EINVAL")
	r.need("chmod", os.Chmod(r.host("file"), 0400))
	r.step("size without write permission", set(file, linux.Statx{Mask: unix.STATX_SIZE, Size: 3}), "all")
	r.step("content", r.content("file"), "\x63\x6f\x6e")
	r.need("mkdir", os.Mkdir(r.host("dir"), 0755))
	r.step("mode of a directory", set(r.walk("dir"), linux.Statx{Mask: unix.STATX_MODE, Mode: 01700}), "all")
	r.step("the mode of it", fmt.Sprintf("%o", r.lstat("dir").Mode), "41700")
}

func setTimes(r *run) {
	r.place("file", "")
	r.need("mkdir", os.Mkdir(r.host("dir"), 0755))
	r.need("symlink", os.Symlink("file", r.host("link")))
	const now, omit = 0x3fffffff, 0x3ffffffe
	for _, name := range []string{"file", "dir", "link"} {
		both := linux.Statx{Mask: unix.STATX_ATIME | unix.STATX_MTIME}
		both.Atime.Sec, both.Mtime.Sec, both.Mtime.Nsec = -5, 4000000000, 7
		fd := r.walk(name)
		r.step(name+": both", set(fd, both), "all")
		host := r.lstat(name)
		r.step(name+": the times", fmt.Sprint(host.Atim.Nano(), host.Mtim.Nano()), "-5000000000 4000000000000000007")
		one := linux.Statx{Mask: unix.STATX_MTIME}
		one.Mtime.Sec = 77
		r.step(name+": one", set(fd, one), "all")
		host = r.lstat(name)
		r.step(name+": only that one", fmt.Sprint(host.Atim.Nano(), host.Mtim.Nano()), "-5000000000 77000000000")
		both.Atime.Nsec, both.Mtime.Nsec = now, omit
		r.step(name+": now, and leave it", set(fd, both), "all")
		host = r.lstat(name)
		r.step(name+": now, and left", fmt.Sprint(host.Atim.Sec > 1e9, host.Mtim.Nano()), "true 77000000000")
		both.Mtime.Nsec = 2e9
		r.step(name+": nonsense", set(fd, both), "not 0x60: EINVAL")
	}
}

func setOwners(r *run) {
	r.place("file", "")
	r.need("mkdir", os.Mkdir(r.host("dir"), 0755))
	r.need("symlink", os.Symlink("none", r.host("link")))
	for _, name := range []string{"file", "dir", "link"} {
		fd := r.walk(name)
		owner := func() string {
			host := r.lstat(name)
			return fmt.Sprintf("%d:%d", host.Uid, host.Gid)
		}
		r.step(name+": both", set(fd, linux.Statx{Mask: unix.STATX_UID | unix.STATX_GID, UID: 11, GID: 22}), "all")
		r.step(name+": owner", owner(), "11:22")
		r.step(name+": user", set(fd, linux.Statx{Mask: unix.STATX_UID, UID: 33, GID: 44}), "all")
		r.step(name+": owner with the user", owner(), "33:22")
		r.step(name+": group", set(fd, linux.Statx{Mask: unix.STATX_GID, UID: 55, GID: 66}), "all")
		r.step(name+": owner with the group", owner(), "33:66")
		r.step(name+": none", set(fd, linux.Statx{Mask: unix.STATX_UID | unix.STATX_GID, UID: nobody, GID: nobody}), "all")
		r.step(name+": owner as before", owner(), "33:66")
	}
	r.need("chmod", unix.Chmod(r.host("file"), 06755))
	r.step("mode and owner", set(r.walk("file"), linux.Statx{Mask: unix.STATX_MODE | unix.STATX_UID, Mode: 06755, UID: 1}), "all")
	r.step("the owner comes last and takes the special bits", fmt.Sprintf("%o", r.lstat("file").Mode), "100755")
}

// setInPart asks for what works together with what does not.
func setInPart(r *run) {
	r.place("file", "content")
	r.need("mkdir", os.Mkdir(r.host("dir"), 0755))
	r.need("symlink", os.Symlink("file", r.host("link")))
	part := linux.Statx{Mask: unix.STATX_MODE | unix.STATX_SIZE | unix.STATX_MTIME | unix.STATX_UID, Mode: 0711, Size: 1, UID: 9}
	part.Mtime.Sec = 88
	r.step("size of a directory", set(r.walk("dir"), part), "not 0x200: EISDIR")
	host := r.lstat("dir")
	r.step("the rest is set", fmt.Sprintf("%o %d %d", host.Mode, host.Mtim.Sec, host.Uid), "40711 88 9")
	part.Mask &^= unix.STATX_SIZE
	r.step("mode of a link", set(r.walk("link"), part), "not 0x2: ENOTSUP")
	host = r.lstat("link")
	r.step("the rest of the link is set", fmt.Sprintf("%o %d %d", host.Mode, host.Mtim.Sec, host.Uid), "120777 88 9")
	r.step("its target is untouched", fmt.Sprintf("%o", r.lstat("file").Mode), "100644")
	part.Mask = unix.STATX_SIZE | unix.STATX_MODE
	part.Size = 1 << 63
	r.step("a negative size", set(r.walk("file"), part), "not 0x200: EINVAL")
	part.Size = 1<<63 - 1
	r.step("a size beyond any file", set(r.walk("file"), part), "not 0x200: EFBIG")
	r.step("the mode is set", fmt.Sprintf("%o %s", r.lstat("file").Mode, r.content("file")), "100711 content")
}

func fileSystemNumbers(r *run) {
	r.place("file", "")
	var host unix.Statfs_t
	r.need("statfs on the host", unix.Statfs(r.dir, &host))
	r.need("symlink", os.Symlink("file", r.host("link")))
	for _, name := range []string{"file", "link"} {
		fd := r.walk(name)
		var got lisafs.StatFS
		r.works("statfs of the "+name, fd.StatFSTo(ctx, &got))
		r.holds("the numbers of the "+name+" are the host's", got.Type == uint64(host.Type) && got.BlockSize == host.Bsize &&
			got.Blocks == host.Blocks && got.Files == host.Files && got.NameLength == uint64(host.Namelen))
		r.holds("the free ones of the "+name+" are possible",
			got.BlocksFree <= got.Blocks && got.BlocksAvailable <= got.BlocksFree && got.FilesFree <= got.Files)
	}
}
