// Serves a directory with the 9P server of gVisor's package p9: a listening Unix socket, and files
// of the host behind it.
//
// Usage: p9server [-debug] SOCKET DIR. Prints a line when it listens, and serves until it is killed
// or its parent ends. With -debug it writes a line for each message to standard error.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/p9"
	"gvisor.dev/gvisor/pkg/unet"
)

// tree is what clients attach to.
type tree string

// Attach implements p9.Attacher.
func (t tree) Attach() (p9.File, error) {
	return open(string(t))
}

// ServerOptions implements p9.Attacher. Files are reached by descriptor, so deleted ones are as
// good as others.
func (tree) ServerOptions() p9.AttacherOptions {
	return p9.AttacherOptions{
		SetAttrOnDeleted:      true,
		AllocateOnDeleted:     true,
		MultiGetAttrSupported: true,
	}
}

func main() {
	debug := flag.Bool("debug", false, "a line for each message")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: p9server [-debug] SOCKET DIR")
		os.Exit(2)
	}
	socket, dir := flag.Arg(0), flag.Arg(1)
	log.SetLevel(log.Warning)
	if *debug {
		log.SetLevel(log.Debug)
	}
	unix.Umask(0)
	listener, err := unet.BindAndListen(socket, false)
	if err != nil {
		fmt.Fprintln(os.Stderr, "p9server:", err)
		os.Exit(1)
	}
	go endWithParent()
	fmt.Println("listening on unix:" + socket)
	if err := p9.NewServer(tree(dir)).Serve(listener); err != nil {
		fmt.Fprintln(os.Stderr, "p9server:", err)
		os.Exit(1)
	}
}

// endWithParent keeps a killed test from leaving servers behind.
func endWithParent() {
	parent := os.Getppid()
	for os.Getppid() == parent {
		time.Sleep(time.Second)
	}
	os.Exit(0)
}
