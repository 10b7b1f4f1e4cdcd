//! The same operations through a client and a server process.

use std::hint::black_box;
use std::sync::Arc;

use criterion::Criterion;
use gofer_transport::Stream;
use gofer_vfs::remote::{Call, Found, RemoteFile, RemoteFilesystem, WalkEnd};
use gofer_vfs::{
    At, AttrMask, Context, Credentials, Filesystem, Follow, MountFlags, MountOptions, Name,
    OpenFlags,
};
use xtask::connect;

use crate::{DEEP, READS, Tree, UNBOXED, socket};

/// A protocol as it is measured.
#[derive(Clone, Copy)]
pub(crate) struct Protocol {
    group: &'static str,
    served_as: &'static str,
    options: &'static str,
}

/// Both protocols, the first one in its base form, too.
pub(crate) const PROTOCOLS: [Protocol; 3] = [
    Protocol {
        group: "9p2000.L",
        served_as: "9p",
        options: "version=9P2000.L",
    },
    Protocol {
        group: "9p-google",
        served_as: "9p",
        options: "version=9P2000.L.Google.13",
    },
    Protocol {
        group: "lisafs",
        served_as: "lisafs",
        options: "lisafs=true",
    },
];

/// A server process and the connection to it.
struct Session {
    child: std::process::Child,
    remote: Arc<dyn RemoteFilesystem>,
    options: MountOptions,
}

impl Session {
    fn start(tree: &Tree, protocol: Protocol, cache: &str, donate: bool) -> Session {
        let root = tree.path("");
        let root = root.to_str().expect("a temporary directory in UTF-8");
        let mut args = vec!["serve", "--protocol", protocol.served_as, "--root", root];
        args.extend(["--fd", "0"]);
        args.extend(UNBOXED);
        if !donate {
            args.push("--no-donate");
        }
        let (child, socket) = socket::spawn(&args).expect("start a server");
        let stream = Stream::from_fd(socket.into()).expect("a stream socket");
        let text = format!(
            "trans=fd,rfdno=0,wfdno=0,cache={cache},{}",
            protocol.options
        );
        let options: MountOptions = text.parse().expect("mount options");
        let remote = connect::connect(stream, &options).expect("connect");
        Session {
            child,
            remote,
            options,
        }
    }

    fn mount(&self) -> Filesystem {
        let flags = MountFlags::default();
        Filesystem::mount(self.remote.clone(), self.options.clone(), flags).expect("mount")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.remote.shutdown();
        let _ = self.child.wait();
    }
}

pub(crate) fn measure(criterion: &mut Criterion, tree: &Tree, protocol: Protocol) {
    measure_calls(criterion, tree, protocol);
    measure_mounted(criterion, tree, protocol);
    measure_reads(criterion, tree, protocol, false);
    if protocol.served_as == "lisafs" {
        measure_reads(criterion, tree, protocol, true);
    }
}

/// Single calls of the protocol, without a cache above them.
fn measure_calls(criterion: &mut Criterion, tree: &Tree, protocol: Protocol) {
    let session = Session::start(tree, protocol, "fscache", false);
    let call = Call::default();
    let root = session.remote.root(&call).expect("attach").file;
    let mut group = criterion.benchmark_group(protocol.group);
    group.bench_function("stat", |bencher| {
        bencher.iter(|| black_box(root.attr(&call, AttrMask::BASIC).expect("stat")));
    });
    let names: Vec<Name<'_>> = DEEP
        .split('/')
        .map(|name| Name::new(name.as_bytes()).expect("a name"))
        .collect();
    for (name, names) in [("walk-1", &names[..1]), ("walk-8", &names[..])] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(walk(&root, names)));
        });
    }
    group.finish();
}

/// Walks all of `names`, in as many round trips as the protocol needs, and gives up what it
/// found.
fn walk(root: &Arc<dyn RemoteFile>, names: &[Name<'_>]) -> usize {
    let call = Call::default();
    let mut found: Vec<Found> = Vec::with_capacity(names.len());
    loop {
        let from = found.last().map_or(root, |found| &found.file).clone();
        let left = &names[found.len()..];
        match from.walk(&call, left, &mut |file| found.push(file)) {
            Ok(WalkEnd::CallAgain) => {}
            Ok(WalkEnd::Complete) => return found.len(),
            other => panic!("the walk ends with {other:?}"),
        }
    }
}

/// What a mount adds: its cache, and making and removing a file.
fn measure_mounted(criterion: &mut Criterion, tree: &Tree, protocol: Protocol) {
    let session = Session::start(tree, protocol, "fscache", false);
    let fs = session.mount();
    let creds = Credentials::root();
    let cx = Context::new(&creds);
    let root = fs.root();
    let mut group = criterion.benchmark_group(protocol.group);
    group.bench_function("cached-stat-4", |bencher| {
        let at = At::new(&root, b"a/b/c/d");
        bencher.iter(|| black_box(fs.stat(&cx, at, Follow::No).expect("stat")));
    });
    group.bench_function("create-unlink", |bencher| {
        let at = At::new(&root, b"new");
        let flags = OpenFlags::WRONLY | OpenFlags::CREAT | OpenFlags::EXCL;
        bencher.iter(|| {
            let file = fs.open(&cx, at, flags, 0o644).expect("create");
            file.close(&cx).expect("close");
            fs.unlink(&cx, at).expect("unlink");
        });
    });
    group.finish();
    fs.unmount(&cx).expect("unmount");
}

/// Reads that no cache of ours answers: through the server, or from a descriptor it donated.
fn measure_reads(criterion: &mut Criterion, tree: &Tree, protocol: Protocol, donate: bool) {
    let session = Session::start(tree, protocol, "none", donate);
    let fs = session.mount();
    let creds = Credentials::root();
    let cx = Context::new(&creds);
    let root = fs.root();
    let at = At::new(&root, b"data");
    let file = fs.open(&cx, at, OpenFlags::RDONLY, 0).expect("open");
    let mut group = criterion.benchmark_group(protocol.group);
    for (name, size) in READS {
        let name = if donate {
            format!("{name}-donated")
        } else {
            name.to_owned()
        };
        let mut buffer = vec![0; size];
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let n = file.read_at(&cx, &mut buffer, 0).expect("read");
                assert_eq!(n, size);
            });
        });
    }
    group.finish();
    file.close(&cx).expect("close");
    fs.unmount(&cx).expect("unmount");
}
