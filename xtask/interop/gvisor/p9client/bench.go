package main

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"gvisor.dev/gvisor/pkg/p9"
)

const (
	benchFor  = 100 * time.Millisecond
	benchSize = 65536 - 24
	newest    = 13
)

// bench prints the median of what each operation costs, in nanoseconds.
func bench(socket string, operations []string) error {
	client, root, err := connect(socket, newest)
	if err != nil {
		return err
	}
	defer client.Close()
	find := func(path string) p9.File {
		_, file, err := root.Walk(strings.Split(path, "/"))
		if err != nil {
			panic(fmt.Sprint(path, ": ", err))
		}
		return file
	}
	opened := func(path string, flags p9.OpenFlags) p9.File {
		file := find(path)
		host, _, _, err := file.Open(flags)
		if err != nil {
			panic(fmt.Sprint(path, ": ", err))
		}
		closeHost(host)
		return file
	}
	file, data, fresh := find("data"), opened("data", p9.ReadWrite), find("new")
	buffer := make([]byte, benchSize)
	walk := func(count int) error {
		_, found, err := root.Walk(strings.Split("a/b/c/d/e/f/g/file", "/")[:count])
		if err != nil {
			return err
		}
		return found.Close()
	}
	known := map[string]func() error{
		"getattr":      func() error { _, _, _, err := file.GetAttr(p9.AttrMaskAll()); return err },
		"walk-1+clunk": func() error { return walk(1) },
		"walk-8+clunk": func() error { return walk(8) },
		"open+clunk": func() error {
			_, again, err := file.Walk(nil)
			if err != nil {
				return err
			}
			host, _, _, err := again.Open(p9.ReadOnly)
			if err != nil {
				return err
			}
			closeHost(host)
			return again.Close()
		},
		"read-4k":     func() error { _, err := data.ReadAt(buffer[:4096], 0); return err },
		"write-4k":    func() error { _, err := data.WriteAt(buffer[:4096], 0); return err },
		"read-msize":  func() error { _, err := data.ReadAt(buffer, 0); return err },
		"write-msize": func() error { _, err := data.WriteAt(buffer, 0); return err },
		"create+unlink": func() error {
			_, dir, err := fresh.Walk(nil)
			if err != nil {
				return err
			}
			host, made, _, _, err := dir.Create("made", p9.ReadWrite, 0600, 0, 0)
			if err != nil {
				return err
			}
			closeHost(host)
			if err := made.Close(); err != nil {
				return err
			}
			return fresh.UnlinkAt("made", 0)
		},
	}
	for _, name := range operations {
		run, there := known[name]
		if !there {
			return fmt.Errorf("no operation is called %s", name)
		}
		median, err := measure(run)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Println(name, median)
	}
	return nil
}

// measure is the median over samples of twenty.
func measure(run func() error) (int64, error) {
	const count = 20
	var samples []int64
	for end := time.Now().Add(benchFor); len(samples) < 5 || time.Now().Before(end); {
		start := time.Now()
		for index := 0; index < count; index++ {
			if err := run(); err != nil {
				return 0, err
			}
		}
		samples = append(samples, int64(time.Since(start))/count)
	}
	sort.Slice(samples, func(a, b int) bool { return samples[a] < samples[b] })
	return samples[len(samples)/2], nil
}
