//! `help`: explains a command, or lists them.

use clap::error::ErrorKind;
use clap::{Args, Command, CommandFactory, Subcommand};

use crate::args::{Cli, Command as Common, ShellLine};
use crate::error::{CliError, CliResult};
use crate::session::Session;

/// Arguments of `help`.
#[derive(Args, Debug)]
pub struct HelpArgs {
    /// A command, and its subcommand where it has some
    #[arg(value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Runs `help`.
pub fn run(session: &mut Session, args: &HelpArgs) -> CliResult<()> {
    let text = text(ShellLine::command(), &args.command)?;
    session.ui.write(text.as_bytes())
}

/// What `gofer-cli help` says, outside of a shell.
pub fn outside(words: &[String]) -> CliResult<String> {
    let common = Common::augment_subcommands(Command::new("common"));
    // Connection flags are those of every command: explained once, by `gofer-cli --help`.
    let is_common = |word: &String| common.find_subcommand(word).is_some();
    match words.first() {
        Some(word) if is_common(word) => text(ShellLine::command(), words),
        _ => text(Cli::command(), words),
    }
}

/// What `help` says of `words`, or of everything that `root` has when there are none.
fn text(mut root: Command, words: &[String]) -> CliResult<String> {
    root.build();
    if words.is_empty() {
        let commands = root
            .get_subcommands()
            .filter(|command| !command.is_hide_set());
        let rows: Vec<(String, String)> = commands
            .map(|command| {
                let about = command.get_about().map(ToString::to_string);
                (command.get_name().to_owned(), about.unwrap_or_default())
            })
            .collect();
        let mut text = String::new();
        for (name, about) in rows {
            text.push_str(&format!("{name:<11} {about}\n"));
        }
        text.push_str(
            "\nhelp COMMAND explains one. Quoting and * ? [a-z] {a,b} ** work as in sh; a `-` \
             before a\ncommand ignores its error, `;` separates commands, `#` begins a comment.\n",
        );
        return Ok(text);
    }
    // The same words as `COMMAND --help` gives, by the same way.
    let program = (!root.is_no_binary_name_set()).then_some(root.get_name().to_owned());
    let words_asked = words.iter().cloned().chain(["--help".to_owned()]);
    match root
        .clone()
        .try_get_matches_from(program.into_iter().chain(words_asked))
    {
        Err(error) if error.kind() == ErrorKind::DisplayHelp => return Ok(error.to_string()),
        _ => {}
    }
    let mut command = &mut root;
    for word in words {
        let Some(found) = command.find_subcommand_mut(word) else {
            return Err(CliError::usage(format!(
                "help: there is no command `{word}`"
            )));
        };
        command = found;
    }
    // Commands that hand their flags on have none of their own.
    Ok(command.render_help().to_string())
}
