//! The whole suite over the in-memory server, in every mode; and what only that server can tell:
//! that nothing leaks and nothing is used after it was given up.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::RenameFlags;
use crate::options::Trans;
use crate::testing::mem_remote::{MemConfig, MemRemote, MemServer};

fn mount(
    server: &MemServer,
    config: &MemConfig,
    remotes: &Mutex<Vec<MemRemote>>,
    mode: InteropMode,
    how: &Remount,
) -> Result<Filesystem, String> {
    let remote = server.connect(config.clone());
    remotes.lock().push(remote.clone());
    let mut options = MountOptions::new(Trans::Fd { rfd: 0, wfd: 0 });
    options.cache = mode;
    how.mount(Arc::new(remote), options)
}

fn run_one(case: &Case, mode: InteropMode, config: &MemConfig) -> Result<(), String> {
    let server = MemServer::new();
    let remotes: Arc<Mutex<Vec<MemRemote>>> = Arc::default();
    let mounter: Mounter = {
        let (server, config, remotes) = (server.clone(), config.clone(), Arc::clone(&remotes));
        Arc::new(move |how| mount(&server, &config, &remotes, mode, how))
    };
    let fixture = Fixture {
        fs: mounter(&Remount::default())?,
        outside: Arc::new(server.outside()),
        mode,
        server: ServerTraits {
            name: "memory".to_owned(),
            runs_as_root: true,
            makes_fifos: config.makes_fifos,
            opens_fifos: true,
            binds_sockets: false,
            links_symlinks: true,
        },
        mount: mounter,
        others: Mutex::default(),
        kill: Some({
            let remotes = Arc::clone(&remotes);
            Arc::new(move || remotes.lock().iter().for_each(MemRemote::drop_connection))
        }),
    };
    if (case.applies)(&fixture).is_err() {
        return Ok(());
    }
    let end = catch_unwind(AssertUnwindSafe(|| case.run_checked(fixture)));
    match end {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => return Err(failure.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            return Err(format!("panic: {}", text.unwrap_or_default()));
        }
    }
    for remote in remotes.lock().iter() {
        let left = (remote.live_files(), remote.live_handles(), remote.misuses());
        if left != (0, 0, 0) {
            return Err(format!(
                "files left, handles left, uses after release: {left:?}"
            ));
        }
    }
    Ok(())
}

fn run_all(mode: InteropMode, config: &MemConfig) {
    let failures: Vec<String> = cases()
        .iter()
        .filter_map(|case| {
            let end = run_one(case, mode, config);
            end.err().map(|why| format!("{}: {why}", case.name))
        })
        .collect();
    let count = failures.len();
    assert!(
        count == 0,
        "{count} cases fail in {mode}:\n{}",
        failures.join("\n")
    );
}

/// A server that knows the flags of rename.
fn with_rename_flags(mut config: MemConfig) -> MemConfig {
    config.capabilities.rename_flags = RenameFlags::NOREPLACE | RenameFlags::EXCHANGE;
    config
}

/// A server that makes no fifos and sockets.
fn without_fifos(mut config: MemConfig) -> MemConfig {
    config.makes_fifos = false;
    config
}

macro_rules! cells {
    ($($name:ident: $mode:ident, $config:expr;)*) => {
        $(#[test]
        fn $name() {
            run_all(InteropMode::$mode, &$config);
        })*
    };
}

cells! {
    exclusive_like_lisafs: Exclusive, with_rename_flags(MemConfig::like_lisafs());
    exclusive_like_9p: Exclusive, without_fifos(MemConfig::like_9p());
    writethrough_like_lisafs: Writethrough, MemConfig::like_lisafs();
    shared_like_lisafs: Shared, with_rename_flags(MemConfig::like_lisafs());
    shared_like_9p: Shared, without_fifos(MemConfig::like_9p());
    shared_per_handle_like_lisafs: SharedPerHandle, MemConfig::like_lisafs();
    shared_per_handle_like_9p: SharedPerHandle, with_rename_flags(MemConfig::like_9p());
}

#[test]
fn cases_have_names_of_their_own() {
    let mut names = HashSet::new();
    for case in cases() {
        assert!(names.insert(case.name), "{} occurs twice", case.name);
    }
    assert!(names.len() >= 100, "only {} cases", names.len());
}
