//! Many callers at once.

use std::thread;

use super::client::Client;

/// Each client does the operation so often, all at once.
pub(super) fn run(clients: &mut [Client], operation: fn(&mut Client), repeats: usize) {
    thread::scope(|scope| {
        for client in clients {
            scope.spawn(move || (0..repeats).for_each(|_| operation(client)));
        }
    });
}
