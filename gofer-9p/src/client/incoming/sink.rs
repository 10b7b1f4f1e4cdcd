//! Where the data of a caller's reads belong.

use std::io::IoSliceMut;

use crate::wire::Tag;

/// The buffers of somebody who reads a file: data goes there from the socket.
pub(in crate::client) struct Sink<'a, 'b> {
    pub(in crate::client) into: &'a mut [IoSliceMut<'b>],
    pub(in crate::client) pieces: &'a [Piece],
}

/// Where the data of one Rread belongs.
#[derive(Clone, Copy, Debug)]
pub(in crate::client) struct Piece {
    pub(in crate::client) tag: Tag,
    /// Offset in the buffers, taken as one.
    pub(in crate::client) start: usize,
    pub(in crate::client) len: usize,
}

impl Sink<'_, '_> {
    /// The buffer at `start`, as far as it is in one piece, at most `len` bytes.
    pub(in crate::client) fn part(&mut self, mut start: usize, len: usize) -> &mut [u8] {
        for buffer in self.into.iter_mut() {
            if start < buffer.len() {
                let end = buffer.len().min(start.saturating_add(len));
                return buffer.get_mut(start..end).unwrap_or_default();
            }
            start -= buffer.len();
        }
        &mut []
    }

    /// Copies data that came by way of a buffer.
    pub(in crate::client) fn fill(&mut self, mut start: usize, mut data: &[u8]) {
        while !data.is_empty() {
            let part = self.part(start, data.len());
            let Some((now, later)) = data
                .split_at_checked(part.len())
                .filter(|(now, _)| !now.is_empty())
            else {
                return;
            };
            part.copy_from_slice(now);
            (start, data) = (start + now.len(), later);
        }
    }

    pub(in crate::client) fn piece(&self, tag: Tag) -> Option<Piece> {
        self.pieces.iter().find(|piece| piece.tag == tag).copied()
    }
}
