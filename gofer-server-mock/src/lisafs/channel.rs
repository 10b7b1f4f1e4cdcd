//! Requests and responses in shared memory (lisafs 7).

use std::sync::Arc;

use gofer_lisafs::wire::{ChannelHeader, ChannelResp, Message, Mid, PWriteReq};
use gofer_transport::PacketSocket;
use gofer_transport::flipcall::Endpoint;
use rustix::io::Errno;

use super::Session;
use super::connection::{Payload, Reply};
use crate::channels::{self, send_fds};
use crate::host::Result;

impl Session {
    /// lisafs 6.2.
    pub(super) fn channel(self: &Arc<Session>, reply: &mut Reply) -> Result<()> {
        let size = ChannelHeader::SIZE + self.max_message_size as usize;
        let session = self.clone();
        let serve = move |endpoint: &Arc<Endpoint>, socket: &PacketSocket| {
            run(&session, endpoint, socket);
        };
        let opened = self.channels.open(size, serve)?;
        reply.fds.extend([opened.memory, opened.socket]);
        reply.set(&ChannelResp {
            data_offset: opened.offset as i64,
            data_length: opened.length,
        });
        Ok(())
    }
}

/// Answers the requests of one channel until either side ends it.
pub(super) fn run(session: &Arc<Session>, endpoint: &Arc<Endpoint>, socket: &PacketSocket) {
    let mut buffers = Buffers {
        request: Vec::new(),
        reply: Reply::in_window(endpoint.clone()),
    };
    channels::serve(endpoint, ChannelHeader::SIZE, |length| {
        buffers.answer(session, endpoint, socket, length)
    });
}

/// Memory of one channel, kept from request to request.
struct Buffers {
    request: Vec<u8>,
    reply: Reply,
}

impl Buffers {
    /// Handles the request in the window and puts the response there; returns its length.
    fn answer(
        &mut self,
        session: &Arc<Session>,
        endpoint: &Endpoint,
        socket: &PacketSocket,
        length: usize,
    ) -> usize {
        let window = endpoint.window();
        let mut header = [0; ChannelHeader::SIZE];
        window.read(0, &mut header);
        let request = ChannelHeader::decode(&header).message;
        let payload = length - header.len();
        // The window is larger than the limit: it has whole pages.
        let mid = if payload > session.max_message_size as usize {
            self.reply.set_error(Errno::IO);
            Mid::ERROR
        } else {
            // Data to be written stays where it is: the kernel takes it from there.
            let is_write = request == Mid::PWRITE;
            let copied = match is_write {
                true => payload.min(<PWriteReq<'_> as Message<'_>>::MIN_SIZE),
                false => payload,
            };
            self.request.resize(copied, 0);
            window.read(header.len(), &mut self.request);
            let rest = (window, header.len() + copied, payload - copied);
            let payload = Payload {
                bytes: &self.request,
                rest: is_write.then_some(rest),
            };
            session.answer(request, payload, &mut self.reply)
        };
        let sent = self.reply.send_fds(|fds| send_fds(socket, fds));
        window.write(0, self.reply.datagram_head(ChannelHeader::new(mid, sent)));
        header.len() + self.reply.payload_len()
    }
}
