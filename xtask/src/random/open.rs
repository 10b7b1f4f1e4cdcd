//! Which slots have something in them, so that few steps are about nothing.

use super::op::{Op, Outcome, SLOTS, Target};

/// The slots that are in use.
#[derive(Default)]
pub struct Open {
    files: [bool; SLOTS],
    maps: [bool; SLOTS],
    /// Of those, which have pages of their own once they are written to.
    private: [bool; SLOTS],
}

impl Open {
    /// The same about a slot that is in use, if there is one.
    pub fn redirect(&self, op: &Op) -> Op {
        let mut op = op.clone();
        match &mut op {
            Op::Read(slot, _)
            | Op::ReadAt(slot, ..)
            | Op::Write(slot, _)
            | Op::WriteAt(slot, ..)
            | Op::Seek(slot, ..)
            | Op::Sync(slot, _)
            | Op::Allocate(slot, ..)
            | Op::Pieces(slot, _)
            | Op::Map(slot, ..)
            | Op::Stat(Target::Slot(slot))
            | Op::Chmod(Target::Slot(slot), _)
            | Op::Chown(Target::Slot(slot), ..)
            | Op::Utimes(Target::Slot(slot), ..)
            | Op::Truncate(Target::Slot(slot), _)
            | Op::SetXattr(Target::Slot(slot), ..)
            | Op::GetXattr(Target::Slot(slot), ..)
            | Op::ListXattr(Target::Slot(slot))
            | Op::RemoveXattr(Target::Slot(slot), _) => *slot = near(&self.files, *slot),
            Op::Copy(from, _, to, ..) => {
                *from = near(&self.files, *from);
                *to = near(&self.files, *to);
            }
            Op::MapRead(map, ..) | Op::MapWrite(map, ..) | Op::MapSync(map) => {
                *map = near(&self.maps, *map);
            }
            _ => {}
        }
        op
    }

    /// Mappings with pages of their own.
    pub fn private_maps(&self) -> impl Iterator<Item = usize> + use<> {
        let private = self.private;
        (0..SLOTS).filter(move |map| private[*map])
    }

    /// An operation was done.
    pub fn note(&mut self, op: &Op, outcome: &Outcome) {
        match op {
            Op::Open(slot, ..) if outcome.is_ok() => self.files[*slot] = true,
            Op::Close(slot) => self.files[*slot] = false,
            Op::Map(_, map, kind) if outcome.is_ok() => {
                self.maps[*map] = true;
                self.private[*map] = kind.write && !kind.shared;
            }
            Op::Unmap(map) => {
                self.maps[*map] = false;
                self.private[*map] = false;
            }
            _ => {}
        }
    }
}

/// The first slot from `slot` on that is in use; `slot` if none is.
fn near(used: &[bool; SLOTS], slot: usize) -> usize {
    let mut around = (slot..slot + SLOTS).map(|at| at % SLOTS);
    around.find(|&at| used[at]).unwrap_or(slot)
}
