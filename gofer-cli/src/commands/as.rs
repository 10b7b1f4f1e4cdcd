//! `as`: runs a command as somebody else, or becomes them.

use std::ffi::OsString;

use clap::Args;
use gofer_vfs::Credentials;

use crate::error::CliResult;
use crate::ids::parse_credentials;
use crate::session::Session;

/// Arguments of `as`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  as 1000 ls /root        one command as uid 1000, gid 1000
  as 1000:100,27 touch x  with group 100 and supplementary group 27
  as 1000                 from now on
  as                      who am I?")]
pub struct AsArgs {
    /// UID[:GID[,GID...]], numbers or names of this machine
    #[arg(value_parser = parse_credentials)]
    pub who: Option<Credentials>,
    /// The command; without one, every command from now on
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    pub command: Vec<OsString>,
}

/// Runs `as`.
pub fn run(session: &mut Session, args: &AsArgs) -> CliResult<()> {
    let Some(who) = &args.who else {
        let Credentials {
            uid, gid, groups, ..
        } = &session.client.creds;
        if session.ui.json {
            let object = serde_json::json!({ "uid": uid, "gid": gid, "groups": groups });
            return session.ui.json(&object);
        }
        let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
        let line = format!("uid {uid} gid {gid} groups {}", groups.join(","));
        return session.ui.line(line.trim_end_matches(" groups "));
    };
    let before = std::mem::replace(&mut session.client.creds, who.clone());
    if args.command.is_empty() {
        return Ok(());
    }
    let result = crate::shell::run_words(session, args.command.clone());
    // Hints about permissions must name who it was.
    let result = result
        .map_err(|error| session.client.explain(error))
        .map(drop);
    session.client.creds = before;
    result
}
