package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

var renameCases = []oneCase{
	{"renames", renames},
	{"renamed_names", renamedNames},
	{"renamed_trees", renamedTrees},
	{"replaced_files", replacedFiles},
}

// renames moves each kind over each kind.
func renames(r *run) {
	kinds := []string{"none", "file", "link", "empty", "full"}
	place := func(dir, kind string) {
		path := r.host(dir, "x")
		r.need("mkdir", os.MkdirAll(r.host(dir), 0755))
		switch kind {
		case "file":
			r.need("place", os.WriteFile(path, []byte(dir), 0644))
		case "link":
			r.need("place", os.Symlink(dir, path))
		case "empty":
			r.need("place", os.Mkdir(path, 0755))
		case "full":
			r.need("place", os.MkdirAll(path+"/inner", 0755))
		}
	}
	isDir := func(kind string) bool { return kind == "empty" || kind == "full" }
	for _, from := range kinds {
		for _, to := range kinds {
			var want unix.Errno
			switch {
			case from == "none":
				want = unix.ENOENT
			case isDir(from) && !isDir(to) && to != "none":
				want = unix.ENOTDIR
			case !isDir(from) && isDir(to):
				want = unix.EISDIR
			case isDir(from) && to == "full":
				want = unix.ENOTEMPTY
			}
			pair := from + "-" + to
			place(pair+"/from", from)
			place(pair+"/to", to)
			old, new := r.walk(pair+"/from"), r.walk(pair+"/to")
			r.fails("rename "+from+" over "+to, old.RenameAt(ctx, "x", new.ID(), "x"), want)
			_, err := os.Lstat(r.host(pair, "from", "x"))
			r.step(from+" over "+to+": the old name is gone", os.IsNotExist(err), want == 0 || from == "none")
		}
	}
}

// renamedNames uses bad names and odd places.
func renamedNames(r *run) {
	r.place("file", "content")
	r.place("dir/sub/file", "")
	file, dir, sub := r.walk("file"), r.walk("dir"), r.walk("dir/sub")
	longest := strings.Repeat("n", 255)
	for _, bad := range []string{"", ".", "..", "a/b", "a\x00b"} {
		r.fails(fmt.Sprintf("rename %q", bad), r.root.RenameAt(ctx, bad, r.root.ID(), "new"), unix.EINVAL)
		r.fails(fmt.Sprintf("rename to %q", bad), r.root.RenameAt(ctx, "file", r.root.ID(), bad), unix.EINVAL)
	}
	r.fails("rename to a name too long", r.root.RenameAt(ctx, "file", r.root.ID(), longest+"n"), unix.ENAMETOOLONG)
	r.works("rename to the longest name", r.root.RenameAt(ctx, "file", r.root.ID(), longest))
	r.works("and back", r.root.RenameAt(ctx, longest, r.root.ID(), "file"))
	r.works("rename to itself", r.root.RenameAt(ctx, "file", r.root.ID(), "file"))
	r.works("rename to itself of what is missing", r.root.RenameAt(ctx, "none", r.root.ID(), "none"))
	r.fails("rename of a directory into itself", r.root.RenameAt(ctx, "dir", dir.ID(), "new"), unix.EINVAL)
	r.fails("rename of a directory below itself", r.root.RenameAt(ctx, "dir", sub.ID(), "new"), unix.EINVAL)
	r.fails("rename of a directory over its parent", dir.RenameAt(ctx, "sub", r.root.ID(), "dir"), unix.ENOTEMPTY)
	r.fails("rename in a file", file.RenameAt(ctx, "x", r.root.ID(), "y"), unix.ENOTDIR)
	r.fails("rename into a file", r.root.RenameAt(ctx, "file", file.ID(), "y"), unix.ENOTDIR)
	r.step("what is there", strings.Join(r.names(""), " "), "dir file")
	r.need("link", os.Link(r.host("file"), r.host("same")))
	r.works("rename over another name of the file", r.root.RenameAt(ctx, "file", r.root.ID(), "same"))
	r.step("both names stay", strings.Join(r.names(""), " "), "dir file same")
}

// renamedTrees moves a directory with FDs below it, which follow.
func renamedTrees(r *run) {
	r.place("old/a/b/file", "content")
	r.need("mkdir", os.Mkdir(r.host("new"), 0755))
	file, b, a := r.walk("old/a/b/file"), r.walk("old/a/b"), r.walk("old/a")
	open, list := r.open(file, unix.O_RDWR), r.open(b, unix.O_RDONLY)
	target := r.walk("new")
	r.works("rename", r.root.RenameAt(ctx, "old", target.ID(), "moved"))
	r.step("on the host", r.content("new/moved/a/b/file"), "content")
	r.step("read by the open FD", read(open, 10, 0), "content")
	r.step("write by the open FD", write(open, "CON", 0), "3")
	r.step("open by the FD of the file", read(r.open(file, unix.O_RDONLY), 10, 0), "CONtent")
	r.step("walk from a directory below", r.walked(b, "file"), "status 0, 1 found")
	r.step("walk from the directory above it", r.walked(a, "b", "file"), "status 0, 2 found")
	r.step("the old path", r.walked(r.root, "old", "a"), "status 1, 0 found")
	r.step("the new path", r.walked(r.root, "new", "moved", "a", "b"), "status 0, 4 found")
	r.step("list by the open FD", strings.Join(r.list(list), " "), "file")
	_, err := b.MkdirAt(ctx, "made", 0755, uid, gid)
	r.works("mkdir below", err)
	r.step("it is there", strings.Join(r.names("new/moved/a/b"), " "), "file made")
	r.works("unlink below", b.UnlinkAt(ctx, "file", 0))
	r.step("it is gone", strings.Join(r.names("new/moved/a/b"), " "), "made")
	r.step("still readable", read(open, 10, 0), "CONtent")
	made, err := r.root.MkdirAt(ctx, "old", 0755, uid, gid)
	r.works("mkdir of the old name", err)
	again := r.client.NewFD(made.ControlFD)
	r.step("it is another", r.walked(again, "a"), "status 1, 0 found")
	r.works("rename back and forth", target.RenameAt(ctx, "moved", again.ID(), "deeper"))
	r.step("walk from below again", r.walked(a, "b", "made"), "status 0, 2 found")
	r.same("the directory", r.stat(a), r.lstat("old/deeper/a"))
}

// replacedFiles renames over files that are in use.
func replacedFiles(r *run) {
	r.place("old", "old")
	r.place("new", "new")
	r.need("mkdir", os.Mkdir(r.host("olddir"), 0755))
	r.need("mkdir", os.Mkdir(r.host("newdir"), 0755))
	old, new := r.walk("old"), r.walk("new")
	opened := r.open(new, unix.O_RDWR)
	r.works("rename over it", r.root.RenameAt(ctx, "old", r.root.ID(), "new"))
	r.step("read of the replaced", read(opened, 10, 0), "new")
	r.step("names of the replaced", r.stat(new).Nlink, 0)
	r.step("names of the moved", r.stat(old).Nlink, 1)
	r.step("the moved", read(r.open(old, unix.O_RDONLY), 10, 0), "old")
	r.step("what has the name", read(r.open(r.walk("new"), unix.O_RDONLY), 10, 0), "old")
	_, err := r.root.LinkAt(ctx, new.ID(), "back")
	r.fails("link of the replaced", err, unix.EINVAL)
	_, err = r.root.LinkAt(ctx, old.ID(), "other")
	r.works("link of the moved", err)
	olddir, newdir := r.walk("olddir"), r.walk("newdir")
	r.works("rename over a directory", r.root.RenameAt(ctx, "olddir", r.root.ID(), "newdir"))
	_, err = newdir.MkdirAt(ctx, "x", 0755, uid, gid)
	r.fails("mkdir in the replaced", err, unix.EINVAL)
	_, err = olddir.MkdirAt(ctx, "x", 0755, uid, gid)
	r.works("mkdir in the moved", err)
	r.step("it is there", strings.Join(r.names("newdir"), " "), "x")
	r.fails("rename in the replaced", newdir.RenameAt(ctx, "x", r.root.ID(), "y"), unix.EINVAL)
	r.fails("rename into the replaced", r.root.RenameAt(ctx, "new", newdir.ID(), "y"), unix.EINVAL)
}
