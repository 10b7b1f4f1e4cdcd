//! Our half of `cargo xtask interop gvisor --bench`: what operations of our lisafs client cost
//! with whatever server listens, measured as the Go program in `xtask/interop/gvisor/client`
//! measures gVisor's client.
//!
//! Usage: `gvisor SOCKET OPERATION...`. Prints a line for each operation: its name and the median
//! of its cost in nanoseconds.

use std::hint::black_box;
use std::io::{IoSlice, IoSliceMut};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gofer_lisafs::client::{Config, connect};
use gofer_transport::Stream;
use gofer_vfs::remote::{
    Call, DirPos, Found, Moved, OpenMode, Owner, Promptness, RemoteError, RemoteFile,
    RemoteFilesystem, RemoteHandle, WalkEnd,
};
use gofer_vfs::{Access, AttrMask, Name};

/// For how long an operation runs before it is measured, and while it is.
const WARM_UP: Duration = Duration::from_millis(20);
const MEASURE_FOR: Duration = Duration::from_millis(100);
/// The fewest samples of an operation, and how many operations a sample has: so many that the
/// closes they leave to a later message are in it, but for operations that take long.
const SAMPLES: usize = 5;
const SMALL: u32 = 100;
const LARGE: u32 = 1;

const DEEP: &str = "a/b/c/d/e/f/g/file";
const ENTRIES: usize = 10_000;

/// A measurement, or why there is none.
type Outcome<T> = Result<T, String>;

/// The tree that operations are measured in.
struct Tree {
    remote: Arc<dyn RemoteFilesystem>,
    root: Arc<dyn RemoteFile>,
    /// A file of 1 MiB, and an open handle of it.
    file: Arc<dyn RemoteFile>,
    data: Arc<dyn RemoteHandle>,
    /// The same for writing.
    target: Arc<dyn RemoteHandle>,
    /// A directory of [`ENTRIES`] entries.
    list: Arc<dyn RemoteHandle>,
    /// An empty directory.
    fresh: Arc<dyn RemoteFile>,
    deep: Vec<Name<'static>>,
    known: Vec<Found>,
    buffer: Vec<u8>,
}

fn main() -> ExitCode {
    // cargo bench adds an option of its own.
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [socket, operations @ ..] = &args[..] else {
        eprintln!("usage: gvisor SOCKET OPERATION...");
        return ExitCode::FAILURE;
    };
    if socket.starts_with('-') {
        println!("started by cargo xtask interop gvisor --bench");
        return ExitCode::SUCCESS;
    }
    match run(socket, operations) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(socket: &str, operations: &[String]) -> Outcome<()> {
    let mut tree = Tree::connect(socket)?;
    for operation in operations {
        let median = tree
            .measure(operation)
            .map_err(|error| format!("{operation}: {error}"))?;
        println!("{operation} {median}");
    }
    tree.remote.shutdown();
    Ok(())
}

fn refused(error: RemoteError) -> String {
    error.errno.to_string()
}

fn name(text: &str) -> Outcome<Name<'_>> {
    Name::new(text.as_bytes()).map_err(|errno| errno.to_string())
}

/// Every file on the way down `names`.
fn find(root: &Arc<dyn RemoteFile>, names: &[Name<'_>]) -> Outcome<Vec<Found>> {
    let mut found = Vec::with_capacity(names.len());
    let end = root
        .walk(&Call::default(), names, &mut |file| found.push(file))
        .map_err(refused)?;
    match end {
        WalkEnd::Complete => Ok(found),
        other => Err(format!("the walk ends with {other:?}")),
    }
}

fn child(root: &Arc<dyn RemoteFile>, text: &str) -> Outcome<Arc<dyn RemoteFile>> {
    let found = find(root, &[name(text)?])?.pop();
    Ok(found.ok_or("nothing was found")?.file)
}

fn open(file: &Arc<dyn RemoteFile>, access: Access) -> Outcome<Arc<dyn RemoteHandle>> {
    let mode = OpenMode {
        access,
        truncate: false,
    };
    file.open(&Call::default(), mode).map_err(refused)
}

fn all(moved: Moved, size: usize) -> Outcome<()> {
    match moved {
        Moved { n, error: None } if n == size => Ok(()),
        other => Err(format!("{other:?} instead of {size} bytes")),
    }
}

impl Tree {
    fn connect(socket: &str) -> Outcome<Tree> {
        let stream = Stream::connect_unix(Path::new(socket)).map_err(|error| error.to_string())?;
        let remote = connect(stream, Config::default()).map_err(|error| error.to_string())?;
        let root = remote.root(&Call::default()).map_err(refused)?.file;
        let deep: Vec<Name<'static>> = DEEP.split('/').map(name).collect::<Outcome<_>>()?;
        let file = child(&root, "data")?;
        Ok(Tree {
            data: open(&file, Access::Read)?,
            target: open(&child(&root, "target")?, Access::ReadWrite)?,
            list: open(&child(&root, "list")?, Access::Read)?,
            fresh: child(&root, "new")?,
            known: find(&root, &deep)?,
            buffer: vec![0; 1 << 20],
            remote,
            root,
            file,
            deep,
        })
    }

    /// The median over samples of the nanoseconds that an operation takes.
    fn measure(&mut self, operation: &str) -> Outcome<u128> {
        let (count, run): (u32, fn(&mut Tree) -> Outcome<()>) = match operation {
            "stat" => (SMALL, Tree::stat),
            "walk-1" => (SMALL, |tree| tree.walk(1)),
            "walk-8" => (SMALL, |tree| tree.walk(8)),
            "walkstat-8" => (SMALL, Tree::walk_stat),
            "open-close" => (SMALL, Tree::open_close),
            "read-4k" => (SMALL, |tree| tree.read(4 << 10)),
            "write-4k" => (SMALL, |tree| tree.write(4 << 10)),
            "read-1m" => (LARGE, |tree| tree.read(1 << 20)),
            "write-1m" => (LARGE, |tree| tree.write(1 << 20)),
            "readdir-10000" => (LARGE, Tree::read_dir),
            "create-unlink" => (SMALL, Tree::create_unlink),
            _ => return Err("there is no such operation".to_owned()),
        };
        let end = Instant::now() + WARM_UP;
        while Instant::now() < end {
            run(self)?;
        }
        let end = Instant::now() + MEASURE_FOR;
        let mut samples = Vec::new();
        while samples.len() < SAMPLES || Instant::now() < end {
            let start = Instant::now();
            for _ in 0..count {
                run(self)?;
            }
            samples.push(start.elapsed().as_nanos() / u128::from(count));
        }
        samples.sort_unstable();
        Ok(samples[samples.len() / 2])
    }

    fn stat(&mut self) -> Outcome<()> {
        let attr = self.file.attr(&Call::default(), AttrMask::BASIC);
        black_box(attr.map_err(refused)?);
        Ok(())
    }

    fn walk(&mut self, count: usize) -> Outcome<()> {
        black_box(find(&self.root, &self.deep[..count])?);
        Ok(())
    }

    /// Eight files below one that is looked at, too: WalkStat has no other use.
    fn walk_stat(&mut self) -> Outcome<()> {
        let known: [(Name<'_>, &dyn RemoteFile); 8] =
            std::array::from_fn(|index| (self.deep[index], &*self.known[index].file));
        let mut seen = 0;
        self.root
            .revalidate(&Call::default(), &known, &mut |_| seen += 1)
            .map_err(refused)?;
        match seen {
            9 => Ok(()),
            _ => Err(format!("saw {seen}")),
        }
    }

    fn open_close(&mut self) -> Outcome<()> {
        open(&self.file, Access::Read)?
            .close(&Call::default(), Promptness::Batched)
            .map_err(refused)?;
        Ok(())
    }

    fn read(&mut self, size: usize) -> Outcome<()> {
        let mut into = [IoSliceMut::new(&mut self.buffer[..size])];
        all(self.data.read_at(&Call::default(), &mut into, 0), size)
    }

    fn write(&mut self, size: usize) -> Outcome<()> {
        let from = [IoSlice::new(&self.buffer[..size])];
        all(self.target.write_at(&Call::default(), &from, 0), size)
    }

    fn read_dir(&mut self) -> Outcome<()> {
        let (mut from, mut total) = (DirPos::default(), 0);
        loop {
            let more = self
                .list
                .read_dir(&Call::default(), from, &mut |entry| {
                    from = entry.next;
                    total += 1;
                    ControlFlow::Continue(())
                })
                .map_err(refused)?;
            if !more {
                break;
            }
        }
        match total {
            ENTRIES => Ok(()),
            _ => Err(format!("listed {total} entries")),
        }
    }

    fn create_unlink(&mut self) -> Outcome<()> {
        let (call, name) = (Call::default(), name("name")?);
        let owner = Owner {
            uid: Some(0),
            gid: Some(0),
        };
        let mode = OpenMode {
            access: Access::ReadWrite,
            truncate: false,
        };
        let (found, handle) = self
            .fresh
            .create(&call, name, 0o600, owner, mode)
            .map_err(refused)?;
        drop(handle);
        self.fresh
            .unlink(&call, name, false, Some(&*found.file))
            .map_err(refused)?;
        Ok(())
    }
}
