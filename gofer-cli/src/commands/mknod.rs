//! `mknod`: makes a fifo, a socket or a device.

use clap::{Args, ValueEnum};
use gofer_vfs::{Device, FileType};

use crate::client::PathArg;
use crate::error::{CliError, CliResult};
use crate::session::Session;

/// Arguments of `mknod`.
#[derive(Args, Debug)]
pub struct MknodArgs {
    /// What to call it
    pub path: PathArg,
    /// p: fifo, s: socket, c: character device, b: block device
    #[arg(value_name = "TYPE")]
    pub kind: Kind,
    /// Number of the driver
    pub major: Option<u32>,
    /// Number of the device
    pub minor: Option<u32>,
    /// Permissions, as chmod takes them
    #[arg(short, long, value_name = "MODE")]
    pub mode: Option<super::chmod::Mode>,
}

/// What can be made.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Kind {
    P,
    S,
    C,
    B,
}

/// Runs `mknod`.
pub fn run(session: &mut Session, args: &MknodArgs) -> CliResult<()> {
    let client = &session.client;
    let file_type = match args.kind {
        Kind::P => FileType::Fifo,
        Kind::S => FileType::Socket,
        Kind::C => FileType::CharDevice,
        Kind::B => FileType::BlockDevice,
    };
    let needs_device = matches!(args.kind, Kind::C | Kind::B);
    let device = match (args.major, args.minor) {
        (Some(major), Some(minor)) if needs_device => Device { major, minor },
        (None, None) if !needs_device => Device::default(),
        _ if needs_device => return Err(CliError::usage("mknod: a device needs MAJOR and MINOR")),
        _ => return Err(CliError::usage("mknod: only devices have MAJOR and MINOR")),
    };
    let mode = match &args.mode {
        Some(mode) => mode.apply(0o666, false, client.umask),
        None => client.masked(0o666),
    };
    client
        .fs
        .mknod(&client.cx(), client.at(&args.path), file_type, mode, device)?;
    Ok(())
}
