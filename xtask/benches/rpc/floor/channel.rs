//! A ping-pong between two processes over a window in shared memory: the floor of a channel.
//!
//! A message is put into the window by its sender. Payload of an answer is taken out of it once, by
//! who asked; what the other side puts in or takes out is the work of a server, so not done here.

use std::os::fd::AsFd;
use std::process::{Child, ExitCode};
use std::sync::OnceLock;
use std::time::Duration;

use gofer_transport::flipcall::{Endpoint, FlipError, Side, Turn};
use gofer_transport::shm::{Window, WindowFile};
use rustix::process::{Pid, getppid};

use crate::socket;

/// Bytes of the window: as lisafs servers make them.
const WINDOW: usize = 2 << 20;

/// How a side waits for the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waiting {
    /// As our channels do.
    AsOurs,
    /// Without ever looking twice before it sleeps.
    AsleepAtOnce,
}

/// One side, either way of waiting.
enum End {
    Ours(Endpoint),
    Asleep(Window, Turn),
}

impl End {
    fn new(window: Window, side: Side, waiting: Waiting) -> End {
        match waiting {
            Waiting::AsOurs => End::Ours(Endpoint::new(window, side)),
            Waiting::AsleepAtOnce => End::Asleep(window, Turn::new(side, 0)),
        }
    }

    fn window(&self) -> &Window {
        match self {
            End::Ours(endpoint) => endpoint.window(),
            End::Asleep(window, _) => window,
        }
    }

    /// Waits for the first message of the other side.
    fn receive(&self) -> Result<usize, FlipError> {
        match self {
            End::Ours(endpoint) => endpoint.receive(&mut orphaned()),
            End::Asleep(window, turn) => {
                turn.wait(window.state(), &mut orphaned())?;
                Ok(window.datagram_length() as usize)
            }
        }
    }

    fn exchange(&self, length: usize) -> Result<usize, FlipError> {
        match self {
            End::Ours(endpoint) => endpoint.exchange(length, &mut orphaned()),
            End::Asleep(window, turn) => {
                window.set_datagram_length(length as u32);
                turn.pass(window.state())?;
                self.receive()
            }
        }
    }

    fn shut_down(&self) {
        match self {
            End::Ours(endpoint) => endpoint.shut_down(),
            End::Asleep(window, turn) => turn.shut_down(window.state()),
        }
    }
}

/// Ends a long wait when the process that started this one has gone. A wait that is over soon costs
/// no look.
fn orphaned() -> impl FnMut() -> Result<Duration, FlipError> {
    static PARENT: OnceLock<Option<Pid>> = OnceLock::new();
    let parent = *PARENT.get_or_init(getppid);
    let mut has_slept = false;
    move || match std::mem::replace(&mut has_slept, true) && getppid() != parent {
        true => Err(FlipError::GaveUp),
        false => Ok(Duration::from_millis(100)),
    }
}

/// The other side: answers until the window is shut down. A request starts with the size of its
/// answer.
pub(crate) fn pong(waiting: &str) -> ExitCode {
    let waiting = match waiting {
        "asleep" => Waiting::AsleepAtOnce,
        _ => Waiting::AsOurs,
    };
    let window = gofer_transport::inherit(0)
        .and_then(|memory| Window::map(memory.as_fd(), 0, WINDOW as u64));
    let end = match window {
        Ok(window) => End::new(window, Side::Server, waiting),
        Err(error) => {
            eprintln!("no window: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut next = end.receive();
    while next.is_ok() {
        let mut size = [0; 4];
        end.window().read(0, &mut size);
        next = end.exchange((u32::from_le_bytes(size) as usize).min(end.window().capacity()));
    }
    ExitCode::SUCCESS
}

/// A ping-pong with requests and answers of given sizes.
pub(crate) struct PingPong {
    child: Child,
    end: End,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl PingPong {
    pub(crate) fn start(request: usize, answer: usize, waiting: Waiting) -> PingPong {
        let mut file = WindowFile::create().expect("a memory file");
        let (offset, length) = file.allocate(WINDOW).expect("memory");
        let window = Window::map(file.as_fd(), offset, length as u64).expect("a window");
        let memory = file.as_fd().try_clone_to_owned().expect("a descriptor");
        let name = match waiting {
            Waiting::AsOurs => "ours",
            Waiting::AsleepAtOnce => "asleep",
        };
        let child = socket::spawn_on(memory, &["pong-channel", name]).expect("start a process");
        let mut padded = vec![0; request.max(4)];
        padded[..4].copy_from_slice(&(answer as u32).to_le_bytes());
        PingPong {
            child,
            end: End::new(window, Side::Client, waiting),
            request: padded,
            answer: vec![0; answer],
        }
    }

    pub(crate) fn once(&mut self) {
        self.end.window().write(0, &self.request);
        let length = self.end.exchange(self.request.len()).expect("exchange");
        assert_eq!(length, self.answer.len());
        self.end.window().read(0, &mut self.answer);
    }
}

impl Drop for PingPong {
    fn drop(&mut self) {
        self.end.shut_down();
        let _ = self.child.wait();
    }
}
