package main

import (
	"strings"

	"golang.org/x/sys/unix"
)

// GetXattr implements p9.File.
func (f *file) GetXattr(name string, size uint64) (string, error) {
	buffer := make([]byte, 64<<10)
	n, err := unix.Getxattr(f.again(), name, buffer)
	if err != nil {
		return "", err
	}
	if size > 0 && uint64(n) > size {
		return "", unix.ERANGE
	}
	return string(buffer[:n]), nil
}

// SetXattr implements p9.File.
func (f *file) SetXattr(name, value string, flags uint32) error {
	return unix.Setxattr(f.again(), name, []byte(value), int(flags))
}

// ListXattr implements p9.File.
func (f *file) ListXattr(size uint64) (map[string]struct{}, error) {
	buffer := make([]byte, 64<<10)
	n, err := unix.Listxattr(f.again(), buffer)
	if err != nil {
		return nil, err
	}
	if size > 0 && uint64(n) > size {
		return nil, unix.ERANGE
	}
	names := make(map[string]struct{})
	for _, name := range strings.Split(string(buffer[:n]), "\x00") {
		if name != "" {
			names[name] = struct{}{}
		}
	}
	return names, nil
}

// RemoveXattr implements p9.File.
func (f *file) RemoveXattr(name string) error {
	return unix.Removexattr(f.again(), name)
}
