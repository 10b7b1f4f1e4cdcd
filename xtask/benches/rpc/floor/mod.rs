//! What lisafs costs beside the least it could: `rpc floor REGIME` prints a table.
//!
//! A floor is a ping-pong over the same transport, between two processes and with messages as
//! large as those of the operation, plus the bare system calls of the operation. All of it is
//! measured in the same run, in turns, and a ratio is the median of the ratios of the turns.

pub(crate) mod calls;
mod channel;
mod load;
mod ours;
pub(crate) mod pair;

use std::process::ExitCode;
use std::time::Duration;

use xtask::outcome::table;

use crate::{Tree, socket};
use calls::Calls;
use channel::Waiting;
use ours::Ours;

pub(crate) use channel::pong;
pub(crate) use load::burn;

/// The directory with many entries.
pub(crate) const MANY: &str = "many";
/// The directory in which files are made.
pub(crate) const NEW: &str = "new";

/// Payload bytes, and whatever else is counted.
pub(crate) struct Sizes;

impl Sizes {
    pub(crate) const ENTRIES: usize = 10_000;
    pub(crate) const STATX: usize = 144;
    pub(crate) const INODE: usize = 152;
    pub(crate) const PAGE: usize = 4 << 10;
    pub(crate) const LARGE: usize = 1 << 20;
}

/// Whether the processes share one processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Regime {
    Pinned,
    Free,
}

/// What carries the messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Transport {
    Channel,
    Socket,
}

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Transport::Channel => "channel",
            Transport::Socket => "socket",
        }
    }

    /// Bytes before a payload.
    fn header(self) -> usize {
        match self {
            Transport::Channel => 4,
            Transport::Socket => 8,
        }
    }
}

/// An operation: its payload sizes, what it is and what it should at most cost.
struct Operation {
    name: &'static str,
    request: usize,
    answer: usize,
    /// The bare calls, in words.
    calls: &'static str,
    ours: fn(&mut Ours),
    bare: fn(&mut Calls),
    /// Whether a floor has a ping-pong: listing a directory is held against the calls alone.
    ping_pong: bool,
    goal: fn(Transport, Regime) -> Option<f64>,
}

/// Goals of the channel when pinned.
fn pinned_channel(goal: f64, transport: Transport, regime: Regime) -> Option<f64> {
    (transport == Transport::Channel && regime == Regime::Pinned).then_some(goal)
}

const OPERATIONS: [Operation; 8] = [
    Operation {
        name: "stat",
        request: 8,
        answer: Sizes::STATX,
        calls: "fstat",
        ours: Ours::stat,
        bare: Calls::stat,
        ping_pong: true,
        goal: |transport, regime| match (transport, regime) {
            (_, Regime::Pinned) => Some(1.10),
            (Transport::Channel, Regime::Free) => Some(2.0),
            (Transport::Socket, Regime::Free) => None,
        },
    },
    Operation {
        name: "walk-8",
        request: 8 + 2 + 7 * 3 + 6,
        answer: 1 + 2 + 8 * Sizes::INODE,
        calls: "8 x (openat O_PATH, fstat, close)",
        ours: Ours::walk,
        bare: |calls| calls.walk(8),
        ping_pong: true,
        goal: |transport, regime| pinned_channel(1.15, transport, regime),
    },
    Operation {
        name: "open+close",
        request: 16,
        answer: 8,
        calls: "open of /proc/self/fd/N, close",
        ours: Ours::open,
        bare: Calls::open,
        ping_pong: true,
        goal: |transport, _| (transport == Transport::Channel).then_some(1.4),
    },
    Operation {
        name: "read-4k",
        request: 24,
        answer: 8 + Sizes::PAGE,
        calls: "pread",
        ours: |ours| ours.read(Sizes::PAGE),
        bare: |calls| calls.read(Sizes::PAGE),
        ping_pong: true,
        goal: |transport, regime| pinned_channel(1.12, transport, regime),
    },
    Operation {
        name: "read-1m",
        request: 24,
        answer: 8 + Sizes::LARGE,
        calls: "pread",
        ours: |ours| ours.read(Sizes::LARGE),
        bare: |calls| calls.read(Sizes::LARGE),
        ping_pong: true,
        goal: |transport, regime| pinned_channel(1.20, transport, regime),
    },
    Operation {
        name: "write-4k",
        request: 20 + Sizes::PAGE,
        answer: 8,
        calls: "pwrite",
        ours: |ours| ours.write(Sizes::PAGE),
        bare: |calls| calls.write(Sizes::PAGE),
        ping_pong: true,
        goal: |_, _| None,
    },
    Operation {
        name: "write-1m",
        request: 20 + Sizes::LARGE,
        answer: 8,
        calls: "pwrite",
        ours: |ours| ours.write(Sizes::LARGE),
        bare: |calls| calls.write(Sizes::LARGE),
        ping_pong: true,
        goal: |transport, regime| pinned_channel(1.30, transport, regime),
    },
    Operation {
        name: "readdir-10000",
        request: 16,
        answer: 8,
        calls: "getdents64 to the end, no ping-pong",
        ours: Ours::readdir,
        bare: Calls::readdir,
        ping_pong: false,
        goal: |transport, _| (transport == Transport::Channel).then_some(1.3),
    },
];

/// `rpc floor pinned|free SECONDS [PATTERN]`.
pub(crate) fn run(tree: &Tree, args: &[&str]) -> ExitCode {
    let regime = match args.first().copied() {
        Some("pinned") => Regime::Pinned,
        _ => Regime::Free,
    };
    let seconds: f64 = args
        .get(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(1.0);
    let time = Duration::from_secs_f64(seconds);
    let only = args.get(2).copied().unwrap_or_default();
    fill(tree);
    print!("{}", rows(tree, regime, time, only));
    if only.is_empty() {
        print!("{}", load::idle(tree));
        if regime == Regime::Free {
            print!("{}", load::oversubscribed(time));
        }
    }
    ExitCode::SUCCESS
}

/// Makes what [`Calls`] and the operations need.
pub(crate) fn fill(tree: &Tree) {
    std::fs::create_dir(tree.path(NEW)).expect("make a directory");
    let many = tree.path(MANY);
    std::fs::create_dir(&many).expect("make a directory");
    for number in 0..Sizes::ENTRIES {
        std::fs::write(many.join(format!("entry-{number:05}")), "").expect("make a file");
    }
}

fn rows(tree: &Tree, regime: Regime, time: Duration, only: &str) -> String {
    let mut calls = Calls::new(tree);
    let head = [
        "operation",
        "ours us",
        "floor us",
        "ratio",
        "goal",
        "",
        "ping-pong us",
        "calls us",
        "which calls",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for transport in [Transport::Channel, Transport::Socket] {
        let mut ours = match Ours::connect(tree, transport) {
            Ok(ours) => ours,
            Err(error) => {
                lines.push(vec![format!("{}: {error:#}", transport.name())]);
                continue;
            }
        };
        for operation in &OPERATIONS {
            let name = format!("{}/{}", transport.name(), operation.name);
            if name.contains(only) {
                let measured = measure(operation, transport, &mut ours, &mut calls, time);
                lines.push(measured.line(name, operation, (operation.goal)(transport, regime)));
            }
        }
    }
    table(&lines)
}

/// Medians in nanoseconds, and the median ratio.
struct Measured {
    ours: f64,
    ping_pong: f64,
    calls: f64,
    ratio: f64,
}

fn measure(
    operation: &Operation,
    transport: Transport,
    ours: &mut Ours,
    calls: &mut Calls,
    time: Duration,
) -> Measured {
    let request = transport.header() + operation.request;
    let answer = transport.header() + operation.answer;
    let mut ours = || (operation.ours)(ours);
    let mut calls = || (operation.bare)(calls);
    let mut ping: Box<dyn FnMut()> = match transport {
        _ if !operation.ping_pong => Box::new(|| ()),
        Transport::Channel => {
            let mut ping = channel::PingPong::start(request, answer, Waiting::AsOurs);
            Box::new(move || ping.once())
        }
        Transport::Socket => {
            let mut ping = socket::PingPong::start(request, answer);
            Box::new(move || ping.once())
        }
    };
    let rounds = pair::measure(&mut [&mut ours, &mut ping, &mut calls], time);
    Measured {
        ours: rounds.median(0),
        ping_pong: rounds.median(1),
        calls: rounds.median(2),
        ratio: rounds.median_of(|round| round[0] / (round[1] + round[2])),
    }
}

impl Measured {
    fn line(&self, name: String, operation: &Operation, goal: Option<f64>) -> Vec<String> {
        let micros = |nanoseconds: f64| format!("{:.2}", nanoseconds / 1000.0);
        let ping_pong = match operation.ping_pong {
            true => micros(self.ping_pong),
            false => "-".to_owned(),
        };
        vec![
            name,
            micros(self.ours),
            micros(self.ping_pong + self.calls),
            format!("{:.2}", self.ratio),
            goal.map_or_else(|| "-".to_owned(), |goal| format!("{goal:.2}")),
            verdict(self.ratio, goal).to_owned(),
            ping_pong,
            micros(self.calls),
            operation.calls.to_owned(),
        ]
    }
}

/// Goals have two decimals, and so has what is held against them.
fn verdict(ratio: f64, goal: Option<f64>) -> &'static str {
    match goal {
        None => "",
        Some(goal) if (ratio * 100.0).round() <= (goal * 100.0).round() => "met",
        Some(_) => "MISSED",
    }
}
