//! `mount`, `umount` and `mounts` of the shell: further servers in the tree.

use clap::Args;
use serde_json::json;

use crate::args::ConnectionArgs;
use crate::client::{PathArg, show};
use crate::error::{CliError, CliResult};
use crate::logging;
use crate::session::Session;
use crate::target::Target;
use crate::ui::json as shapes;
use crate::ui::table::{self, Align, Cell};

/// Arguments of `mount`, in the shell.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mount --root /usr/share --lisafs doc       start a server and see its tree in doc
  mount --trans tcp --address host:564 -o ro src
  umount doc
Its tree ends with the shell at the latest.")]
pub struct MountArgs {
    /// The file or directory in whose place the other tree is seen
    #[arg(value_name = "PATH")]
    pub path: PathArg,
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// Arguments of `umount`, in the shell.
#[derive(Args, Debug)]
pub struct UmountArgs {
    /// Where something is mounted
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathArg>,
}

/// Runs `mount`.
pub fn mount(session: &mut Session, args: &MountArgs) -> CliResult<()> {
    let given = &args.connection;
    if given.uid.is_some() || given.gid.is_some() || given.groups.is_some() {
        let hint = "`as UID` in front of a command says as whom it runs, in all trees";
        return Err(CliError::usage("mount: users do not belong to a tree").hint(hint));
    }
    let settings = crate::settings(given)?;
    let trace = given.trace.clone();
    let connection =
        Target::new(settings, given)?.connect(&|| logging::tracer(trace.as_deref()))?;
    let Session { client, ui, .. } = session;
    client.mount(&args.path, connection)?;
    ui.did(|| format!("mounted on {}", show(&args.path)));
    Ok(())
}

/// Runs `umount`.
pub fn umount(session: &mut Session, args: &UmountArgs) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    for path in &args.paths {
        client.umount(path)?;
        ui.did(|| format!("unmounted {}", show(path)));
    }
    Ok(())
}

/// Runs `mounts`.
pub fn list(session: &mut Session) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let mut all = vec![(b"/".to_vec(), client.label.clone(), client.fs.clone())];
    for mount in client.fs.mounts() {
        let label = client.label_of(&mount.filesystem);
        all.push((mount.path, label, mount.filesystem));
    }
    if ui.json {
        let list: Vec<_> = all
            .iter()
            .map(|(path, label, fs)| {
                json!({
                    "path": shapes::name(path),
                    "source": label,
                    "options": fs.options().to_string(),
                    "readonly": fs.flags().readonly,
                })
            })
            .collect();
        return ui.json(&json!(list));
    }
    let rows: Vec<Vec<Cell>> = all
        .into_iter()
        .map(|(path, label, fs)| {
            let access = if fs.flags().readonly { "ro" } else { "rw" };
            let cache = fs.options().cache.to_string();
            vec![
                Cell::new(show(&path)),
                Cell::new(label),
                Cell::new(access.to_owned()),
                Cell::new(cache),
            ]
        })
        .collect();
    ui.write(&table::rows(&[Align::Left; 4], &rows))
}
