//! Threads that come and go with the work.

use gofer_9p::wire::{HEADER_SIZE, Version};
use gofer_transport::TransportKind;

use super::*;
use crate::host::{Export, Policy};
use crate::limits::Limits;

fn job(tag: u16, size: usize) -> Job {
    let dir = tempfile::tempdir().unwrap();
    let export = Export::open(dir.path(), Policy::default()).unwrap();
    let limits = Limits::default();
    let session = Session::new(export, Version::Base, 8192, &limits, TransportKind::Unix);
    Job {
        reply: 0,
        session: Arc::new(session),
        header: Header {
            size: (HEADER_SIZE + size) as u32,
            kind: 0,
            tag: Tag(tag),
        },
        body: vec![0; size],
    }
}

/// The tag of the next request.
fn next(workers: &Workers) -> Option<u16> {
    match workers.next()? {
        Work::Request(job) => Some(job.header.tag.0),
        Work::Drain => None,
    }
}

#[test]
fn threads_are_started_while_work_waits_and_no_further_than_the_limit() {
    let workers = Workers::new(2);
    assert_eq!(workers.push(job(1, 0)), Hands::StartThread);
    assert_eq!(workers.push(job(2, 0)), Hands::StartThread);
    assert_eq!(workers.push(job(3, 0)), Hands::Enough);
    assert_eq!(
        (next(&workers), next(&workers), next(&workers)),
        (Some(1), Some(2), Some(3))
    );
    workers.no_thread();
    assert_eq!(workers.push(job(4, 0)), Hands::StartThread);
}

#[test]
fn what_has_begun_cannot_be_taken_back() {
    let workers = Workers::new(1);
    let _ = workers.push(job(1, 0));
    let _ = workers.push(job(2, 0));
    assert_eq!(next(&workers), Some(1));
    assert!(!workers.cancel(Tag(1)));
    assert!(workers.cancel(Tag(2)));
    assert!(!workers.cancel(Tag(2)));
}

#[test]
fn draining_comes_before_requests() {
    let workers = Workers::new(1);
    let _ = workers.push(job(1, 0));
    let _ = workers.push_drain();
    assert!(matches!(workers.next(), Some(Work::Drain)));
    assert_eq!(next(&workers), Some(1));
}

#[test]
fn too_much_waiting_work_holds_the_reader_up_until_some_is_taken() {
    let workers = Workers::new(1);
    for tag in 0..4 {
        let _ = workers.push(job(tag, 1 << 20));
    }
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| workers.push(job(9, 0)));
        assert_eq!(next(&workers), Some(0));
        workers.done();
        assert_eq!(reader.join().unwrap(), Hands::Enough);
    });
}

#[test]
fn cancelling_all_waits_for_what_runs() {
    let workers = Workers::new(1);
    let _ = workers.push(job(1, 0));
    let _ = workers.push(job(2, 0));
    assert_eq!(next(&workers), Some(1));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| workers.cancel_all());
        while !workers.queue.lock().waiting.is_empty() {
            std::thread::yield_now();
        }
        assert!(!waiting.is_finished());
        workers.done();
        waiting.join().unwrap();
    });
    assert!(!workers.cancel(Tag(2)));
    workers.close();
    assert!(workers.next().is_none());
}

#[test]
fn work_without_threads_is_left_to_the_reader() {
    let workers = Workers::new(4);
    assert_eq!(workers.push(job(1, 0)), Hands::StartThread);
    assert!(workers.orphan().is_none(), "a thread is to come");
    workers.no_thread();
    assert!(matches!(workers.orphan(), Some(Work::Request(_))));
    workers.done();
    assert!(workers.orphan().is_none());
}
