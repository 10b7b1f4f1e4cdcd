//! `cache`: what is cached, and forgetting it.

use clap::{Args, ValueEnum};

use crate::error::CliResult;
use crate::session::Session;
use crate::ui::table::{self, Align, Cell};

/// Arguments of `cache`.
#[derive(Args, Debug)]
pub struct CacheArgs {
    /// show: mode, limits and counters; drop: forget what nobody uses
    #[arg(
        value_name = "show|drop",
        default_value = "show",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub verb: Verb,
}

/// What to do with the caches.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Verb {
    Show,
    Drop,
}

/// Runs `cache`.
pub fn run(session: &mut Session, args: &CacheArgs) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    if args.verb == Verb::Drop {
        client.fs.drop_caches();
        ui.did(|| "caches dropped".to_owned());
        return Ok(());
    }
    let kept = ["cache", "dentry_cache_limit", "force_page_cache"];
    let mut rows: Vec<(String, String)> = client
        .fs
        .options()
        .describe()
        .into_iter()
        .filter(|(key, ..)| kept.contains(&key.as_str()))
        .map(|(key, value, _)| (key, value))
        .collect();
    let counters = client.fs.stats().fields();
    rows.extend(
        counters
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_string())),
    );
    if ui.json {
        let object: serde_json::Map<String, serde_json::Value> = rows
            .into_iter()
            .map(|(key, value)| match value.parse::<u64>() {
                Ok(number) => (key, number.into()),
                Err(_) => (key, value.into()),
            })
            .collect();
        return ui.json(&object);
    }
    let rows: Vec<Vec<Cell>> = rows
        .into_iter()
        .map(|(key, value)| vec![Cell::new(key), Cell::new(value)])
        .collect();
    ui.write(&table::rows(&[Align::Left, Align::Left], &rows))
}
