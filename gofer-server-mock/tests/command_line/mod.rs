//! The command line as a contract: what scripts and container runtimes depend on.

mod sandbox;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use gofer_lisafs::wire::{FStatReq, OpenAtReq};
use gofer_transport::Stream;
use rustix::process::Signal;

use crate::common::{Client, Server, program};

fn run(args: &[&str]) -> Output {
    let output = Command::new(program())
        .args(args)
        .stdin(Stdio::null())
        .output();
    output.unwrap()
}

/// Exit status, standard output and standard error, as a person sees them.
fn seen(output: &Output) -> String {
    format!(
        "status {}\n--- stdout\n{}--- stderr\n{}",
        output.status.code().unwrap(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    )
}

#[test]
fn help_is_complete() {
    insta::assert_snapshot!("help", seen(&run(&["--help"])));
    insta::assert_snapshot!("help_serve", seen(&run(&["serve", "--help"])));
}

#[test]
fn wrong_usage_is_told_with_status_2() {
    let cases: &[&[&str]] = &[
        &[],
        &["serve"],
        &["serve", "--root", "/"],
        &["serve", "--root", "/", "--listen", "/run/x"],
        &["serve", "--root", "/", "--listen", "unix:"],
        &["serve", "--root", "/", "--listen", "tcp:1234"],
        &["serve", "--root", "/", "--listen", "tcp::1234"],
        &["serve", "--root", "/", "--listen", "tcp:::1:1234"],
        &["serve", "--root", "/", "--listen", "tcp:localhost:port"],
        &[
            "serve",
            "--root",
            "/",
            "--listen",
            "tcp:localhost:0",
            "--protocol",
            "lisafs",
        ],
        &["serve", "--root", "/", "--listen", "unix:/x", "--fd", "3"],
        &["serve", "--root", "/", "--fd", "1"],
        &["serve", "--root", "/", "--fd", "-3"],
        &["serve", "--listen", "unix:/x"],
        &["serve", "--root", "/", "--fd", "3", "--protocol", "nfs"],
        &["serve", "--root", "/", "--fd", "3", "--host-uds", "some"],
        &["serve", "--root", "/", "--fd", "3", "--users", "everybody"],
        &[
            "serve",
            "--root",
            "/",
            "--fd",
            "3",
            "--users",
            "squash=1000",
        ],
        &[
            "serve",
            "--root",
            "/",
            "--fd",
            "3",
            "--users",
            "squash=1:-1",
        ],
        &[
            "serve",
            "--root",
            "/",
            "--fd",
            "3",
            "--users",
            "attach",
            "--protocol",
            "lisafs",
        ],
        &["serve", "--export", "fd=3"],
        &["serve", "--export", "root=/"],
        &["serve", "--export", "fd=3,root=/,mode=rx"],
        &["serve", "--export", "fd=3,fd=4,root=/"],
        &["serve", "--export", "fd=3,rot=/"],
        &[
            "serve",
            "--export",
            "fd=3,root=/",
            "--export",
            "fd=3,root=/tmp",
        ],
        &["serve", "--export", "fd=3,root=/", "--root", "/"],
    ];
    let mut all = String::new();
    for args in cases {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        all += &format!(
            "$ {}\n{}\n\n",
            args.join(" "),
            error.lines().next().unwrap_or_default()
        );
    }
    insta::assert_snapshot!("usage_errors", all);
}

#[test]
fn what_cannot_be_done_is_told_with_status_1() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().display().to_string();
    fs::write(place.path().join("file"), "").unwrap();
    let cases = [
        vec![
            "serve",
            "--root",
            "/does/not/exist",
            "--listen",
            "unix:PLACE/s",
        ],
        vec!["serve", "--root", "/dev/null", "--listen", "unix:PLACE/s"],
        vec!["serve", "--root", "/", "--listen", "unix:PLACE/missing/s"],
        vec!["serve", "--root", "/", "--listen", "unix:PLACE/file"],
        vec!["serve", "--root", "/", "--fd", "77"],
        vec!["serve", "--root", "/", "--fd", "0"],
    ];
    let mut all = String::new();
    for args in cases {
        let args: Vec<String> = args.iter().map(|arg| arg.replace("PLACE", &path)).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = run(&args);
        all += &format!("$ {}\n{}\n", args.join(" "), seen(&output));
        assert_eq!(output.status.code(), Some(1));
    }
    insta::assert_snapshot!("failures", all.replace(&path, "PLACE"));
}

#[test]
fn a_socket_is_served_until_a_signal_and_removed() {
    for signal in [Signal::TERM, Signal::INT] {
        let place = tempfile::tempdir().unwrap();
        let (mut server, socket) = Server::at(place.path(), place.path(), &[]);
        let client = Client::on(Stream::connect_unix(&socket).unwrap());
        let root = client.mount();
        client.ask(&FStatReq { fd: root }).unwrap();
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0));
        assert!(!socket.exists());
        assert!(client.receive().is_none(), "the connection is still open");
    }
}

#[test]
fn a_stale_socket_is_replaced_a_live_one_and_a_file_are_not() {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("socket");
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let (server, _) = Server::at(place.path(), place.path(), &[]);
    let address = format!("unix:{}", socket.display());
    let output = run(&["serve", "--root", "/", "--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("another server listens there"), "{error}");
    // The first one is unharmed.
    Client::on(Stream::connect_unix(&socket).unwrap()).mount();
    drop(server);
}

#[test]
fn another_servers_socket_file_is_not_removed_at_the_end() {
    let place = tempfile::tempdir().unwrap();
    let (mut server, socket) = Server::at(place.path(), place.path(), &[]);
    fs::remove_file(&socket).unwrap();
    let _other = UnixListener::bind(&socket).unwrap();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(socket.exists());
}

fn tcp(address: &str) -> Option<Server> {
    let host = address.rsplit_once(':').unwrap().0;
    if TcpListener::bind(format!("{host}:0")).is_err() {
        eprintln!("not run: {host} does not exist here");
        return None;
    }
    let mut command = Command::new(program());
    command.args([
        "serve",
        "--root",
        "/",
        "--listen",
        &format!("tcp:{address}"),
    ]);
    Some(Server::start(command.stderr(Stdio::piped())))
}

#[test]
fn the_ready_line_names_the_real_port() {
    for host in ["127.0.0.1", "[::1]"] {
        let Some(server) = tcp(&format!("{host}:0")) else {
            continue;
        };
        let address = server.ready.strip_prefix("listening on tcp:").unwrap();
        assert!(
            address.starts_with(host) && !address.ends_with(":0"),
            "{address}"
        );
        TcpStream::connect(address).unwrap();
    }
}

#[test]
fn an_address_beyond_this_machine_is_warned_about_and_loopback_is_not() {
    for (address, warned) in [("0.0.0.0:0", true), ("127.0.0.1:0", false)] {
        let Some(mut server) = tcp(address) else {
            continue;
        };
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
        let mut text = String::new();
        server
            .child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(
            text.contains("can be reached from other machines"),
            warned,
            "{text}"
        );
    }
}

#[test]
fn an_inherited_descriptor_is_served_until_it_closes() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut command = Command::new(program());
    command.args(["serve", "--protocol", "lisafs", "--root", "/", "--fd", "0"]);
    command
        .arg("--die-with-parent")
        .stdin(OwnedFd::from(theirs));
    let mut server = Server::start(&mut command);
    drop(command);
    assert_eq!(server.ready, "serving fd 0");
    let client = Client::on(Stream::from_fd(ours.into()).unwrap());
    let root = client.mount();
    client.ask(&FStatReq { fd: root }).unwrap();
    drop(client);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn several_exports_end_with_the_last_descriptor_and_keep_their_modes() {
    let place = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        fs::create_dir(place.path().join(name)).unwrap();
    }
    let (a_ours, a_theirs) = UnixStream::pair().unwrap();
    let (b_ours, b_theirs) = UnixStream::pair().unwrap();
    // A shell gives the two the numbers 5 and 6.
    let mut command = Command::new("sh");
    let script = "exec \"$0\" serve --protocol lisafs --export fd=5,root=\"$1\"/a \
                  --export fd=6,root=\"$1\"/b,mode=ro 5<&0 6<&2 0</dev/null 2>/dev/null";
    command
        .args(["-c", script])
        .arg(program())
        .arg(place.path());
    command
        .stdin(OwnedFd::from(a_theirs))
        .stderr(OwnedFd::from(b_theirs));
    let mut server = Server::start(&mut command);
    drop(command);
    let a = Client::on(Stream::from_fd(a_ours.into()).unwrap());
    let b = Client::on(Stream::from_fd(b_ours.into()).unwrap());
    let made = [&a, &b].map(|client| {
        let root = client.mount();
        let common = gofer_lisafs::wire::CreateCommon::new(root, u32::MAX, u32::MAX, 0o755);
        client
            .ask(&gofer_lisafs::wire::MkdirAtReq {
                common,
                name: b"new",
            })
            .map(|_| ())
    });
    assert_eq!(made, [Ok(()), Err(30)]);
    assert!(place.path().join("a/new").is_dir());
    drop(a);
    b.mount();
    drop(b);
    assert_eq!(server.wait().code(), Some(0));
}

/// As gVisor's runtime starts its gofer: `/proc` stays the outer one.
#[test]
fn a_single_file_is_served_by_the_first_process_of_new_namespaces() {
    if !crate::common::is_root() {
        eprintln!("not run: only root makes namespaces");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    fs::write(&file, "content").unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut command = Command::new("unshare");
    // The shell becomes the server, without standard input.
    let script = "exec \"$0\" serve --protocol lisafs --export fd=5,root=\"$1\",mode=ro 5<&0 0<&-";
    command
        .args(["--pid", "--fork", "--mount", "--net", "--ipc", "--uts"])
        .args(["sh", "-c", script])
        .args([program(), &file])
        .current_dir("/proc")
        .stdin(OwnedFd::from(theirs));
    let mut server = Server::start(&mut command);
    drop(command);
    assert_eq!(server.ready, "serving fd 5");
    let client = Client::on(Stream::from_fd(ours.into()).unwrap());
    let root = client.mount();
    let open = |flags| client.ask(&OpenAtReq { fd: root, flags });
    let answer = open(0).unwrap();
    assert_eq!(crate::common::read_all(&answer.fds[0]), b"content");
    assert_eq!(open(2).map(drop), Err(30));
    drop(client);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn it_works_without_standard_streams() {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("socket");
    let mut command = Command::new("sh");
    let script = "exec \"$0\" serve --root / --listen unix:\"$1\" <&- >&- 2>&-";
    let mut child = command
        .args(["-c", script])
        .arg(program())
        .arg(&socket)
        .spawn()
        .unwrap();
    let stream = loop {
        match Stream::connect_unix(&socket) {
            Ok(stream) => break stream,
            Err(_) => assert!(child.try_wait().unwrap().is_none(), "the server ended"),
        }
        std::thread::yield_now();
    };
    Client::on(stream).mount();
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn connections_beyond_the_limit_are_closed() {
    let place = tempfile::tempdir().unwrap();
    let config = place.path().join("config.toml");
    let socket = place.path().join("socket");
    let text = format!(
        "[limits]\nconnections = 1\n[[export]]\nroot = '/'\nlisten = 'unix:{}'\n",
        socket.display()
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new(program());
    command
        .arg("serve")
        .arg("--config")
        .arg(&config)
        .stderr(Stdio::null());
    let server = Server::start(&mut command);
    assert_eq!(
        server.ready,
        format!("listening on unix:{}", socket.display())
    );
    let first = Client::on(Stream::connect_unix(&socket).unwrap());
    first.mount();
    let second = Client::on(Stream::connect_unix(&socket).unwrap());
    assert!(second.receive().is_none());
    first.mount();
}

#[test]
fn mistakes_in_the_configuration_are_shown_with_their_place() {
    let place = tempfile::tempdir().unwrap();
    let config = place.path().join("config.toml");
    let texts = [
        "protocol = \"nfs\"\n",
        "[limits]\nhandles = 0\n",
        "[limits]\nmessage-size = 100\n",
        "[limits]\nconections = 5\n",
        "# a comment\n[[export]]\nroot = \"/\"\nmode = \"rx\"\nfd = 3\n",
        "[[export]]\nroot = \"/\"\nlisten = \"unix\"\n",
        "[[export]]\nroot = \"/\"\nfd = 2\n",
        "[[export]]\nfd = 3\n",
        "[[export]]\nroot = \"/\"\nfd = 3\nlisten = \"unix:/x\"\n",
        "[[export]]\nroot = \"/\"\n",
        "root = \n",
        "",
    ];
    let mut all = String::new();
    for text in texts {
        fs::write(&config, text).unwrap();
        let output = run(&["serve", "--config", config.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{text}");
        all += &format!("{text}=> {}\n", String::from_utf8(output.stderr).unwrap());
    }
    let all = all.replace(&config.display().to_string(), "config.toml");
    insta::assert_snapshot!("config_errors", all);
    let missing = run(&["serve", "--config", "/does/not/exist.toml"]);
    insta::assert_snapshot!(String::from_utf8(missing.stderr).unwrap(), @"gofer-server-mock: /does/not/exist.toml: no such file or directory");
}

#[test]
fn flags_beat_the_configuration_file() {
    let place = tempfile::tempdir().unwrap();
    let config = place.path().join("config.toml");
    fs::write(
        &config,
        "protocol = 'auto'\n[[export]]\nroot = '/nowhere'\nfd = 9\n",
    )
    .unwrap();
    let socket = place.path().join("socket");
    let mut command = Command::new(program());
    command
        .arg("serve")
        .arg("--config")
        .arg(&config)
        .arg("--root")
        .arg(place.path());
    command
        .arg("--listen")
        .arg(format!("unix:{}", socket.display()));
    let _server = Server::start(&mut command);
    Client::on(Stream::connect_unix(&socket).unwrap()).mount();
    assert!(Path::new(&socket).exists());
}

#[test]
fn bytes_of_no_protocol_end_the_connection_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let (_server, socket) = Server::at(place.path(), place.path(), &[]);
    let confused = Client::on(Stream::connect_unix(&socket).unwrap());
    confused.send(b"GET / HTTP/1.1\r\n");
    assert!(confused.receive().is_none());
    Client::on(Stream::connect_unix(&socket).unwrap()).mount();
}

#[test]
fn auto_serves_both_protocols_on_one_socket() {
    let place = tempfile::tempdir().unwrap();
    let (_server, socket) = Server::at(place.path(), place.path(), &["--protocol", "auto"]);
    for _ in 0..2 {
        Client::on(Stream::connect_unix(&socket).unwrap()).mount();
        let mut stream = UnixStream::connect(&socket).unwrap();
        assert_eq!(tversion(&mut stream), b"9P2000.L");
    }
    // Byte by byte.
    let mut stream = UnixStream::connect(&socket).unwrap();
    for byte in TVERSION {
        stream.write_all(&[*byte]).unwrap();
    }
    assert_eq!(rversion(&mut stream), b"9P2000.L");
}

#[test]
fn a_client_of_the_other_protocol_is_told_by_the_end_of_the_connection() {
    const MOUNT: &[u8] = &[0, 0, 0, 0, 1, 0, 0, 0];
    for (protocol, first_bytes) in [("lisafs", TVERSION), ("9p", MOUNT)] {
        let place = tempfile::tempdir().unwrap();
        let (_server, socket) = Server::at(place.path(), place.path(), &["--protocol", protocol]);
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(first_bytes).unwrap();
        // A reset where the bytes were not even taken off the socket.
        assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
    }
}

#[test]
fn auto_speaks_only_9p_over_tcp() {
    let Some(server) = tcp("127.0.0.1:0") else {
        return;
    };
    let address = server.ready.strip_prefix("listening on tcp:").unwrap();
    assert_eq!(
        tversion(&mut TcpStream::connect(address).unwrap()),
        b"9P2000.L"
    );
    let mut lisafs = TcpStream::connect(address).unwrap();
    lisafs.write_all(&[0, 0, 0, 0, 1, 0, 0, 0]).unwrap();
    assert!(
        matches!(lisafs.read(&mut [0; 1]), Ok(0) | Err(_)),
        "lisafs was answered"
    );
}

const TVERSION: &[u8] = b"\x15\0\0\0\x64\xff\xff\0\0\x01\0\x08\x009P2000.L";

fn tversion(stream: &mut (impl Read + Write)) -> Vec<u8> {
    stream.write_all(TVERSION).unwrap();
    rversion(stream)
}

fn rversion(stream: &mut impl Read) -> Vec<u8> {
    let mut reply = [0; TVERSION.len()];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(reply[4], 101);
    reply[13..].to_vec()
}

#[test]
fn the_limit_on_descriptors_is_raised() {
    let place = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    let script = "ulimit -S -n 40 && exec \"$0\" serve --root / --listen unix:\"$1\"";
    command
        .args(["-c", script])
        .arg(program())
        .arg(place.path().join("socket"));
    let server = Server::start(&mut command);
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.child.id())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "{line}");
}

#[test]
fn a_server_can_be_made_to_end_with_its_parent() {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("socket");
    let mut command = Command::new("sh");
    let script = "\"$0\" serve --root / --listen unix:\"$1\" --die-with-parent & wait";
    command.args(["-c", script]).arg(program()).arg(&socket);
    let mut parent = Server::start(&mut command);
    let client = Client::on(Stream::connect_unix(&socket).unwrap());
    client.mount();
    parent.signal(Signal::KILL);
    parent.wait();
    assert!(client.receive().is_none());
}
