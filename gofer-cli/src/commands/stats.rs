//! `stats`: counters of the file system and of the connection.

use serde_json::{Map, Value};

use crate::error::CliResult;
use crate::session::Session;
use crate::ui::table::{self, Align, Cell};

/// Runs `stats`.
pub fn run(session: &mut Session) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let traffic = client.fs.traffic();
    let mut fields = client.fs.stats().fields();
    fields.extend([
        ("wire_round_trips", traffic.round_trips),
        ("wire_requests", traffic.requests),
        ("wire_bytes_sent", traffic.bytes_sent),
        ("wire_bytes_received", traffic.bytes_received),
    ]);
    if ui.json {
        let object: Map<String, Value> = fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        return ui.json(&object);
    }
    let rows: Vec<Vec<Cell>> = fields
        .into_iter()
        .map(|(name, value)| vec![Cell::new(name), Cell::new(value.to_string())])
        .collect();
    ui.write(&table::rows(&[Align::Left, Align::Right], &rows))
}
