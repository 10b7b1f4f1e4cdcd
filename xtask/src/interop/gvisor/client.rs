//! Our client against the gofer, below the VFS: what the behaviour suite cannot see. Which
//! messages a call costs, what becomes of donated descriptors, and what a server that is older
//! than ours does not offer.

use std::fs;
use std::io::{IoSlice, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};
use gofer_vfs::remote::{New, Promptness, RemoteResult, SocketType};
use gofer_vfs::{Access, AttrMask, Errno, RenameFlags, XattrFlags};

use super::go::Programs;
use super::probe::{CALL, OWNER, Probe, fails, mode, name, read, works, write};
use crate::outcome::{CaseResult, CellResult, CellState, Verdict, seconds};
use crate::suite::Selection;

const ROW: &str = "own client/gofer";
/// Columns, and their mount options.
const COLUMNS: [(&str, &str); 2] = [
    ("channels", "lisafs=true"),
    ("socket", "lisafs=true,channels=0"),
];

/// A case: its name, the gofer's flags, and what it does.
type Case = (
    &'static str,
    &'static [&'static str],
    fn(&mut Probe) -> Result<()>,
);

const SOCKETS: &[&str] = &["-host-uds", "all"];
const KEEPING: &[&str] = &["-no-donate"];

const CASES: [Case; 14] = [
    ("donated_descriptors_carry_data", &[], donated_data),
    ("data_goes_in_many_messages", KEEPING, large_data),
    ("opened_files_are_closed_together", &[], batched_closes),
    ("files_are_synced_together", &[], batched_syncs),
    ("a_file_that_cannot_sync_is_found", &[], failing_sync),
    ("one_walk_finds_300_names", &[], long_walk),
    ("names_beyond_all_limits", &[], endless_names),
    ("open_files_follow_renames", &[], renamed_tree),
    ("deleted_files_stay_open", &[], deleted_file),
    ("messages_that_are_not_listed", &[], unlisted_messages),
    ("sockets_connect_and_accept", SOCKETS, sockets),
    ("sockets_that_are_not_allowed", &[], no_sockets),
    ("read_only_exports", &["-ro"], read_only),
    ("many_callers_at_once", &[], many_callers),
];

/// Prints the cases that `selection` has.
pub(super) fn list(selection: &Selection) {
    for (column, _) in COLUMNS {
        let cell = format!("{ROW}/{column}");
        for (case, ..) in CASES {
            if selection.has(&cell, case) {
                println!("{cell}::{case}");
            }
        }
    }
}

/// Runs the cases that `selection` has.
pub(super) fn run(programs: &Programs, selection: &Selection) -> Vec<CellResult> {
    let mut cells = Vec::new();
    for (column, options) in COLUMNS {
        let start = Instant::now();
        let mut cell = CellResult {
            row: ROW.to_owned(),
            column: column.to_owned(),
            state: CellState::Ran,
            cases: Vec::new(),
            seconds: 0.0,
        };
        let name = cell.name();
        for (case, flags, run) in CASES {
            if selection.has(&name, case) {
                cell.cases
                    .push(run_case(programs, options, case, flags, run));
            }
        }
        if !cell.cases.is_empty() {
            cell.seconds = seconds(start.elapsed());
            println!("{}", cell.line());
            cells.push(cell);
        }
    }
    cells
}

fn run_case(
    programs: &Programs,
    options: &str,
    case: &str,
    flags: &[&str],
    run: fn(&mut Probe) -> Result<()>,
) -> CaseResult {
    let start = Instant::now();
    let mut command = programs.server();
    command.args(flags);
    let verdict = match Probe::start(command, options) {
        Err(error) => Verdict::Failed(format!("no connection: {error:#}")),
        Ok(mut probe) => match run(&mut probe) {
            Err(error) => Verdict::Failed(format!("{error:#}\n{}", probe.server.log())),
            Ok(()) if !probe.server.is_running() => {
                Verdict::Failed(format!("the gofer has ended\n{}", probe.server.log()))
            }
            Ok(()) => Verdict::Passed,
        },
    };
    CaseResult {
        case: case.to_owned(),
        verdict,
        seconds: seconds(start.elapsed()),
    }
}

fn donated_data(probe: &mut Probe) -> Result<()> {
    fs::write(probe.dir.join("file"), "content")?;
    let handle = probe.open("file", Access::ReadWrite)?;
    ensure!(handle.host_fd().is_some(), "no descriptor was donated");
    let requests = probe.requests(|| {
        ensure!(works("read", read(&*handle, 100))? == b"content", "content");
        write(&*handle, b"CON")
    })?;
    ensure!(requests == 0, "data went in {requests} messages");
    ensure!(fs::read(probe.dir.join("file"))? == b"CONtent");
    let reading = probe.open("file", Access::Read)?;
    let written = reading.write_at(&CALL, &[IoSlice::new(b"x")], 0);
    ensure!(
        written.n == 0 && written.error.is_some(),
        "wrote to a file open for reading"
    );
    Ok(())
}

fn large_data(probe: &mut Probe) -> Result<()> {
    let (_, handle) = probe.create("large")?;
    ensure!(handle.host_fd().is_none(), "a descriptor was donated");
    let data: Vec<u8> = (0..5 << 20).map(|at| (at * 7 / 3) as u8).collect();
    let requests = probe.requests(|| {
        write(&*handle, &data)?;
        ensure!(works("read", read(&*handle, data.len() + 9))? == data);
        Ok(())
    })?;
    // A message holds a little less than 2 MiB; more messages than these are not worth it.
    ensure!((6..=50).contains(&requests), "{requests} messages");
    ensure!(fs::read(probe.dir.join("large"))? == data, "on the host");
    Ok(())
}

fn batched_closes(probe: &mut Probe) -> Result<()> {
    fs::write(probe.dir.join("file"), "")?;
    let file = probe.file("file")?;
    let requests = probe.requests(|| {
        for _ in 0..500 {
            drop(works("open", file.open(&CALL, mode(Access::Read)))?);
        }
        works("flush", probe.remote.flush_closes(&CALL))
    })?;
    ensure!(requests <= 510, "{requests} messages for 500 opened files");
    Ok(())
}

fn batched_syncs(probe: &mut Probe) -> Result<()> {
    let mut handles = Vec::new();
    for index in 0..40 {
        handles.push(probe.create(&format!("file-{index}"))?.1);
    }
    let mut done = 0;
    let requests = probe.requests(|| {
        let count = &mut |_, result: RemoteResult<()>| done += usize::from(result.is_ok());
        probe.remote.sync_all(&CALL, &handles, count);
        Ok(())
    })?;
    ensure!(requests == 1, "{requests} messages");
    ensure!(done == 40, "{done} of 40 are synced");
    Ok(())
}

fn failing_sync(probe: &mut Probe) -> Result<()> {
    let handles = [probe.create("one")?.1, probe.create("two")?.1];
    // The server does not know the first any more.
    works("close", handles[0].close(&CALL, Promptness::Prompt))?;
    let mut results = [None, None];
    let done = &mut |index: usize, result| results[index] = Some(result);
    probe.remote.sync_all(&CALL, &handles, done);
    ensure!(matches!(results[0], Some(Err(_))), "{:?}", results[0]);
    ensure!(matches!(results[1], Some(Ok(()))), "{:?}", results[1]);
    Ok(())
}

fn long_walk(probe: &mut Probe) -> Result<()> {
    let path = vec!["d"; 300].join("/");
    fs::create_dir_all(probe.dir.join(&path))?;
    let requests = probe.requests(|| probe.walk(&path).map(drop))?;
    ensure!(requests == 1, "{requests} messages");
    Ok(())
}

/// A length on the wire has 16 bits.
fn endless_names(probe: &mut Probe) -> Result<()> {
    fs::write(probe.dir.join("file"), "")?;
    let file = probe.file("file")?;
    for length in [256, 4096, 65_535, 65_536, 70_000] {
        let long = vec![b'n'; length];
        let what = format!("{length} bytes");
        let walked = probe.root.walk(&CALL, &[name(&long)?], &mut |_| ());
        fails(&what, walked, Errno::ENAMETOOLONG)?;
        let made = probe.root.make(&CALL, name(&long)?, New::Dir, 0o755, OWNER);
        fails(&what, made.map(drop), Errno::ENAMETOOLONG)?;
        let unlinked = probe.root.unlink(&CALL, name(&long)?, false, None);
        fails(&what, unlinked, Errno::ENAMETOOLONG)?;
        let linked = probe.root.link(&CALL, name(&long)?, &*file);
        fails(&what, linked.map(drop), Errno::ENAMETOOLONG)?;
    }
    let target = vec![b't'; 70_000];
    let link = New::Symlink(&target);
    let made = probe.root.make(&CALL, name(b"link")?, link, 0o777, OWNER);
    fails("a long target", made.map(drop), Errno::ENAMETOOLONG)?;
    probe.file("file").map(drop)
}

fn renamed_tree(probe: &mut Probe) -> Result<()> {
    fs::create_dir_all(probe.dir.join("old/sub"))?;
    fs::create_dir(probe.dir.join("new"))?;
    fs::write(probe.dir.join("old/sub/file"), "content")?;
    let (sub, handle) = (
        probe.file("old/sub")?,
        probe.open("old/sub/file", Access::ReadWrite)?,
    );
    let new = probe.file("new")?;
    let flags = RenameFlags::empty();
    let moved = (&*new, name(b"moved")?);
    let renamed = probe.root.rename(&CALL, name(b"old")?, None, moved, flags);
    works("rename", renamed)?;
    ensure!(works("read", read(&*handle, 100))? == b"content");
    works("attributes", handle.attr(&CALL, AttrMask::BASIC))?;
    let made = sub.make(&CALL, name(b"made")?, New::Dir, 0o755, OWNER);
    works("mkdir below", made)?;
    ensure!(probe.dir.join("new/moved/sub/made").is_dir(), "elsewhere");
    Ok(())
}

fn deleted_file(probe: &mut Probe) -> Result<()> {
    let (found, handle) = probe.create("file")?;
    write(&*handle, b"content")?;
    let unlinked = probe
        .root
        .unlink(&CALL, name(b"file")?, false, Some(&*found.file));
    works("unlink", unlinked)?;
    ensure!(works("read", read(&*handle, 100))? == b"content");
    let attr = works("attributes", handle.attr(&CALL, AttrMask::BASIC))?;
    ensure!(attr.nlink == 0, "{} names", attr.nlink);
    // This release opens no deleted file.
    let opened = found.file.open(&CALL, mode(Access::Read));
    fails("open", opened.map(drop), Errno::EINVAL)
}

fn unlisted_messages(probe: &mut Probe) -> Result<()> {
    let (found, handle) = probe.create("file")?;
    let capabilities = probe.remote.capabilities();
    ensure!(
        capabilities.rename_flags.is_empty(),
        "it renames with flags"
    );
    let requests = probe.requests(|| {
        let listed = found.file.list_xattr(&CALL, &mut |_| ());
        fails("list xattrs", listed, Errno::EOPNOTSUPP)?;
        let removed = found.file.remove_xattr(&CALL, b"user.x");
        fails("remove an xattr", removed, Errno::EOPNOTSUPP)?;
        works("flush", handle.flush(&CALL))
    })?;
    ensure!(requests == 0, "{requests} messages that nobody understands");
    let set = found
        .file
        .set_xattr(&CALL, b"user.x", b"", XattrFlags::empty());
    fails("set an xattr", set, Errno::EOPNOTSUPP)
}

fn sockets(probe: &mut Probe) -> Result<()> {
    let (path, kind) = (probe.dir.join("host"), SocketType::Stream);
    let listener = UnixListener::bind(&path)?;
    let connected = works("connect", probe.file("host")?.connect(&CALL, kind))?;
    let (accepted, _) = listener.accept()?;
    talk(connected.into(), accepted)?;
    let bound = probe.root.bind(&CALL, name(b"ours")?, kind, 0o700, OWNER);
    let (_, socket) = works("bind", bound)?;
    works("listen", socket.listen(&CALL, 4))?;
    fails("accept", socket.accept(&CALL).map(drop), Errno::EAGAIN)?;
    let other = UnixStream::connect(probe.dir.join("ours"))?;
    let accepted = works("accept", socket.accept(&CALL))?;
    talk(accepted.into(), other)?;
    let wrong = probe
        .file("host")?
        .connect(&CALL, SocketType::SeqPacket)
        .map(drop);
    fails("connect as another type", wrong, Errno::EPROTOTYPE)
}

fn talk(one: UnixStream, other: UnixStream) -> Result<()> {
    // What was donated does not block.
    one.set_nonblocking(false)?;
    let (mut one, mut other, mut heard) = (one, other, [0; 5]);
    one.write_all(b"hello")?;
    other.read_exact(&mut heard)?;
    ensure!(&heard == b"hello");
    Ok(())
}

fn no_sockets(probe: &mut Probe) -> Result<()> {
    let _listener = UnixListener::bind(probe.dir.join("host"))?;
    let walked = probe.root.walk(&CALL, &[name(b"host")?], &mut |_| ());
    fails("walk", walked.map(drop), Errno::EPERM)?;
    let kind = SocketType::Stream;
    let bound = probe.root.bind(&CALL, name(b"ours")?, kind, 0o700, OWNER);
    fails("bind", bound.map(drop), Errno::EPERM)
}

fn read_only(probe: &mut Probe) -> Result<()> {
    fs::write(probe.dir.join("file"), "content")?;
    let file = probe.file("file")?;
    for access in [Access::Write, Access::ReadWrite] {
        let opened = file.open(&CALL, mode(access)).map(drop);
        fails("open for writing", opened, Errno::EROFS)?;
    }
    let made = probe
        .root
        .make(&CALL, name(b"dir")?, New::Dir, 0o755, OWNER);
    fails("mkdir", made.map(drop), Errno::EROFS)?;
    let unlinked = probe.root.unlink(&CALL, name(b"file")?, false, None);
    fails("unlink", unlinked, Errno::EROFS)?;
    let handle = works("open", file.open(&CALL, mode(Access::Read)))?;
    ensure!(works("read", read(&*handle, 100))? == b"content");
    Ok(())
}

fn many_callers(probe: &mut Probe) -> Result<()> {
    let probe = &*probe;
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..12)
            .map(|caller| scope.spawn(move || one_of_many(probe, caller)))
            .collect();
        callers
            .into_iter()
            .try_for_each(|caller| caller.join().map_err(|_| anyhow!("a panic"))?)
    })
}

fn one_of_many(probe: &Probe, caller: usize) -> Result<()> {
    for round in 0..100 {
        let text = format!("file-{caller}-{round}");
        let (found, handle) = probe.create(&text)?;
        write(&*handle, text.as_bytes())?;
        let attr = works("attributes", found.file.attr(&CALL, AttrMask::BASIC))?;
        ensure!(attr.size == text.len() as u64, "{} bytes", attr.size);
        let unlinked = probe
            .root
            .unlink(&CALL, name(text.as_bytes())?, false, None);
        works("unlink", unlinked)?;
    }
    Ok(())
}
