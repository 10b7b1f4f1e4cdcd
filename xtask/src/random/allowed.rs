//! In what a mount may differ from the host, exactly.

use gofer_vfs::{AllocMode, Errno, OpenFlags};

use super::op::{Answer, Op, Outcome, Seek, Target};
use super::strategy::{Scope, WHITEOUT};

/// Whether the client may refuse `op` so, whatever the host would say. Then nothing was done, and
/// the host is not asked.
pub fn may_refuse(scope: &Scope, op: &Op, found: &Outcome) -> bool {
    let Err(errno) = found else {
        return false;
    };
    match op {
        // A mapping that would not be the truth, or is more than the memory allowed for it, is
        // refused (semantics 15.11).
        Op::Map(..) => matches!(*errno, Errno::ENODEV | Errno::ENOMEM),
        // What lies behind the range cannot move under a mapping of cached pages.
        Op::Allocate(_, mode, ..) => {
            let moving = AllocMode::COLLAPSE_RANGE | AllocMode::INSERT_RANGE;
            // The kernel asks no mount of its to move ranges.
            let refusal = match scope.kernel {
                true => Errno::EOPNOTSUPP,
                false => Errno::EBUSY,
            };
            mode.intersects(moving | AllocMode::UNSHARE_RANGE) && *errno == refusal
        }
        // These messages of lisafs are about a name, and servers refuse one that is gone.
        Op::SetXattr(Target::Slot(_), ..)
        | Op::GetXattr(Target::Slot(_), ..)
        | Op::ListXattr(Target::Slot(_))
        | Op::RemoveXattr(Target::Slot(_), _) => scope.by_name && *errno == Errno::EINVAL,
        // Neither protocol has it (semantics 9).
        Op::Rename(_, _, flags) => flags.contains(WHITEOUT) && *errno == Errno::EINVAL,
        _ => false,
    }
}

/// Whether the client does not do what the host has done, after all the checks that the host made:
/// neither protocol makes files without a name (semantics 10.2).
pub fn is_missing(op: &Op, found: &Outcome, expected: &Outcome) -> bool {
    let nameless = matches!(op, Op::Open(_, _, flags, _) if flags.contains(OpenFlags::TMPFILE_BIT));
    nameless && *found == Err(Errno::EOPNOTSUPP) && expected.is_ok()
}

/// Whether it is about places beyond what the host's file system has.
pub fn is_farther(op: &Op, found: &Outcome, expected: &Outcome) -> bool {
    const FAR: u64 = 1 << 43;
    matches!(
        (op, found, expected),
        (Op::Seek(..), Ok(Answer::Number(FAR..)), Err(Errno::EINVAL))
            | (
                Op::Copy(_, _, _, FAR.., _),
                Ok(Answer::Number(0)),
                Err(Errno::EFBIG)
            )
    )
}

/// Whether `found` tells less about holes than `expected`, and nothing wrong: a protocol without
/// a message for it takes all for data (semantics 15.10).
pub fn is_coarser(scope: &Scope, op: &Op, found: &Outcome, expected: &Outcome) -> bool {
    if scope.finds_holes {
        return false;
    }
    match (op, found, expected) {
        (Op::Seek(_, Seek::Data, from), Ok(Answer::Number(found)), _) => {
            i64::try_from(*found) == Ok(*from)
        }
        (Op::Seek(_, Seek::Hole, _), Ok(Answer::Number(found)), Ok(Answer::Number(hole))) => {
            found > hole
        }
        _ => false,
    }
}

/// Whether a client whose own clock stamps files leaves the time of access alone, where the host
/// does not: reading finds nothing (semantics 13.6).
pub fn leaves_atime(op: &Op, found: &Outcome) -> bool {
    let empty = matches!(found, Ok(Answer::Bytes(bytes)) if bytes.is_empty());
    let nothing = matches!(found, Ok(Answer::Number(0)));
    match op {
        Op::Read(..) | Op::ReadAt(..) | Op::Content(_) => empty,
        Op::Copy(..) => nothing,
        _ => false,
    }
}
