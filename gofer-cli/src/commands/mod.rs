//! The commands, one file each: its clap type and what it does. One-shot commands and the shell
//! share them.

pub mod r#as;
pub mod cache;
pub mod cat;
pub mod cd;
pub mod chmod;
pub mod chown;
pub mod cp;
pub mod df;
pub mod du;
pub mod fallocate;
pub mod files;
pub mod find;
pub mod get;
pub mod head;
pub mod help;
pub mod history;
pub mod image;
pub mod ln;
pub mod local;
pub mod lock;
pub mod ls;
pub mod mkdir;
pub mod mknod;
pub mod mounts;
pub mod mv;
pub mod options;
pub mod put;
pub mod pwd;
pub mod readlink;
pub mod rename;
pub mod rm;
pub mod rmdir;
pub mod stat;
pub mod stats;
pub mod sync;
pub mod tail;
pub mod touch;
pub mod tree;
pub mod truncate;
pub mod walk;
pub mod watch;
pub mod xattr;

use crate::args::{Command, SessionCommand, ShellCommand};
use crate::error::CliResult;
use crate::session::Session;

/// What follows a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// The next one.
    GoOn,
    /// Nothing: the user leaves.
    Leave,
}

/// Runs one command. Errors come explained.
pub fn run(session: &mut Session, command: &Command) -> CliResult<Next> {
    if matches!(command, Command::Exit) {
        return Ok(Next::Leave);
    }
    let result = dispatch(session, command);
    finish(session, result)
}

/// Runs one command of a shell.
pub fn run_in_shell(session: &mut Session, command: &ShellCommand) -> CliResult<Next> {
    match command {
        ShellCommand::Common(command) => run(session, command),
        ShellCommand::Session(command) => {
            let result = dispatch_in_shell(session, command);
            finish(session, result)
        }
    }
}

fn finish(session: &mut Session, result: CliResult<()>) -> CliResult<Next> {
    // What was written before an error is still worth reading.
    let flushed = session.ui.flush();
    result
        .and(flushed)
        .map_err(|error| session.client.explain(error))?;
    Ok(Next::GoOn)
}

fn dispatch_in_shell(session: &mut Session, command: &SessionCommand) -> CliResult<()> {
    match command {
        SessionCommand::Mount(args) => mounts::mount(session, args),
        SessionCommand::Umount(args) => mounts::umount(session, args),
        SessionCommand::Mounts => mounts::list(session),
        SessionCommand::Open(args) => files::open(session, args),
        SessionCommand::Read(args) => files::read(session, args),
        SessionCommand::Write(args) => files::write(session, args),
        SessionCommand::Seek(args) => files::seek(session, args),
        SessionCommand::Fsync(args) => files::fsync(session, args),
        SessionCommand::Close(args) => files::close(session, args),
        SessionCommand::Files => files::list(session),
    }
}

fn dispatch(session: &mut Session, command: &Command) -> CliResult<()> {
    match command {
        Command::Ls(args) => ls::run(session, args),
        Command::Tree(args) => tree::run(session, args),
        Command::Stat(args) => stat::run(session, args),
        Command::Walk(args) => walk::run(session, args),
        Command::Cat(args) => cat::run(session, args),
        Command::Head(args) => head::run(session, args),
        Command::Tail(args) => tail::run(session, args),
        Command::Cd(args) => cd::run(session, args),
        Command::Pwd => pwd::run(session),
        Command::Get(args) => get::run(session, args),
        Command::Put(args) => put::run(session, args),
        Command::Cp(args) => cp::run(session, args),
        Command::Mv(args) => mv::run(session, args),
        Command::Rename(args) => rename::run(session, args),
        Command::Ln(args) => ln::run(session, args),
        Command::Rm(args) => rm::run(session, args),
        Command::Mkdir(args) => mkdir::run(session, args),
        Command::Rmdir(args) => rmdir::run(session, args),
        Command::Touch(args) => touch::run(session, args),
        Command::Truncate(args) => truncate::run(session, args),
        Command::Fallocate(args) => fallocate::run(session, args),
        Command::Mknod(args) => mknod::run(session, args),
        Command::Chmod(args) => chmod::run(session, args),
        Command::Chown(args) => chown::run(session, args),
        Command::Readlink(args) => readlink::run(session, args),
        Command::Xattr(args) => xattr::run(session, args),
        Command::Df(args) => df::run(session, args),
        Command::Du(args) => du::run(session, args),
        Command::Find(args) => find::run(session, args),
        Command::Lock(args) => lock::run(session, args),
        Command::Watch(args) => watch::run(session, args),
        Command::Sync(args) => sync::run(session, args),
        Command::Checkpoint(args) => image::checkpoint(session, args),
        Command::Restore(args) => image::restore(session, args),
        Command::Options => options::run(session),
        Command::Cache(args) => cache::run(session, args),
        Command::Stats => stats::run(session),
        Command::As(args) => r#as::run(session, args),
        Command::Lcd(args) => local::lcd(args),
        Command::Lpwd => local::lpwd(session),
        Command::Lls(args) => local::lls(session, args),
        Command::History => history::run(session),
        Command::Help(args) => help::run(session, args),
        Command::Exit => Ok(()),
    }
}
