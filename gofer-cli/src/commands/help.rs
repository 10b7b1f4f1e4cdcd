//! `help`: explains a command, or lists them.

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser};

use crate::args::ShellLine;
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
    let text = text(&args.command)?;
    session.ui.write(text.as_bytes())
}

/// What `help` says of `words`, or of everything when there are none.
pub fn text(words: &[String]) -> CliResult<String> {
    let mut root = ShellLine::command();
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
            text.push_str(&format!("{name:<10} {about}\n"));
        }
        text.push_str(
            "\nhelp COMMAND explains one. Quoting and * ? [a-z] {a,b} ** work as in sh; a `-` \
             before a\ncommand ignores its error, `;` separates commands, `#` begins a comment.\n",
        );
        return Ok(text);
    }
    // The same words as `COMMAND --help` gives, by the same way.
    let asked = words.iter().map(String::as_str).chain(["--help"]);
    match ShellLine::try_parse_from(asked) {
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
