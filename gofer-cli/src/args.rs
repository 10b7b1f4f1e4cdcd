//! The command line: one set of clap types for one-shot commands and for lines of the shell.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands as cmd;
use crate::exit;

const EXAMPLES: &str = "\
Examples:
  gofer-cli shell --root /usr --lisafs       a shell on /usr, server started for it
  gofer-cli ls -l --root /usr lib            one command, over 9P2000.L
  gofer-cli --trans unix --address /run/g.sock get -r src
                                             copy from a running server
  gofer-cli --trans tcp --address host:564 -o aname=/export,cache=none df
  gofer-cli shell -c 'cd lib; ls; get *.so /tmp'
  gofer-cli mount --trans unix --address /run/g.sock /mnt
                                             the tree as a mount, for all programs
  gofer-cli options -o cache=remote_revalidating";

const ENVIRONMENT: &str = "\
Environment:
  GOFER_CONFIG        configuration file instead of ~/.config/gofer/config.toml
  GOFER_PROFILE, GOFER_TRANS, GOFER_ADDRESS, GOFER_ROOT, GOFER_LISAFS, GOFER_ANAME,
  GOFER_UNAME, GOFER_TIMEOUT, GOFER_OPTIONS
                      stand for the flags of these names (GOFER_OPTIONS for -o)
  GOFER_LOG           what to log on standard error, as tracing's EnvFilter reads it
  LS_COLORS, NO_COLOR, CLICOLOR_FORCE, COLUMNS, TZ
Flags beat -o, -o beats the environment, that beats the profile, that beats the file's defaults.";

/// What `-h` prints.
pub const BRIEF: &str = "\
gofer-cli: a shell on a gofer, over 9P2000.L or lisafs

Usage: gofer-cli [FLAGS] [COMMAND] [ARGUMENTS]     without a command, the shell

Look      ls tree stat walk cat head tail find du df readlink xattr
Change    mkdir rmdir rm mv rename cp ln touch truncate fallocate mknod chmod chown
Copy      get put cp
Session   cd pwd as lock watch sync options cache stats checkpoint restore help exit
          lcd lpwd lls history
Programs  shell mount umount serve completions man

Connection, before or after the command:
  --root DIR             start a server on DIR for this command [default: .]
  --lisafs               speak lisafs instead of 9P2000.L
  --trans fd|unix|tcp    how to reach a server [default: fd]
  --address ADDRESS      path of its socket, or HOST:PORT
  --rfdno N, --wfdno N   descriptors that are connected already
  -o KEY=VALUE,...       mount options; `gofer-cli options` shows those in effect
  --aname PATH, --uname USER, --timeout SECONDS, --readonly
  --uid N, --gid N, --groups N,...       act as somebody else
  --profile NAME, --config FILE          named connections
  --trace[=FILE]         one line per message

Output:
  --json, --color auto|always|never, -v, -q, --no-progress

Help: --help for everything with examples and exit codes, `help COMMAND` for a command.
";

/// What `-o` takes, for `help options`.
const OPTION_KEYS: &str = "\
Keys of -o:
  trans=fd|unix|tcp, rfdno=N, wfdno=N, address=ADDRESS, aname=PATH, lisafs, uname=USER
                            as the flags of these names, which win
  cache=fscache             nobody else touches the tree: cache everything (the default)
  cache=fscache_writethrough  others only read: write at once
  cache=remote_revalidating anybody may change it: check before use
  cache=none                the same, and each open file has its own handle
  dentry_cache_limit=N      unused names to keep (1000)
  revalidate_after=MS       shared modes: trust a check of names for so long (0)
  channels=N                shared-memory channels beside a Unix socket, 0 for none
                            (one for each CPU, at most 4)
  locks=local|server        who keeps advisory locks: this client alone (the default), or the
                            server as well (9P)
  access=any|UID            who may use the mount: everybody (the default), or one user by
                            number, as whom it is attached (9P); others get EPERM
  directfs                  work on the root's descriptor that the server gives away; lisafs only
  msize=N, version=9P2000.L[.Google.N]   9P only
  dfltuid=N, dfltgid=N      owners of files without one
  page_cache_limit=BYTES    memory for cached contents of files (268435456), 0 for none
  force_page_cache          cache contents also where the server gives descriptors away
  limit_host_fd_translation, overlayfs_stale_read
                            map host files in small pieces; by the newest descriptor
  connect_sockets           opening a socket connects to it, for reading and writing; else ENXIO
  ro, rw, noatime, atime, relatime, strictatime    as in mount(8)
Words of fstab such as defaults, noauto, _netdev, nofail and x-... are ignored. A backslash
escapes a comma in a value.";

/// A shell on a gofer: look at, change and copy files through any 9P2000.L or lisafs server.
///
/// Without a server to connect to, one is started on --root for as long as the command runs.
/// Without a command, the shell starts.
#[derive(Parser, Debug)]
#[command(
    name = "gofer-cli",
    bin_name = "gofer-cli",
    version,
    disable_help_subcommand = true,
    disable_help_flag = true,
    max_term_width = 100,
    after_long_help = format!("{EXAMPLES}\n\n{}\n\n{ENVIRONMENT}", exit::TABLE),
)]
pub struct Cli {
    /// Print one screen of help
    #[arg(short = 'h')]
    pub brief: bool,
    /// Print all of the help
    #[arg(long, global = true, action = clap::ArgAction::HelpLong)]
    pub help: Option<bool>,
    #[command(flatten)]
    pub connection: ConnectionArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(subcommand)]
    pub command: Option<TopCommand>,
}

/// What the program can be told to do.
#[derive(Subcommand, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum TopCommand {
    #[command(flatten)]
    Command(Command),
    /// Open a shell (the default): interactive, or a script from standard input or -c
    Shell(crate::shell::ShellArgs),
    /// Serve a directory: the command line of gofer-server-mock
    #[command(disable_help_flag = true)]
    Serve {
        /// See `gofer-cli serve --help`
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "ARGS"
        )]
        args: Vec<OsString>,
    },
    /// Mount the tree on a directory, for all programs
    #[command(after_help = crate::mount::KEYS_HELP)]
    Mount(crate::mount::MountArgs),
    /// Unmount directories
    Umount(crate::mount::UmountArgs),
    /// Print a completion script for a shell
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, in roff
    Man,
}

/// Flags that say what to connect to, and as whom.
#[derive(Args, Default, Debug, Clone)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// How to reach the server [default: fd]
    #[arg(long, global = true, value_name = "fd|unix|tcp")]
    pub trans: Option<TransArg>,
    /// Path of a unix socket, or HOST:PORT
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub address: Option<OsString>,
    /// With --trans fd and no descriptors: start a server on this directory [default: .]
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Inherited descriptor to read from
    #[arg(long, global = true, value_name = "N", allow_negative_numbers = true)]
    pub rfdno: Option<i32>,
    /// Inherited descriptor to write to, the same for a socket
    #[arg(long, global = true, value_name = "N", allow_negative_numbers = true)]
    pub wfdno: Option<i32>,
    /// Speak lisafs instead of 9P2000.L
    #[arg(long, global = true)]
    pub lisafs: bool,
    /// Mount options as mount(8) takes them; repeatable, later wins. `help options` lists the
    /// keys
    #[arg(
        short = 'o',
        long = "options",
        global = true,
        value_name = "KEY=VALUE,..."
    )]
    pub options: Vec<OsString>,
    /// What to attach to on the server [default: /]
    #[arg(long, global = true, value_name = "PATH")]
    pub aname: Option<OsString>,
    /// User to attach as: a name, or a number (9P only)
    #[arg(long, global = true, value_name = "USER")]
    pub uname: Option<OsString>,
    /// Give a call up after this long
    #[arg(long, global = true, value_name = "SECONDS")]
    pub timeout: Option<f64>,
    /// One line per message, on standard error or in FILE
    #[arg(long, global = true, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "-")]
    pub trace: Option<PathBuf>,
    /// A named connection of the configuration file
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Option<String>,
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Act as this user [default: the caller]
    #[arg(long, global = true, value_name = "UID")]
    pub uid: Option<u32>,
    /// Act with this group [default: the uid's number, or the caller's]
    #[arg(long, global = true, value_name = "GID")]
    pub gid: Option<u32>,
    /// Act with these supplementary groups
    #[arg(long, global = true, value_name = "GID,...", value_delimiter = ',')]
    pub groups: Option<Vec<u32>>,
    /// Refuse every change
    #[arg(long, global = true)]
    pub readonly: bool,
}

/// Values of `--trans`.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum TransArg {
    Fd,
    Unix,
    Tcp,
}

/// Flags that say how to speak.
#[derive(Args, Default, Debug, Clone)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Data as JSON on standard output, errors as one JSON object on standard error
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colour
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true
    )]
    pub color: ColorChoice,
    /// Say what is done; twice, log what the libraries do
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// No notes, hints or progress
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// No progress bars
    #[arg(long, global = true)]
    pub no_progress: bool,
}

/// Values of `--color`.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Default, Debug)]
#[allow(missing_docs)]
pub enum ColorChoice {
    #[default]
    Auto,
    Always,
    Never,
}

/// A line of the shell.
#[derive(Parser, Debug)]
#[command(
    name = "",
    no_binary_name = true,
    disable_help_subcommand = true,
    disable_version_flag = true,
    infer_subcommands = true,
    max_term_width = 100,
    override_usage = "COMMAND [ARGUMENTS]"
)]
pub struct ShellLine {
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(subcommand)]
    pub command: ShellCommand,
}

/// Commands of the shell.
#[derive(Subcommand, Debug)]
pub enum ShellCommand {
    #[command(flatten)]
    Common(Command),
    #[command(flatten)]
    Session(SessionCommand),
}

/// Commands whose outcome is for those that follow, so that they need a shell.
#[derive(Subcommand, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum SessionCommand {
    /// See another server's tree in place of a file or directory
    Mount(cmd::mounts::MountArgs),
    /// Take a tree out again
    Umount(cmd::mounts::UmountArgs),
    /// List the trees that are seen
    Mounts,
    /// Open a file and keep it open
    Open(cmd::files::OpenArgs),
    /// Read from an open file
    Read(cmd::files::ReadArgs),
    /// Write to an open file
    Write(cmd::files::WriteArgs),
    /// Move where an open file stands
    Seek(cmd::files::SeekArgs),
    /// Write an open file to stable storage
    Fsync(cmd::files::FsyncArgs),
    /// Close an open file
    Close(cmd::files::NumberArgs),
    /// List the open files
    Files,
}

/// Commands that act on a connected tree.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// List directories
    Ls(cmd::ls::LsArgs),
    /// Show a directory as a tree
    Tree(cmd::tree::TreeArgs),
    /// Show all that is known of files
    Stat(cmd::stat::StatArgs),
    /// Resolve a path step by step: type, identity, source and round trips of each
    Walk(cmd::walk::WalkArgs),
    /// Print files
    Cat(cmd::cat::CatArgs),
    /// Print the beginning of files
    Head(cmd::head::HeadArgs),
    /// Print the end of files
    Tail(cmd::tail::TailArgs),
    /// Change the directory (without one: to the root; `-`: to the last)
    Cd(cmd::cd::CdArgs),
    /// Print the directory
    Pwd,
    /// Copy from the server to this machine
    Get(cmd::get::GetArgs),
    /// Copy from this machine to the server
    Put(cmd::put::PutArgs),
    /// Copy within the server's tree
    Cp(cmd::cp::CpArgs),
    /// Move or rename files
    Mv(cmd::mv::MvArgs),
    /// Rename one file, as rename(2) does
    Rename(cmd::rename::RenameArgs),
    /// Make links
    Ln(cmd::ln::LnArgs),
    /// Remove files
    Rm(cmd::rm::RmArgs),
    /// Make directories
    Mkdir(cmd::mkdir::MkdirArgs),
    /// Remove empty directories
    Rmdir(cmd::rmdir::RmdirArgs),
    /// Make files, or set their times
    Touch(cmd::touch::TouchArgs),
    /// Set the size of files
    Truncate(cmd::truncate::TruncateArgs),
    /// Allocate, free, zero or move ranges of files
    Fallocate(cmd::fallocate::FallocateArgs),
    /// Make a fifo, socket or device
    Mknod(cmd::mknod::MknodArgs),
    /// Change permission bits
    Chmod(cmd::chmod::ChmodArgs),
    /// Change owners
    Chown(cmd::chown::ChownArgs),
    /// Print what symbolic links say
    Readlink(cmd::readlink::ReadlinkArgs),
    /// Show or change extended attributes
    Xattr(cmd::xattr::XattrArgs),
    /// Show space on the server's file system
    Df(cmd::df::DfArgs),
    /// Sum up space used by directories
    Du(cmd::du::DuArgs),
    /// Search a directory tree
    Find(cmd::find::FindArgs),
    /// Print what happens to files
    Watch(cmd::watch::WatchArgs),
    /// Hold an advisory lock while a command runs
    Lock(cmd::lock::LockArgs),
    /// Write everything to stable storage
    Sync(cmd::sync::SyncArgs),
    /// Save what is in use to a local file
    Checkpoint(cmd::image::CheckpointArgs),
    /// Bring back what `checkpoint` saved, over a new connection
    Restore(cmd::image::RestoreArgs),
    /// Show the mount options in effect and what each means
    #[command(after_help = OPTION_KEYS)]
    Options,
    /// Show what is cached, or forget it
    Cache(cmd::cache::CacheArgs),
    /// Show counters: operations, cache hits, round trips, bytes
    Stats,
    /// Run a command as somebody else, or become them
    As(cmd::r#as::AsArgs),
    /// Change the local directory
    Lcd(cmd::local::LcdArgs),
    /// Print the local directory
    Lpwd,
    /// List a local directory
    Lls(cmd::local::LlsArgs),
    /// Show the lines typed before
    History,
    /// Explain a command
    #[command(visible_alias = "?")]
    Help(cmd::help::HelpArgs),
    /// Leave the shell
    #[command(visible_aliases = ["quit", "bye"])]
    Exit,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
        ShellLine::command().debug_assert();
    }

    #[test]
    fn the_screen_of_help_names_every_command() {
        for command in Cli::command().get_subcommands() {
            let name = format!(" {}", command.get_name());
            assert!(BRIEF.contains(&name), "{name}");
        }
        assert!(BRIEF.lines().count() <= 40);
    }

    #[test]
    fn connection_flags_go_before_and_after_the_command() {
        for line in [
            "gofer-cli --root /usr --lisafs ls -l lib",
            "gofer-cli ls --root /usr -l lib --lisafs",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.connection.root.as_deref(), Some("/usr".as_ref()));
            assert!(cli.connection.lisafs);
            assert!(matches!(
                cli.command,
                Some(TopCommand::Command(Command::Ls(_)))
            ));
        }
    }

    #[test]
    fn trace_takes_its_file_only_with_an_equals_sign() {
        let parse = |line: &str| {
            Cli::try_parse_from(line.split(' '))
                .unwrap()
                .connection
                .trace
        };
        assert_eq!(parse("gofer-cli ls --trace lib"), Some("-".into()));
        assert_eq!(
            parse("gofer-cli ls --trace=t.log lib"),
            Some("t.log".into())
        );
    }

    #[test]
    fn ls_keeps_h_for_human_sizes() {
        let cli = Cli::try_parse_from(["gofer-cli", "ls", "-lh"]).unwrap();
        let Some(TopCommand::Command(Command::Ls(ls))) = cli.command else {
            panic!("not ls");
        };
        assert!(ls.human);
        assert!(Cli::try_parse_from(["gofer-cli", "ls", "--help"]).is_err());
    }

    #[test]
    fn every_command_explains_itself() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let words = ["gofer-cli", name, "--help"];
            match Cli::try_parse_from(words) {
                Err(error) => assert_eq!(error.kind(), ErrorKind::DisplayHelp, "{name}"),
                // The server's command line is its own.
                Ok(_) => assert_eq!(name, "serve"),
            }
        }
    }

    #[test]
    fn a_shell_line_knows_unique_prefixes() {
        let line = ShellLine::try_parse_from(["mkd", "x"]).unwrap();
        assert!(matches!(
            line.command,
            ShellCommand::Common(Command::Mkdir(_))
        ));
        assert!(ShellLine::try_parse_from(["r", "x"]).is_err());
    }
}
