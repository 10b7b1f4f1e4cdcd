//! Nothing may be left when a case is over: no name, no file, no handle, here or on the server.

use std::sync::Weak;
use std::time::{Duration, Instant};

use super::Fixture;
use super::check::{CaseResult, Failure};
use crate::superblock::Superblock;
use crate::testing::behaviour::Case;
use crate::{Context, Credentials, Filesystem};

/// How long what threads still do may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells whether a filesystem is gone, without keeping it.
pub struct Witness(Weak<Superblock>);

impl Witness {
    /// For this filesystem.
    pub fn of(fs: &Filesystem) -> Witness {
        Witness(std::sync::Arc::downgrade(fs.sb()))
    }

    /// Every name, file and handle keeps its filesystem.
    fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl Case {
    /// Runs the case, and looks afterwards for what is left of its mounts.
    pub fn run_checked(&self, fixture: Fixture) -> CaseResult {
        (self.run)(&fixture)?;
        if fixture.is_alive() {
            settle(&fixture.fs)?;
        }
        let witnesses = fixture.into_witnesses();
        for (index, witness) in witnesses.iter().enumerate() {
            within(|| match witness.is_gone() {
                true => Ok(()),
                false => Err(format!("mount {index} of the case is still referenced")),
            })?;
        }
        Ok(())
    }
}

/// Drops what is merely cached: the root must be all that is left, here and on the server.
fn settle(fs: &Filesystem) -> CaseResult {
    let creds = Credentials::root();
    let cx = Context::new(&creds);
    fs.sb().synthetics.clear();
    // Its file, and the handle that it keeps once it was listed.
    let root_has = 1 + u64::from(fs.root().inode().any_handle().is_some());
    within(|| {
        fs.drop_caches();
        // Numbers that were given up are told to the server with the next batch.
        let _ = fs.sb().remote.flush_closes(&cx.call());
        let stats = fs.stats();
        // What was given up is on its way, or its answer is.
        let kept = stats.remote_files.saturating_sub(stats.remote_closing);
        let here = [
            ("dentries", stats.live_dentries, 1),
            ("inodes", stats.live_inodes, 1),
            ("unused dentries", stats.lru_length, 0),
            ("watches", stats.watches, 0),
            ("file locks", stats.file_locks, 0),
            ("cached pages", stats.page_cache_bytes, 0),
            ("files and handles on the server", kept, root_has),
        ];
        match here.iter().find(|(_, found, most)| found > most) {
            Some((what, found, most)) => Err(format!("{found} {what} are left, not {most}")),
            None => Ok(()),
        }
    })
}

/// Repeats `check` until it holds.
fn within(check: impl Fn() -> Result<(), String>) -> CaseResult {
    let start = Instant::now();
    loop {
        match check() {
            Ok(()) => return Ok(()),
            Err(why) if start.elapsed() > PATIENCE => return Err(Failure::new(why)),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}
