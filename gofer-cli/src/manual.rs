//! Completion scripts and the manual page, both from the argument definitions.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::error::CliResult;
use crate::exit;
use crate::ui::Ui;

/// Prints the completion script for `shell`.
pub fn completions(ui: &mut Ui, shell: Shell) -> CliResult<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "gofer-cli", &mut script);
    ui.write(&script)?;
    ui.flush()
}

/// Prints the manual page: the program, then each command.
pub fn page(ui: &mut Ui) -> CliResult<()> {
    // The text behind the help is laid out for a terminal; here it becomes sections.
    let command = Cli::command()
        .after_help(exit::TABLE)
        .after_long_help(exit::TABLE);
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut page)
        .map_err(|error| crate::error::CliError::output(&error))?;
    ui.write(&page)?;
    ui.flush()
}
