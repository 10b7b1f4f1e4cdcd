// Drives a lisafs server with gVisor's own client and tells what it answers.
//
//	client cases EXPORT          prints the names of the cases for an export
//	client run CASE SOCKET DIR   runs one; DIR is an empty directory that the server serves
//	client bench SOCKET OP...    prints what each operation costs
//
// EXPORT says how DIR is served: rw, ro, or closed. Only a closed one keeps clients from sockets
// of the host.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/context"
	"gvisor.dev/gvisor/pkg/lisafs"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/unet"
)

var ctx = context.Background()

// oneCase is a part of the conformance program. Each works in a directory of its own.
type oneCase struct {
	name string
	run  func(*run)
}

var exports = map[string][][]oneCase{
	"rw": {
		sessionCases, fileCases, dataCases, walkCases, createCases, treeCases, renameCases,
		attributeCases, xattrCases, deletedCases, directoryCases, batchCases, concurrencyCases,
		socketCases,
	},
	"ro":     {readOnlyCases},
	"closed": {closedCases},
}

func casesOf(export string) []oneCase {
	var all []oneCase
	for _, group := range exports[export] {
		all = append(all, group...)
	}
	return all
}

func find(name string) (oneCase, bool) {
	for export := range exports {
		for _, one := range casesOf(export) {
			if one.name == name {
				return one, true
			}
		}
	}
	return oneCase{}, false
}

func main() {
	log.SetLevel(log.Warning)
	unix.Umask(0)
	args := os.Args[1:]
	switch {
	case len(args) == 2 && args[0] == "cases":
		for _, one := range casesOf(args[1]) {
			fmt.Println(one.name)
		}
	case len(args) == 4 && args[0] == "run":
		one, known := find(args[1])
		if !known {
			fmt.Fprintln(os.Stderr, "no case is called", args[1])
			os.Exit(2)
		}
		attempt(one, args[2], args[3])
	case len(args) > 2 && args[0] == "bench":
		if err := bench(args[1], args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
	default:
		fmt.Fprintln(os.Stderr, "usage: client cases EXPORT | run CASE SOCKET DIR | bench SOCKET OP...")
		os.Exit(2)
	}
}

// mounted is a connection and its root.
func mounted(socket string) (*lisafs.Client, lisafs.ClientFD, error) {
	end, err := unet.Connect(socket, false)
	if err != nil {
		return nil, lisafs.ClientFD{}, err
	}
	client, inode, err := lisafs.NewClient(end)
	if err != nil {
		return nil, lisafs.ClientFD{}, err
	}
	return client, client.NewFD(inode.ControlFD), nil
}

// attempt gives the case a connection and a directory, and reports its end.
func attempt(one oneCase, socket, base string) {
	r := &run{name: one.name, dir: filepath.Join(base, one.name)}
	defer func() {
		caught := recover()
		if _, stopped := caught.(stop); caught != nil && !stopped {
			r.step("ends without a panic", fmt.Sprint(caught), "yes")
		}
		report(line{Case: r.name, End: true})
	}()
	r.need("make the directory", os.Mkdir(r.dir, 0755))
	client, root, err := mounted(socket)
	r.need("mount", err)
	defer client.Close()
	r.client, r.top = client, root
	r.root = r.walkFrom(root, one.name)
	one.run(r)
}
