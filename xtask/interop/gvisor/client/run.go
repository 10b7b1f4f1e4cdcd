package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/lisafs"
)

const (
	uid = lisafs.UID(0)
	gid = lisafs.GID(0)
)

// line is what is printed of a step, or of the end of a case.
type line struct {
	Case string `json:"case"`
	Step string `json:"step,omitempty"`
	Got  string `json:"got,omitempty"`
	Want string `json:"want,omitempty"`
	End  bool   `json:"end,omitempty"`
}

func report(one line) {
	bytes, err := json.Marshal(one)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(bytes))
}

// run is a case at work. What it sees of the server it reports step by step: what came out, and
// what should have. What comes out is the same in every run, so that servers can be compared.
type run struct {
	name   string
	client *lisafs.Client
	// top is the root of the connection, root the directory of the case, dir its host path.
	top, root lisafs.ClientFD
	dir       string
}

// stop ends the running case; why was reported.
type stop struct{}

func (r *run) step(what string, got, want any) {
	report(line{Case: r.name, Step: what, Got: text(got), Want: text(want)})
}

// text is what stands for a value: itself, but quoted if it is bytes that JSON cannot hold.
func text(value any) string {
	plain := fmt.Sprint(value)
	if utf8.ValidString(plain) {
		return plain
	}
	return strconv.Quote(plain)
}

// fails reports the error of a call that should give want, or succeed for 0.
func (r *run) fails(what string, err error, want unix.Errno) {
	r.step(what, errorName(err), errnoName(want))
}

// works is for calls that must succeed, but that the case goes on without.
func (r *run) works(what string, err error) {
	r.fails(what, err, 0)
}

// need is for calls that the rest of the case cannot do without. It reports failures only.
func (r *run) need(what string, err error) {
	if err != nil {
		r.works(what, err)
		panic(stop{})
	}
}

// holds reports a condition that must hold.
func (r *run) holds(what string, ok bool) {
	r.step(what, ok, true)
}

func errnoName(errno unix.Errno) string {
	if errno == 0 {
		return "ok"
	}
	return unix.ErrnoName(errno)
}

func errorName(err error) string {
	var errno unix.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, io.EOF):
		return "end of file"
	case errors.As(err, &errno):
		return errnoName(errno)
	default:
		return err.Error()
	}
}

// host is the path of a file of the case on the host.
func (r *run) host(names ...string) string {
	return filepath.Join(append([]string{r.dir}, names...)...)
}

// place writes a file on the host, with the directories it is in.
func (r *run) place(name, content string) {
	path := r.host(name)
	r.need("mkdir for "+name, os.MkdirAll(filepath.Dir(path), 0755))
	r.need("place "+name, os.WriteFile(path, []byte(content), 0644))
}

// content is what the host says is in a file.
func (r *run) content(name string) string {
	bytes, err := os.ReadFile(r.host(name))
	if err != nil {
		return errorName(err)
	}
	return string(bytes)
}

// lstat is what the host says of a file.
func (r *run) lstat(name string) unix.Stat_t {
	var stat unix.Stat_t
	r.need("lstat "+name, unix.Lstat(r.host(name), &stat))
	return stat
}

// walk finds a file of the case, with all directories on the way in one message.
func (r *run) walk(path string) lisafs.ClientFD {
	return r.walkFrom(r.root, path)
}

func (r *run) walkFrom(from lisafs.ClientFD, path string) lisafs.ClientFD {
	names := strings.Split(path, "/")
	status, inodes, err := from.WalkMultiple(ctx, names)
	r.need("walk to "+path, err)
	if status != lisafs.WalkSuccess || len(inodes) != len(names) {
		r.step("walk to "+path, walkResult(status, len(inodes)), walkResult(lisafs.WalkSuccess, len(names)))
		panic(stop{})
	}
	last := len(inodes) - 1
	for _, inode := range inodes[:last] {
		r.client.CloseFD(ctx, inode.ControlFD, false)
	}
	return r.client.NewFD(inodes[last].ControlFD)
}

// open opens a file that was walked to, and leaves the donated descriptor aside.
func (r *run) open(file lisafs.ClientFD, flags uint32) lisafs.ClientFD {
	id, host, err := file.OpenAt(ctx, flags)
	r.need(fmt.Sprintf("open with flags %#o", flags), err)
	closeHost(host)
	return r.client.NewFD(id)
}

// create makes a file for reading and writing.
func (r *run) create(dir lisafs.ClientFD, name string) (file, open lisafs.ClientFD) {
	inode, id, host, err := dir.OpenCreateAt(ctx, name, unix.O_RDWR, 0640, uid, gid)
	r.need("create "+name, err)
	closeHost(host)
	return r.client.NewFD(inode.ControlFD), r.client.NewFD(id)
}

func closeHost(fd int) {
	if fd >= 0 {
		unix.Close(fd)
	}
}

func (r *run) stat(fd lisafs.ClientFD) linux.Statx {
	var stat linux.Statx
	r.need("stat", fd.StatTo(ctx, &stat))
	return stat
}

// read is what a read gives, as text.
func read(open lisafs.ClientFD, length int, offset uint64) string {
	buffer := make([]byte, length)
	n, err := open.Read(ctx, buffer, offset)
	if err != nil {
		return errorName(err)
	}
	return string(buffer[:n])
}

// write is how many bytes a write takes, or why not.
func write(open lisafs.ClientFD, text string, offset uint64) string {
	n, err := open.Write(ctx, []byte(text), offset)
	if err != nil {
		return errorName(err)
	}
	return fmt.Sprint(n)
}
