//! Runs the program in a clean environment and looks at what it says.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

/// What a run of the program left behind.
#[derive(Debug)]
pub struct Run {
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub code: Option<i32>,
}

impl Run {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).expect("text")
    }

    /// Standard output as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).expect("json")
    }

    /// Everything, for a snapshot.
    pub fn all(&self) -> String {
        let code = self
            .code
            .map_or("signal".to_owned(), |code| code.to_string());
        format!(
            "{}{}[exit {code}]",
            String::from_utf8_lossy(&self.stdout),
            self.stderr
        )
    }

    /// Asserts success and silence on standard error.
    #[track_caller]
    pub fn ok(self) -> Run {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        self
    }

    /// Asserts an exit code.
    #[track_caller]
    pub fn fails(self, code: i32) -> Run {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }
}

/// A directory served by the program's own server, over one protocol.
pub struct Tree {
    pub dir: TempDir,
    pub lisafs: bool,
}

impl Tree {
    /// An empty tree. Others may look into it: tests act as other users.
    pub fn new(lisafs: bool) -> Tree {
        let dir = TempDir::new().expect("temporary directory");
        chmod(dir.path(), 0o755);
        Tree { dir, lisafs }
    }

    /// Where `name` is on the host.
    pub fn host(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file on the host.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.host(name), content).expect("write");
    }

    /// What a host file holds.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.host(name)).expect("read")
    }

    /// The command, with the flags that lead to this tree.
    pub fn command<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = gofer();
        command.arg("--root").arg(self.dir.path());
        if self.lisafs {
            command.arg("--lisafs");
        }
        command.args(args);
        command
    }

    /// Runs a command given as words without blanks in them.
    pub fn run(&self, line: &str) -> Run {
        let args: Vec<&str> = line.split_whitespace().collect();
        finish(self.command(&args), b"")
    }

    /// Runs a script through the shell's standard input.
    pub fn script(&self, flags: &[&str], script: &str) -> Run {
        let args: Vec<&str> = [&["shell"], flags].concat();
        finish(self.command(&args), script.as_bytes())
    }
}

/// A server of a tree, for more than one client.
pub struct Server {
    pub tree: Tree,
    /// Holds the socket.
    dir: TempDir,
    child: Child,
}

impl Server {
    /// Starts one for 9P on an empty tree; it listens when this returns.
    pub fn start() -> Server {
        Server::with(false, &[])
    }

    /// The same for either protocol, with more flags.
    pub fn with(lisafs: bool, flags: &[&str]) -> Server {
        let (tree, dir) = (
            Tree::new(lisafs),
            TempDir::new().expect("temporary directory"),
        );
        let protocol = if lisafs { "lisafs" } else { "9p" };
        let mut command = gofer();
        let listen = format!("unix:{}", dir.path().join("s").display());
        command
            .args(["serve", "--protocol", protocol, "--listen", &listen])
            .args(flags)
            .arg("--root")
            .arg(tree.dir.path())
            .args(["--sandbox", "off", "--die-with-parent"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("spawn");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout"))
            .read_line(&mut line)
            .expect("a line");
        assert!(line.starts_with("listening on"), "{line}");
        Server { tree, dir, child }
    }

    /// The command, with the flags that lead to it.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = gofer();
        command.args(["--trans", "unix", "--address"]);
        command.arg(self.dir.path().join("s"));
        if self.tree.lisafs {
            command.arg("--lisafs");
        }
        command.args(args);
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Who runs the tests: uid and gid.
pub fn me() -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    let me = std::fs::metadata("/proc/self").expect("/proc");
    (me.uid(), me.gid())
}

/// Whether the tests may give files away.
pub fn is_root() -> bool {
    me().0 == 0
}

/// Sets the mode of a host file.
pub fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
}

/// Copies a program that is to be run. A process of its own does that: what is started by other
/// tests meanwhile has a copy of each descriptor of this one for a moment, and a file that is open
/// for writing cannot be run.
pub fn copy_program(from: &str, to: &Path) {
    let copied = Command::new("cp").arg(from).arg(to).status();
    assert!(copied.expect("run cp").success(), "copy {from}");
}

/// Runs `test` over both protocols.
pub fn both(test: impl Fn(&Tree)) {
    for lisafs in [false, true] {
        test(&Tree::new(lisafs));
    }
}

/// The program without the user's environment.
pub fn gofer() -> Command {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    let home = HOME.get_or_init(|| {
        // Below the build directory: nothing is left behind elsewhere.
        let home = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("gofer-cli-home-{}", std::process::id()));
        std::fs::create_dir_all(&home).expect("home");
        home
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_gofer-cli"));
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", home)
        .env("TZ", "UTC")
        .env("COLUMNS", "100");
    command
}

/// Runs `command` with `input` and collects what it says.
pub fn finish(mut command: Command, input: &[u8]) -> Run {
    use std::io::Write;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("spawn");
    let mut stdin = child.stdin.take().expect("stdin");
    let input = input.to_vec();
    // A program that does not read its input must not hold up the test.
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("wait");
    writer.join().expect("writer");
    Run {
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).expect("text"),
        code: output.status.code(),
    }
}

/// Snapshot settings that hide what differs from run to run.
pub fn stable(paths: &[&Path], check: impl FnOnce()) {
    let mut settings = insta::Settings::clone_current();
    for path in paths {
        settings.add_filter(&path.display().to_string(), "[DIR]");
    }
    settings.add_filter(
        r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\.\d{9}( \+0000|Z)",
        "[TIME]",
    );
    settings.add_filter(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d", "[DATE TIME]");
    settings.add_filter(r"after \d+\.\d s", "after [N] s");
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(check);
}
