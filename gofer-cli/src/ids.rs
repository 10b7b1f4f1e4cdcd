//! User and group numbers, from names of this machine and back.

use std::collections::HashMap;

use gofer_vfs::Credentials;
use nix::unistd::{Gid, Group, Uid, User};

/// The credentials a command acts with by default: the caller's own.
pub fn caller() -> Credentials {
    let groups = nix::unistd::getgroups().unwrap_or_default();
    Credentials::user(
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
        groups.into_iter().map(Gid::as_raw).collect(),
    )
}

/// A user number from a number or a name of this machine.
pub fn parse_user(text: &str) -> Result<u32, String> {
    if let Ok(uid) = text.parse() {
        return Ok(uid);
    }
    match User::from_name(text) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        _ => Err(format!("no user `{text}` on this machine; give its number")),
    }
}

/// A group number from a number or a name of this machine.
pub fn parse_group(text: &str) -> Result<u32, String> {
    if let Ok(gid) = text.parse() {
        return Ok(gid);
    }
    match Group::from_name(text) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        _ => Err(format!(
            "no group `{text}` on this machine; give its number"
        )),
    }
}

/// Reads `UID[:GID[,GID...]]`; the first group is the primary one and defaults to the uid's
/// number.
pub fn parse_credentials(text: &str) -> Result<Credentials, String> {
    let (user, groups) = match text.split_once(':') {
        Some((user, groups)) => (user, Some(groups)),
        None => (text, None),
    };
    let uid = parse_user(user)?;
    let mut gids = Vec::new();
    for group in groups.into_iter().flat_map(|groups| groups.split(',')) {
        gids.push(parse_group(group)?);
    }
    let gid = gids.first().copied().unwrap_or(uid);
    Ok(Credentials::user(
        uid,
        gid,
        gids.split_off(gids.len().min(1)),
    ))
}

/// Reads `OWNER`, `OWNER:GROUP` or `:GROUP`.
pub fn parse_owner(text: &str) -> Result<(Option<u32>, Option<u32>), String> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let uid = (!user.is_empty()).then(|| parse_user(user)).transpose()?;
    let gid = group
        .filter(|group| !group.is_empty())
        .map(parse_group)
        .transpose()?;
    if uid.is_none() && gid.is_none() {
        return Err(format!("`{text}` names neither an owner nor a group"));
    }
    Ok((uid, gid))
}

/// Names of owners, each looked up once.
#[derive(Default)]
pub struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
    numeric: bool,
}

impl Names {
    /// With `numeric`, numbers stay numbers.
    pub fn new(numeric: bool) -> Names {
        Names {
            numeric,
            ..Names::default()
        }
    }

    /// The user's name here, or the number.
    pub fn user(&mut self, uid: u32) -> &str {
        let numeric = self.numeric;
        self.users.entry(uid).or_insert_with(|| {
            let found = (!numeric).then(|| User::from_uid(Uid::from_raw(uid)));
            match found {
                Some(Ok(Some(user))) => user.name,
                _ => uid.to_string(),
            }
        })
    }

    /// The group's name here, or the number.
    pub fn group(&mut self, gid: u32) -> &str {
        let numeric = self.numeric;
        self.groups.entry(gid).or_insert_with(|| {
            let found = (!numeric).then(|| Group::from_gid(Gid::from_raw(gid)));
            match found {
                Some(Ok(Some(group))) => group.name,
                _ => gid.to_string(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_default_to_the_group_of_the_same_number() {
        let parsed = |text| {
            let c = parse_credentials(text).unwrap();
            (c.uid, c.gid, c.groups)
        };
        assert_eq!(parsed("1000"), (1000, 1000, vec![]));
        assert_eq!(parsed("1000:5"), (1000, 5, vec![]));
        assert_eq!(parsed("1000:5,6,7"), (1000, 5, vec![6, 7]));
        assert_eq!(parsed("root:root"), (0, 0, vec![]));
        assert!(parse_credentials("no-such-user").is_err());
        assert!(parse_credentials("1000:").is_err());
    }

    #[test]
    fn owners_may_lack_either_half() {
        assert_eq!(parse_owner("7"), Ok((Some(7), None)));
        assert_eq!(parse_owner("7:"), Ok((Some(7), None)));
        assert_eq!(parse_owner(":8"), Ok((None, Some(8))));
        assert_eq!(parse_owner("7:8"), Ok((Some(7), Some(8))));
        assert!(parse_owner(":").is_err());
    }
}
