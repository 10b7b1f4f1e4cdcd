package main

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/fd"
	"gvisor.dev/gvisor/pkg/p9"
)

// owned gives a new file the owner that was asked for, and says which file it is.
func (f *file) owned(name string, uid p9.UID, gid p9.GID) (p9.QID, error) {
	owner := func(ok bool, id uint32) int {
		if !ok {
			return -1
		}
		return int(id)
	}
	user, group := owner(uid.Ok(), uint32(uid)), owner(gid.Ok(), uint32(gid))
	if err := unix.Fchownat(f.place, name, user, group, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return p9.QID{}, err
	}
	made, err := f.child(name)
	if err != nil {
		return p9.QID{}, err
	}
	defer made.Close()
	qid, _, _, err := made.GetAttr(p9.AttrMaskAll())
	return qid, err
}

// Create implements p9.File.
func (f *file) Create(name string, flags p9.OpenFlags, mode p9.FileMode, uid p9.UID, gid p9.GID) (*fd.FD, p9.File, p9.QID, uint32, error) {
	how := flags.OSFlags() | unix.O_CREAT | unix.O_EXCL | unix.O_CLOEXEC | unix.O_NOFOLLOW
	data, err := unix.Openat(f.place, name, how, uint32(mode.Permissions()))
	if err != nil {
		return nil, nil, p9.QID{}, 0, err
	}
	qid, err := f.owned(name, uid, gid)
	if err != nil {
		unix.Close(data)
		return nil, nil, p9.QID{}, 0, err
	}
	made, err := f.child(name)
	if err != nil {
		unix.Close(data)
		return nil, nil, p9.QID{}, 0, err
	}
	made.data = data
	stat, err := made.stat()
	if err != nil {
		made.Close()
		return nil, nil, p9.QID{}, 0, err
	}
	return made.donated(&stat), made, qid, 0, nil
}

// Mkdir implements p9.File.
func (f *file) Mkdir(name string, mode p9.FileMode, uid p9.UID, gid p9.GID) (p9.QID, error) {
	if err := unix.Mkdirat(f.place, name, uint32(mode.Permissions())); err != nil {
		return p9.QID{}, err
	}
	return f.owned(name, uid, gid)
}

// Symlink implements p9.File.
func (f *file) Symlink(target, name string, uid p9.UID, gid p9.GID) (p9.QID, error) {
	if err := unix.Symlinkat(target, f.place, name); err != nil {
		return p9.QID{}, err
	}
	return f.owned(name, uid, gid)
}

// Link implements p9.File.
func (f *file) Link(target p9.File, name string) error {
	from := target.(*file)
	return unix.Linkat(from.place, "", f.place, name, unix.AT_EMPTY_PATH)
}

// Mknod implements p9.File.
func (f *file) Mknod(name string, mode p9.FileMode, major, minor uint32, uid p9.UID, gid p9.GID) (p9.QID, error) {
	if err := unix.Mknodat(f.place, name, uint32(mode), int(unix.Mkdev(major, minor))); err != nil {
		return p9.QID{}, err
	}
	return f.owned(name, uid, gid)
}

// Bind implements p9.File.
func (f *file) Bind(uint32, string, p9.UID, p9.GID) (p9.File, p9.QID, p9.AttrMask, p9.Attr, error) {
	return nil, p9.QID{}, p9.AttrMask{}, p9.Attr{}, unix.EPERM
}

// Rename implements p9.File. The package never calls it.
func (f *file) Rename(p9.File, string) error {
	return unix.ENOSYS
}

// RenameAt implements p9.File.
func (f *file) RenameAt(from string, dir p9.File, to string) error {
	return unix.Renameat(f.place, from, dir.(*file).place, to)
}

// UnlinkAt implements p9.File.
func (f *file) UnlinkAt(name string, flags uint32) error {
	return unix.Unlinkat(f.place, name, int(flags))
}

// Readdir implements p9.File. The host's own places in a listing are handed on.
func (f *file) Readdir(offset uint64, count uint32) ([]p9.Dirent, error) {
	f.listing.Lock()
	defer f.listing.Unlock()
	if _, err := unix.Seek(f.data, int64(offset), unix.SEEK_SET); err != nil {
		return nil, err
	}
	// A record on the wire has 24 bytes and the name, one of the host 19 and the name with an end:
	// this many of the latter fit.
	var all []p9.Dirent
	buffer, used := make([]byte, 32<<10), uint32(0)
	for {
		n, err := unix.Getdents(f.data, buffer)
		if err != nil || n == 0 {
			return all, err
		}
		for rest := buffer[:n]; len(rest) > 0; {
			length := binary.LittleEndian.Uint16(rest[16:])
			record := rest[:length]
			rest = rest[length:]
			name := string(record[19 : 19+bytes.IndexByte(record[19:], 0)])
			if name == "." || name == ".." {
				continue
			}
			if used += uint32(24 + len(name)); used > count {
				return all, nil
			}
			kind := p9.FileMode(uint32(record[18]) << 12).QIDType()
			all = append(all, p9.Dirent{
				QID:    p9.QID{Type: kind, Path: binary.LittleEndian.Uint64(record)},
				Offset: binary.LittleEndian.Uint64(record[8:]),
				Type:   kind,
				Name:   name,
			})
		}
	}
}
