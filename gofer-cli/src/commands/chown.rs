//! `chown`: changes owner and group.

use clap::Args;
use gofer_vfs::{Follow, SetAttr};

use crate::client::{Client, PathArg, show};
use crate::error::{CliResult, Tally};
use crate::ids::parse_owner;
use crate::session::Session;
use crate::traverse::{Item, Step, Visitor, named, traverse};
use crate::ui::Ui;

/// Arguments of `chown`.
#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
pub struct ChownArgs {
    /// OWNER, OWNER:GROUP or :GROUP; numbers, or names of this machine
    #[arg(value_parser = parse_owner)]
    pub owner: (Option<u32>, Option<u32>),
    /// Files to change
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathArg>,
    /// Everything below directories, too; links themselves are changed, not followed
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Links themselves, not what they lead to
    #[arg(short = 'h', long)]
    pub no_dereference: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
}

struct Chown<'a> {
    client: &'a Client,
    follow: Follow,
    set: SetAttr,
}

impl Visitor for Chown<'_> {
    fn visit(&mut self, ui: &mut Ui, item: &Item<'_>) -> CliResult<Step> {
        let follow = if item.depth == 0 {
            self.follow
        } else {
            Follow::No
        };
        let done = self
            .client
            .fs
            .set_attr(&self.client.cx(), item.at(), follow, &self.set);
        done.map_err(|error| named(error, item.path))?;
        ui.did(|| format!("{}: owner changed", show(item.path)));
        Ok(Step::Into)
    }
}

/// Runs `chown`.
pub fn run(session: &mut Session, args: &ChownArgs) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let (uid, gid) = args.owner;
    let itself = args.no_dereference || args.recursive;
    let follow = if itself { Follow::No } else { Follow::Yes };
    let set = SetAttr {
        uid,
        gid,
        ..SetAttr::default()
    };
    let mut visitor = Chown {
        client,
        follow,
        set,
    };
    let mut tally = Tally::default();
    for path in &args.paths {
        let result = if args.recursive {
            traverse(client, ui, &mut tally, path, follow, &mut visitor)
        } else {
            let done = client
                .fs
                .set_attr(&client.cx(), client.at(path), follow, &set);
            done.map_err(Into::into)
        };
        client.note(ui, &mut tally, result)?;
    }
    tally.finish()
}
