//! Where the gofer of gVisor's release 20221219, the one that Debian packages, is not what lisafs
//! asks of a server, or older than what ours is modelled on. What is listed here and does not
//! happen is reported, too.

use crate::suite::Known;

/// A step of the conformance program that comes out differently with our server.
#[derive(Debug)]
pub(super) struct Difference {
    /// The case.
    pub(super) case: &'static str,
    /// The step, or the start of the names of several with a `*` at the end.
    pub(super) step: &'static str,
    /// What the gofer does.
    pub(super) reason: &'static str,
}

impl Difference {
    pub(super) fn covers(&self, step: &str) -> bool {
        match self.step.strip_suffix('*') {
            Some(start) => step.starts_with(start),
            None => step == self.step,
        }
    }
}

const XATTRS: &str = "it refuses all extended attributes, and does not list messages 27 and 28";
const TYPES: &str = "it shows no file of a type that it does not open: EPERM from walks";
const DELETED: &str = "it opens no deleted file: EINVAL";
const BOUND: &str = "the control FD of a bound socket is the socket, not its file";
const TIMES: &str = "it sets no times of a socket: EBADF";
const LINK_MODE: &str = "it tries to change the mode of a link: EBADF";
const OVERFLOW: &str = "it adds up the length of an answer in 32 bits, and panics: EREMOTEIO";
const READ_ONLY: &str = "it binds sockets in a read-only export";

/// Steps of the conformance program.
pub(super) const DIFFERENCES: &[Difference] = &[
    difference("messages", "message 27 is supported", XATTRS),
    difference("messages", "message 28 is supported", XATTRS),
    difference("short_payloads", "message 27 *", XATTRS),
    difference("short_payloads", "message 28 *", XATTRS),
    difference("xattrs", "*", XATTRS),
    difference("xattr_limits", "*", XATTRS),
    difference("read_only_changes", "remove an xattr", XATTRS),
    difference("read_only_payloads", "message 27 *", XATTRS),
    difference("read_only_payloads", "message 28 *", XATTRS),
    difference("open_types", "walk to a fifo", TYPES),
    difference("open_types", "open a fifo", TYPES),
    difference("no_sockets", "walkstat of a socket", TYPES),
    difference("no_sockets", "walk to a socket", TYPES),
    difference("no_sockets", "connect", TYPES),
    difference("no_sockets", "open", TYPES),
    difference("deleted_files", "open", DELETED),
    difference("deleted_files", "read what was opened", DELETED),
    difference("bound_sockets", "its FD is the file", BOUND),
    difference("socket_files", "set the time", TIMES),
    difference("socket_files", "the time", TIMES),
    difference("set_in_part", "mode of a link", LINK_MODE),
    difference("message_sizes", "ask for 0xffffffff bytes", OVERFLOW),
    difference("read_only_payloads", "message 29 *", READ_ONLY),
    difference("read_only_sockets", "bind", READ_ONLY),
    difference("read_only_sockets", "nothing was made", READ_ONLY),
];

/// Steps of the conformance program for 9P, with the lowest level that has them and the highest.
pub(super) const P9_DIFFERENCES: &[(u32, u32, Difference)] = &[
    (
        0,
        13,
        difference("data", "write to what is open for reading", WRONG_MODE),
    ),
    (
        0,
        13,
        difference("data", "read of what is open for writing", WRONG_MODE),
    ),
    (0, 2, difference("creation", "again", EXCLUSIVE)),
];

const WRONG_MODE: &str = "EPERM for data of a file that is open the other way";
const EXCLUSIVE: &str = "the host files behind it are always made anew";

/// Cases of the behaviour suite over our client.
pub(super) const GOFER: &[Known] = &[
    known("large_xattr_values_work"),
    known("missing_xattr_is_enodata"),
    known("xattr_buffer_that_is_too_small_is_erange"),
    known("xattr_flags_decide_between_new_and_old"),
    known("xattr_of_size_zero_asks_for_the_length"),
    known("xattr_values_are_kept_to_the_byte"),
    known("xattr_values_may_be_empty"),
    known("xattrs_are_listed_and_removed"),
    known("xattrs_need_permission"),
    known("xattrs_through_a_descriptor_are_the_same"),
    known("xattrs_through_a_descriptor_follow_outside_permission"),
];

/// Cases of the behaviour suite over our client and the server of the package p9, which has none of
/// the messages for extended attributes that plain 9P2000.L has.
pub(super) const P9_PLAIN: &[Known] = &[
    p9(
        "clients_meet_in_locks_on_the_server",
        "it answers EIO to Tlock",
    ),
    p9("large_xattr_values_work", P9_XATTRS),
    p9("missing_xattr_is_enodata", P9_XATTRS),
    p9("xattr_buffer_that_is_too_small_is_erange", P9_XATTRS),
    p9("xattr_flags_decide_between_new_and_old", P9_XATTRS),
    p9("xattr_of_size_zero_asks_for_the_length", P9_XATTRS),
    p9("xattr_values_are_kept_to_the_byte", P9_XATTRS),
    p9("xattrs_are_listed_and_removed", P9_XATTRS),
    p9("xattrs_need_permission", P9_XATTRS),
    p9("xattrs_through_a_descriptor_are_the_same", P9_XATTRS),
];

/// The same at level 10, which has messages to get and set them, and none to list and remove.
pub(super) const P9_LEVEL_10: &[Known] = &[
    p9("missing_xattr_is_enodata", P9_LISTING),
    p9("xattr_values_may_be_empty", P9_LISTING),
    p9("xattrs_are_listed_and_removed", P9_LISTING),
    p9("xattrs_need_permission", P9_LISTING),
    p9("xattrs_through_a_descriptor_are_the_same", P9_LISTING),
];

const P9_XATTRS: &str = "it answers ENOSYS to Txattrcreate and ENODATA to Txattrwalk";
const P9_LISTING: &str = "names are listed and removed from level 11 on";

const fn p9(case: &'static str, reason: &'static str) -> Known {
    Known {
        reason,
        ..known(case)
    }
}

const fn known(case: &'static str) -> Known {
    Known {
        case,
        modes: &[],
        reason: XATTRS,
        sometimes: false,
    }
}

const fn difference(case: &'static str, step: &'static str, reason: &'static str) -> Difference {
    Difference { case, step, reason }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_entry_names_a_case_and_a_reason() {
        crate::suite::check_known(super::GOFER);
        crate::suite::check_known(super::P9_PLAIN);
        crate::suite::check_known(super::P9_LEVEL_10);
    }
}
