// Package vdsodata takes the place of gVisor's package of that name. Debian ships an empty file
// where gVisor embeds the shared object for its guests, and the gofer's packages refuse to start
// unless that object has a symbol for returning from signals. No guest ever runs here, so an
// object that has nothing but this symbol will do.
package vdsodata

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

const symbol = "__kernel_rt_sigreturn"

// Binary is the shared object: its header, a symbol table, the names, and a list of these sections.
var Binary = object()

func object() []byte {
	names := append([]byte("\x00"+symbol), 0)
	symbols := []elf.Sym64{{}, {
		Name:  1,
		Info:  elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC),
		Shndx: uint16(elf.SHN_ABS),
	}}
	header := elf.Header64{
		Type:      uint16(elf.ET_DYN),
		Version:   uint32(elf.EV_CURRENT),
		Ehsize:    uint16(binary.Size(elf.Header64{})),
		Shentsize: uint16(binary.Size(elf.Section64{})),
		Shnum:     3,
		Shstrndx:  2,
	}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS] = byte(elf.ELFCLASS64)
	header.Ident[elf.EI_DATA] = byte(elf.ELFDATA2LSB)
	header.Ident[elf.EI_VERSION] = byte(elf.EV_CURRENT)
	symbolsAt := uint64(header.Ehsize)
	namesAt := symbolsAt + uint64(binary.Size(symbols))
	header.Shoff = namesAt + uint64(len(names))
	sections := []elf.Section64{{}, {
		Type:    uint32(elf.SHT_SYMTAB),
		Off:     symbolsAt,
		Size:    namesAt - symbolsAt,
		Link:    2,
		Info:    1,
		Entsize: elf.Sym64Size,
	}, {
		Type: uint32(elf.SHT_STRTAB),
		Off:  namesAt,
		Size: uint64(len(names)),
	}}
	var image bytes.Buffer
	for _, part := range []any{header, symbols, names, sections} {
		if err := binary.Write(&image, binary.LittleEndian, part); err != nil {
			panic(err)
		}
	}
	return image.Bytes()
}
