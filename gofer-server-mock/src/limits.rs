//! How much clients may ask for before they are refused.

use std::str::FromStr;
use std::time::Duration;

/// Limits of a server. Each connection has its own count of everything but connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections at a time; one more is closed at once.
    pub connections: usize,
    /// Handles (fids, FDIDs) of one connection; one more is `EMFILE`.
    pub handles: usize,
    /// Requests in progress on one connection, where a protocol allows several; further ones
    /// wait. 9P works on 17 at a time at most.
    pub requests: usize,
    /// Shared-memory channels of one connection; one more is `ENOMEM`, and with 0 none is offered.
    pub channels: usize,
    /// Bytes of one message: the payload of a lisafs frame, and the msize of 9P, which is never
    /// agreed above 1 MiB.
    pub message_size: u32,
    /// How long a client may take nothing of the replies that wait for it. Then it is dropped.
    pub patience: Duration,
}

impl Limits {
    /// Messages cannot be limited to less than this many bytes: both protocols need room for a
    /// directory entry with the longest name, and 9P clients for a page.
    pub const MESSAGE_SIZE_MIN: u32 = 8192;
    /// Messages cannot be larger than this many bytes.
    pub const MESSAGE_SIZE_MAX: u32 = 16 << 20;
}

/// One limit with its value, as a command line gives it: `NAME=NUMBER`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limit {
    name: &'static str,
    value: usize,
}

impl Limit {
    /// Most channels: each has a thread and a window of its own, and more serve nobody.
    pub(crate) const CHANNELS_MAX: usize = 64;

    /// The names, as they are in a configuration file.
    const NAMES: [&'static str; 6] = [
        "connections",
        "handles",
        "requests",
        "channels",
        "message-size",
        "patience",
    ];

    /// Sets this limit.
    pub(crate) fn apply(self, limits: &mut Limits) {
        let Limit { name, value } = self;
        match name {
            "connections" => limits.connections = value,
            "handles" => limits.handles = value,
            "requests" => limits.requests = value,
            "channels" => limits.channels = value.min(Limit::CHANNELS_MAX),
            "message-size" => limits.message_size = u32::try_from(value).unwrap_or(u32::MAX),
            _ => limits.patience = Duration::from_secs(value as u64),
        }
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Limit, String> {
        let (name, value) = text.split_once('=').ok_or("a limit is NAME=NUMBER")?;
        let known = Limit::NAMES.into_iter().find(|known| *known == name);
        let name = known.ok_or_else(|| {
            let known = Limit::NAMES.join(", ");
            format!("unknown limit `{name}`; known are {known}")
        })?;
        let value: usize = value
            .parse()
            .map_err(|_| format!("`{value}` is not a number"))?;
        let (least, most) = match name {
            "channels" => (0, usize::MAX),
            "message-size" => (
                Limits::MESSAGE_SIZE_MIN as usize,
                Limits::MESSAGE_SIZE_MAX as usize,
            ),
            _ => (1, usize::MAX),
        };
        match value {
            value if value < least => Err(format!("{name} must be at least {least}")),
            value if value > most => Err(format!("{name} must be at most {most}")),
            value => Ok(Limit { name, value }),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 256,
            handles: 65_536,
            requests: 64,
            channels: std::thread::available_parallelism()
                .map_or(2, usize::from)
                .clamp(2, 4),
            message_size: (2 << 20) - 4096,
            patience: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_can_be_named() {
        let mut limits = Limits::default();
        for (index, name) in Limit::NAMES.into_iter().enumerate() {
            let value = match name {
                "message-size" => 10_000,
                _ => index + 1,
            };
            let limit: Limit = format!("{name}={value}").parse().unwrap();
            limit.apply(&mut limits);
        }
        let expected = Limits {
            connections: 1,
            handles: 2,
            requests: 3,
            channels: 4,
            message_size: 10_000,
            patience: Duration::from_secs(6),
        };
        assert_eq!(limits, expected);
        for wrong in [
            "handles",
            "handles=",
            "handles=0",
            "handles=-1",
            "fids=1",
            "message-size=100",
        ] {
            assert!(wrong.parse::<Limit>().is_err(), "{wrong}");
        }
        assert!("channels=0".parse::<Limit>().is_ok());
    }
}
