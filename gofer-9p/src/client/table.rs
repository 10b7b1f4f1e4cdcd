//! The requests under way: which tag is whose, and what becomes of fids. No I/O.
//!
//! A tag is in use from [`Table::start`] until its reply was consumed. A request that nobody
//! waits for any more keeps its tag, and the fid it may make, until the server has settled it:
//! by its reply, by Rflush, or by both (9P 3.3).

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use gofer_transport::codec::Reader;
use gofer_vfs::remote::Holdings;

use super::ids::Fids;
use crate::wire::{Fid, Message, Rflush, Rlerror, Rwalk, Rwalkgetattr, Tag, Tclunk};

/// Most requests under way. A peer that never answers cannot make us hold more.
const TAGS_MAX: usize = 4096;

/// The Tflush of tag `t` has tag `t | FLUSH_BIT`, so that giving up never lacks a tag.
const FLUSH_BIT: u16 = 0x8000;

/// How many flushed tags are kept aside: gVisor may send the old reply after Rflush (9P 3.3).
const QUARANTINE_MAX: usize = 64;

/// Most clunks whose answers are outstanding; their answers stay in the socket for a while.
const CLUNKS_IN_FLIGHT_MAX: usize = 256;

/// From so many on, somebody looks for their answers though nobody waits at the socket.
const CLUNKS_CROWDED: usize = 32;

/// From so many queued on, callers wait for the server: each keeps something open there.
const CLUNKS_BEHIND: usize = 512;

/// Reply buffers up to this size are kept for the next request.
const KEEP_BUFFER_MAX: usize = 64 << 10;

/// What a request does to fids when it succeeds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    None,
    /// Makes `fid`, by walking so many names.
    Makes {
        fid: Fid,
        names: u16,
    },
    /// Ends `fid`. If that fails, and `retire`, the number is never used again.
    Ends {
        fid: Fid,
        retire: bool,
    },
}

/// Who gets the reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    /// The tag is not in use.
    Free,
    /// A waiter, by its index.
    Waiter(usize),
    /// Nobody: a clunk sent by the way, or a request that was given up.
    Nobody,
    /// Rflush has come without the reply; one late reply is forgiven.
    Flushed,
}

/// A reply as it came.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) kind: u8,
    pub(super) body: Vec<u8>,
    pub(super) fd: Option<OwnedFd>,
    /// Of an Rread: how many bytes went straight to where they belong. The body is empty then.
    pub(super) placed: Option<usize>,
}

#[derive(Debug)]
struct Slot {
    owner: Owner,
    request: u8,
    effect: Effect,
    /// Whether a descriptor may come with the reply (9P 10.1).
    takes_fd: bool,
    replied: bool,
    flushing: bool,
    /// Given up without a flush.
    left: bool,
    reply: Reply,
}

/// The server broke the protocol: the connection must end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Violation(pub(super) &'static str);

/// What the reader needs to know between a header and its body.
#[derive(Debug)]
pub(super) struct Expected {
    /// A buffer for the body.
    pub(super) body: Vec<u8>,
    /// Whether a descriptor that came with the header is welcome.
    pub(super) takes_fd: bool,
    /// Whose reply it is.
    pub(super) waiter: Option<usize>,
}

/// Requests under way, fids, and clunks that wait to be sent.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u16>,
    quarantine: VecDeque<u16>,
    fids: Fids,
    clunks: VecDeque<Effect>,
    clunks_in_flight: usize,
}

impl Table {
    /// A fid that is not in use; `None` at the limit.
    pub(super) fn new_fid(&mut self) -> Option<Fid> {
        self.fids.take()
    }

    /// Reserves a tag for a request; `None` when all are in use. The fid of the effect, if any,
    /// belongs to the table until [`Table::finish`].
    pub(super) fn start(
        &mut self,
        waiter: Option<usize>,
        request: u8,
        effect: Effect,
        takes_fd: bool,
    ) -> Option<Tag> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() < TAGS_MAX => {
                self.slots.push(Slot {
                    owner: Owner::Free,
                    request: 0,
                    effect: Effect::None,
                    takes_fd: false,
                    replied: false,
                    flushing: false,
                    left: false,
                    reply: Reply::default(),
                });
                u16::try_from(self.slots.len() - 1).ok()?
            }
            None => {
                self.undo(effect);
                return None;
            }
        };
        let slot = self.slots.get_mut(usize::from(index))?;
        slot.owner = waiter.map_or(Owner::Nobody, Owner::Waiter);
        (slot.request, slot.effect, slot.takes_fd) = (request, effect, takes_fd);
        (slot.replied, slot.flushing, slot.left) = (false, false, false);
        Some(Tag(index))
    }

    /// Takes back a request that never left: it has no effect.
    pub(super) fn unstart(&mut self, tag: Tag) {
        let Some(slot) = self.slot(tag) else { return };
        let effect = std::mem::replace(&mut slot.effect, Effect::None);
        self.undo(effect);
        self.release(tag);
    }

    fn undo(&mut self, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::Makes { fid, .. } => self.fids.give_back(fid),
            Effect::Ends { .. } => self.clunks.push_back(effect),
        }
    }

    /// Checks a header that arrived and lends the buffer for its body.
    pub(super) fn expect(&mut self, kind: u8, tag: Tag) -> Result<Expected, Violation> {
        if tag == Tag::NONE {
            return Err(Violation("reply without a tag"));
        }
        if let Some(old) = flushed_tag(tag) {
            let flushing = self.slot(old).is_some_and(|slot| slot.flushing);
            return match flushing && kind == Rflush::KIND {
                true => Ok(Expected {
                    body: Vec::new(),
                    takes_fd: false,
                    waiter: None,
                }),
                false => Err(Violation("reply to a flush that was not sent")),
            };
        }
        let slot = self
            .slot(tag)
            .filter(|slot| slot.owner != Owner::Free && !slot.replied)
            .ok_or(Violation("reply with a tag that is not in use"))?;
        if kind != slot.request + 1 && kind != Rlerror::KIND {
            return Err(Violation("reply of the wrong type"));
        }
        Ok(Expected {
            body: std::mem::take(&mut slot.reply.body),
            takes_fd: slot.takes_fd && kind != Rlerror::KIND,
            waiter: match slot.owner {
                Owner::Waiter(waiter) => Some(waiter),
                _ => None,
            },
        })
    }

    /// Whether a descriptor may come with this reply.
    pub(super) fn takes_fd(&mut self, kind: u8, tag: Tag) -> bool {
        kind != Rlerror::KIND && self.slot(tag).is_some_and(|slot| slot.takes_fd)
    }

    /// Takes in a reply that [`Table::expect`] let pass; returns the waiter it is for.
    pub(super) fn deliver(&mut self, tag: Tag, reply: Reply) -> Result<Option<usize>, Violation> {
        if let Some(old) = flushed_tag(tag) {
            self.flushed(old);
            return Ok(None);
        }
        let Some(slot) = self.slot(tag) else {
            return Ok(None);
        };
        check_count(slot.effect, &reply)?;
        slot.reply = reply;
        slot.replied = true;
        match slot.owner {
            Owner::Waiter(waiter) => return Ok(Some(waiter)),
            Owner::Flushed => self.quarantine.retain(|&index| index != tag.0),
            Owner::Free | Owner::Nobody => {}
        }
        self.settle(tag);
        Ok(None)
    }

    /// Gives the waiter its reply, if that is there. The tag stays in use until
    /// [`Table::finish`].
    pub(super) fn take_reply(&mut self, tag: Tag) -> Option<Reply> {
        let slot = self.slot(tag).filter(|slot| slot.replied)?;
        Some(std::mem::take(&mut slot.reply))
    }

    /// The waiter is done with a reply. A fid that was made and not `taken` is clunked.
    pub(super) fn finish(&mut self, tag: Tag, reply: Reply, taken: bool) {
        let Some(slot) = self.slot(tag) else { return };
        slot.reply = reply;
        if taken {
            slot.effect = Effect::None;
        }
        self.settle(tag);
    }

    /// The waiter gives up. Returns the tag for the Tflush that must be sent, or `None` when the
    /// reply is here already.
    pub(super) fn give_up(&mut self, tag: Tag) -> Option<Tag> {
        let slot = self.slot(tag)?;
        slot.owner = Owner::Nobody;
        if slot.replied {
            self.settle(tag);
            return None;
        }
        slot.flushing = true;
        Some(Tag(tag.0 | FLUSH_BIT))
    }

    /// The waiter does not want the reply, whatever it is. Nothing is flushed.
    pub(super) fn disown(&mut self, tag: Tag) {
        let Some(slot) = self.slot(tag) else { return };
        (slot.owner, slot.left) = (Owner::Nobody, true);
        if slot.replied {
            self.settle(tag);
        }
    }

    /// The waiter gives up a request on a channel, which will be answered there.
    pub(super) fn leave(&mut self, tag: Tag) {
        if let Some(slot) = self.slot(tag) {
            (slot.owner, slot.left) = (Owner::Nobody, true);
        }
    }

    /// The channel of a request has failed: nobody knows what became of it. A clunk of its fid
    /// will do no harm.
    pub(super) fn lose(&mut self, tag: Tag) {
        let Some(slot) = self.slot(tag) else { return };
        let effect = std::mem::replace(&mut slot.effect, Effect::None);
        if let Effect::Makes { fid, .. } | Effect::Ends { fid, .. } = effect {
            self.clunks.push_back(Effect::Ends { fid, retire: true });
        }
        self.release(tag);
    }

    /// Queues the clunk of a fid that nobody uses any more. Returns how many are queued.
    pub(super) fn queue_clunk(&mut self, fid: Fid) -> usize {
        self.clunks.push_back(Effect::Ends { fid, retire: true });
        self.clunks.len()
    }

    /// Appends Tclunk messages for queued fids to `out`, as many as may be outstanding, and
    /// calls `each` for each.
    pub(super) fn write_clunks(&mut self, out: &mut Vec<u8>, mut each: impl FnMut()) {
        while self.clunks_in_flight < CLUNKS_IN_FLIGHT_MAX {
            let Some(effect @ Effect::Ends { fid, .. }) = self.clunks.pop_front() else {
                return;
            };
            // Without a tag it goes back to the queue.
            let Some(tag) = self.start(None, Tclunk::KIND, effect, false) else {
                return;
            };
            self.clunks_in_flight += 1;
            Tclunk { fid }.encode(tag, out);
            each();
        }
    }

    /// Whether so many clunks are under way that somebody should look for their answers.
    pub(super) fn are_clunks_crowded(&self) -> bool {
        self.clunks_in_flight > CLUNKS_CROWDED
    }

    /// Whether so many clunks wait to be sent that the server should be waited for.
    pub(super) fn are_clunks_behind(&self) -> bool {
        self.clunks.len() > CLUNKS_BEHIND
    }

    /// Whether no clunk waits to be sent or answered.
    pub(super) fn no_clunks(&self) -> bool {
        self.clunks.is_empty() && self.clunks_in_flight == 0
    }

    /// Rflush has come: the old request is settled.
    fn flushed(&mut self, old: Tag) {
        let Some(slot) = self.slot(old) else { return };
        slot.flushing = false;
        if slot.replied {
            // The reply was first, and was seen to.
            self.release(old);
            return;
        }
        slot.owner = Owner::Flushed;
        if let Effect::Ends { fid, .. } = slot.effect {
            // The clunk did not happen, so far as we know.
            slot.effect = Effect::None;
            self.clunks.push_back(Effect::Ends { fid, retire: false });
        }
        self.quarantine.push_back(old.0);
        if self.quarantine.len() > QUARANTINE_MAX
            && let Some(oldest) = self.quarantine.pop_front()
        {
            self.unstart(Tag(oldest));
        }
    }

    /// Does what a reply means for fids, closes what came with it, and frees the tag unless its
    /// Rflush is still to come.
    fn settle(&mut self, tag: Tag) {
        let Some(slot) = self.slot(tag) else { return };
        let background = slot.owner == Owner::Nobody && !slot.flushing && !slot.left;
        let failed = slot.reply.kind == Rlerror::KIND;
        match std::mem::replace(&mut slot.effect, Effect::None) {
            Effect::None => {}
            Effect::Makes { fid, .. } if failed => self.fids.give_back(fid),
            // A short walk makes no fid, but with diod it does: clunk it, and do not mind if
            // that fails (9P 8.3).
            Effect::Makes { fid, names } => {
                let retire = walked(&slot.reply) >= names;
                self.clunks.push_back(Effect::Ends { fid, retire });
            }
            Effect::Ends { fid, retire } => {
                if background {
                    self.clunks_in_flight = self.clunks_in_flight.saturating_sub(1);
                }
                if !failed || !retire {
                    self.fids.give_back(fid);
                } else {
                    self.fids.retire();
                    tracing::debug!(fid = fid.0, "clunk failed, fid retired");
                }
            }
        }
        self.release(tag);
    }

    fn release(&mut self, tag: Tag) {
        let Some(slot) = self.slot(tag) else { return };
        slot.reply.fd = None;
        if slot.reply.body.capacity() > KEEP_BUFFER_MAX {
            slot.reply.body = Vec::new();
        }
        if slot.flushing {
            slot.owner = Owner::Nobody;
            slot.replied = true;
        } else {
            slot.owner = Owner::Free;
            self.free.push(tag.0);
        }
    }

    fn slot(&mut self, tag: Tag) -> Option<&mut Slot> {
        self.slots.get_mut(usize::from(tag.0))
    }

    /// Fids that the server has, and how many of them are to be clunked.
    pub(super) fn holdings(&self) -> Holdings {
        Holdings {
            files: self.fids.held() as u64,
            closing: (self.clunks.len() + self.clunks_in_flight) as u64,
        }
    }

    #[cfg(test)]
    pub(super) fn fids_in_use(&self) -> usize {
        self.fids.in_use()
    }

    #[cfg(test)]
    pub(super) fn tags_in_use(&self) -> usize {
        self.slots.len() - self.free.len() - self.quarantine.len()
    }
}

/// The tag whose Tflush has this tag.
fn flushed_tag(tag: Tag) -> Option<Tag> {
    (tag.0 & FLUSH_BIT != 0).then_some(Tag(tag.0 & !FLUSH_BIT))
}

/// How many names a walk has walked.
fn walked(reply: &Reply) -> u16 {
    let count = match reply.kind {
        Rwalk::KIND => Rwalk::decode(&mut Reader::new(&reply.body)).map(|walk| walk.wqids.len()),
        Rwalkgetattr::KIND => {
            Rwalkgetattr::decode(&mut Reader::new(&reply.body)).map(|walk| walk.wqids.len())
        }
        _ => Ok(0),
    };
    count
        .ok()
        .and_then(|count| u16::try_from(count).ok())
        .unwrap_or(0)
}

fn check_count(effect: Effect, reply: &Reply) -> Result<(), Violation> {
    match effect {
        Effect::Makes { names, .. } if walked(reply) > names => {
            Err(Violation("more qids than names"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
