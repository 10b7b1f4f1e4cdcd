//! `stat`: all that is known of files.

use clap::Args;
use gofer_vfs::{AttrMask, FileType, Follow, Stat};
use jiff::tz::TimeZone;

use crate::client::PathArg;
use crate::error::{CliResult, Tally};
use crate::ids::Names;
use crate::session::Session;
use crate::ui::format;
use crate::ui::json::FileJson;

/// Arguments of `stat`.
#[derive(Args, Debug)]
pub struct StatArgs {
    /// Files to look at
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathArg>,
    /// What links lead to, not the links
    #[arg(short = 'L')]
    pub follow: bool,
}

/// Runs `stat`.
pub fn run(session: &mut Session, args: &StatArgs) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let follow = if args.follow { Follow::Yes } else { Follow::No };
    let (mut tally, mut json) = (Tally::default(), Vec::new());
    let mut names = Names::new(false);
    for path in &args.paths {
        let cx = client.cx();
        let found = client
            .fs
            .stat(&cx, client.at(path), follow)
            .and_then(|stat| {
                let is_link = stat.attr.file_type == FileType::Symlink;
                let target = is_link.then(|| client.fs.read_link(&cx, client.at(path)));
                Ok((stat, target.transpose()?))
            });
        match found {
            Ok((stat, target)) if ui.json => {
                let name = crate::client::base_name(path).unwrap_or(path);
                json.push(FileJson::new(name, path, &stat, target.as_deref()));
                client.note(ui, &mut tally, Ok(()))?;
            }
            Ok((stat, target)) => {
                let mut title = ui.name(path).into_owned();
                if let Some(target) = target {
                    title.extend_from_slice(b" -> ");
                    title.extend_from_slice(&ui.name(&target));
                }
                ui.line([b"  File: ", title.as_slice()].concat())?;
                ui.write(describe(&stat, &mut names).as_bytes())?;
                client.note(ui, &mut tally, Ok(()))?;
            }
            Err(error) => client.note(ui, &mut tally, Err(error.into()))?,
        }
    }
    if ui.json {
        ui.json(&json)?;
    }
    tally.finish()
}

fn describe(stat: &Stat, names: &mut Names) -> String {
    let attr = &stat.attr;
    let zone = TimeZone::system();
    let kind = format::type_word(attr.file_type).replace('_', " ");
    let device = match attr.file_type {
        FileType::CharDevice | FileType::BlockDevice => {
            format!("  Device type: {},{}", attr.rdev.major, attr.rdev.minor)
        }
        _ => String::new(),
    };
    let mut text = format!(
        "  Size: {:<15} Blocks: {:<10} IO Block: {:<6} {kind}\n\
         \x20Inode: {:<15} Links: {}{device}\n\
         Access: ({:04o}/{})  Uid: ({:>5}/{:>8})   Gid: ({:>5}/{:>8})\n",
        attr.size,
        attr.blocks,
        attr.block_size,
        stat.ino,
        attr.nlink,
        attr.mode,
        format::mode(attr.file_type, attr.mode),
        attr.uid,
        names.user(attr.uid).to_owned(),
        attr.gid,
        names.group(attr.gid).to_owned(),
    );
    for (label, time, known) in [
        ("Access", attr.atime, attr.mask.contains(AttrMask::ATIME)),
        ("Modify", attr.mtime, attr.mask.contains(AttrMask::MTIME)),
        ("Change", attr.ctime, attr.mask.contains(AttrMask::CTIME)),
        (" Birth", attr.btime, attr.mask.contains(AttrMask::BTIME)),
    ] {
        let time = match known {
            true => format::full_time(time, &zone),
            false => "-".to_owned(),
        };
        text.push_str(&format!("{label}: {time}\n"));
    }
    text
}
