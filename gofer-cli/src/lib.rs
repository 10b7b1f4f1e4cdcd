//! `gofer-cli`: a shell and one-shot commands on a gofer, over lisafs and over 9P2000.L.
//!
//! The way of a command: [`run`] reads the arguments, `settings` gathers where to connect to,
//! `target` connects, `commands` acts on the tree of a `session`, `ui` speaks. The shell sends
//! its lines the same way.

#![forbid(unsafe_code)]

mod args;
mod client;
mod commands;
mod config;
mod error;
mod exit;
mod glob;
mod ids;
mod logging;
mod manual;
mod mount;
mod session;
mod settings;
mod shell;
mod signals;
mod target;
mod transfer;
mod traverse;
mod ui;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use args::{Cli, TopCommand};
use client::Client;
use commands::help;
use error::{CliError, CliResult};
use exit::Exit;
use session::Session;
use settings::Layer;
use target::Target;
use ui::Ui;

/// Runs the command line `args`, the program's name first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    // The server reads its own command line: it must not depend on what ours understands.
    if args.get(1).is_some_and(|word| word == "serve") {
        return gofer_server_mock::run(args);
    }
    let (args, helper) = match mount::helper::translate(&args) {
        Ok(Some(args)) => (args, true),
        Ok(None) => (args, false),
        Err(error) => {
            Ui::new(&args::OutputArgs::default()).error(&error);
            return error.exit().for_helper();
        }
    };
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return usage_exit(&error, &args),
    };
    let mut ui = Ui::new(&cli.output);
    let exit = match main(cli, &mut ui) {
        Ok(()) => Exit::Done,
        Err(error) => {
            ui.error(&error);
            error.exit()
        }
    };
    match helper {
        true => exit.for_helper(),
        false => exit.into(),
    }
}

/// Does what was asked; `ui` is for the error that comes back.
fn main(cli: Cli, ui: &mut Ui) -> CliResult<()> {
    if cli.brief {
        ui.write(args::BRIEF.as_bytes())?;
        return ui.flush();
    }
    let command = cli.command.unwrap_or(TopCommand::Shell(Default::default()));
    match &command {
        TopCommand::Completions { shell } => return manual::completions(ui, *shell),
        TopCommand::Man => return manual::page(ui),
        TopCommand::Mount(args) => return mount::mount(args, &cli.connection, &cli.output, ui),
        TopCommand::Umount(args) => return mount::umount(args, ui),
        TopCommand::Command(args::Command::Help(args)) => {
            ui.write(help::outside(&args.command)?.as_bytes())?;
            return ui.flush();
        }
        TopCommand::Serve { .. } => {
            let hint = "gofer-cli serve --protocol auto --root DIR --listen unix:PATH";
            return Err(CliError::usage("serve comes first, its flags after it").hint(hint));
        }
        TopCommand::Command(command) if shell::needs_shell(command) => {
            return Err(CliError::usage(
                "this command only makes sense in the shell",
            ));
        }
        _ => {}
    }
    // Reading files leaves none open, so the descriptors we inherited are still the only ones.
    let settings = settings(&cli.connection)?;
    let credentials = settings.credentials(ids::caller());
    let trace = cli.connection.trace.clone();
    let connection =
        Target::new(settings, &cli.connection)?.connect(&|| logging::tracer(trace.as_deref()))?;
    logging::start(cli.output.verbose);
    let interrupts = signals::watch()?;
    let mut session = Session {
        client: Client::new(connection, credentials, interrupts.cancel),
        at_prompt: interrupts.at_prompt,
        ui: Ui::new(&cli.output),
        is_shell: matches!(command, TopCommand::Shell(_)),
        files: Default::default(),
        held: Vec::new(),
        history: Vec::new(),
    };
    let result = match &command {
        TopCommand::Shell(args) => shell::run(&mut session, args),
        TopCommand::Command(command) => commands::run(&mut session, command).map(drop),
        _ => Ok(()),
    };
    let flushed = session.ui.flush();
    session.files.clear();
    session.held.clear();
    let lost = matches!(&result, Err(error) if error.exit() == Exit::Lost);
    // A lost connection cannot be closed in good order, and that was said already.
    let closed = match session.client.close() {
        Err(_) if lost => Ok(()),
        closed => closed,
    };
    result.and(flushed).and(closed)
}

/// All layers, the command line on top.
fn settings(args: &args::ConnectionArgs) -> CliResult<Layer> {
    let env = |key: &str| std::env::var_os(key);
    let profile = match &args.profile {
        Some(profile) => Some(profile.clone()),
        None => std::env::var("GOFER_PROFILE")
            .ok()
            .filter(|name| !name.is_empty()),
    };
    let file = match config::location(args.config.as_deref()) {
        Some((path, required)) => config::load(&path, required, profile.as_deref())?,
        None => Layer::default(),
    };
    let layers = Layer::from_env(env)?.over(file);
    Ok(Layer::from_args(args)?.over(layers))
}

/// Prints what clap has to say and gives the exit code for it.
fn usage_exit(error: &clap::Error, args: &[OsString]) -> ExitCode {
    if !error.use_stderr() {
        // Help and version are data. A closed pipe is no failure.
        let _ = error.print();
        return Exit::Done.into();
    }
    let output = args::OutputArgs {
        json: args.iter().any(|word| word == "--json"),
        ..Default::default()
    };
    let ui = Ui::new(&output);
    let failure = usage_error(error);
    ui.error(&failure);
    failure.exit().into()
}

/// A clap error in our words: the message first, then what clap suggests.
fn usage_error(error: &clap::Error) -> CliError {
    let text = error.to_string();
    let mut message = String::new();
    let mut hints = Vec::new();
    for line in text.lines().map(str::trim_end) {
        let trimmed = line.trim_start();
        if let Some(tip) = trimmed.strip_prefix("tip: ") {
            hints.push(tip.to_owned());
        } else if let Some(usage) = trimmed.strip_prefix("Usage: ") {
            hints.push(format!("usage: {usage}"));
        } else if trimmed.is_empty() || trimmed.starts_with("For more information") {
            continue;
        } else if hints.is_empty() {
            let line = trimmed.strip_prefix("error: ").unwrap_or(trimmed);
            message.push_str(if message.is_empty() { "" } else { " " });
            message.push_str(line);
        }
    }
    if error.kind() == ErrorKind::InvalidSubcommand {
        hints.push("help lists the commands".to_owned());
    }
    hints
        .into_iter()
        .fold(CliError::usage(message), CliError::hint)
}
