package main

import (
	"fmt"
	"os"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

var xattrCases = []oneCase{
	{"xattrs", xattrs},
	{"xattr_limits", xattrLimits},
}

func xattrs(r *run) {
	r.place("file", "")
	r.need("mkdir", os.Mkdir(r.host("dir"), 0755))
	for _, name := range []string{"file", "dir"} {
		fd := r.walk(name)
		host := func(attribute string) string {
			buffer := make([]byte, 64)
			n, err := unix.Lgetxattr(r.host(name), attribute, buffer)
			if err != nil {
				return errorName(err)
			}
			return string(buffer[:n])
		}
		get := func(attribute string, size uint64) string {
			value, err := fd.GetXattr(ctx, attribute, size)
			if err != nil {
				return errorName(err)
			}
			return value
		}
		r.works(name+": set", fd.SetXattr(ctx, "user.one", "a\x00\xff", 0))
		r.step(name+": on the host", host("user.one"), "a\x00\xff")
		r.step(name+": get", get("user.one", 100), "a\x00\xff")
		r.step(name+": get with size 0", get("user.one", 0), "a\x00\xff")
		r.step(name+": get with a size that is too small", get("user.one", 2), "ERANGE")
		r.step(name+": get what is missing", get("user.none", 100), "ENODATA")
		r.fails(name+": create what is there", fd.SetXattr(ctx, "user.one", "x", unix.XATTR_CREATE), unix.EEXIST)
		r.fails(name+": replace what is missing", fd.SetXattr(ctx, "user.two", "x", unix.XATTR_REPLACE), unix.ENODATA)
		r.works(name+": replace", fd.SetXattr(ctx, "user.one", "new", unix.XATTR_REPLACE))
		r.works(name+": create", fd.SetXattr(ctx, "user.two", "", unix.XATTR_CREATE))
		r.step(name+": get the empty one", get("user.two", 100), "")
		list := func(size uint64) string {
			names, err := fd.ListXattr(ctx, size)
			if err != nil {
				return errorName(err)
			}
			sort.Strings(names)
			return strings.Join(names, " ")
		}
		r.step(name+": list", list(0), "user.one user.two")
		r.step(name+": list with room", list(100), "user.one user.two")
		r.step(name+": list without room", list(17), "ERANGE")
		r.works(name+": remove", fd.RemoveXattr(ctx, "user.one"))
		r.fails(name+": remove again", fd.RemoveXattr(ctx, "user.one"), unix.ENODATA)
		r.step(name+": list the rest", list(0), "user.two")
	}
}

func xattrLimits(r *run) {
	r.place("file", "")
	r.need("symlink", os.Symlink("file", r.host("link")))
	file, link := r.walk("file"), r.walk("link")
	longest := "user." + strings.Repeat("n", 250)
	r.works("the longest name", file.SetXattr(ctx, longest, "x", 0))
	r.fails("a longer one", file.SetXattr(ctx, longest+"n", "x", 0), unix.ERANGE)
	r.fails("no name", file.SetXattr(ctx, "", "x", 0), unix.ERANGE)
	value := strings.Repeat("v", 3000)
	r.works("a long value", file.SetXattr(ctx, "user.long", value, 0))
	got, err := file.GetXattr(ctx, "user.long", 3000)
	r.works("get the long value", err)
	r.step("it is whole", got == value, true)
	r.fails("set on a link", link.SetXattr(ctx, "user.one", "x", 0), unix.EPERM)
	_, err = link.GetXattr(ctx, "user.one", 10)
	r.fails("get from a link", err, unix.ENODATA)
	open := r.open(file, unix.O_RDONLY)
	r.fails("set by an open FD", open.SetXattr(ctx, "user.one", "x", 0), unix.EINVAL)
	r.need("unlink", r.root.UnlinkAt(ctx, "file", 0))
	r.fails("set on a deleted file", file.SetXattr(ctx, "user.one", "x", 0), unix.EINVAL)
	_, err = file.GetXattr(ctx, longest, 10)
	r.fails("get from a deleted file", err, unix.EINVAL)
	r.step("nothing was set on the link's target", fmt.Sprint(r.names("")), "[link]")
}
