//! `options`: the mount options in effect and what each means.

use serde_json::{Value, json};

use crate::error::CliResult;
use crate::session::Session;
use crate::ui::table::{self, Align, Cell};

/// Runs `options`.
pub fn run(session: &mut Session) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let options = client.fs.options();
    let flags = client.fs.flags();
    let mut described: Vec<(String, String, &str)> = options.describe();
    let on = |on: bool| if on { "on" } else { "off" }.to_owned();
    described.push((
        "ro".into(),
        on(flags.readonly),
        "refuse every change (--readonly, -o ro)",
    ));
    described.push((
        "noatime".into(),
        on(flags.noatime),
        "never touch access times",
    ));
    described.push((
        "relatime".into(),
        on(flags.relatime),
        "touch access times at most once a day and change",
    ));
    described.push((
        "connect_sockets".into(),
        on(flags.connect_sockets),
        "opening a socket connects to it; else it is ENXIO",
    ));
    if ui.json {
        let list: Vec<Value> = described
            .iter()
            .map(|(key, value, meaning)| json!({ "key": key, "value": value, "meaning": meaning }))
            .collect();
        return ui.json(&json!({ "options": options.to_string(), "keys": list }));
    }
    ui.line(options.to_string())?;
    ui.line("")?;
    let rows: Vec<Vec<Cell>> = described
        .into_iter()
        .map(|(key, value, meaning)| vec![Cell::new(key), Cell::new(value), Cell::new(meaning)])
        .collect();
    ui.write(&table::rows(&[Align::Left; 3], &rows))
}
