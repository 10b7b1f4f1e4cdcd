//! The capabilities of root that serving files needs. The others are dropped, from the bounding
//! set too where that is allowed.
//!
//! `CAP_SYS_ADMIN` is not among them, although extended attributes named `trusted.*` need it: it
//! allows too much else. Clients get `EPERM` for them, unless the sandbox is off.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use super::Needs;

/// Serving files of any owner.
const FILES: CapabilitySet = CapabilitySet::CHOWN
    // Permissions are checked by the client's side, or not at all.
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    // Modes, times, attributes and O_NOATIME for files of others.
    .union(CapabilitySet::FOWNER)
    // Set-group-id bits stay where a client puts them.
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::MKNOD)
    // File capabilities in a tree that is unpacked by a client.
    .union(CapabilitySet::SETFCAP);

/// Connecting to sockets with the ids a client names, and acting as the users of an export. While a
/// thread acts as somebody else than root, none of these and of the others is effective.
const IDS: CapabilitySet = CapabilitySet::SETUID.union(CapabilitySet::SETGID);

/// Leaves this thread the needed ones of those it has.
pub(super) fn drop_unneeded(needs: &Needs<'_>) -> Result<String, String> {
    let wanted = if needs.connect || needs.users {
        FILES | IDS
    } else {
        FILES
    };
    drop_all_but(wanted).map_err(|error| crate::run::reason(&error.into()))
}

fn drop_all_but(wanted: CapabilitySet) -> Result<String, Errno> {
    let had = capabilities(None)?;
    let kept = had.permitted & wanted;
    if had.effective.contains(CapabilitySet::SETPCAP) {
        for bit in 0..u64::BITS {
            let capability = CapabilitySet::from_bits_retain(1 << bit);
            if wanted.contains(capability) {
                continue;
            }
            match remove_capability_from_bounding_set(capability) {
                // The first number this kernel has no capability for.
                Err(Errno::INVAL) => break,
                result => result?,
            }
        }
    }
    // Kernels before 4.3 have no such set.
    match clear_ambient_capability_set() {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(error) => return Err(error),
    }
    set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    let count = |set: CapabilitySet| set.bits().count_ones();
    Ok(format!("{} of {} kept", count(kept), count(had.permitted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_what_it_had_and_needs() {
        let work = || {
            let had = capabilities(None).unwrap().permitted;
            drop_unneeded(&Needs::default()).unwrap();
            let has = capabilities(None).unwrap();
            assert_eq!((has.permitted, has.effective), (had & FILES, had & FILES));
            assert!(has.inheritable.is_empty());
            assert!(!has.permitted.intersects(CapabilitySet::SYS_ADMIN | IDS));
        };
        std::thread::spawn(work).join().unwrap();
    }
}
