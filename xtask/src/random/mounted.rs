//! Random operations through a mount of the kernel's.
//!
//! One mount is used for all sequences, each in a directory of its own, which is the root of who
//! works in it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use gofer_vfs::{InteropMode, RenameFlags};

use super::host::HostTree;
use super::op::{Op, Outcome, Side, User};
use super::sequences::{Plan, Seeds};
use super::strategy::{Scope, Sequence};
use super::world::{Client, World, population};
use crate::matrix::Protocol;

/// Where sequences run.
pub struct Place<'p> {
    /// The root of the mount.
    pub mount: &'p Path,
    /// What is mounted, past the mount.
    pub served: &'p Path,
    /// Where there is room beside it, on the same file system.
    pub beside: &'p Path,
    /// What is spoken.
    pub protocol: Protocol,
    /// The mode of the mount.
    pub mode: InteropMode,
}

impl Place<'_> {
    /// Runs so many sequences. The error has the first that fails, made shorter.
    pub fn run(&self, sequences: u64) -> Result<()> {
        let plan = Plan {
            sequences,
            ..Plan::for_ci()
        };
        let cell = format!("mount {} {}", self.protocol.name(), self.mode.name());
        let seeds = Seeds {
            cell: &cell,
            scope: self.scope(),
        };
        let number = std::cell::Cell::new(0);
        for seed in plan.seeds() {
            let failed = seeds.check(seed, &plan, &|sequence| {
                number.set(number.get() + 1);
                self.check(sequence, number.get())
            });
            if let Err(why) = failed {
                bail!("{why}");
            }
        }
        Ok(())
    }

    fn scope(&self) -> Scope {
        let plain = self.protocol == Protocol::Plain;
        let lisafs = !matches!(self.protocol, Protocol::Plain | Protocol::Google);
        let rename_flags = match lisafs {
            true => RenameFlags::NOREPLACE | RenameFlags::EXCHANGE,
            false => RenameFlags::empty(),
        };
        Scope {
            mode: self.mode,
            kernel: true,
            // What the protocol cannot say the mount does afterwards.
            owners: true,
            fifos: !lisafs || self.protocol == Protocol::LisafsDirect,
            // The kernel does.
            opens_fifos: true,
            allocate: !plain,
            rename_flags,
            finds_holes: lisafs,
            by_name: lisafs,
            private_pages: false,
            xattrs: true,
            old_modes: plain,
            empty_xattrs: !plain,
        }
    }

    fn check(&self, sequence: &Sequence, number: u64) -> Result<(), String> {
        let scope = self.scope();
        let world = self.begin(sequence, &scope, number);
        let world = world.map_err(|error| format!("cannot begin: {error:#}"))?;
        world.run(sequence)
    }

    fn begin<'s>(&self, sequence: &Sequence, scope: &'s Scope, number: u64) -> Result<World<'s>> {
        let name = format!("s{number}");
        let (here, twin) = (self.mount.join(&name), self.beside.join(&name));
        let mut trees = Vec::new();
        for dir in [&here, &twin] {
            fs::create_dir(dir).with_context(|| format!("make {}", dir.display()))?;
            fs::set_permissions(dir, fs::Permissions::from_mode(sequence.root_mode))?;
            let mut tree = HostTree::new(dir)?;
            if sequence.populated {
                population(&mut tree)?;
            }
            trees.push(tree);
        }
        let (Some(twin), Some(client)) = (trees.pop(), trees.pop()) else {
            bail!("there are two trees");
        };
        let served = HostTree::new(&self.served.join(&name))?;
        Ok(World::new(
            scope,
            sequence,
            Box::new(Mounted(client)),
            served,
            twin,
        ))
    }
}

/// The tree on the mount.
struct Mounted(HostTree);

impl Side for Mounted {
    fn run(&mut self, user: User, op: &Op) -> Outcome {
        self.0.run(user, op)
    }
}

impl Client for Mounted {
    fn end(self: Box<Self>) -> Result<(), String> {
        Ok(())
    }
}
