//! What runsc starts as its gofer in these tests: reads the arguments and the container's
//! specification as `runsc gofer` would, and makes our server of it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Options of `cargo xtask runsc-gofer`, which only runsc's stand-in starts.
#[derive(clap::Args, Debug)]
pub struct RunscGofer {
    /// Our server
    #[arg(long)]
    server: PathBuf,
    /// Directory for the server's log and what became of it
    #[arg(long)]
    report: PathBuf,
    /// Stay, and report how the server ended
    #[arg(long)]
    watch: bool,
    /// The same with one process for each export, instead of one for all
    #[arg(long)]
    separate: bool,
    /// What runsc gave to its gofer
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// What runsc says on the command line.
#[derive(Default, PartialEq, Eq, Debug)]
struct Asked {
    bundle: PathBuf,
    spec_fd: i32,
    mounts_fd: i32,
    /// One for each export: the root, then bind mounts in the order of the specification.
    io_fds: Vec<i32>,
    host_uds: Option<String>,
    host_fifo: Option<String>,
}

/// A directory or file of the container and how it is mounted.
#[derive(PartialEq, Eq, Debug)]
struct Mounted {
    source: PathBuf,
    readonly: bool,
}

/// Becomes our server, or starts and outlives it.
pub fn run(options: &RunscGofer) -> Result<()> {
    let asked = Asked::parse(&options.args)?;
    let mut spec = String::new();
    File::from(gofer_transport::inherit(asked.spec_fd)?).read_to_string(&mut spec)?;
    let mut spec: Value = serde_json::from_str(&spec).context("read the specification")?;
    let exports = exports(&mut spec, &asked.bundle)?;
    ensure!(
        exports.len() == asked.io_fds.len(),
        "{} mounts and {} sockets",
        exports.len(),
        asked.io_fds.len()
    );
    // The sandbox reads this to its end before it goes on.
    let mut mounts = File::from(gofer_transport::inherit(asked.mounts_fd)?);
    mounts.write_all(spec["mounts"].to_string().as_bytes())?;
    drop(mounts);

    // runsc's gofer is in a process namespace of its own, and /proc is of the outer one.
    let pid = fs::read_link("/proc/self")?;
    let log = File::create(options.report.join("log"))?;
    let exports: Vec<String> = exports
        .iter()
        .zip(&asked.io_fds)
        .map(|(export, fd)| {
            let mode = if export.readonly { "ro" } else { "rw" };
            format!("fd={fd},root={},mode={mode}", export.source.display())
        })
        .collect();
    let command = |exports: &[String]| -> Result<Command> {
        let mut command = Command::new(&options.server);
        command.args(["serve", "--protocol", "lisafs"]);
        for (flag, value) in [
            ("--host-uds", &asked.host_uds),
            ("--host-fifo", &asked.host_fifo),
        ] {
            command.args(value.iter().flat_map(|value| [flag, value]));
        }
        exports.iter().for_each(|export| {
            command.args(["--export", export]);
        });
        command.stdout(log.try_clone()?).stderr(log.try_clone()?);
        Ok(command)
    };
    fs::write(
        options.report.join("pid"),
        pid.as_os_str().as_encoded_bytes(),
    )?;
    if options.watch || options.separate {
        let size = if options.separate { 1 } else { exports.len() };
        let commands = exports.chunks(size).map(command);
        return outlive(commands.collect::<Result<_>>()?, &asked, &options.report);
    }
    Err(command(&exports)?.exec()).context("become the server")
}

/// Starts each of `commands`, gives up its own copies of the sockets, and reports how they ended.
fn outlive(commands: Vec<Command>, asked: &Asked, report: &Path) -> Result<()> {
    let servers: Vec<Child> = commands
        .into_iter()
        .map(|mut command| command.spawn().context("start a server"))
        .collect::<Result<_>>()?;
    for fd in &asked.io_fds {
        drop(gofer_transport::inherit(*fd)?);
    }
    let mut ends = String::new();
    for mut server in servers {
        ends += &format!("{}\n", server.wait()?);
    }
    fs::write(report.join("ends"), &ends)?;
    ensure!(ends.lines().all(|end| end.ends_with(": 0")), "{ends}");
    Ok(())
}

impl Asked {
    /// Flags of runsc, the word `gofer`, and its flags; `--name=value` or `--name value`.
    fn parse(args: &[OsString]) -> Result<Asked> {
        let mut asked = Asked::default();
        let mut words = args.iter().map(|arg| arg.to_string_lossy().into_owned());
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix("--") else {
                ensure!(word == "gofer", "`{word}` where `gofer` was expected");
                continue;
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => (flag, words.next().context("a flag without a value")?),
            };
            let number = || value.parse::<i32>().with_context(|| word.clone());
            match name {
                "bundle" => asked.bundle = value.into(),
                "spec-fd" => asked.spec_fd = number()?,
                "mounts-fd" => asked.mounts_fd = number()?,
                "io-fds" => asked.io_fds.push(number()?),
                "host-uds" => asked.host_uds = Some(value),
                "host-fifo" => asked.host_fifo = Some(value),
                // An overlay would want the lower layer read-only.
                "overlay2" if value != "none" => bail!("{word} is not understood"),
                _ => {}
            }
        }
        Ok(asked)
    }
}

/// The root and the bind mounts of `spec`, whose sources become absolute in it.
fn exports(spec: &mut Value, bundle: &Path) -> Result<Vec<Mounted>> {
    let root = spec["root"]["path"].as_str().context("no root")?;
    let mut exports = vec![Mounted {
        source: bundle.join(root),
        readonly: spec["root"]["readonly"].as_bool().unwrap_or(false),
    }];
    for mount in spec["mounts"].as_array_mut().into_iter().flatten() {
        let Some(source) = mount["source"].as_str() else {
            continue;
        };
        let source = bundle.join(source);
        mount["source"] = source.to_string_lossy().into();
        let options = mount["options"].as_array().cloned().unwrap_or_default();
        let has = |name: &str| options.iter().any(|option| option == name);
        if mount["type"] == "bind" || has("bind") || has("rbind") {
            exports.push(Mounted {
                source,
                readonly: has("ro"),
            });
        }
    }
    Ok(exports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn arguments_are_those_of_runsc() {
        let words = "--root=/run --debug=true --host-uds=all --debug-log-fd=3 gofer --bundle /b \
                     --spec-fd=4 --mounts-fd=5 --io-fds=6 --io-fds=7";
        let args: Vec<OsString> = words.split_whitespace().map(OsString::from).collect();
        let asked = Asked {
            bundle: "/b".into(),
            spec_fd: 4,
            mounts_fd: 5,
            io_fds: vec![6, 7],
            host_uds: Some("all".to_owned()),
            host_fifo: None,
        };
        assert_eq!(Asked::parse(&args).unwrap(), asked);
        assert!(Asked::parse(&["boot".into()]).is_err());
        assert!(Asked::parse(&["--overlay2=all:memory".into()]).is_err());
    }

    #[test]
    fn exports_are_the_root_and_the_bind_mounts() {
        let mut spec = json!({
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/a", "type": "bind", "source": "/a", "options": ["ro"]},
                {"destination": "/b", "type": "none", "source": "b", "options": ["rbind", "rw"]},
                {"destination": "/c", "type": "tmpfs"},
            ],
        });
        let mounted = |source: &str, readonly| Mounted {
            source: source.into(),
            readonly,
        };
        let expected = [
            mounted("/bundle/rootfs", false),
            mounted("/a", true),
            mounted("/bundle/b", false),
        ];
        assert_eq!(exports(&mut spec, Path::new("/bundle")).unwrap(), expected);
        assert_eq!(spec["mounts"][2]["source"], "/bundle/b");
    }
}
