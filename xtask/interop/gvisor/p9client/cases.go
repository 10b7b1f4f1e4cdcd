package main

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"sort"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/p9"
)

// session: what is agreed on, and the file system's numbers.
func session(r *run) {
	r.step("level", r.client.Version(), r.level)
	r.step("requests go over channels", overChannels(r.client), r.level >= 8)
	var host unix.Statfs_t
	r.need("host's statfs", unix.Statfs(r.dir, &host))
	found, err := r.root.StatFS()
	r.fails("statfs", err, 0)
	r.step("blocks", found.Blocks == host.Blocks, true)
	r.step("longest name", found.NameLength, 255)
	r.step("a file that is not there", errorName(second(r.client.Attach("/none"))), "ENOENT")
	nested, err := r.client.Attach("/" + r.name)
	r.fails("attach below the root", err, 0)
	if err == nil {
		r.place("inside", "x")
		r.walk(nested, "inside").Close()
		r.fails("close", nested.Close(), 0)
	}
	r.fails("close the root's clone", r.clone(r.top).Close(), 0)
}

// overChannels looks at what the client does not tell: how it sends, which it decides on when it
// has asked for channels. Where it got none it goes on over the socket without a word.
func overChannels(client *p9.Client) bool {
	send := reflect.ValueOf(client).Elem().FieldByName("sendRecv")
	return strings.HasSuffix(runtime.FuncForPC(send.Pointer()).Name(), "sendRecvChannel-fm")
}

func second(_ p9.File, err error) error { return err }

// data: reads and writes, small, many messages long, and where there is nothing.
func data(r *run) {
	r.place("file", "content")
	file := r.open("file", p9.ReadWrite)
	r.step("read", read(file, 100, 0), "content")
	r.step("read from the middle", read(file, 3, 4), "ent")
	r.step("read at the end", read(file, 3, 7), "end of file")
	r.step("write", write(file, "CON", 0), 3)
	r.step("on the host", r.content("file"), "CONtent")
	r.step("write behind the end", write(file, "end", 10), 3)
	r.step("the hole", r.content("file"), "CONtent\x00\x00\x00end")
	r.fails("sync", file.FSync(), 0)
	r.fails("flush", file.Flush(), 0)
	r.fails("close", file.Close(), 0)
	reader := r.open("file", p9.ReadOnly)
	r.step("write to what is open for reading", write(reader, "x", 0), "EBADF")
	writer := r.open("file", p9.WriteOnly)
	r.step("read of what is open for writing", read(writer, 1, 0), "EBADF")
	large := make([]byte, 5<<20)
	for at := range large {
		large[at] = byte(at * 7 / 3)
	}
	big := r.create(r.root, "big")
	n, err := big.WriteAt(large, 0)
	r.fails("write 5 MiB", err, 0)
	r.step("all of it", n, len(large))
	back := make([]byte, len(large))
	n, err = big.ReadAt(back, 0)
	r.fails("read 5 MiB", err, 0)
	r.step("the same", n == len(large) && bytes.Equal(large, back), true)
	onHost, err := os.ReadFile(r.host("big"))
	r.step("on the host, too", err == nil && bytes.Equal(large, onHost), true)
}

// walks: names that are there, that are not, and what is no way to go.
func walks(r *run) {
	r.place("a/b/c/d/e/f/g/file", "deep")
	r.need("symlink", os.Symlink("b", r.host("a/link")))
	deep := "a/b/c/d/e/f/g/file"
	qids, file, err := r.root.Walk(strings.Split(deep, "/"))
	r.fails("walk of eight names", err, 0)
	r.step("qids", len(qids), 8)
	if err == nil {
		r.step("size", r.attr(file).Size, 4)
		r.fails("close", file.Close(), 0)
	}
	_, file, valid, attr, err := r.root.WalkGetAttr(strings.Split(deep, "/"))
	r.fails("walk with attributes", err, 0)
	if err == nil {
		r.step("size is valid", valid.Size, true)
		r.step("size with it", attr.Size, 4)
		r.fails("close it", file.Close(), 0)
	}
	missing := []string{"none"}
	if r.level > 0 {
		// In the plain dialect a walk may end early, and this client takes that for all of it.
		missing = append(missing, "a/none", "a/b/none/d", deep+"/x")
	}
	for _, path := range missing {
		_, _, err = r.root.Walk(strings.Split(path, "/"))
		r.step("no walk to "+path, err != nil, true)
	}
	link := r.walk(r.root, "a/link")
	target, err := link.Readlink()
	r.fails("readlink", err, 0)
	r.step("target", target, "b")
	stats, err := r.root.MultiGetAttr([]string{"", "a", "b", "none", "d"})
	r.fails("attributes of a path", err, 0)
	r.step("as far as it goes", len(stats), 3)
	file = r.walk(r.root, deep)
	again := r.clone(file)
	r.fails("close the first", file.Close(), 0)
	r.step("the clone lives", r.attr(again).Size, 4)
}

func (r *run) owner(name string) string {
	stat := r.lstat(name)
	return fmt.Sprint(stat.Uid, ":", stat.Gid)
}

// creation: every kind of file, with an owner where the dialect has one.
func creation(r *run) {
	mine := fmt.Sprint(0, ":", 0)
	if r.level >= 3 {
		mine = fmt.Sprint(uint32(uid), ":", uint32(gid))
	}
	file := r.create(r.root, "file")
	r.step("write", write(file, "new", 0), 3)
	r.step("on the host", r.content("file"), "new")
	r.step("mode", fmt.Sprintf("%o", r.lstat("file").Mode), "100640")
	r.step("owner", r.owner("file"), mine)
	r.fails("close", file.Close(), 0)
	_, _, _, _, err := r.clone(r.root).Create("file", p9.ReadWrite, 0600, uid, gid)
	if r.level < 3 {
		// Nothing says that it has to be new.
		r.fails("again", err, 0)
	} else {
		r.fails("again", err, unix.EEXIST)
	}
	_, err = r.root.Mkdir("dir", 0751, uid, gid)
	r.fails("mkdir", err, 0)
	r.step("mode of the directory", fmt.Sprintf("%o", r.lstat("dir").Mode), "40751")
	r.step("owner of the directory", r.owner("dir"), mine)
	_, err = r.root.Mkdir("dir", 0755, uid, gid)
	r.fails("mkdir again", err, unix.EEXIST)
	_, err = r.root.Symlink("some/where", "link", uid, gid)
	r.fails("symlink", err, 0)
	r.step("owner of the link", r.owner("link"), mine)
	target, err := os.Readlink(r.host("link"))
	r.step("its target", fmt.Sprint(target, err), "some/where<nil>")
	r.fails("link", r.root.Link(r.walk(r.root, "file"), "second"), 0)
	r.step("names", r.lstat("file").Nlink, 2)
	r.fails("link over it", r.root.Link(r.walk(r.root, "file"), "second"), unix.EEXIST)
	_, err = r.root.Mknod("plain", p9.ModeRegular|0600, 0, 0, uid, gid)
	r.fails("mknod", err, 0)
	_, err = r.root.Mknod("fifo", p9.ModeNamedPipe|0600, 0, 0, uid, gid)
	r.fails("mknod of a fifo", err, 0)
	r.step("its type", r.lstat("fifo").Mode&unix.S_IFMT == unix.S_IFIFO, true)
}

// listings: all names, each once, in many messages.
func listings(r *run) {
	var want []string
	for index := 0; index < 2000; index++ {
		name := fmt.Sprintf("entry-%04d", index)
		r.place("many/"+name, "")
		want = append(want, name)
	}
	dir := r.open("many", p9.ReadOnly)
	list := func(count uint32) (got []string) {
		for offset := uint64(0); ; {
			entries, err := dir.Readdir(offset, count)
			r.need("readdir", err)
			if len(entries) == 0 {
				sort.Strings(got)
				return got
			}
			for _, entry := range entries {
				if entry.Name != "." && entry.Name != ".." {
					got = append(got, entry.Name)
				}
				offset = entry.Offset
			}
		}
	}
	for _, count := range []uint32{1000, 8192, 60000} {
		what := fmt.Sprintf("all names, %d bytes at a time", count)
		r.step(what, strings.Join(list(count), " ") == strings.Join(want, " "), true)
	}
	r.need("remove", r.walk(r.root, "many").UnlinkAt("entry-0007", 0))
	r.step("one less", len(list(8192)), 1999)
	file := r.walk(r.root, "many/entry-0008")
	_, err := file.Readdir(0, 100)
	r.step("a file is not listed", err != nil, true)
}

// remover is what the package's files have beside their interface.
type remover interface{ Remove() error }

// renames: of files and directories, over others, with files open below.
func renames(r *run) {
	r.place("one", "1")
	r.place("two", "2")
	r.place("old/sub/file", "content")
	r.place("new/keep", "")
	r.fails("rename", r.root.RenameAt("one", r.root, "three"), 0)
	r.step("it is there", r.content("three"), "1")
	r.fails("rename over", r.root.RenameAt("three", r.root, "two"), 0)
	r.step("it is the other", r.content("two"), "1")
	r.fails("what is not there", r.root.RenameAt("none", r.root, "x"), unix.ENOENT)
	sub, file := r.walk(r.root, "old/sub"), r.open("old/sub/file", p9.ReadWrite)
	dir := r.walk(r.root, "new")
	r.fails("move a directory", r.root.RenameAt("old", dir, "moved"), 0)
	r.step("read below it", read(file, 100, 0), "content")
	r.step("size below it", r.attr(r.walk(sub, "file")).Size, 7)
	_, err := sub.Mkdir("made", 0755, uid, gid)
	r.fails("mkdir below it", err, 0)
	r.step("where it should be", r.lstat("new/moved/sub/made").Mode&unix.S_IFMT == unix.S_IFDIR, true)
	moved := r.walk(r.root, "two")
	r.fails("rename by file", moved.Rename(dir, "renamed"), 0)
	r.step("it has moved", r.content("new/renamed"), "1")
	r.fails("onto itself", r.root.RenameAt("new", r.root, "new"), 0)
	r.fails("remove by file", r.walk(r.root, "new/renamed").(remover).Remove(), 0)
	r.step("it is gone", r.content("new/renamed"), "ENOENT")
}

// attributes: each that can be set.
func attributes(r *run) {
	r.place("file", "content")
	file := r.walk(r.root, "file")
	stat := r.lstat("file")
	attr := r.attr(file)
	r.step("mode", uint32(attr.Mode) == stat.Mode, true)
	r.step("size", attr.Size, 7)
	r.step("links", attr.NLink, 1)
	r.step("time", attr.MTimeSeconds == uint64(stat.Mtim.Sec), true)
	r.step("fraction", attr.MTimeNanoSeconds == uint64(stat.Mtim.Nsec), true)
	r.step("blocks", attr.Blocks == uint64(stat.Blocks), true)
	set := func(what string, mask p9.SetAttrMask, to p9.SetAttr) {
		r.fails(what, file.SetAttr(mask, to), 0)
	}
	set("chmod", p9.SetAttrMask{Permissions: true}, p9.SetAttr{Permissions: 04751})
	r.step("its mode", fmt.Sprintf("%o", r.lstat("file").Mode), "104751")
	set("chown", p9.SetAttrMask{UID: true, GID: true}, p9.SetAttr{UID: uid, GID: gid})
	r.step("its owner", r.owner("file"), "1234:5678")
	set("truncate", p9.SetAttrMask{Size: true}, p9.SetAttr{Size: 3})
	r.step("its size", r.content("file"), "con")
	set("times", p9.SetAttrMask{ATime: true, MTime: true, ATimeNotSystemTime: true, MTimeNotSystemTime: true},
		p9.SetAttr{ATimeSeconds: 11, ATimeNanoSeconds: 22, MTimeSeconds: 33, MTimeNanoSeconds: 44})
	stat = r.lstat("file")
	r.step("its times", fmt.Sprint(stat.Atim, stat.Mtim), "{11 22} {33 44}")
	set("time of now", p9.SetAttrMask{MTime: true}, p9.SetAttr{})
	r.step("it is later", r.lstat("file").Mtim.Sec > 33, true)
	last := r.clone(file)
	r.fails("set and close", last.SetAttrClose(p9.SetAttrMask{Permissions: true}, p9.SetAttr{Permissions: 0600}), 0)
	r.step("its mode now", fmt.Sprintf("%o", r.lstat("file").Mode), "100600")
}

// xattrs: the dialect has them in two steps.
func xattrs(r *run) {
	r.place("file", "")
	file := r.walk(r.root, "file")
	if !r.since(10, "set", file.SetXattr("user.one", "value", 0)) {
		return
	}
	got, err := file.GetXattr("user.one", 100)
	r.fails("get", err, 0)
	r.step("the value", got, "value")
	r.fails("set what must be new", file.SetXattr("user.one", "x", unix.XATTR_CREATE), unix.EEXIST)
	r.fails("set what must be there", file.SetXattr("user.two", "x", unix.XATTR_REPLACE), unix.ENODATA)
	_, err = file.GetXattr("user.none", 100)
	r.fails("get what is not there", err, unix.ENODATA)
	names, err := file.ListXattr(1000)
	if r.since(11, "list", err) {
		_, listed := names["user.one"]
		r.step("the list", fmt.Sprint(len(names), listed), "1 true")
		r.fails("remove", file.RemoveXattr("user.one"), 0)
		r.fails("remove again", file.RemoveXattr("user.one"), unix.ENODATA)
	}
}

// deletedFiles: what is open stays.
func deletedFiles(r *run) {
	file := r.create(r.root, "file")
	r.step("write", write(file, "content", 0), 7)
	r.fails("unlink", r.root.UnlinkAt("file", 0), 0)
	r.step("read", read(file, 100, 0), "content")
	r.step("write again", write(file, "C", 0), 1)
	r.step("no name", r.attr(file).NLink, 0)
	r.step("size", r.attr(file).Size, 7)
	r.fails("truncate", file.SetAttr(p9.SetAttrMask{Size: true}, p9.SetAttr{Size: 2}), 0)
	r.step("what is left", read(file, 100, 0), "Co")
	r.fails("close", file.Close(), 0)
	r.place("dir/file", "")
	r.fails("unlink a directory", r.root.UnlinkAt("dir", 0), unix.EISDIR)
	r.fails("remove a full one", r.root.UnlinkAt("dir", unix.AT_REMOVEDIR), unix.ENOTEMPTY)
	dir := r.walk(r.root, "dir")
	r.fails("empty it", dir.UnlinkAt("file", 0), 0)
	r.fails("remove it", r.root.UnlinkAt("dir", unix.AT_REMOVEDIR), 0)
	_, err := dir.Mkdir("below", 0755, uid, gid)
	r.step("nothing is made in it", err != nil, true)
}

// allocation: from level 7 on.
func allocation(r *run) {
	file := r.create(r.root, "file")
	if r.since(7, "allocate", file.Allocate(p9.AllocateMode{}, 0, 100000)) {
		r.step("size", r.lstat("file").Size, 100000)
		r.fails("behind the end, size kept", file.Allocate(p9.AllocateMode{KeepSize: true}, 0, 200000), 0)
		r.step("size kept", r.lstat("file").Size, 100000)
	}
}

// manyAtOnce: 24 callers, which is more than there are channels.
func manyAtOnce(r *run) {
	var all sync.WaitGroup
	wrong := make([]string, 24)
	for caller := range wrong {
		all.Add(1)
		go func(caller int) {
			defer all.Done()
			wrong[caller] = r.call(caller)
		}(caller)
	}
	all.Wait()
	r.step("what went wrong", strings.Join(wrong, ""), "")
}

func (r *run) call(caller int) string {
	name := fmt.Sprintf("file-%d", caller)
	_, dir, err := r.root.Walk(nil)
	if err != nil {
		return fmt.Sprint("clone: ", err)
	}
	host, file, _, _, err := dir.Create(name, p9.ReadWrite, 0600, uid, gid)
	if err != nil {
		return fmt.Sprint("create: ", err)
	}
	closeHost(host)
	for round := 0; round < 50; round++ {
		content := strings.Repeat(fmt.Sprintf("%d/%d;", caller, round), 100+round)
		if got := write(file, content, 0); got != fmt.Sprint(len(content)) {
			return "write: " + got
		}
		if got := read(file, len(content), 0); got != content {
			return "read: other bytes"
		}
		if _, _, _, err := file.GetAttr(p9.AttrMaskAll()); err != nil {
			return fmt.Sprint("attributes: ", err)
		}
	}
	if err := file.Close(); err != nil {
		return fmt.Sprint("close: ", err)
	}
	if err := r.root.UnlinkAt(name, 0); err != nil {
		return fmt.Sprint("unlink: ", err)
	}
	return ""
}
