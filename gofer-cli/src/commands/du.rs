//! `du`: sums up the space that directories use.

use std::collections::HashSet;

use clap::Args;
use gofer_vfs::Follow;
use serde_json::{Value, json};

use crate::client::PathArg;
use crate::error::{CliResult, Tally};
use crate::session::Session;
use crate::traverse::{Item, Step, Visitor, traverse};
use crate::ui::Ui;
use crate::ui::format::human_size;
use crate::ui::json;

/// Arguments of `du`.
#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
pub struct DuArgs {
    /// Where to begin [default: the directory]
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathArg>,
    /// Sizes with units
    #[arg(short = 'h')]
    pub human: bool,
    /// One total for each PATH
    #[arg(short)]
    pub summarize: bool,
    /// Files, too
    #[arg(short)]
    pub all: bool,
    /// Levels to print
    #[arg(short = 'd', long, value_name = "N", conflicts_with = "summarize")]
    pub max_depth: Option<usize>,
    /// Sizes of content instead of space
    #[arg(short = 'b', long)]
    pub apparent: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
}

struct Sum<'a> {
    args: &'a DuArgs,
    /// Bytes so far in each open directory.
    open: Vec<u64>,
    /// Files with several names, counted once.
    seen: HashSet<u64>,
    list: Vec<Value>,
}

impl Sum<'_> {
    fn print(&mut self, ui: &mut Ui, item: &Item<'_>, bytes: u64) -> CliResult<()> {
        let depth = if self.args.summarize {
            Some(0)
        } else {
            self.args.max_depth
        };
        let wanted = item.is_dir() || self.args.all || item.depth == 0;
        if !wanted || depth.is_some_and(|depth| item.depth > depth) {
            return Ok(());
        }
        if ui.json {
            self.list
                .push(json!({ "path": json::name(item.path), "bytes": bytes }));
            return Ok(());
        }
        let size = match (self.args.human, self.args.apparent) {
            (true, _) => human_size(bytes),
            (false, true) => bytes.to_string(),
            (false, false) => bytes.div_ceil(1024).to_string(),
        };
        let mut line = format!("{size}\t").into_bytes();
        line.extend_from_slice(&ui.name(item.path));
        ui.line(line)
    }
}

impl Visitor for Sum<'_> {
    fn visit(&mut self, ui: &mut Ui, item: &Item<'_>) -> CliResult<Step> {
        let attr = &item.stat.attr;
        let counted = item.is_dir() || attr.nlink < 2 || self.seen.insert(item.stat.ino);
        let bytes = match (counted, self.args.apparent) {
            (false, _) => 0,
            (true, true) => attr.size,
            (true, false) => attr.blocks.saturating_mul(512),
        };
        if item.is_dir() {
            self.open.push(bytes);
        } else {
            if let Some(sum) = self.open.last_mut() {
                *sum = sum.saturating_add(bytes);
            }
            self.print(ui, item, bytes)?;
        }
        Ok(Step::Into)
    }

    fn leave(&mut self, ui: &mut Ui, item: &Item<'_>) -> CliResult<()> {
        let bytes = self.open.pop().unwrap_or(0);
        if let Some(sum) = self.open.last_mut() {
            *sum = sum.saturating_add(bytes);
        }
        self.print(ui, item, bytes)
    }
}

/// Runs `du`.
pub fn run(session: &mut Session, args: &DuArgs) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let here = [PathArg::from(b".".as_slice())];
    let paths = if args.paths.is_empty() {
        here.as_slice()
    } else {
        args.paths.as_slice()
    };
    let mut tally = Tally::default();
    let mut sum = Sum {
        args,
        open: Vec::new(),
        seen: HashSet::new(),
        list: Vec::new(),
    };
    for path in paths {
        sum.open.clear();
        let result = traverse(client, ui, &mut tally, path, Follow::No, &mut sum);
        client.note(ui, &mut tally, result)?;
    }
    if ui.json {
        ui.json(&sum.list)?;
    }
    tally.finish()
}
