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
	"gvisor.dev/gvisor/pkg/fd"
	"gvisor.dev/gvisor/pkg/p9"
)

const (
	uid = p9.UID(1234)
	gid = p9.GID(5678)
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
	level  uint32
	client *p9.Client
	// top is the root of the connection, root the directory of the case, dir its host path.
	top, root p9.File
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

// since reports the error of a call that works from a level on and is not supported below.
func (r *run) since(level uint32, what string, err error) bool {
	if r.level < level {
		r.fails(what, err, unix.EOPNOTSUPP)
		return false
	}
	r.fails(what, err, 0)
	return err == nil
}

// need is for calls that the rest of the case cannot do without. It reports failures only.
func (r *run) need(what string, err error) {
	if err != nil {
		r.fails(what, err, 0)
		panic(stop{})
	}
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

// walk finds a file that must be there.
func (r *run) walk(from p9.File, path string) p9.File {
	_, found, err := from.Walk(strings.Split(path, "/"))
	r.need("walk to "+path, err)
	return found
}

// clone is another reference to a file, for calls that use one up.
func (r *run) clone(file p9.File) p9.File {
	_, copied, err := file.Walk(nil)
	r.need("clone", err)
	return copied
}

// open opens a file of the case. The donated descriptor, if there is one, is left aside.
func (r *run) open(path string, flags p9.OpenFlags) p9.File {
	file := r.walk(r.root, path)
	host, _, _, err := file.Open(flags)
	r.need("open "+path, err)
	closeHost(host)
	return file
}

// create makes a file for reading and writing.
func (r *run) create(dir p9.File, name string) p9.File {
	host, made, _, _, err := r.clone(dir).Create(name, p9.ReadWrite, 0640, uid, gid)
	r.need("create "+name, err)
	closeHost(host)
	return made
}

func closeHost(host *fd.FD) {
	if host != nil {
		host.Close()
	}
}

// read is what a read gives, as text.
func read(file p9.File, length int, offset uint64) string {
	buffer := make([]byte, length)
	n, err := file.ReadAt(buffer, offset)
	if err != nil && !(errors.Is(err, io.EOF) && n > 0) {
		return errorName(err)
	}
	return string(buffer[:n])
}

// write is how many bytes a write takes, or why not.
func write(file p9.File, text string, offset uint64) string {
	n, err := file.WriteAt([]byte(text), offset)
	if err != nil {
		return errorName(err)
	}
	return fmt.Sprint(n)
}

func (r *run) attr(file p9.File) p9.Attr {
	_, _, attr, err := file.GetAttr(p9.AttrMaskAll())
	r.need("attributes", err)
	return attr
}
