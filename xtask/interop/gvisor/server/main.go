// Serves a directory with gVisor's own gofer: a listening Unix socket in front of the file server
// that its sandboxes use.
//
// Usage: server [-ro] [-host-uds WHAT] [-no-donate] SOCKET DIR. Prints a line when it listens, and
// serves until it is killed or its parent ends.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/unet"
	"gvisor.dev/gvisor/runsc/config"
	"gvisor.dev/gvisor/runsc/fsgofer"
)

func main() {
	sockets := config.HostUDSNone
	flag.Var(&sockets, "host-uds", "what clients may do with sockets: none, open, create or all")
	readOnly := flag.Bool("ro", false, "refuse every change")
	noDonate := flag.Bool("no-donate", false, "keep the descriptors of opened files")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: server [-ro] [-host-uds WHAT] [-no-donate] SOCKET DIR")
		os.Exit(2)
	}
	settings := fsgofer.Config{ROMount: *readOnly, HostUDS: sockets}
	if err := serve(flag.Arg(0), flag.Arg(1), settings, *noDonate); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

// serve answers whoever connects, as the sandbox's gofer process would: modes as sent, and files
// opened again through /proc.
func serve(address, dir string, settings fsgofer.Config, noDonate bool) error {
	log.SetLevel(log.Warning)
	unix.Umask(0)
	if err := fsgofer.OpenProcSelfFD(); err != nil {
		return err
	}
	server := fsgofer.NewLisafsServer(settings)
	if noDonate {
		server.SetHandlers(keepDescriptors())
	}
	listener, err := unet.BindAndListen(address, false)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", address, err)
	}
	go endWithParent()
	fmt.Println("listening on unix:" + address)
	for {
		socket, err := listener.Accept()
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		connection, err := server.CreateConnection(socket, dir, settings.ROMount)
		if err != nil {
			return fmt.Errorf("set up a connection: %w", err)
		}
		server.StartConnection(connection)
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
