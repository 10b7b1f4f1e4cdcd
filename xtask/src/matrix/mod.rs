//! `cargo xtask test-matrix`: the behaviour suite over every protocol, transport and cache mode,
//! against server processes of ours.

mod cell;

use anyhow::Result;
use gofer_vfs::InteropMode;

use crate::outcome::Outcome;
use crate::random;
use crate::suite::{self, Cell, Options};
use crate::workspace::{self, Profile};
use cell::{OwnServer, Plan};

pub use cell::{Protocol, Transport};

/// Runs what `options` choose and shows it, or lists it.
pub fn run(options: &Options) -> Result<()> {
    if options.list {
        return suite::list(options, &cells()?);
    }
    suite::conclude(options, &run_all(options)?)
}

/// Runs what `options` choose.
pub fn run_all(options: &Options) -> Result<Outcome> {
    Ok(suite::run(options, &cells()?))
}

fn cells() -> Result<Vec<Cell>> {
    let program = workspace::build("gofer-server-mock", Profile::Dev)?;
    let mut cells = Vec::new();
    for protocol in Protocol::ALL {
        for transport in Transport::ALL {
            for mode in InteropMode::ALL {
                let plan = Plan {
                    program: program.clone(),
                    protocol,
                    transport,
                    mode,
                };
                cells.push(cell(plan));
            }
        }
    }
    Ok(cells)
}

fn cell(plan: Plan) -> Cell {
    let (protocol, transport) = (plan.protocol, plan.transport);
    Cell {
        row: format!("{}/{}", protocol.name(), transport.name()),
        mode: plan.mode,
        place: match cell::impossible(protocol, transport) {
            Some(reason) => Err(reason),
            None => Ok(Box::new(move || {
                Ok(Box::new(OwnServer::start(plan.clone())?))
            })),
        },
        known: &[],
        more: random::CASES,
    }
}
