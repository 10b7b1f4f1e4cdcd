//! Going down names, and looking whether known names still lead to the same files.

use gofer_vfs::remote::{Call, Found, RemoteError, RemoteFile, RemoteResult, Seen, WalkEnd};
use gofer_vfs::{Attr, Errno, FileType, Name};

use super::convert;
use super::exchange::{EXCHANGE_MAX, Exchange};
use super::fid::OwnedFid;
use super::file::File;
use super::table::Effect;
use crate::wire::{
    AttrBlock, Fid, GetattrMask, Level, Names, Qid, Qids, Stat, Tgetattr, Tmultigetattr, Twalk,
    Twalkgetattr, WALK_NAMES_MAX,
};

/// Most names in one Tmultigetattr of ours.
const MULTI_NAMES_MAX: usize = 32;

/// Bytes of Rmultigetattr before its records.
const MULTI_HEAD_SIZE: usize = 9;

/// Adds a walk from the first fid that makes the second, with attributes where the dialect can.
fn push_walk(
    exchange: &mut Exchange<'_>,
    getattr: bool,
    (fid, newfid): (Fid, Fid),
    wnames: Names<'_>,
) -> RemoteResult<()> {
    let effect = Effect::Makes {
        fid: newfid,
        names: wnames.len() as u16,
    };
    let pushed = match getattr {
        true => exchange.push(
            Twalkgetattr {
                fid,
                newfid,
                wnames,
            },
            effect,
        ),
        false => exchange.push(
            Twalk {
                fid,
                newfid,
                wnames,
            },
            effect,
        ),
    };
    pushed.map(drop)
}

/// One file on the way.
struct Step {
    fid: OwnedFid,
    qid: Qid,
    attr: Option<(GetattrMask, AttrBlock)>,
}

/// How far a walk came, and why it went no further.
struct Way {
    steps: Vec<Step>,
    end: RemoteResult<WalkEnd>,
}

impl File {
    /// Walks to each prefix of `names` at once: the requests do not depend on each other, so
    /// each file gets a fid of its own in one round trip. Without Twalkgetattr a second one
    /// brings the attributes.
    pub(super) fn walk_names(
        &self,
        call: &Call<'_>,
        names: &[Name<'_>],
        found: &mut dyn FnMut(Found),
    ) -> RemoteResult<WalkEnd> {
        let few = names.get(..WALK_NAMES_MAX).unwrap_or(names);
        let mut way = match self.session().has(Level::WalkGetattr) {
            true => self.prefixes::<true>(call, few)?,
            false => self.prefixes::<false>(call, few)?,
        };
        let unread: Vec<usize> = (0..way.steps.len())
            .filter(|&index| way.steps.get(index).is_some_and(|step| step.attr.is_none()))
            .collect();
        if !unread.is_empty() {
            self.read_attrs(call, &mut way)?;
        }
        let mut walked = 0;
        for Step { fid, qid, attr } in way.steps {
            let Some((valid, block)) = attr else { break };
            let file = File::found(fid, &self.names, qid, valid, &block)?;
            walked += 1;
            let file_type = file.attr.file_type;
            found(file);
            match file_type {
                FileType::Directory => {}
                _ if walked == names.len() => {}
                FileType::Symlink => return Ok(WalkEnd::Symlink),
                _ => return Err(RemoteError::refused(Errno::ENOTDIR)),
            }
        }
        match way.end? {
            WalkEnd::Complete if walked < names.len() => Ok(WalkEnd::CallAgain),
            end => Ok(end),
        }
    }

    /// Walks to each prefix; with `GETATTR` by Twalkgetattr.
    fn prefixes<const GETATTR: bool>(
        &self,
        call: &Call<'_>,
        names: &[Name<'_>],
    ) -> RemoteResult<Way> {
        let session = self.session();
        let mut bytes: [&[u8]; WALK_NAMES_MAX] = [&[]; WALK_NAMES_MAX];
        bytes
            .iter_mut()
            .zip(names)
            .for_each(|(bytes, name)| *bytes = name.as_bytes());
        let mut exchange = session.begin(call);
        for count in 1..=names.len() {
            let wnames = Names::new(bytes.get(..count).unwrap_or_default());
            let (fid, newfid) = (self.fid(), session.new_fid()?);
            push_walk(&mut exchange, GETATTR, (fid, newfid), wnames)?;
        }
        exchange.run()?;
        let mut way = Way {
            steps: Vec::new(),
            end: Ok(WalkEnd::Complete),
        };
        for index in 0..names.len() {
            let walked = if GETATTR {
                exchange.reply::<Twalkgetattr<'_>>(index).map(|reply| {
                    (
                        last(reply.wqids, &way.steps),
                        Some((reply.valid, reply.attr)),
                    )
                })
            } else {
                exchange
                    .reply::<Twalk<'_>>(index)
                    .map(|reply| (last(reply.wqids, &way.steps), None))
            };
            match walked {
                Ok((Last::Qid(qid), attr)) => {
                    way.steps.push(Step {
                        fid: exchange.made(index)?,
                        qid,
                        attr,
                    });
                }
                Ok((Last::Changed, _)) => {
                    way.end = Ok(WalkEnd::CallAgain);
                    break;
                }
                Ok((Last::Short, _)) => {
                    way.end = Ok(WalkEnd::Missing);
                    break;
                }
                Err(error) => {
                    way.end = match error == RemoteError::refused(Errno::ENOENT) {
                        true => Ok(WalkEnd::Missing),
                        false => Err(error),
                    };
                    break;
                }
            }
        }
        Ok(way)
    }

    /// Asks for the attributes of what was walked to.
    fn read_attrs(&self, call: &Call<'_>, way: &mut Way) -> RemoteResult<()> {
        let mut exchange = self.session().begin(call);
        for step in &way.steps {
            let request = Tgetattr {
                fid: step.fid.get(),
                request_mask: GetattrMask::BASIC,
            };
            exchange.push(request, Effect::None)?;
        }
        exchange.run()?;
        for (index, step) in way.steps.iter_mut().enumerate() {
            match exchange.reply::<Tgetattr>(index) {
                Ok(reply) => step.attr = Some((reply.valid, reply.attr)),
                Err(error) => {
                    // What lies before is good; this one may just have vanished.
                    way.end = match error == RemoteError::refused(Errno::ENOENT) {
                        true => Ok(WalkEnd::Missing),
                        false => Err(error),
                    };
                    break;
                }
            }
        }
        Ok(())
    }

    /// Walks one name. Missing is `ENOENT`.
    pub(super) fn walk_one(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
    ) -> RemoteResult<(OwnedFid, Qid)> {
        let way = self.prefixes::<false>(call, &[name])?;
        let end = way.end?;
        match way.steps.into_iter().next() {
            Some(step) => Ok((step.fid, step.qid)),
            None => {
                debug_assert_eq!(end, WalkEnd::Missing);
                Err(RemoteError::refused(Errno::ENOENT))
            }
        }
    }

    pub(super) fn revalidate_known(
        &self,
        call: &Call<'_>,
        known: &[(Name<'_>, &dyn RemoteFile)],
        seen: &mut dyn FnMut(Seen),
    ) -> RemoteResult<()> {
        if self.session().has(Level::MultiGetattr) {
            return self.revalidate_multi(call, known, seen);
        }
        // Each known file takes up to two requests, and the start one.
        let most = (EXCHANGE_MAX - 1) / 2;
        let mut start = self;
        for (index, chunk) in known.chunks(most).enumerate() {
            if !start.revalidate_chunk(call, chunk, index == 0, seen)? {
                return Ok(());
            }
            if let Some((_, last)) = chunk.last() {
                start = self.of(*last)?;
            }
        }
        match known.is_empty() {
            true => self.revalidate_chunk(call, &[], true, seen).map(|_| ()),
            false => Ok(()),
        }
    }

    /// By Tmultigetattr: whole paths in one message.
    fn revalidate_multi(
        &self,
        call: &Call<'_>,
        known: &[(Name<'_>, &dyn RemoteFile)],
        seen: &mut dyn FnMut(Seen),
    ) -> RemoteResult<()> {
        let session = self.session();
        let fits = (session.msize() as usize - MULTI_HEAD_SIZE) / Stat::SIZE;
        let most = fits.min(MULTI_NAMES_MAX);
        let mut start = self.fid();
        let mut done = 0;
        let mut first = true;
        while first || done < known.len() {
            let mut names: [&[u8]; MULTI_NAMES_MAX] = [&[]; MULTI_NAMES_MAX];
            // The empty name is the start itself (9P 9.12).
            let own = usize::from(first);
            let rest = known.get(done..).unwrap_or_default();
            let count = rest.len().min(most - own);
            names
                .iter_mut()
                .skip(own)
                .zip(rest)
                .for_each(|(to, (name, _))| *to = name.as_bytes());
            let names = names.get(..own + count).unwrap_or_default();
            let mut exchange = session.begin(call);
            let request = Tmultigetattr {
                fid: start,
                names: Names::new(names),
            };
            let index = exchange.push(request, Effect::None)?;
            exchange.run()?;
            let stats = exchange.reply::<Tmultigetattr<'_>>(index)?.stats;
            if stats.len() > names.len() {
                return Err(exchange.broken("more records than names"));
            }
            for stat in stats.iter() {
                let attr = convert::attr(session.version(), stat.qid, stat.valid, &stat.attr)?;
                seen(Seen {
                    key: session.key(stat.qid),
                    attr,
                });
            }
            if stats.len() < names.len() {
                return Ok(());
            }
            done += count;
            first = false;
            if let Some((_, file)) = done.checked_sub(1).and_then(|last| known.get(last)) {
                start = self.of(*file)?.fid();
            }
        }
        Ok(())
    }

    /// By one walk per name from the fid held of the directory above, and, without
    /// Twalkgetattr, the attributes of the fid held of the file: they count if the walk leads to
    /// the same file. Returns whether everything was seen.
    fn revalidate_chunk(
        &self,
        call: &Call<'_>,
        known: &[(Name<'_>, &dyn RemoteFile)],
        own: bool,
        seen: &mut dyn FnMut(Seen),
    ) -> RemoteResult<bool> {
        let session = self.session();
        let getattr = session.has(Level::WalkGetattr);
        let ask = |fid: Fid| Tgetattr {
            fid,
            request_mask: GetattrMask::BASIC,
        };
        let mut exchange = session.begin(call);
        if own {
            exchange.push(ask(self.fid()), Effect::None)?;
        }
        let mut dir = self;
        for (name, file) in known {
            let file = self.of(*file)?;
            let name = [name.as_bytes()];
            let (fid, newfid, wnames) = (dir.fid(), session.new_fid()?, Names::new(&name));
            push_walk(&mut exchange, getattr, (fid, newfid), wnames)?;
            if !getattr {
                exchange.push(ask(file.fid()), Effect::None)?;
            }
            dir = file;
        }
        exchange.run()?;

        let mut next = 0;
        let mut take = || {
            next += 1;
            next - 1
        };
        if own {
            let reply = exchange.reply::<Tgetattr>(take())?;
            let attr = convert::attr(session.version(), reply.qid, reply.valid, &reply.attr)?;
            seen(Seen {
                key: session.key(reply.qid),
                attr,
            });
        }
        for (_, file) in known {
            let file = self.of(*file)?;
            let walk = take();
            let walked = if getattr {
                exchange
                    .reply::<Twalkgetattr<'_>>(walk)
                    .map(|reply| (last(reply.wqids, &[]), Some((reply.valid, reply.attr))))
            } else {
                let held = exchange.reply::<Tgetattr>(take()).ok();
                exchange.reply::<Twalk<'_>>(walk).map(|reply| {
                    let last = last(reply.wqids, &[]);
                    let held = held
                        .filter(|held| matches!(last, Last::Qid(qid) if qid.path == held.qid.path));
                    (last, held.map(|held| (held.valid, held.attr)))
                })
            };
            let (qid, attr) = match walked {
                Ok((Last::Qid(qid), attr)) => (qid, attr),
                Ok(_) => return Ok(false),
                Err(error) if error == RemoteError::refused(Errno::ENOENT) => return Ok(false),
                Err(error) => return Err(error),
            };
            let attr: Attr = match attr {
                Some((valid, block)) => convert::attr(session.version(), qid, valid, &block)?,
                // Another file has the name now. The walk has made a fid of it.
                None => {
                    let fid = exchange.made(walk)?;
                    File::getattr(session, call, fid.get(), gofer_vfs::AttrMask::BASIC)?
                }
            };
            seen(Seen {
                key: session.key(qid),
                attr,
            });
            // The next walk started from the fid held, which is not what has the name now.
            if attr.file_type != FileType::Directory || qid.path != file.qid.path {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What the qids of a walk say about its last file.
enum Last {
    Qid(Qid),
    /// Fewer qids than names: the walk ended early, and made no fid (9P 8.3).
    Short,
    /// It came by other files than the shorter walks did.
    Changed,
}

fn last(qids: Qids<'_>, before: &[Step]) -> Last {
    if qids.len() != before.len() + 1 {
        return Last::Short;
    }
    let mut way = qids.iter();
    let same = before
        .iter()
        .all(|step| way.next().is_some_and(|qid| qid.path == step.qid.path));
    match way.next() {
        Some(qid) if same => Last::Qid(qid),
        _ => Last::Changed,
    }
}
