package main

import (
	"fmt"
	"os"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/lisafs"
)

var directoryCases = []oneCase{
	{"big_directory", bigDirectory},
	{"listed_entries", listedEntries},
	{"listing_sizes", listingSizes},
}

// page is how much gVisor's sandbox asks for at a time.
const page = 65536

// list is all names of an open directory, from its start.
func (r *run) list(open lisafs.ClientFD) []string {
	var names []string
	for count := int32(-page); ; count = page {
		entries, err := open.Getdents64(ctx, count)
		r.need("list", err)
		if len(entries) == 0 {
			sort.Strings(names)
			return names
		}
		for _, entry := range entries {
			names = append(names, string(entry.Name))
		}
	}
}

// names is what the host says is in a directory of the case.
func (r *run) names(path string) []string {
	entries, err := os.ReadDir(r.host(path))
	r.need("list on the host", err)
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names
}

func bigDirectory(r *run) {
	const count = 5000
	r.need("mkdir", os.Mkdir(r.host("big"), 0755))
	for i := 0; i < count; i++ {
		r.need("place", os.WriteFile(r.host("big", fmt.Sprintf("entry-%05d", i)), nil, 0644))
	}
	open := r.open(r.walk("big"), unix.O_RDONLY)
	for round := 1; round <= 2; round++ {
		names := r.list(open)
		r.step(fmt.Sprintf("names in round %d", round), len(names), count)
		r.holds(fmt.Sprintf("the right ones in round %d", round),
			len(names) == count && names[0] == "entry-00000" && names[count-1] == "entry-04999")
	}
	first, err := open.Getdents64(ctx, -page)
	r.works("list from the start", err)
	second, err := open.Getdents64(ctx, page)
	r.works("list on", err)
	again, err := open.Getdents64(ctx, -page)
	r.works("list from the start again", err)
	r.step("the start is the same", fmt.Sprint(again) == fmt.Sprint(first), true)
	seen := map[lisafs.SizedString]bool{}
	for _, entry := range append(first, second...) {
		seen[entry.Name] = true
	}
	r.step("nothing comes twice", len(seen), len(first)+len(second))
	other := r.open(r.walk("big"), unix.O_RDONLY)
	r.step("another FD has its own place", len(r.list(other)), count)
}

// listedEntries compares entries with what the host says of the files.
func listedEntries(r *run) {
	odd := "\xff \n"
	longest := strings.Repeat("n", 255)
	for _, name := range []string{"file", odd, longest} {
		r.place(name, "")
	}
	r.need("mkdir", os.Mkdir(r.host("dir"), 0755))
	r.need("symlink", os.Symlink("nowhere", r.host("link")))
	r.need("mkfifo", unix.Mkfifo(r.host("fifo"), 0600))
	open := r.open(r.root, unix.O_RDONLY)
	entries, err := open.Getdents64(ctx, -page)
	r.works("list", err)
	r.step("entries", len(entries), 6)
	kinds := map[string]string{
		"file": "8", odd: "8", longest: "8", "dir": "4", "link": "10", "fifo": "1",
	}
	for _, entry := range entries {
		name := string(entry.Name)
		host := r.lstat(name)
		what := fmt.Sprintf("%.10q", name)
		r.step(what+" has the type", entry.Type, kinds[name])
		r.holds(what+" is the file", uint64(entry.Ino) == host.Ino &&
			uint32(entry.DevMinor) == unix.Minor(host.Dev) && uint32(entry.DevMajor) == unix.Major(host.Dev))
	}
	rest, err := open.Getdents64(ctx, page)
	r.works("list on", err)
	r.step("entries after the last", len(rest), 0)
}

// listingSizes asks for little at a time, and for more than fits.
func listingSizes(r *run) {
	for i := 0; i < 100; i++ {
		r.place(fmt.Sprintf("entry-%02d", i), "")
	}
	open := r.open(r.root, unix.O_RDONLY)
	for _, size := range []int32{280, 1000, 4096, 1 << 30} {
		names := map[string]bool{}
		messages := 0
		for count := -size; messages < 200; count = size {
			entries, err := open.Getdents64(ctx, count)
			r.need(fmt.Sprintf("list %d bytes", size), err)
			messages++
			if len(entries) == 0 {
				break
			}
			for _, entry := range entries {
				names[string(entry.Name)] = true
			}
		}
		r.step(fmt.Sprintf("names, %d bytes at a time", size), len(names), 100)
	}
	entries, err := open.Getdents64(ctx, -1)
	r.works("list one byte", err)
	r.step("entries in one byte", len(entries), 0)
	file := r.open(r.walk("entry-00"), unix.O_RDONLY)
	_, err = file.Getdents64(ctx, page)
	r.fails("list a file", err, unix.ENOTDIR)
}
