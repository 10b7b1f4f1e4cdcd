//! Who is who: the policy of an export, and the host's users and their groups.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::str::FromStr;

use super::credentials::User;
use super::{Errno, Result};

/// Whom somebody without a number or a known name is: no owner of anything.
const NOBODY: u32 = 65_534;

/// As whom requests are carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Users {
    /// As whom the server runs, whoever asks.
    #[default]
    Server,
    /// As whom the client says that it acts for, which is believed.
    Attach,
    /// As this user, whoever asks.
    Squash {
        /// User.
        uid: u32,
        /// Its only group.
        gid: u32,
    },
}

impl FromStr for Users {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Users, String> {
        let number = |text: &str| match text.parse() {
            Ok(u32::MAX) | Err(_) => Err(format!("`{text}` is no user or group number")),
            Ok(number) => Ok(number),
        };
        match text {
            "server" => Ok(Users::Server),
            "attach" => Ok(Users::Attach),
            _ => {
                let ids = text
                    .strip_prefix("squash=")
                    .and_then(|ids| ids.split_once(':'));
                let (uid, gid) = ids.ok_or("users are server, attach or squash=UID:GID")?;
                Ok(Users::Squash {
                    uid: number(uid)?,
                    gid: number(gid)?,
                })
            }
        }
    }
}

impl fmt::Display for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Users::Server => f.write_str("server"),
            Users::Attach => f.write_str("attach"),
            Users::Squash { uid, gid } => write!(f, "squash={uid}:{gid}"),
        }
    }
}

/// Users and groups as they were when it was read. A server in a sandbox cannot ask later.
#[derive(Debug, Default)]
pub struct UserDatabase {
    names: HashMap<Vec<u8>, u32>,
    users: HashMap<u32, Entry>,
}

#[derive(Debug)]
struct Entry {
    gid: u32,
    groups: Vec<u32>,
}

impl UserDatabase {
    /// Reads `/etc/passwd` and `/etc/group`. Other sources that the host may have are not asked.
    pub fn of_host() -> io::Result<UserDatabase> {
        let read = |path| match fs::read(Path::new(path)) {
            // A bare container has no names.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read,
        };
        let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
        Ok(UserDatabase::parse(&passwd, &group))
    }

    /// As passwd(5) and group(5) say; lines that do not look like it are left out, and of several
    /// for one user the first counts.
    pub fn parse(passwd: &[u8], group: &[u8]) -> UserDatabase {
        let mut database = UserDatabase::default();
        for line in fields(passwd) {
            let [name, _, uid, gid, ..] = line[..] else {
                continue;
            };
            let (Some(uid), Some(gid)) = (number(uid), number(gid)) else {
                continue;
            };
            database.names.entry(name.to_vec()).or_insert(uid);
            database.users.entry(uid).or_insert(Entry {
                gid,
                groups: Vec::new(),
            });
        }
        for line in fields(group) {
            let [_, _, gid, members, ..] = line[..] else {
                continue;
            };
            let Some(gid) = number(gid) else {
                continue;
            };
            for member in members.split(|&byte| byte == b',') {
                let uid = database.names.get(member);
                let Some(entry) = uid.and_then(|uid| database.users.get_mut(uid)) else {
                    continue;
                };
                if !entry.groups.contains(&gid) {
                    entry.groups.push(gid);
                }
            }
        }
        database
    }

    /// The user with this number, with the groups the host has for it. One that the host does not
    /// know is alone in the group of the same number.
    pub fn by_number(&self, uid: u32) -> Result<User> {
        match self.users.get(&uid) {
            Some(Entry { gid, groups }) => User::new(uid, *gid, groups),
            None => User::new(uid, uid, &[]),
        }
    }

    /// The user of this name; nobody, if the host has none or the name is empty.
    pub fn by_name(&self, name: &[u8]) -> Result<User> {
        self.by_number(self.names.get(name).copied().unwrap_or(NOBODY))
    }
}

/// Lines, cut at their colons.
fn fields(file: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    file.split(|&byte| byte == b'\n')
        .map(|line| line.split(|&byte| byte == b':').collect())
}

fn number(text: &[u8]) -> Option<u32> {
    let number = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number != u32::MAX).then_some(number)
}

/// An export's policy, with what it needs to know.
#[derive(Debug)]
pub(super) enum Identities {
    /// Always the same.
    One(User),
    Attach(UserDatabase),
}

impl Identities {
    /// For `users`. `EPERM` when this process cannot act as others.
    pub(super) fn new(users: Users, database: UserDatabase) -> Result<Identities> {
        match users {
            Users::Server => Ok(Identities::One(User::SERVER)),
            Users::Attach => {
                User::check_others()?;
                Ok(Identities::Attach(database))
            }
            Users::Squash { uid, gid } if is_own(uid, gid) => Ok(Identities::One(User::SERVER)),
            Users::Squash { uid, gid } => {
                User::check_others()?;
                Ok(Identities::One(User::new(uid, gid, &[])?))
            }
        }
    }

    /// Whoever attaches with this number, or without one by this name.
    pub(super) fn user(&self, number: Option<u32>, name: &[u8]) -> Result<User> {
        match (self, number) {
            (Identities::One(user), _) => Ok(user.clone()),
            (Identities::Attach(database), Some(uid)) => database.by_number(uid),
            (Identities::Attach(database), None) => database.by_name(name),
        }
    }

    /// Whether requests are carried out as others than the server.
    pub(super) fn are_others(&self) -> bool {
        match self {
            Identities::One(user) => *user != User::SERVER,
            Identities::Attach(_) => true,
        }
    }
}

/// Whether this is as whom the server runs anyway, without any right of root.
fn is_own(uid: u32, gid: u32) -> bool {
    let own = (rustix::process::geteuid(), rustix::process::getegid());
    uid != 0 && (own.0.as_raw(), own.1.as_raw()) == (uid, gid)
}

/// For errors of files that are not an export's.
pub(super) fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/:/bin/sh\n\
        # a remark\n\
        alice:x:1000:100:Alice:/a:/bin/sh\n\
        twin:x:1000:1000::/:/bin/sh\n\
        broken:x:many:1:\n\
        \xff\xfe:x:1001:1001::/:/bin/sh\n\
        short:x\n\
        minus:x:4294967295:1::/:";
    const GROUP: &[u8] = b"wheel:x:10:root,alice\n\
        disk:x:6:alice,ghost\n\
        odd:x:11:\xff\xfe,alice,alice\n\
        broken:x:ten:alice\n\
        empty:x:12:\n";

    #[test]
    fn the_database_knows_users_and_their_groups() {
        let database = UserDatabase::parse(PASSWD, GROUP);
        let user = |uid, gid, groups: &[u32]| Ok(User::new(uid, gid, groups).unwrap());
        assert_eq!(database.by_number(0), user(0, 0, &[10]));
        assert_eq!(database.by_number(1000), user(1000, 100, &[10, 6, 11]));
        assert_eq!(database.by_name(b"alice"), database.by_number(1000));
        assert_eq!(database.by_name(b"twin"), database.by_number(1000));
        assert_eq!(database.by_name(b"\xff\xfe"), user(1001, 1001, &[11]));
        assert_eq!(database.by_number(4242), user(4242, 4242, &[]));
        for unknown in [&b""[..], b"ghost", b"broken", b"short", b"minus"] {
            assert_eq!(database.by_name(unknown), user(NOBODY, NOBODY, &[]));
        }
        assert_eq!(database.by_number(u32::MAX), Err(Errno::INVAL));
    }

    #[test]
    fn a_policy_is_written_as_it_is_read() {
        for text in ["server", "attach", "squash=0:0", "squash=1000:4294967294"] {
            assert_eq!(text.parse::<Users>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "root",
            "squash",
            "squash=",
            "squash=1",
            "squash=1:",
            "squash=a:1",
            "squash=1:-1",
            "squash=1:4294967295",
        ] {
            assert!(wrong.parse::<Users>().is_err(), "{wrong}");
        }
    }
}
