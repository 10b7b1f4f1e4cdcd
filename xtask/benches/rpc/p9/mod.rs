//! What 9P2000.L costs with our server and with others, and beside the least it could:
//! `rpc p9 REGIME SECONDS [PATTERN]` prints a table for each way to ask.
//!
//! - `call`: our client, one call at a time. The floor is a ping-pong over a bare socket with
//!   messages of the operation's sizes, plus the bare system calls.
//! - `lanes`: bare messages, sixteen requests in one send, and the next when all are answered.
//! - `threads`: our client, sixteen threads.
//! - gVisor's client, where its programs are there.
//!
//! But for the last, the client is the same for every server, over a Unix socket, with plain
//! 9P2000.L and messages of 64 KiB, which is the most that diod takes. Everything in a line is
//! measured in turns.

mod client;
mod lanes;
mod peers;
mod server;
mod threads;

use std::process::ExitCode;
use std::time::Duration;

use xtask::outcome::table;

use crate::floor::calls::Calls;
use crate::floor::{self, Sizes, pair};
use crate::{Tree, socket};
use client::Client;
use lanes::Lanes;
use server::{Maker, Running};

/// Requests in flight in the second and third table.
const DEPTH: usize = 16;
/// Largest message.
const MSIZE: usize = 64 << 10;
/// What fits into one of them.
const PAYLOAD: usize = MSIZE - 24;

/// How an operation is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Call,
    Lanes,
    Threads,
}

impl Way {
    /// gVisor's server takes a fifth of a millisecond for each request when all share a processor:
    /// too long for as many as the threads send.
    fn has(self, maker: Maker) -> bool {
        self != Way::Threads || maker != Maker::Go
    }

    fn name(self) -> &'static str {
        match self {
            Way::Call => "call",
            Way::Lanes => "lanes",
            Way::Threads => "threads",
        }
    }
}

/// What an operation should at most cost beside something else; none of it is a goal where it is
/// `None`.
#[derive(Clone, Copy, Default)]
struct Goal {
    /// Times the floor, at most.
    floor: Option<f64>,
    /// Times the bare system calls, at most.
    calls: Option<f64>,
    /// diod's cost in ours, at least.
    diod: Option<f64>,
    /// One of the two suffices.
    either: bool,
}

struct Operation {
    name: &'static str,
    /// Bytes of the messages, headers included, of the exchange that is the floor.
    request: usize,
    answer: usize,
    call: fn(&mut Client),
    lanes: fn(&mut Lanes),
    bare: fn(&mut Calls),
    goal: fn(Way) -> Goal,
}

/// Goals of most operations with many requests in flight.
fn usual(way: Way) -> Goal {
    match way {
        Way::Call => Goal::default(),
        _ => Goal {
            diod: Some(1.5),
            calls: Some(1.3),
            either: true,
            ..Goal::default()
        },
    }
}

/// At least so many times diod's rate with many requests in flight.
fn many(way: Way, times: f64) -> Goal {
    Goal {
        diod: (way != Way::Call).then_some(times),
        ..Goal::default()
    }
}

const OPERATIONS: [Operation; 11] = [
    Operation {
        name: "getattr",
        request: 19,
        answer: 160,
        call: Client::getattr,
        lanes: Lanes::getattr,
        bare: Calls::stat,
        goal: |way| match way {
            Way::Call => Goal {
                floor: Some(1.15),
                diod: Some(1.5),
                ..Goal::default()
            },
            _ => many(way, 4.0),
        },
    },
    Operation {
        name: "walk-1+clunk",
        request: 20,
        answer: 22,
        call: |client| client.walk(1),
        lanes: |lanes| lanes.walk(1),
        bare: |calls| calls.walk(1),
        goal: usual,
    },
    Operation {
        name: "walk-8+clunk",
        request: 17 + 7 * 3 + 6,
        answer: 9 + 8 * 13,
        call: |client| client.walk(8),
        lanes: |lanes| lanes.walk(8),
        bare: |calls| calls.walk(8),
        goal: usual,
    },
    Operation {
        name: "open+clunk",
        request: 15,
        answer: 24,
        call: Client::open,
        lanes: Lanes::open,
        bare: Calls::open,
        goal: usual,
    },
    Operation {
        name: "read-4k",
        request: 23,
        answer: 11 + Sizes::PAGE,
        call: |client| client.read(Sizes::PAGE),
        lanes: |lanes| lanes.read(Sizes::PAGE),
        bare: |calls| calls.read(Sizes::PAGE),
        goal: |way| many(way, 4.0),
    },
    Operation {
        name: "write-4k",
        request: 23 + Sizes::PAGE,
        answer: 11,
        call: |client| client.write(Sizes::PAGE),
        lanes: |lanes| lanes.write(Sizes::PAGE),
        bare: |calls| calls.write(Sizes::PAGE),
        goal: usual,
    },
    Operation {
        name: "read-msize",
        request: 23,
        answer: 11 + PAYLOAD,
        call: |client| client.read(PAYLOAD),
        lanes: |lanes| lanes.read(PAYLOAD),
        bare: |calls| calls.read(PAYLOAD),
        goal: |way| many(way, 1.3),
    },
    Operation {
        name: "write-msize",
        request: 23 + PAYLOAD,
        answer: 11,
        call: |client| client.write(PAYLOAD),
        lanes: |lanes| lanes.write(PAYLOAD),
        bare: |calls| calls.write(PAYLOAD),
        goal: usual,
    },
    Operation {
        name: "read-1m",
        request: 23,
        answer: 11 + Sizes::LARGE,
        call: |client| client.read(Sizes::LARGE),
        lanes: Lanes::nothing,
        bare: |calls| calls.read(Sizes::LARGE),
        goal: |_| Goal::default(),
    },
    Operation {
        name: "readdir-10000",
        request: 0,
        answer: 0,
        call: Client::readdir,
        lanes: Lanes::readdir,
        bare: Calls::readdir,
        goal: |_| Goal {
            calls: Some(1.2),
            ..Goal::default()
        },
    },
    Operation {
        name: "create+unlink",
        request: 27,
        answer: 24,
        call: Client::create,
        lanes: Lanes::create,
        bare: Calls::create,
        goal: usual,
    },
];

/// `rpc p9 pinned|free SECONDS [PATTERN]`.
pub(crate) fn run(tree: &Tree, args: &[&str]) -> ExitCode {
    let seconds = args.get(1).and_then(|text| text.parse().ok());
    let time = Duration::from_secs_f64(seconds.unwrap_or(0.5));
    let only = args.get(2).copied().unwrap_or_default();
    floor::fill(tree);
    let makers = server::makers();
    for way in [Way::Call, Way::Lanes, Way::Threads] {
        match rows(tree, way, &makers, time, only) {
            Ok(text) => println!("{text}"),
            Err(error) => return failure(way.name(), &error),
        }
    }
    if let Some(programs) = server::gvisor() {
        match peers::rows(tree, &programs, only) {
            Ok(text) => println!("{text}"),
            Err(error) => return failure("gVisor's client", &error),
        }
    }
    ExitCode::SUCCESS
}

fn failure(of: &str, error: &anyhow::Error) -> ExitCode {
    eprintln!("{of}: {error:#}");
    ExitCode::FAILURE
}

fn rows(
    tree: &Tree,
    way: Way,
    makers: &[Maker],
    time: Duration,
    only: &str,
) -> anyhow::Result<String> {
    let mut head = vec![format!("us by {}", way.name())];
    let measured = makers.iter().filter(|maker| way.has(**maker));
    head.extend(measured.map(|maker| maker.name().to_owned()));
    let words = [
        "diod/ours",
        "goal",
        "floor",
        "x floor",
        "goal",
        "calls",
        "x calls",
        "goal",
        "",
    ];
    head.extend(words.map(str::to_owned));
    let mut lines = vec![head];
    let mut calls = Calls::new(tree);
    let mut subjects: Vec<Subject> = makers
        .iter()
        .filter(|maker| way.has(**maker))
        .map(|&maker| Subject::start(tree, maker, way))
        .collect::<anyhow::Result<_>>()?;
    for operation in &OPERATIONS {
        let name = format!("{}/{}", way.name(), operation.name);
        // Several messages for each caller: what the client's pipelining is measured with.
        if !name.contains(only) || (operation.name == "read-1m" && way != Way::Call) {
            continue;
        }
        lines.push(measure(operation, way, &mut subjects, &mut calls, time));
    }
    Ok(table(&lines))
}

/// A server, and what asks it. One subject does `per_run` operations.
struct Subject {
    asks: Asks,
    _server: Running,
}

enum Asks {
    Call(Client),
    Lanes(Lanes),
    Threads(Vec<Client>),
}

impl Subject {
    fn start(tree: &Tree, maker: Maker, way: Way) -> anyhow::Result<Subject> {
        let mut server = Running::start(tree, maker)?;
        let asks = match way {
            Way::Call => Asks::Call(Client::connect(&mut server)?),
            Way::Lanes => Asks::Lanes(Lanes::connect(&mut server)?),
            Way::Threads => Asks::Threads(Client::connect(&mut server)?.shared(DEPTH)?),
        };
        Ok(Subject {
            asks,
            _server: server,
        })
    }

    fn run(&mut self, operation: &Operation) {
        match &mut self.asks {
            Asks::Call(client) => (operation.call)(client),
            Asks::Lanes(lanes) => (operation.lanes)(lanes),
            Asks::Threads(clients) => threads::run(clients, operation.call, repeats(operation)),
        }
    }
}

/// How often each thread does an operation in one run: so often that starting it is little.
fn repeats(operation: &Operation) -> usize {
    match operation.name {
        "readdir-10000" => 1,
        "read-msize" | "write-msize" => 64,
        _ => 400,
    }
}

fn measure(
    operation: &Operation,
    way: Way,
    subjects: &mut [Subject],
    calls: &mut Calls,
    time: Duration,
) -> Vec<String> {
    let exchange = operation.request > 0;
    let depth = if way == Way::Lanes { DEPTH } else { 1 };
    let mut ping = exchange
        .then(|| socket::PingPong::start(operation.request * depth, operation.answer * depth));
    let servers = subjects.len();
    let mut all: Vec<Box<dyn FnMut() + '_>> = Vec::new();
    for subject in subjects {
        all.push(Box::new(|| subject.run(operation)));
    }
    all.push(Box::new(|| {
        ping.iter_mut().for_each(socket::PingPong::once)
    }));
    all.push(Box::new(|| (operation.bare)(calls)));
    let mut borrowed: Vec<&mut dyn FnMut()> = Vec::new();
    for one in &mut all {
        borrowed.push(&mut **one);
    }
    let rounds = pair::measure(&mut borrowed, time);
    let per_run = match way {
        Way::Call => 1.0,
        Way::Lanes => DEPTH as f64,
        Way::Threads => (DEPTH * repeats(operation)) as f64,
    };
    let of_ping = |round: &[f64]| round[servers] / depth as f64;
    let floor = rounds.median_of(|round| of_ping(round) + round[servers + 1]);
    let ours = |round: &[f64]| round[0] / per_run;
    let costs = (0..servers).map(|index| rounds.median(index) / per_run);
    let ratios = Ratios {
        diod: (servers > 1).then(|| rounds.median_of(|round| round[1] / round[0])),
        floor: rounds.median_of(|round| ours(round) / (of_ping(round) + round[servers + 1])),
        calls: rounds.median_of(|round| ours(round) / round[servers + 1]),
    };
    let goal = (operation.goal)(way);
    let mut line = vec![operation.name.to_owned()];
    line.extend(costs.map(micros));
    line.extend([ratio(ratios.diod), ratio(goal.diod)]);
    line.extend([micros(floor), ratio(Some(ratios.floor)), ratio(goal.floor)]);
    line.extend([
        micros(rounds.median(servers + 1)),
        ratio(Some(ratios.calls)),
        ratio(goal.calls),
    ]);
    line.push(verdict(&ratios, goal).to_owned());
    line
}

/// Medians over the rounds.
struct Ratios {
    diod: Option<f64>,
    floor: f64,
    calls: f64,
}

/// Goals have two decimals at most, and so has what is held against them.
fn verdict(ratios: &Ratios, goal: Goal) -> &'static str {
    let at_most = |is: f64, goal: f64| (is * 100.0).round() <= (goal * 100.0).round();
    let met = [
        goal.floor.map(|goal| at_most(ratios.floor, goal)),
        goal.calls.map(|goal| at_most(ratios.calls, goal)),
        goal.diod
            .map(|goal| ratios.diod.is_some_and(|is| at_most(goal, is))),
    ];
    let mut goals = met.into_iter().flatten();
    match (goals.clone().count(), goal.either) {
        (0, _) => "",
        (_, true) if goals.any(|met| met) => "met",
        (_, false) if goals.all(|met| met) => "met",
        _ => "MISSED",
    }
}

fn micros(nanoseconds: f64) -> String {
    format!("{:.2}", nanoseconds / 1000.0)
}

fn ratio(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
}
