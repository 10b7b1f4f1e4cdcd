package main

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/lisafs"
)

// keeper is a transport on which no descriptor leaves the server.
type keeper struct{ lisafs.Communicator }

// DonateFD closes the descriptor that would have been sent.
func (keeper) DonateFD(fd int) error {
	return unix.Close(fd)
}

func keeping(handler lisafs.RPCHandler) lisafs.RPCHandler {
	return func(c *lisafs.Connection, comm lisafs.Communicator, length uint32) (uint32, error) {
		return handler(c, keeper{comm}, length)
	}
}

// keepDescriptors is what the gofer does with each message, but for opened files: clients have to
// ask it for their data.
func keepDescriptors() []lisafs.RPCHandler {
	return []lisafs.RPCHandler{
		lisafs.Error:        lisafs.ErrorHandler,
		lisafs.Mount:        lisafs.MountHandler,
		lisafs.Channel:      lisafs.ChannelHandler,
		lisafs.FStat:        lisafs.FStatHandler,
		lisafs.SetStat:      lisafs.SetStatHandler,
		lisafs.Walk:         lisafs.WalkHandler,
		lisafs.WalkStat:     lisafs.WalkStatHandler,
		lisafs.OpenAt:       keeping(lisafs.OpenAtHandler),
		lisafs.OpenCreateAt: keeping(lisafs.OpenCreateAtHandler),
		lisafs.Close:        lisafs.CloseHandler,
		lisafs.FSync:        lisafs.FSyncHandler,
		lisafs.PWrite:       lisafs.PWriteHandler,
		lisafs.PRead:        lisafs.PReadHandler,
		lisafs.MkdirAt:      lisafs.MkdirAtHandler,
		lisafs.MknodAt:      lisafs.MknodAtHandler,
		lisafs.SymlinkAt:    lisafs.SymlinkAtHandler,
		lisafs.LinkAt:       lisafs.LinkAtHandler,
		lisafs.FStatFS:      lisafs.FStatFSHandler,
		lisafs.FAllocate:    lisafs.FAllocateHandler,
		lisafs.ReadLinkAt:   lisafs.ReadLinkAtHandler,
		lisafs.Flush:        lisafs.FlushHandler,
		lisafs.Connect:      lisafs.ConnectHandler,
		lisafs.UnlinkAt:     lisafs.UnlinkAtHandler,
		lisafs.RenameAt:     lisafs.RenameAtHandler,
		lisafs.Getdents64:   lisafs.Getdents64Handler,
		lisafs.FGetXattr:    lisafs.FGetXattrHandler,
		lisafs.FSetXattr:    lisafs.FSetXattrHandler,
		lisafs.FListXattr:   lisafs.FListXattrHandler,
		lisafs.FRemoveXattr: lisafs.FRemoveXattrHandler,
		lisafs.BindAt:       lisafs.BindAtHandler,
		lisafs.Listen:       lisafs.ListenHandler,
		lisafs.Accept:       lisafs.AcceptHandler,
	}
}
