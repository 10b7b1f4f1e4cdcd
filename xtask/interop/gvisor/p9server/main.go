// Serves a directory with the 9P server of gVisor's package p9: a listening Unix socket, and files
// of the host behind it.
//
// Usage: p9server SOCKET DIR. Prints a line when it listens, and serves until it is killed or its
// parent ends.
package main

import (
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
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: p9server SOCKET DIR")
		os.Exit(2)
	}
	log.SetLevel(log.Warning)
	unix.Umask(0)
	listener, err := unet.BindAndListen(os.Args[1], false)
	if err != nil {
		fmt.Fprintln(os.Stderr, "p9server:", err)
		os.Exit(1)
	}
	go endWithParent()
	fmt.Println("listening on unix:" + os.Args[1])
	if err := p9.NewServer(tree(os.Args[2])).Serve(listener); err != nil {
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
