//! What waiting costs others: nothing while a connection is idle, and next to nothing when there
//! are more runnable threads than processors.

use std::fmt::Write as _;
use std::process::{Child, ExitCode};
use std::time::{Duration, Instant};

use super::channel::{PingPong, Waiting};
use super::ours::Session;
use super::{Sizes, Transport, pair, verdict};
use crate::{Tree, socket};

/// How long a connection is left alone.
const IDLE: Duration = Duration::from_secs(1);
/// Processor time that counts as none, in milliseconds: a look now and then at whether the other
/// side still lives.
const NEXT_TO_NOTHING: f64 = 1.0;
const OVERSUBSCRIBED_GOAL: f64 = 1.1;

/// Processor time that a connection takes while nothing is asked, client and server together.
pub(super) fn idle(tree: &Tree) -> String {
    let mut out = String::new();
    for transport in [Transport::Channel, Transport::Socket] {
        let Ok(session) = Session::start(tree, transport, false) else {
            continue;
        };
        let processes = [session.server(), std::process::id()];
        let times = || processes.map(|process| cpu_time(process).unwrap_or(f64::NAN));
        // What was spun at last is over by then.
        std::thread::sleep(Duration::from_millis(50));
        let before = times();
        std::thread::sleep(IDLE);
        let after = times();
        let [server, client] = [0, 1].map(|side: usize| after[side] - before[side]);
        let verdict = match server + client <= NEXT_TO_NOTHING {
            true => "met",
            false => "MISSED",
        };
        let _ = writeln!(
            out,
            "{}: idle for a second takes {server:.3} ms of processor time in the server and \
             {client:.3} ms in the client (goal: none, {verdict})",
            transport.name()
        );
    }
    out
}

/// Milliseconds of processor time of all threads of a process.
fn cpu_time(process: u32) -> std::io::Result<f64> {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let first = text.split_whitespace().next();
        nanoseconds += first.and_then(|word| word.parse().ok()).unwrap_or(0_u64);
    }
    Ok(nanoseconds as f64 / 1e6)
}

/// Busy processes, ended when dropped.
struct Busy(Vec<Child>);

impl Busy {
    fn start(count: usize) -> Busy {
        let one = || socket::spawn_on(null(), &["burn"]).expect("start a process");
        Busy((0..count).map(|_| one()).collect())
    }
}

fn null() -> std::os::fd::OwnedFd {
    let null = std::fs::File::open("/dev/null");
    null.expect("open /dev/null").into()
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Keeps a processor busy as long as the process that started it lives.
pub(crate) fn burn() -> ExitCode {
    let parent = rustix::process::getppid();
    while rustix::process::getppid() == parent {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(100) {
            std::hint::spin_loop();
        }
    }
    ExitCode::SUCCESS
}

/// A stat-sized ping-pong as our channels wait beside one that sleeps at once, with twice as many
/// busy processes as processors.
pub(super) fn oversubscribed(time: Duration) -> String {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let (request, answer) = (4 + 8, 4 + Sizes::STATX);
    let mut ours = PingPong::start(request, answer, Waiting::AsOurs);
    let mut asleep = PingPong::start(request, answer, Waiting::AsleepAtOnce);
    let _busy = Busy::start(2 * cpus);
    let (mut ours, mut asleep) = (|| ours.once(), || asleep.once());
    let rounds = pair::measure(&mut [&mut ours, &mut asleep], time * 4);
    let ratio = rounds.median_of(|round| round[0] / round[1]);
    format!(
        "channel ping-pong beside {} busy processes on {cpus} processors: {:.2} us, {:.2} us \
         when sleeping at once, ratio {ratio:.2} (goal {OVERSUBSCRIBED_GOAL:.2}, {})\n",
        2 * cpus,
        rounds.median(0) / 1000.0,
        rounds.median(1) / 1000.0,
        verdict(ratio, Some(OVERSUBSCRIBED_GOAL)),
    )
}
