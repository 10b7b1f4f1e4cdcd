//! Noticing the end of the connection: files need it for nothing, so no call of theirs would.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use gofer_vfs::remote::Call;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::Tree;

/// How long the connection may take to find out that it has ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// Watches `connection`, a copy of its socket, on a thread that ends with it. The tree shuts the
/// connection down when it goes, so the thread does not outlive it.
pub(super) fn start(connection: OwnedFd, tree: &Arc<Tree>) -> Result<(), Errno> {
    let tree = Arc::downgrade(tree);
    std::thread::Builder::new()
        .name("directfs".into())
        .spawn(move || {
            wait_for_end(&connection);
            tell(&tree);
        })
        .map(drop)
        .map_err(|_| Errno::AGAIN)
}

fn wait_for_end(connection: &OwnedFd) {
    // Errors and hang-up are always polled for; what arrives is for others.
    let mut polled = [PollFd::new(connection, PollFlags::RDHUP)];
    while let Err(Errno::INTR) = poll(&mut polled, None) {}
}

/// Ends the tree, and has the connection notice, which then tells whoever wants to know.
fn tell(tree: &Weak<Tree>) {
    let Some(tree) = tree.upgrade() else {
        return;
    };
    tree.end();
    let call = Call {
        deadline: Instant::now().checked_add(PATIENCE),
        cancel: None,
    };
    let _ = tree.server.root(&call);
}
