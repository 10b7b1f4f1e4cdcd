//! `df`: space on the server's file system.

use clap::Args;
use gofer_vfs::StatFs;
use serde_json::{Value, json};

use crate::client::PathArg;
use crate::error::{CliResult, Tally};
use crate::session::Session;
use crate::ui::format::human_size;
use crate::ui::json;
use crate::ui::table::{self, Align, Cell};

/// Arguments of `df`.
#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
pub struct DfArgs {
    /// Files whose file systems to show [default: the directory]
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathArg>,
    /// Sizes with units
    #[arg(short = 'h')]
    pub human: bool,
    /// Inodes instead of space
    #[arg(short = 'i')]
    pub inodes: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
}

/// Runs `df`.
pub fn run(session: &mut Session, args: &DfArgs) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let here = [PathArg::from(b".".as_slice())];
    let paths = if args.paths.is_empty() {
        here.as_slice()
    } else {
        args.paths.as_slice()
    };
    let mut tally = Tally::default();
    let mut list: Vec<Value> = Vec::new();
    let titles = match args.inodes {
        true => ["TYPE", "INODES", "USED", "FREE", "USE%", "PATH"],
        false if args.human => ["TYPE", "SIZE", "USED", "AVAIL", "USE%", "PATH"],
        false => ["TYPE", "1K-BLOCKS", "USED", "AVAIL", "USE%", "PATH"],
    };
    let mut rows = vec![titles.map(Cell::new).to_vec()];
    for path in paths {
        match client.fs.statfs(&client.cx(), client.at(path)) {
            Ok(stat) => {
                list.push(to_json(path, &stat));
                let mut row: Vec<Cell> = columns(&stat, args).into_iter().map(Cell::new).collect();
                row.push(Cell::new(ui.name(path).into_owned()));
                rows.push(row);
                client.note(ui, &mut tally, Ok(()))?;
            }
            Err(error) => client.note(ui, &mut tally, Err(error.into()))?,
        }
    }
    if ui.json {
        ui.json(&list)?;
    } else if rows.len() > 1 {
        use Align::{Left, Right};
        ui.write(&table::rows(
            &[Left, Right, Right, Right, Right, Left],
            &rows,
        ))?;
    }
    tally.finish()
}

fn columns(stat: &StatFs, args: &DfArgs) -> Vec<String> {
    let bytes = |blocks: u64| blocks.saturating_mul(stat.block_size);
    let show = |blocks: u64| match args.human {
        true => human_size(bytes(blocks)),
        false => bytes(blocks).div_ceil(1024).to_string(),
    };
    let kind = type_name(stat.fs_type);
    if args.inodes {
        let used = stat.files.saturating_sub(stat.files_free);
        return vec![
            kind,
            stat.files.to_string(),
            used.to_string(),
            stat.files_free.to_string(),
            percent(used, stat.files_free),
        ];
    }
    let used = stat.blocks.saturating_sub(stat.blocks_free);
    vec![
        kind,
        show(stat.blocks),
        show(used),
        show(stat.blocks_available),
        percent(used, stat.blocks_available),
    ]
}

/// Of what users can have, how much is used, rounded up as df does.
fn percent(used: u64, available: u64) -> String {
    let all = u128::from(used) + u128::from(available);
    match (u128::from(used) * 100).checked_div(all) {
        None => "-".to_owned(),
        Some(_) => format!("{}%", (u128::from(used) * 100).div_ceil(all)),
    }
}

fn to_json(path: &[u8], stat: &StatFs) -> Value {
    json!({
        "path": json::name(path),
        "fs_type": stat.fs_type,
        "fs_type_name": type_name(stat.fs_type),
        "block_size": stat.block_size,
        "blocks": stat.blocks,
        "blocks_free": stat.blocks_free,
        "blocks_available": stat.blocks_available,
        "files": stat.files,
        "files_free": stat.files_free,
        "name_length": stat.name_length,
    })
}

/// The usual name of a file system's magic number.
fn type_name(magic: u64) -> String {
    let name = match magic {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlay",
        0x2fc1_2fc1 => "zfs",
        0x6969 => "nfs",
        0x0102_1997 => "9p",
        0x6573_5546 => "fuse",
        0x9fa0 => "proc",
        0x6265_6572 => "sysfs",
        _ => return format!("{magic:#x}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_is_of_what_users_can_have() {
        assert_eq!(percent(1, 2), "34%");
        assert_eq!(percent(0, 0), "-");
        assert_eq!(percent(u64::MAX, u64::MAX), "50%");
    }
}
