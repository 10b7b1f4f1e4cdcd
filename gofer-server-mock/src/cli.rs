//! The command line, and what it and the configuration file together ask for.
//!
//! This is a contract: scripts and container runtimes depend on it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::config::{Config, ConfigExport};
use crate::host::{Fifos, Policy, Sockets, Users};
use crate::limits::{Limit, Limits};
use crate::listen::Address;
use crate::sandbox;
use crate::server::Protocol;

/// Serves host directories over lisafs and 9P2000.L.
#[derive(Parser, Debug)]
#[command(version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Serve directories until a signal comes or the last inherited descriptor closes.
    Serve(Box<Serve>),
}

#[derive(Args, Debug, Default)]
#[command(after_help = "\
Prints one line on standard output when an endpoint is ready: `listening on unix:PATH`, \
`listening on tcp:ADDRESS:PORT` or `serving fd N`. Logs go to standard error.

Exit status: 0 after SIGTERM, SIGINT or the end of the last inherited descriptor, 1 on failure, \
2 on wrong usage.")]
pub(crate) struct Serve {
    /// What clients speak; `auto` tells by their first bytes [default: auto].
    #[arg(long, value_name = "PROTOCOL")]
    pub(crate) protocol: Option<ProtocolArg>,
    /// Directory, or single regular file, to serve.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Refuse every change with EROFS.
    #[arg(long, requires = "root")]
    pub(crate) readonly: bool,
    /// Accept connections at unix:PATH or tcp:HOST:PORT.
    #[arg(long, value_name = "ADDRESS", requires = "root", conflicts_with = "fd")]
    pub(crate) listen: Option<Address>,
    /// Serve the connected stream socket inherited as descriptor N.
    #[arg(long, value_name = "N", requires = "root", value_parser = descriptor)]
    pub(crate) fd: Option<i32>,
    /// Serve a directory on an inherited descriptor: fd=N,root=DIR[,mode=rw|ro]. Repeatable.
    #[arg(long = "export", value_name = "EXPORT", conflicts_with = "root")]
    pub(crate) exports: Vec<ExportArg>,
    /// What clients may do with Unix sockets on the host [default: none].
    #[arg(long, value_name = "WHAT")]
    pub(crate) host_uds: Option<SocketsArg>,
    /// What clients may do with FIFOs on the host [default: none].
    #[arg(long, value_name = "WHAT")]
    pub(crate) host_fifo: Option<FifosArg>,
    /// Lisafs: show block devices, and let clients make FIFOs, sockets and devices, as over 9P.
    #[arg(long)]
    pub(crate) all_types: bool,
    /// Do not give clients host descriptors of the files they open.
    #[arg(long)]
    pub(crate) no_donate: bool,
    /// Give lisafs clients a descriptor of the root, of a detached copy of its mount, to work on it
    /// themselves; devices do not open with it, FIFOs and sockets do. Needs CAP_SYS_ADMIN.
    #[arg(long, conflicts_with = "no_donate")]
    pub(crate) donate_root: bool,
    /// As whom the requests of 9P clients are carried out: as whom the server runs, as whom each
    /// attach names (believed as it is), or all as one. Others than the server need root; their
    /// groups are those of /etc/passwd and /etc/group at the start [default: server].
    #[arg(long, value_name = "server|attach|squash=UID:GID")]
    pub(crate) users: Option<UsersArg>,
    /// What this process gives up before it serves: files beyond the exports, system calls and
    /// capabilities it does not need [default: auto].
    #[arg(long, value_name = "MODE")]
    pub(crate) sandbox: Option<sandbox::Mode>,
    /// How much clients may ask for; repeatable. Connections at a time (256), and of each connection
    /// handles (65536; one more is EMFILE), requests in progress (64), shared-memory channels (one
    /// for each processor, 2 to 4), bytes of a message-size (2093056; 9P never more than 1 MiB) and
    /// seconds of patience with one that takes no replies (30).
    #[arg(long = "limit", value_name = "NAME=NUMBER")]
    pub(crate) limits: Vec<Limit>,
    /// Read exports and limits from a TOML file; flags beat it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Say more on standard error; repeat for still more.
    #[arg(short, long, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// End when the process that started this one does.
    #[arg(long, hide = true)]
    pub(crate) die_with_parent: bool,
}

/// `--protocol`.
#[derive(ValueEnum, serde::Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProtocolArg {
    Lisafs,
    #[value(name = "9p")]
    #[serde(rename = "9p")]
    P9,
    Auto,
}

impl From<ProtocolArg> for Protocol {
    fn from(arg: ProtocolArg) -> Protocol {
        match arg {
            ProtocolArg::Lisafs => Protocol::Lisafs,
            ProtocolArg::P9 => Protocol::P9,
            ProtocolArg::Auto => Protocol::Auto,
        }
    }
}

/// `--host-uds`.
#[derive(ValueEnum, serde::Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SocketsArg {
    /// Neither connect nor create
    None,
    /// Connect to existing ones
    Open,
    /// Create new ones
    Create,
    /// Both
    All,
}

impl From<SocketsArg> for Sockets {
    fn from(arg: SocketsArg) -> Sockets {
        match arg {
            SocketsArg::None => Sockets::None,
            SocketsArg::Open => Sockets::Open,
            SocketsArg::Create => Sockets::Create,
            SocketsArg::All => Sockets::All,
        }
    }
}

/// `--users`.
#[derive(serde::Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(try_from = "String")]
pub(crate) struct UsersArg(Users);

impl FromStr for UsersArg {
    type Err = String;

    fn from_str(text: &str) -> Result<UsersArg, String> {
        text.parse().map(UsersArg)
    }
}

impl TryFrom<String> for UsersArg {
    type Error = String;

    fn try_from(text: String) -> Result<UsersArg, String> {
        text.parse()
    }
}

/// `--host-fifo`.
#[derive(ValueEnum, serde::Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FifosArg {
    /// Do not open them
    None,
    /// Open existing ones
    Open,
}

impl From<FifosArg> for Fifos {
    fn from(arg: FifosArg) -> Fifos {
        match arg {
            FifosArg::None => Fifos::None,
            FifosArg::Open => Fifos::Open,
        }
    }
}

/// Whether an export can be changed.
#[derive(serde::Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    #[default]
    Rw,
    Ro,
}

/// `--export fd=N,root=DIR[,mode=rw|ro]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ExportArg {
    fd: i32,
    root: PathBuf,
    mode: Mode,
}

impl FromStr for ExportArg {
    type Err = String;

    fn from_str(text: &str) -> Result<ExportArg, String> {
        let (mut fd, mut root, mut mode) = (None, None, None);
        for part in text.split(',') {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| format!("`{part}` is not KEY=VALUE"))?;
            let again = match key {
                "fd" => fd.replace(descriptor(value)?).is_some(),
                "root" => root.replace(PathBuf::from(value)).is_some(),
                "mode" => mode.replace(export_mode(value)?).is_some(),
                _ => return Err(format!("unknown key `{key}`; known are fd, root, mode")),
            };
            if again {
                return Err(format!("`{key}` is given twice"));
            }
        }
        Ok(ExportArg {
            fd: fd.ok_or("`fd` is missing")?,
            root: root
                .filter(|root| root != Path::new(""))
                .ok_or("`root` is missing")?,
            mode: mode.unwrap_or_default(),
        })
    }
}

fn export_mode(text: &str) -> Result<Mode, String> {
    match text {
        "rw" => Ok(Mode::Rw),
        "ro" => Ok(Mode::Ro),
        _ => Err(format!("mode `{text}` is neither rw nor ro")),
    }
}

/// A descriptor number that can be a connection: 1 and 2 are where this program talks to people.
pub(crate) fn descriptor(text: &str) -> Result<i32, String> {
    match text.parse::<i32>() {
        Ok(1 | 2) => Err(format!("descriptor {text} is standard output or error")),
        Ok(number) if number >= 0 => Ok(number),
        _ => Err(format!("`{text}` is not a descriptor number")),
    }
}

/// Where connections of an export come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Endpoint {
    /// They are accepted here.
    Listen(Address),
    /// There is one, under this descriptor number.
    Fd(i32),
}

/// One directory to serve at one endpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ExportPlan {
    pub(crate) root: PathBuf,
    pub(crate) policy: Policy,
    pub(crate) donate_root: bool,
    pub(crate) protocol: Protocol,
    pub(crate) endpoint: Endpoint,
}

/// All that is asked for. Nothing has been opened yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    pub(crate) exports: Vec<ExportPlan>,
    pub(crate) limits: Limits,
    pub(crate) sandbox: sandbox::Mode,
}

impl Serve {
    /// Joins flags and file, flags first. An error is wrong usage.
    pub(crate) fn plan(&self, config: Config) -> Result<Plan, String> {
        let shared = Shared {
            protocol: self.protocol.or(config.protocol),
            sockets: self.host_uds.or(config.host_uds),
            fifos: self.host_fifo.or(config.host_fifo),
            donate: if self.no_donate {
                Some(false)
            } else {
                config.donate
            },
            all_types: config.all_types,
            donate_root: config.donate_root,
            users: config.users,
            flags: self,
        };
        let exports = match (&self.root, self.exports.is_empty()) {
            (Some(root), _) => vec![ConfigExport {
                root: root.clone(),
                mode: if self.readonly { Mode::Ro } else { Mode::Rw },
                fd: self.fd,
                listen: self.listen.clone(),
                ..ConfigExport::default()
            }],
            (None, false) => self.exports.iter().map(ConfigExport::from).collect(),
            (None, true) => config.exports,
        };
        if exports.is_empty() {
            return Err(
                "nothing to serve: give --root, --export, or a --config with exports".into(),
            );
        }
        let exports: Vec<_> = exports
            .into_iter()
            .map(|export| shared.plan(export))
            .collect::<Result<_, _>>()?;
        refuse_shared_endpoints(&exports)?;
        let mut limits = config.limits.into();
        self.limits
            .iter()
            .for_each(|limit| limit.apply(&mut limits));
        Ok(Plan {
            exports,
            limits,
            sandbox: self.sandbox.or(config.sandbox).unwrap_or_default(),
        })
    }
}

impl From<&ExportArg> for ConfigExport {
    fn from(arg: &ExportArg) -> ConfigExport {
        ConfigExport {
            root: arg.root.clone(),
            mode: arg.mode,
            fd: Some(arg.fd),
            ..ConfigExport::default()
        }
    }
}

/// What holds for all exports that do not say otherwise.
struct Shared<'a> {
    protocol: Option<ProtocolArg>,
    sockets: Option<SocketsArg>,
    fifos: Option<FifosArg>,
    all_types: Option<bool>,
    donate: Option<bool>,
    donate_root: Option<bool>,
    users: Option<UsersArg>,
    flags: &'a Serve,
}

impl Shared<'_> {
    fn plan(&self, export: ConfigExport) -> Result<ExportPlan, String> {
        let root = export.root.display();
        let endpoint = match (export.fd, export.listen) {
            (Some(fd), None) => Endpoint::Fd(fd),
            (None, Some(address)) => Endpoint::Listen(address),
            (Some(_), Some(_)) => return Err(format!("{root}: an export has either fd or listen")),
            (None, None) => {
                return Err(format!(
                    "{root}: where? give --listen ADDRESS or --fd N (in a file: listen or fd)"
                ));
            }
        };
        // A flag beats what the file says of one export, which beats what it says of all.
        let flags = self.flags;
        let protocol = flags.protocol.or(export.protocol).or(self.protocol);
        let protocol = protocol.map_or(Protocol::Auto, Protocol::from);
        if protocol == Protocol::Lisafs && matches!(endpoint, Endpoint::Listen(Address::Tcp(_))) {
            return Err("lisafs needs a Unix socket: it cannot be served over TCP".into());
        }
        let sockets = flags.host_uds.or(export.host_uds).or(self.sockets);
        let fifos = flags.host_fifo.or(export.host_fifo).or(self.fifos);
        let donate = if flags.no_donate {
            Some(false)
        } else {
            export.donate.or(self.donate)
        };
        let donate = donate.unwrap_or(true);
        let in_file = export.donate_root.or(self.donate_root) == Some(true);
        let donate_root = flags.donate_root || in_file && !flags.no_donate;
        if donate_root && !donate {
            return Err(format!(
                "{root}: the file says not to donate, so the root cannot be donated either"
            ));
        }
        let users = flags.users.or(export.users).or(self.users);
        let users = users.map_or(Users::Server, |UsersArg(users)| users);
        if users != Users::Server && protocol == Protocol::Lisafs {
            return Err(format!(
                "{root}: lisafs clients name no user, so --users is for 9p only"
            ));
        }
        Ok(ExportPlan {
            policy: Policy {
                readonly: export.mode == Mode::Ro,
                sockets: sockets.map(Sockets::from).unwrap_or_default(),
                fifos: fifos.map(Fifos::from).unwrap_or_default(),
                all_types: flags.all_types || export.all_types.or(self.all_types) == Some(true),
                donate,
                users,
            },
            donate_root,
            protocol,
            endpoint,
            root: export.root,
        })
    }
}

fn refuse_shared_endpoints(exports: &[ExportPlan]) -> Result<(), String> {
    for (index, export) in exports.iter().enumerate() {
        let earlier = exports.iter().take(index);
        if earlier
            .clone()
            .any(|other| other.endpoint == export.endpoint)
        {
            return Err(match &export.endpoint {
                Endpoint::Fd(number) => format!("descriptor {number} is given to two exports"),
                Endpoint::Listen(address) => format!("{address} is given to two exports"),
            });
        }
    }
    Ok(())
}

/// Parses the command line; `args` starts with the program's name.
pub(crate) fn parse(args: Vec<OsString>) -> Result<Serve, clap::Error> {
    let Command::Serve(serve) = Cli::try_parse_from(args)?.command;
    Ok(*serve)
}
