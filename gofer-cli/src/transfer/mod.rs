//! The copy engine of `get`, `put` and `cp`: trees from one side to the other.
//!
//! One thread walks the source and makes directories, others copy files. Memory is bounded: a
//! batch of names for each directory being listed, a short queue of files, a buffer for each
//! thread. A directory gets its final mode and times when the last file in it is done.

mod content;
mod local;
mod remote;
mod side;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use clap::Args;
use gofer_vfs::{Attr, Errno, FileType};
use parking_lot::Mutex;

use crate::client::{Client, join, show};
use crate::error::{CliError, CliResult, Tally};
use crate::exit::Exit;
use crate::traverse::DEPTH_LIMIT;
use crate::ui::Ui;
use crate::ui::progress::Progress;

pub use local::{Local, raise_descriptor_limit};
pub use remote::Remote;
pub use side::Place;
use side::{Batch, Create, Fault, Placed, Reader, Settable, Side, SideResult, Writer, settle};

/// Files waiting for a thread.
const QUEUE: usize = 64;

/// Flags that all copies share.
#[derive(Args, Debug, Clone)]
pub struct CopyFlags {
    /// Directories with all that is in them
    #[arg(short, long, short_alias = 'R')]
    pub recursive: bool,
    /// Keep times and owners; modes are always kept
    #[arg(short, long)]
    pub preserve: bool,
    /// Bring each file to stable storage before going on
    #[arg(short, long)]
    pub fsync: bool,
    /// Files copied at the same time
    #[arg(long, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u8).range(1..=64))]
    pub parallel: u8,
    /// Stop at the first error instead of going on with the next file
    #[arg(long)]
    pub fail_fast: bool,
}

/// One copy: where from, where to, how.
pub struct Copy<'a, S: Side, D: Side> {
    /// Where from.
    pub source: (&'a S, Place),
    /// Where to.
    pub target: (&'a D, Place),
    /// How.
    pub flags: &'a CopyFlags,
    /// Go on with files that are there already, from their ends.
    pub resume: bool,
    client: &'a Client,
    ui: &'a Ui,
    progress: Progress,
    tally: Mutex<Tally>,
    /// What ended the copy before its time.
    stopped: Mutex<Option<CliError>>,
    stopping: AtomicBool,
    files: AtomicU64,
}

/// A file for a thread to copy.
struct Job<S: Side, D: Side> {
    from: Arc<S::Dir>,
    to: Arc<Open<D>>,
    name: Vec<u8>,
    kind: FileType,
    paths: Paths,
}

/// What a file is called on either side, for messages.
#[derive(Clone)]
struct Paths {
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Paths {
    fn join(&self, name: &[u8]) -> Paths {
        Paths {
            from: join(&self.from, name),
            to: join(&self.to, name),
        }
    }
}

/// A directory of the target while something is still to be put into it.
struct Open<D: Side> {
    dir: D::Dir,
    /// What it is to look like in the end; `None` for one that was there before.
    attr: Option<Attr>,
    path: Vec<u8>,
    parent: Option<Arc<Open<D>>>,
}

/// A directory being walked.
struct Frame<S: Side, D: Side> {
    from: Arc<S::Dir>,
    list: S::List,
    batch: Batch,
    to: Arc<Open<D>>,
    paths: Paths,
}

impl<'a, S: Side, D: Side> Copy<'a, S, D> {
    /// Prepares a copy; nothing happens yet.
    pub fn new(
        client: &'a Client,
        ui: &'a Ui,
        flags: &'a CopyFlags,
        source: (&'a S, Place),
        target: (&'a D, Place),
    ) -> Copy<'a, S, D> {
        Copy {
            source,
            target,
            flags,
            resume: false,
            client,
            ui,
            progress: Progress::new(ui.progress),
            tally: Mutex::new(Tally::default()),
            stopped: Mutex::new(None),
            stopping: AtomicBool::new(false),
            files: AtomicU64::new(0),
        }
    }

    /// Copies `from` to the name `to`. Failures are shown and counted; what comes back as an
    /// error ends the whole command.
    pub fn run(&self, from: &[u8], to: &[u8]) -> CliResult<()> {
        let done = self.top(from, to);
        self.count(done);
        match self.stopped.lock().take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Counts a failure that belongs to the copy but happened around it.
    pub fn fail(&self, error: CliError) -> CliResult<()> {
        self.count(Err(error));
        match self.stopped.lock().take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Ends the progress and says what the whole amounts to.
    pub fn finish(self) -> CliResult<()> {
        self.progress.finish(self.files.load(Ordering::Relaxed));
        self.tally.into_inner().finish()
    }

    fn top(&self, from: &[u8], to: &[u8]) -> CliResult<()> {
        let paths = Paths {
            from: from.to_vec(),
            to: to.to_vec(),
        };
        let (source, target) = (self.source.0, self.target.0);
        let src = source.current().map_err(self.at_source(b"."))?;
        let dst = target.current().map_err(self.at_target(b"."))?;
        // As cp does: a link is copied as one only in a tree.
        let follow = !self.flags.recursive || from.ends_with(b"/");
        let attr = source
            .attr(&src, from, follow)
            .map_err(self.at_source(from))?;
        match attr.file_type {
            FileType::Directory if !self.flags.recursive => Err(self
                .source
                .1
                .blame(Fault::new("copy", Errno::EISDIR), from)
                .hint("-r copies directories")),
            FileType::Directory => self.tree(&src, &dst, &attr, paths),
            FileType::Regular => {
                let mut buffer = vec![0; content::BUFFER];
                self.file(&src, from, &dst, to, &paths, true, &mut buffer)
            }
            _ if follow => {
                // Devices and fifos named by the user are read, as cat does.
                let mut buffer = vec![0; content::BUFFER];
                self.file(&src, from, &dst, to, &paths, true, &mut buffer)
            }
            kind => self.other(&src, from, &dst, to, kind, &paths),
        }
    }

    fn tree(&self, src: &S::Dir, dst: &D::Dir, attr: &Attr, paths: Paths) -> CliResult<()> {
        let from = paths.from.clone();
        let to = paths.to.clone();
        let frame = self.enter((src, &from), (dst, &to), attr, paths, None, true)?;
        let (sender, receiver) = sync_channel(QUEUE);
        let receiver = Mutex::new(receiver);
        std::thread::scope(|scope| {
            for _ in 0..self.flags.parallel {
                scope.spawn(|| self.work(&receiver));
            }
            self.walk(frame, sender);
        });
        Ok(())
    }

    /// Walks the source depth first and hands files to the threads.
    fn walk(&self, top: Frame<S, D>, sender: SyncSender<Job<S, D>>) {
        let mut stack = vec![top];
        while let Some(frame) = stack.last_mut() {
            if self.is_stopping() {
                break;
            }
            let Some((name, kind)) = frame.batch.pop() else {
                match self.source.0.next(&mut frame.list) {
                    Ok(batch) if !batch.is_empty() => {
                        frame.batch = batch;
                        continue;
                    }
                    Ok(_) => {}
                    Err(fault) => self.count(Err(self.at_source(&frame.paths.from)(fault))),
                }
                if let Some(done) = stack.pop() {
                    self.release(done.to);
                }
                continue;
            };
            let paths = frame.paths.join(&name);
            // A type from the listing saves asking here; the thread will see for itself.
            let attr = match kind {
                Some(kind) if kind != FileType::Directory => Ok(Attr::of_type(kind)),
                _ => self.source.0.attr(&frame.from, &name, false),
            };
            let attr = match attr {
                Ok(attr) => attr,
                Err(fault) => {
                    self.count(Err(self.at_source(&paths.from)(fault)));
                    continue;
                }
            };
            if attr.file_type == FileType::Directory {
                let depth = stack.len();
                let entered = match stack.last() {
                    Some(frame) if depth < DEPTH_LIMIT => {
                        let parent = Some(frame.to.clone());
                        let (from, to) = ((&*frame.from, &*name), (&frame.to.dir, &*name));
                        self.enter(from, to, &attr, paths, parent, false)
                    }
                    _ => Err(too_deep(&paths.from)),
                };
                match entered {
                    Ok(frame) => stack.push(frame),
                    Err(error) => self.count(Err(error)),
                }
                continue;
            }
            let job = Job {
                from: frame.from.clone(),
                to: frame.to.clone(),
                name,
                kind: attr.file_type,
                paths,
            };
            // Threads only end before us when something went badly wrong.
            if sender.send(job).is_err() {
                break;
            }
        }
        // In order, so that a parent is released after its children.
        while let Some(frame) = stack.pop() {
            self.release(frame.to);
        }
    }

    /// Makes a directory of the target and begins to list its source.
    fn enter(
        &self,
        (src, from): (&S::Dir, &[u8]),
        (dst, to): (&D::Dir, &[u8]),
        attr: &Attr,
        paths: Paths,
        parent: Option<Arc<Open<D>>>,
        named: bool,
    ) -> CliResult<Frame<S, D>> {
        let (source, target) = (self.source.0, self.target.0);
        let (from_path, to_path) = (paths.from.clone(), paths.to.clone());
        let at_source = self.at_source(&from_path);
        let at_target = self.at_target(&to_path);
        let held = source.dir(src, from, named).map_err(&at_source)?;
        let list = source.list(&held).map_err(&at_source)?;
        // Until everything is in it, we must be able to write to it, and nobody else needs to
        // read what may turn out private.
        let made = match target.make_dir(dst, to, (attr.mode & 0o777) | 0o700) {
            Ok(()) => true,
            Err(fault) if fault.errno == Errno::EEXIST => false,
            Err(fault) => return Err(at_target(fault)),
        };
        let dir = target.dir(dst, to, named).map_err(&at_target)?;
        self.ui
            .did(|| format!("{} -> {}", show(&paths.from), show(&paths.to)));
        let open = Open {
            dir,
            attr: (made || self.flags.preserve).then_some(*attr),
            path: to_path.clone(),
            parent,
        };
        self.count(Ok(()));
        Ok(Frame {
            from: Arc::new(held),
            list,
            batch: Batch::new(),
            to: Arc::new(open),
            paths,
        })
    }

    /// Lets go of a directory of the target; the last one to do so gives it its attributes, and
    /// then lets go of its parent.
    fn release(&self, open: Arc<Open<D>>) {
        let mut next = Some(open);
        while let Some(open) = next {
            let Some(open) = Arc::into_inner(open) else {
                return;
            };
            if let Some(attr) = &open.attr {
                let settled = settle(&open.dir, attr, self.flags.preserve, self.target.0.uid());
                if let Err(fault) = settled {
                    self.count(Err(self.at_target(&open.path)(fault)));
                }
            }
            next = open.parent;
        }
    }

    fn work(&self, receiver: &Mutex<Receiver<Job<S, D>>>) {
        let mut buffer = vec![0; content::BUFFER];
        loop {
            let job = receiver.lock().recv();
            let Ok(job) = job else { return };
            if !self.is_stopping() {
                let (from, to) = (&*job.from, &job.to.dir);
                let done = match job.kind {
                    FileType::Regular => self.file(
                        from,
                        &job.name,
                        to,
                        &job.name,
                        &job.paths,
                        false,
                        &mut buffer,
                    ),
                    kind => self.other(from, &job.name, to, &job.name, kind, &job.paths),
                };
                self.count(done);
            }
            self.release(job.to);
        }
    }

    /// Copies one regular file, or what can be read like one when the user `named` it.
    #[allow(clippy::too_many_arguments)]
    fn file(
        &self,
        src: &S::Dir,
        from: &[u8],
        dst: &D::Dir,
        to: &[u8],
        paths: &Paths,
        named: bool,
        buffer: &mut [u8],
    ) -> CliResult<()> {
        let at_source = self.at_source(&paths.from);
        let at_target = self.at_target(&paths.to);
        self.progress.begins(&paths.from);
        let reader = self.source.0.open(src, from, named).map_err(&at_source)?;
        let mut attr = reader.attr().map_err(&at_source)?;
        if attr.file_type != FileType::Regular {
            if !named {
                return Err(at_source(Fault::new("copy", Errno::EINVAL))
                    .hint("it was a regular file a moment ago"));
            }
            attr.size = 0;
        }
        self.progress.found(attr.size);
        let (writer, offset) = self.create(dst, to, &attr, named).map_err(&at_target)?;
        self.progress.moved(offset);
        let blame = |broken: content::Broken| {
            broken.blame((self.source.1, &paths.from), (self.target.1, &paths.to))
        };
        content::copy(&reader, &writer, &attr, offset, buffer, &mut |bytes| {
            self.progress.moved(bytes);
            self.go_on()
        })
        .map_err(blame)?;
        let is_file = Settable::attr(&writer).map_err(&at_target)?.file_type == FileType::Regular;
        if is_file && attr.file_type == FileType::Regular {
            settle(&writer, &attr, self.flags.preserve, self.target.0.uid()).map_err(&at_target)?;
        }
        if self.flags.fsync {
            writer.sync().map_err(&at_target)?;
        }
        writer.close().map_err(&at_target)?;
        self.files.fetch_add(1, Ordering::Relaxed);
        self.ui
            .did(|| format!("{} -> {}", show(&paths.from), show(&paths.to)));
        Ok(())
    }

    /// Opens the target of a file, and says where to go on in it.
    fn create(
        &self,
        dst: &D::Dir,
        to: &[u8],
        attr: &Attr,
        named: bool,
    ) -> SideResult<(D::Writer, u64)> {
        let target = self.target.0;
        // Before it is given away, a copy is for nobody else to read.
        let private = self.flags.preserve && attr.uid != target.uid();
        let mode = attr.mode & if private { 0o700 } else { 0o777 };
        if named && !self.resume {
            return Ok((target.create(dst, to, Create::Named(mode))?, 0));
        }
        match target.create(dst, to, Create::New(mode)) {
            Err(fault) if fault.errno == Errno::EEXIST => {}
            created => return Ok((created?, 0)),
        }
        let there = target.attr(dst, to, false)?;
        match there.file_type {
            FileType::Regular if self.resume && there.size <= attr.size => {
                Ok((target.create(dst, to, Create::Append)?, there.size))
            }
            FileType::Regular => Ok((target.create(dst, to, Create::Over)?, 0)),
            FileType::Directory => Err(Fault::new("open", Errno::EISDIR)),
            _ => {
                target.unlink(dst, to)?;
                Ok((target.create(dst, to, Create::New(mode))?, 0))
            }
        }
    }

    /// Copies what is no regular file and no directory: makes one like it.
    fn other(
        &self,
        src: &S::Dir,
        from: &[u8],
        dst: &D::Dir,
        to: &[u8],
        kind: FileType,
        paths: &Paths,
    ) -> CliResult<()> {
        let at_source = self.at_source(&paths.from);
        let at_target = self.at_target(&paths.to);
        let (source, target) = (self.source.0, self.target.0);
        if kind == FileType::Socket {
            self.progress.suspend(|| {
                self.ui
                    .note(&format!("{}: a socket, not copied", show(&paths.from)));
            });
            return Ok(());
        }
        let link = match kind {
            FileType::Symlink => Some(source.read_link(src, from).map_err(&at_source)?),
            _ => None,
        };
        // Of a link only -p needs to know more.
        let attr = match link.is_some() && !self.flags.preserve {
            true => Attr::of_type(kind),
            false => source.attr(src, from, false).map_err(&at_source)?,
        };
        let make = || match &link {
            Some(text) => target.make_link(dst, to, text),
            None => target.make_node(dst, to, &attr),
        };
        match make() {
            Err(fault) if fault.errno == Errno::EEXIST => {
                target.unlink(dst, to).map_err(&at_target)?;
                make().map_err(&at_target)?;
            }
            made => made.map_err(&at_target)?,
        }
        if self.flags.preserve {
            let placed = Placed {
                side: target,
                dir: dst,
                name: to,
            };
            settle(&placed, &attr, true, target.uid()).map_err(&at_target)?;
        }
        self.files.fetch_add(1, Ordering::Relaxed);
        self.ui
            .did(|| format!("{} -> {}", show(&paths.from), show(&paths.to)));
        Ok(())
    }

    /// Counts a result; an error is shown, or stops the copy when it is too bad.
    fn count(&self, result: CliResult<()>) {
        // Once it is to stop, what else fails is only the consequence.
        if result.is_err() && self.is_stopping() {
            return;
        }
        let result = result.map_err(|error| self.client.explain(error));
        let failed = result.is_err();
        let noted = self.tally.lock().note(result, |error| {
            self.progress.suspend(|| self.ui.error(error));
        });
        let stop = match noted {
            Err(error) => error,
            Ok(()) if failed && self.flags.fail_fast => CliError::told(Exit::Partial),
            Ok(()) => return,
        };
        let mut stopped = self.stopped.lock();
        if stopped.is_none() {
            *stopped = Some(stop);
        }
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn is_stopping(&self) -> bool {
        if self.client.cancel.is_set() && !self.stopping.load(Ordering::Relaxed) {
            self.stopping.store(true, Ordering::Relaxed);
            self.stopped
                .lock()
                .get_or_insert_with(CliError::interrupted);
        }
        self.stopping.load(Ordering::Relaxed)
    }

    /// Asked between two pieces of a file.
    fn go_on(&self) -> CliResult<()> {
        match self.is_stopping() {
            true => Err(CliError::told(Exit::Interrupted)),
            false => Ok(()),
        }
    }

    fn at_source<'p>(&self, path: &'p [u8]) -> impl Fn(Fault) -> CliError + use<'p, S, D> {
        let place = self.source.1;
        move |fault| place.blame(fault, path)
    }

    fn at_target<'p>(&self, path: &'p [u8]) -> impl Fn(Fault) -> CliError + use<'p, S, D> {
        let place = self.target.1;
        move |fault| place.blame(fault, path)
    }
}

fn too_deep(path: &[u8]) -> CliError {
    let text = format!(
        "copy {}: deeper than {DEPTH_LIMIT} directories, the limit",
        show(path)
    );
    CliError::new(Exit::Failed, text).with_errno("copy", Errno::ELOOP)
}
