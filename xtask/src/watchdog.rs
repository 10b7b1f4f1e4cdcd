//! Running one test case: its panic is a failure, and so is taking too long.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

/// How a case ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End<T> {
    /// By returning this.
    Returned(T),
    /// By a panic, with its message and place.
    Panicked(String),
    /// It has not. Its thread may still run.
    TimedOut,
}

thread_local! {
    /// What the panic hook saw on this thread, when the thread runs a case.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

const THREAD_NAME: &str = "case";

/// Runs `case` on a thread of its own and waits for it for at most `limit`.
pub fn run<T: Send + 'static>(
    limit: Duration,
    case: impl FnOnce() -> T + Send + 'static,
) -> End<T> {
    install_hook();
    let (sender, receiver) = sync_channel(1);
    let spawned = thread::Builder::new()
        .name(THREAD_NAME.to_owned())
        .spawn(move || {
            let end = match panic::catch_unwind(AssertUnwindSafe(case)) {
                Ok(result) => End::Returned(result),
                Err(payload) => End::Panicked(
                    PANIC
                        .take()
                        .unwrap_or_else(|| message(payload.as_ref()).to_owned()),
                ),
            };
            // Nobody listens any more when the case took too long.
            let _ = sender.send(end);
        });
    if let Err(error) = spawned {
        return End::Panicked(format!("no thread for the case: {error}"));
    }
    match receiver.recv_timeout(limit) {
        Ok(end) => end,
        Err(RecvTimeoutError::Timeout) => End::TimedOut,
        Err(RecvTimeoutError::Disconnected) => End::Panicked("the case's thread died".to_owned()),
    }
}

/// Keeps the messages of cases for the report, where they stand beside the case's name. Other
/// threads panic as usual.
fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            if thread::current().name() != Some(THREAD_NAME) {
                return usual(info);
            }
            let place = info.location().map_or_else(String::new, |place| {
                format!(" ({}:{})", place.file(), place.line())
            });
            PANIC.set(Some(format!("{}{place}", message(info.payload()))));
        }));
    });
}

fn message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn each_end_is_told_apart() {
        assert_eq!(run(LONG, || 7), End::Returned(7));
        let end: End<()> = run(LONG, || panic!("{} is not {}", 1, 2));
        let End::Panicked(text) = end else {
            panic!("the panic was missed");
        };
        assert!(text.starts_with("1 is not 2 ("), "{text}");
        assert!(text.contains("watchdog.rs:"), "{text}");
        let (release, wait) = channel::<()>();
        let end = run(Duration::from_millis(10), move || {
            let _ = wait.recv();
        });
        assert_eq!(end, End::TimedOut);
        drop(release);
    }
}
