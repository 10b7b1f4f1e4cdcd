// Drives a 9P server with the client of gVisor's package p9 and tells what it answers.
//
//	p9client cases                         prints the names of the cases
//	p9client run CASE@LEVEL SOCKET DIR     runs one; DIR is an empty directory that the server serves
//	p9client bench SOCKET OP...            prints what each operation costs
//
// LEVEL is the number of the dialect, 9P2000.L.Google.LEVEL; 0 is plain 9P2000.L.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/p9"
	"gvisor.dev/gvisor/pkg/unet"
)

// messageSize is what gVisor's sandboxes ask for.
const messageSize = 1 << 20

type oneCase struct {
	name string
	run  func(*run)
}

var cases = []oneCase{
	{"session", session},
	{"data", data},
	{"walks", walks},
	{"creation", creation},
	{"listings", listings},
	{"renames", renames},
	{"attributes", attributes},
	{"xattrs", xattrs},
	{"deleted_files", deletedFiles},
	{"allocation", allocation},
	{"many_at_once", manyAtOnce},
}

func main() {
	log.SetLevel(log.Warning)
	unix.Umask(0)
	args := os.Args[1:]
	switch {
	case len(args) == 1 && args[0] == "cases":
		for _, one := range cases {
			fmt.Println(one.name)
		}
	case len(args) == 4 && args[0] == "run":
		name, level, _ := strings.Cut(args[1], "@")
		number, err := strconv.Atoi(level)
		if err != nil {
			fmt.Fprintln(os.Stderr, "no level in", args[1])
			os.Exit(2)
		}
		for _, one := range cases {
			if one.name == name {
				attempt(one, uint32(number), args[2], args[3])
				return
			}
		}
		fmt.Fprintln(os.Stderr, "no case is called", name)
		os.Exit(2)
	case len(args) > 2 && args[0] == "bench":
		if err := bench(args[1], args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
	default:
		fmt.Fprintln(os.Stderr, "usage: p9client cases | run CASE@LEVEL SOCKET DIR | bench SOCKET OP...")
		os.Exit(2)
	}
}

func connect(socket string, level uint32) (*p9.Client, p9.File, error) {
	end, err := unet.Connect(socket, false)
	if err != nil {
		return nil, nil, err
	}
	version := "9P2000.L"
	if level > 0 {
		version = fmt.Sprintf("9P2000.L.Google.%d", level)
	}
	client, err := p9.NewClient(end, messageSize, version)
	if err != nil {
		return nil, nil, err
	}
	root, err := client.Attach("/")
	return client, root, err
}

// attempt gives the case a connection and a directory, and reports its end.
func attempt(one oneCase, level uint32, socket, base string) {
	r := &run{name: one.name, level: level, dir: filepath.Join(base, one.name)}
	defer func() {
		caught := recover()
		if _, stopped := caught.(stop); caught != nil && !stopped {
			r.step("ends without a panic", fmt.Sprint(caught), "yes")
		}
		report(line{Case: r.name, End: true})
	}()
	r.need("make the directory", os.Mkdir(r.dir, 0755))
	client, top, err := connect(socket, level)
	r.need("connect", err)
	defer client.Close()
	r.client, r.top = client, top
	r.root = r.walk(top, one.name)
	one.run(r)
}
