//! The configuration file: exports and limits in TOML.
//!
//! ```toml
//! protocol = "auto"        # of exports that do not say
//! host-uds = "none"
//! host-fifo = "none"
//! donate = true
//! donate-root = false
//! users = "server"         # or "attach", or "squash=UID:GID"
//! sandbox = "auto"
//!
//! [limits]
//! connections = 256
//! handles = 65536
//! requests = 64
//! channels = 4
//! message-size = 2093056
//! patience = 30            # seconds
//!
//! [[export]]
//! root = "/srv/data"
//! mode = "ro"
//! listen = "unix:/run/gofer.sock"   # or fd = 3
//! ```

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use crate::cli::{FifosArg, Mode, ProtocolArg, SocketsArg, UsersArg, descriptor};
use crate::limits::{Limit, Limits};
use crate::listen::Address;
use crate::run::reason;
use crate::sandbox;

/// A whole file.
#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Config {
    pub(crate) protocol: Option<ProtocolArg>,
    pub(crate) host_uds: Option<SocketsArg>,
    pub(crate) host_fifo: Option<FifosArg>,
    pub(crate) all_types: Option<bool>,
    pub(crate) donate: Option<bool>,
    pub(crate) donate_root: Option<bool>,
    pub(crate) users: Option<UsersArg>,
    pub(crate) sandbox: Option<sandbox::Mode>,
    pub(crate) limits: ConfigLimits,
    #[serde(rename = "export")]
    pub(crate) exports: Vec<ConfigExport>,
}

/// An `[[export]]`.
#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ConfigExport {
    pub(crate) root: PathBuf,
    #[serde(default)]
    pub(crate) mode: Mode,
    #[serde(default, deserialize_with = "fd")]
    pub(crate) fd: Option<i32>,
    pub(crate) listen: Option<Address>,
    pub(crate) protocol: Option<ProtocolArg>,
    pub(crate) host_uds: Option<SocketsArg>,
    pub(crate) host_fifo: Option<FifosArg>,
    pub(crate) all_types: Option<bool>,
    pub(crate) donate: Option<bool>,
    pub(crate) donate_root: Option<bool>,
    pub(crate) users: Option<UsersArg>,
}

/// `[limits]`.
#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct ConfigLimits {
    connections: Option<Count>,
    handles: Option<Count>,
    requests: Option<Count>,
    channels: Option<usize>,
    message_size: Option<MessageSize>,
    patience: Option<Count>,
}

impl From<ConfigLimits> for Limits {
    fn from(config: ConfigLimits) -> Limits {
        let default = Limits::default();
        let count = |count: Option<Count>, default| count.map_or(default, |Count(count)| count);
        Limits {
            connections: count(config.connections, default.connections),
            handles: count(config.handles, default.handles),
            requests: count(config.requests, default.requests),
            channels: config
                .channels
                .unwrap_or(default.channels)
                .min(Limit::CHANNELS_MAX),
            message_size: config
                .message_size
                .map_or(default.message_size, |MessageSize(size)| size),
            patience: config.patience.map_or(default.patience, |Count(count)| {
                Duration::from_secs(count as u64)
            }),
        }
    }
}

/// At least one of something.
#[derive(Debug)]
struct Count(usize);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Count, D::Error> {
        match usize::deserialize(from)? {
            0 => Err(de::Error::custom("a limit must be at least 1")),
            count => Ok(Count(count)),
        }
    }
}

/// Bytes of a message.
#[derive(Debug)]
struct MessageSize(u32);

impl<'de> Deserialize<'de> for MessageSize {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<MessageSize, D::Error> {
        let allowed = Limits::MESSAGE_SIZE_MIN..=Limits::MESSAGE_SIZE_MAX;
        match u32::deserialize(from)? {
            size if allowed.contains(&size) => Ok(MessageSize(size)),
            _ => Err(de::Error::custom(format!(
                "a message size must be between {} and {} bytes",
                allowed.start(),
                allowed.end()
            ))),
        }
    }
}

fn fd<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i32>, D::Error> {
    let number = i64::deserialize(from)?;
    descriptor(&number.to_string())
        .map(Some)
        .map_err(de::Error::custom)
}

/// A file that does not do: where and why.
#[derive(Debug)]
pub(crate) struct ConfigError {
    file: PathBuf,
    /// Line and column, from 1, and the key at that place.
    place: Option<(usize, usize, String)>,
    message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column, key)) = &self.place {
            write!(f, ":{line}:{column}")?;
            if !key.is_empty() {
                write!(f, ": {key}")?;
            }
        }
        write!(f, ": {}", self.message)
    }
}

impl Config {
    /// Reads `file`.
    pub(crate) fn read(file: &Path) -> Result<Config, ConfigError> {
        let error = |place, message| ConfigError {
            file: file.to_path_buf(),
            place,
            message,
        };
        let text = fs::read_to_string(file).map_err(|cause| error(None, reason(&cause)))?;
        toml::from_str(&text).map_err(|cause| {
            let place = cause.span().map(|span| place(&text, span.start));
            error(place, cause.message().trim().replace('\n', ", "))
        })
    }
}

/// Line, column and key of the byte at `offset`.
fn place(text: &str, offset: usize) -> (usize, usize, String) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.matches('\n').count() + 1;
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    let whole = text.get(line_start..).and_then(|rest| rest.lines().next());
    let key = whole
        .unwrap_or_default()
        .split(['=', '#'])
        .next()
        .unwrap_or_default();
    (line, column, key.trim().to_string())
}
