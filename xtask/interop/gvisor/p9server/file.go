package main

import (
	"fmt"
	"io"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/fd"
	"gvisor.dev/gvisor/pkg/p9"
)

// file is one of the host's: a descriptor that says which, whatever becomes of its names, and once
// it is opened another one for its data.
type file struct {
	p9.DisallowClientCalls
	place int
	data  int
	// A listing goes on where the last one ended.
	listing sync.Mutex
}

const placeFlags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC

func open(path string) (*file, error) {
	place, err := unix.Open(path, placeFlags, 0)
	if err != nil {
		return nil, err
	}
	return &file{place: place, data: -1}, nil
}

func (f *file) child(name string) (*file, error) {
	place, err := unix.Openat(f.place, name, placeFlags, 0)
	if err != nil {
		return nil, err
	}
	return &file{place: place, data: -1}, nil
}

// again is a path to the file itself.
func (f *file) again() string {
	return fmt.Sprintf("/proc/self/fd/%d", f.place)
}

func (f *file) stat() (syscall.Stat_t, error) {
	var stat syscall.Stat_t
	return stat, syscall.Fstat(f.place, &stat)
}

func qidOf(stat *syscall.Stat_t) p9.QID {
	mode := p9.FileMode(stat.Mode)
	return p9.QID{
		Type:    mode.QIDType(),
		Version: uint32(stat.Ctim.Nsec) ^ uint32(stat.Ctim.Sec) | 1,
		Path:    stat.Ino,
	}
}

// Walk implements p9.File. The package asks for one name at a time, or none.
func (f *file) Walk(names []string) ([]p9.QID, p9.File, error) {
	qids, found, _, _, err := f.WalkGetAttr(names)
	return qids, found, err
}

// WalkGetAttr implements p9.File.
func (f *file) WalkGetAttr(names []string) ([]p9.QID, p9.File, p9.AttrMask, p9.Attr, error) {
	none := p9.AttrMask{}
	place, err := unix.FcntlInt(uintptr(f.place), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, nil, none, p9.Attr{}, err
	}
	at := &file{place: place, data: -1}
	var qids []p9.QID
	for _, name := range names {
		next, err := at.child(name)
		at.Close()
		if err != nil {
			return nil, nil, none, p9.Attr{}, err
		}
		at = next
		qid, _, _, err := at.GetAttr(p9.AttrMaskAll())
		if err != nil {
			at.Close()
			return nil, nil, none, p9.Attr{}, err
		}
		qids = append(qids, qid)
	}
	qid, valid, attr, err := at.GetAttr(p9.AttrMaskAll())
	if err != nil {
		at.Close()
		return nil, nil, none, p9.Attr{}, err
	}
	if len(names) == 0 {
		qids = []p9.QID{qid}
	}
	return qids, at, valid, attr, nil
}

// MultiGetAttr implements p9.File.
func (f *file) MultiGetAttr(names []string) ([]p9.FullStat, error) {
	var all []p9.FullStat
	at := &file{place: f.place, data: -1}
	for index, name := range names {
		if index > 0 || name != "" {
			next, err := at.child(name)
			if at.place != f.place {
				at.Close()
			}
			if err == unix.ENOENT || err == unix.ENOTDIR {
				return all, nil
			}
			if err != nil {
				return nil, err
			}
			at = next
		}
		qid, valid, attr, err := at.GetAttr(p9.AttrMaskAll())
		if err != nil {
			return nil, err
		}
		all = append(all, p9.FullStat{QID: qid, Valid: valid, Attr: attr})
		// Links are not followed.
		if !attr.Mode.IsDir() {
			break
		}
	}
	if at.place != f.place {
		at.Close()
	}
	return all, nil
}

// GetAttr implements p9.File.
func (f *file) GetAttr(p9.AttrMask) (p9.QID, p9.AttrMask, p9.Attr, error) {
	stat, err := f.stat()
	if err != nil {
		return p9.QID{}, p9.AttrMask{}, p9.Attr{}, err
	}
	attr, valid := p9.StatToAttr(&stat, p9.AttrMaskAll())
	return qidOf(&stat), valid, attr, nil
}

// StatFS implements p9.File.
func (f *file) StatFS() (p9.FSStat, error) {
	var stat unix.Statfs_t
	if err := unix.Fstatfs(f.place, &stat); err != nil {
		return p9.FSStat{}, err
	}
	return p9.FSStat{
		Type:            uint32(stat.Type),
		BlockSize:       uint32(stat.Bsize),
		Blocks:          stat.Blocks,
		BlocksFree:      stat.Bfree,
		BlocksAvailable: stat.Bavail,
		Files:           stat.Files,
		FilesFree:       stat.Ffree,
		NameLength:      uint32(stat.Namelen),
	}, nil
}

// SetAttr implements p9.File.
func (f *file) SetAttr(valid p9.SetAttrMask, attr p9.SetAttr) error {
	if valid.UID || valid.GID {
		uid, gid := -1, -1
		if valid.UID {
			uid = int(attr.UID)
		}
		if valid.GID {
			gid = int(attr.GID)
		}
		if err := unix.Fchownat(f.place, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
			return err
		}
	}
	if valid.Permissions {
		if err := unix.Chmod(f.again(), uint32(attr.Permissions)); err != nil {
			return err
		}
	}
	if valid.Size {
		if err := f.truncate(int64(attr.Size)); err != nil {
			return err
		}
	}
	if !valid.ATime && !valid.MTime {
		return nil
	}
	set := func(asked, given bool, sec, nsec uint64) unix.Timespec {
		switch {
		case !asked:
			return unix.Timespec{Nsec: unix.UTIME_OMIT}
		case !given:
			return unix.Timespec{Nsec: unix.UTIME_NOW}
		}
		return unix.Timespec{Sec: int64(sec), Nsec: int64(nsec)}
	}
	times := []unix.Timespec{
		set(valid.ATime, valid.ATimeNotSystemTime, attr.ATimeSeconds, attr.ATimeNanoSeconds),
		set(valid.MTime, valid.MTimeNotSystemTime, attr.MTimeSeconds, attr.MTimeNanoSeconds),
	}
	stat, err := f.stat()
	if err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFLNK {
		return unix.UtimesNanoAt(unix.AT_FDCWD, f.again(), times, 0)
	}
	// The path would lead through the link; a name below does not.
	return unix.UtimesNanoAt(f.place, "", times, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW)
}

func (f *file) truncate(size int64) error {
	if f.data >= 0 {
		if err := unix.Ftruncate(f.data, size); err == nil {
			return nil
		}
	}
	return unix.Truncate(f.again(), size)
}

// Close implements p9.File.
func (f *file) Close() error {
	if f.data >= 0 {
		unix.Close(f.data)
	}
	return unix.Close(f.place)
}

// Open implements p9.File. The descriptor is donated for regular files.
func (f *file) Open(flags p9.OpenFlags) (*fd.FD, p9.QID, uint32, error) {
	stat, err := f.stat()
	if err != nil {
		return nil, p9.QID{}, 0, err
	}
	if f.data, err = unix.Open(f.again(), flags.OSFlags()|unix.O_CLOEXEC, 0); err != nil {
		f.data = -1
		return nil, p9.QID{}, 0, err
	}
	if stat, err = f.stat(); err != nil {
		return nil, p9.QID{}, 0, err
	}
	return f.donated(&stat), qidOf(&stat), 0, nil
}

func (f *file) donated(stat *syscall.Stat_t) *fd.FD {
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	copied, err := unix.FcntlInt(uintptr(f.data), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return fd.New(copied)
}

// ReadAt implements p9.File.
func (f *file) ReadAt(p []byte, offset uint64) (int, error) {
	n, err := unix.Pread(f.data, p, int64(offset))
	if err == nil && n == 0 && len(p) > 0 {
		err = io.EOF
	}
	return max(n), err
}

// WriteAt implements p9.File.
func (f *file) WriteAt(p []byte, offset uint64) (int, error) {
	n, err := unix.Pwrite(f.data, p, int64(offset))
	return max(n), err
}

func max(n int) int {
	if n < 0 {
		return 0
	}
	return n
}

// FSync implements p9.File.
func (f *file) FSync() error {
	return unix.Fsync(f.data)
}

// Flush implements p9.File.
func (f *file) Flush() error {
	return nil
}

// Allocate implements p9.File.
func (f *file) Allocate(mode p9.AllocateMode, offset, length uint64) error {
	return unix.Fallocate(f.data, mode.ToLinux(), int64(offset), int64(length))
}

// Readlink implements p9.File.
func (f *file) Readlink() (string, error) {
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(f.place, "", buffer)
	if err != nil {
		return "", err
	}
	return string(buffer[:n]), nil
}

// Connect implements p9.File.
func (f *file) Connect(p9.SocketType) (*fd.FD, error) {
	return nil, unix.ECONNREFUSED
}

// Renamed implements p9.File. No path is kept.
func (f *file) Renamed(p9.File, string) {}
