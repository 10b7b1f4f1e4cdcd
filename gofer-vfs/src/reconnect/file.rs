//! [`RemoteFile`] over all connections: which requests are sent again, and how the others are
//! settled.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::handle::Opened;
use super::place::{Place, Step, look};
use super::{is_lost, lasting_key};
use crate::attr::{Attr, AttrMask, FileType, SetAttr, SetAttrReport, StatFs};
use crate::error::Errno;
use crate::flags::{RenameFlags, XattrFlags};
use crate::name::Name;
use crate::remote::{
    Call, Fate, Found, New, OpenMode, Owner, Promptness, RemoteError, RemoteFile, RemoteHandle,
    RemoteResult, RemoteSocket, Seen, SocketType, WalkEnd,
};

/// What became of a request of unknown fate, as far as one can see.
enum Settled<T> {
    Done(T),
    NotDone,
    /// There is no telling.
    Untold,
}

impl Place {
    /// Runs a request that may be sent any number of times.
    fn again<T>(
        &self,
        call: &Call<'_>,
        mut ask: impl FnMut(u64, &dyn RemoteFile) -> RemoteResult<T>,
    ) -> RemoteResult<T> {
        self.line.attempts(call).run(|| {
            let (generation, file) = self.bound(call)?;
            ask(generation, &*file).map_err(|error| (generation, error))
        })
    }

    /// Runs a request that must not be carried out twice, with other places along. `settle` is
    /// asked, on a new connection, what became of one of unknown fate.
    fn once<T>(
        &self,
        call: &Call<'_>,
        others: &[&Place],
        mut ask: impl FnMut(u64, &dyn RemoteFile, &[Arc<dyn RemoteFile>]) -> RemoteResult<T>,
        mut settle: impl FnMut(u64, &dyn RemoteFile) -> RemoteResult<Settled<T>>,
    ) -> RemoteResult<T> {
        let mut unsettled = false;
        let run = self.line.attempts(call).run(|| {
            if unsettled {
                let (generation, file) = self.bound(call)?;
                match settle(generation, &*file).map_err(|error| (generation, error))? {
                    Settled::Done(done) => return Ok(Some(done)),
                    Settled::NotDone => unsettled = false,
                    Settled::Untold => return Ok(None),
                }
            }
            let ((generation, file), others) = self.bound_with(call, others)?;
            let asked = ask(generation, &*file, &others);
            unsettled =
                matches!(asked, Err(error) if is_lost(error) && error.fate == Fate::Unknown);
            asked.map(Some).map_err(|error| (generation, error))
        });
        match run {
            Ok(Some(done)) => Ok(done),
            Ok(None) => Err(RemoteError::unknown(Errno::EIO)),
            // The last thing that failed may have been a look.
            Err(error) if unsettled => Err(RemoteError::unknown(error.errno)),
            Err(error) => Err(error),
        }
    }

    /// As the engine is to see what was found.
    fn wrapped(&self, generation: u64, found: Found) -> Found {
        Place::wrap(&self.line, generation, found)
    }

    /// A name was to be made. If nobody else makes names, it was ours if it is there.
    fn settle_made(
        &self,
        call: &Call<'_>,
        (generation, dir): (u64, &dyn RemoteFile),
        name: Name<'_>,
        is_it: impl FnOnce(&Found) -> bool,
    ) -> RemoteResult<Settled<Option<Found>>> {
        Ok(match look(dir, call, name)? {
            None => Settled::NotDone,
            Some(found) if self.line.exclusive && is_it(&found) => {
                Settled::Done(Some(self.wrapped(generation, found)))
            }
            Some(_) => Settled::Untold,
        })
    }

    fn check_known(
        &self,
        call: &Call<'_>,
        known: &[(Name<'_>, &dyn RemoteFile)],
    ) -> Step<Vec<Seen>> {
        // The deepest binds the others along with itself, if all is as it was.
        if let Some((_, deepest)) = known.last() {
            let deepest = self.of(*deepest).map_err(|error| (0, error))?;
            match deepest.bound(call) {
                Err((_, error)) if error == RemoteError::refused(Errno::ESTALE) => {}
                Err(failed) => return Err(failed),
                Ok(_) => {}
            }
        }
        let (generation, own) = self.bound(call)?;
        let mut files = Vec::with_capacity(known.len());
        for (_, file) in known {
            let place = self.of(*file).map_err(|error| (generation, error))?;
            match place.bound(call) {
                Ok((at, file)) if at == generation => files.push(file),
                Ok(_) => return Err((generation, RemoteError::not_sent(Errno::ESTALE))),
                Err((_, error)) if error == RemoteError::refused(Errno::ESTALE) => break,
                Err(failed) => return Err(failed),
            }
        }
        let fail = |error| (generation, error);
        let names = known.iter().zip(&files);
        let still: Vec<_> = names.map(|((name, _), file)| (*name, &**file)).collect();
        let mut all = Vec::with_capacity(known.len() + 1);
        own.revalidate(call, &still, &mut |seen| all.push(seen))
            .map_err(fail)?;
        // What has the name of the first that is not what it was.
        if let Some((name, _)) = known.get(files.len())
            && all.len() == files.len() + 1
        {
            let dir = files.last().unwrap_or(&own);
            let there = look(&**dir, call, *name).map_err(fail)?;
            all.extend(there.map(|found| Seen {
                key: found.key,
                attr: found.attr,
            }));
        }
        Ok(all)
    }
}

impl RemoteFile for Place {
    fn walk(
        &self,
        call: &Call<'_>,
        names: &[Name<'_>],
        found: &mut dyn FnMut(Found),
    ) -> RemoteResult<WalkEnd> {
        let (end, all) = self.again(call, |generation, file| {
            let mut all = Vec::with_capacity(names.len());
            let end = file.walk(call, names, &mut |found| {
                all.push(self.wrapped(generation, found));
            });
            match end {
                Err(error) if is_lost(error) => Err(error),
                end => Ok((end, all)),
            }
        })?;
        all.into_iter().for_each(found);
        end
    }

    fn revalidate(
        &self,
        call: &Call<'_>,
        known: &[(Name<'_>, &dyn RemoteFile)],
        seen: &mut dyn FnMut(Seen),
    ) -> RemoteResult<()> {
        let all = self
            .line
            .attempts(call)
            .run(|| self.check_known(call, known))?;
        for one in all {
            seen(Seen {
                key: lasting_key(one.key),
                attr: one.attr,
            });
        }
        Ok(())
    }

    fn attr(&self, call: &Call<'_>, want: AttrMask) -> RemoteResult<Attr> {
        self.again(call, |_, file| file.attr(call, want))
    }

    fn set_attr(
        &self,
        call: &Call<'_>,
        set: &SetAttr,
        through: Option<&dyn RemoteHandle>,
    ) -> RemoteResult<SetAttrReport> {
        let through = through.map(|handle| Opened::of(&self.line, handle));
        let through = through.transpose()?;
        self.line.attempts(call).run(|| {
            let (generation, file) = self.bound(call)?;
            let handle = through.map(|opened| opened.bound(call)).transpose()?;
            let asked = match &handle {
                Some((at, _)) if *at != generation => Err(RemoteError::not_sent(Errno::ESTALE)),
                Some((_, handle)) => file.set_attr(call, set, Some(&**handle)),
                None => file.set_attr(call, set, None),
            };
            asked.map_err(|error| (generation, error))
        })
    }

    fn open(&self, call: &Call<'_>, mode: OpenMode) -> RemoteResult<Arc<dyn RemoteHandle>> {
        self.again(call, |generation, file| {
            let handle = file.open(call, mode)?;
            Ok(Opened::wrap(self, generation, mode.access, handle))
        })
    }

    fn create(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        perm: u16,
        owner: Owner,
        mode: OpenMode,
    ) -> RemoteResult<(Found, Arc<dyn RemoteHandle>)> {
        let pair = |generation, found: Found, handle| {
            let found = self.wrapped(generation, found);
            let place = self.of(&*found.file)?;
            let handle = Opened::wrap(place, generation, mode.access, handle);
            Ok((found, handle))
        };
        self.once(
            call,
            &[],
            |generation, dir, _| {
                let (found, handle) = dir.create(call, name, perm, owner, mode)?;
                pair(generation, found, handle)
            },
            |generation, dir| {
                Ok(match look(dir, call, name)? {
                    None => Settled::NotDone,
                    Some(found)
                        if self.line.exclusive && found.attr.file_type == FileType::Regular =>
                    {
                        let handle = found.file.open(call, mode)?;
                        Settled::Done(pair(generation, found, handle)?)
                    }
                    Some(_) => Settled::Untold,
                })
            },
        )
    }

    fn make(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        new: New<'_>,
        perm: u16,
        owner: Owner,
    ) -> RemoteResult<Option<Found>> {
        self.once(
            call,
            &[],
            |generation, dir, _| {
                let made = dir.make(call, name, new, perm, owner)?;
                Ok(made.map(|found| self.wrapped(generation, found)))
            },
            |generation, dir| {
                let is_it = |found: &Found| found.attr.file_type == new.file_type();
                self.settle_made(call, (generation, dir), name, is_it)
            },
        )
    }

    fn link(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        target: &dyn RemoteFile,
    ) -> RemoteResult<Option<Found>> {
        let target = self.of(target)?;
        self.once(
            call,
            &[target],
            |generation, dir, others| {
                let file = others.first().ok_or(RemoteError::not_sent(Errno::EIO))?;
                let made = dir.link(call, name, &**file)?;
                Ok(made.map(|found| self.wrapped(generation, found)))
            },
            |generation, dir| {
                let is_it = |found: &Found| target.is(found.key, found.attr.file_type);
                self.settle_made(call, (generation, dir), name, is_it)
            },
        )
    }

    fn unlink(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        dir: bool,
        child: Option<&dyn RemoteFile>,
    ) -> RemoteResult<()> {
        let child = child.map(|child| self.of(child)).transpose()?;
        let others: Vec<&Place> = child.into_iter().collect();
        self.once(
            call,
            &others,
            |_, from, others| from.unlink(call, name, dir, others.first().map(|file| &**file)),
            |_, from| {
                Ok(match (look(from, call, name)?, child) {
                    (None, _) => Settled::Done(()),
                    (Some(_), None) => Settled::NotDone,
                    (Some(found), Some(child)) => match child.is(found.key, found.attr.file_type) {
                        true => Settled::NotDone,
                        false => Settled::Untold,
                    },
                })
            },
        )
    }

    fn rename(
        &self,
        call: &Call<'_>,
        from: Name<'_>,
        moved: Option<&dyn RemoteFile>,
        to: (&dyn RemoteFile, Name<'_>),
        flags: RenameFlags,
    ) -> RemoteResult<()> {
        let (dir, name) = (self.of(to.0)?, to.1);
        let moved = moved.map(|moved| self.of(moved)).transpose()?;
        let others: Vec<&Place> = [dir].into_iter().chain(moved).collect();
        self.once(
            call,
            &others,
            |_, source, others| {
                let target = others.first().ok_or(RemoteError::not_sent(Errno::EIO))?;
                let moved = others.get(1).map(|file| &**file);
                source.rename(call, from, moved, (&**target, name), flags)
            },
            |generation, source| {
                let is_it = |found: Option<Found>| {
                    let found = found?;
                    Some(moved?.is(found.key, found.attr.file_type))
                };
                let old = is_it(look(source, call, from)?);
                let target = dir.bound(call).map_err(|(_, error)| error)?;
                if target.0 != generation {
                    return Err(RemoteError::not_sent(Errno::ESTALE));
                }
                let new = is_it(look(&*target.1, call, name)?);
                Ok(match (old, new) {
                    // A swap moves something to the old name, and both tell the same.
                    (_, Some(true)) if old != Some(true) => Settled::Done(()),
                    (Some(true), _) if new != Some(true) => Settled::NotDone,
                    _ => Settled::Untold,
                })
            },
        )
    }

    fn read_link(&self, call: &Call<'_>) -> RemoteResult<Vec<u8>> {
        self.again(call, |_, file| file.read_link(call))
    }

    fn stat_fs(&self, call: &Call<'_>) -> RemoteResult<StatFs> {
        self.again(call, |_, file| file.stat_fs(call))
    }

    fn get_xattr(&self, call: &Call<'_>, name: &[u8], limit: usize) -> RemoteResult<Vec<u8>> {
        self.again(call, |_, file| file.get_xattr(call, name, limit))
    }

    fn set_xattr(
        &self,
        call: &Call<'_>,
        name: &[u8],
        value: &[u8],
        flags: XattrFlags,
    ) -> RemoteResult<()> {
        self.once(
            call,
            &[],
            |_, file, _| file.set_xattr(call, name, value, flags),
            |_, file| {
                if !flags.contains(XattrFlags::CREATE) {
                    return Ok(Settled::NotDone);
                }
                match file.get_xattr(call, name, 0) {
                    Err(error) if error == RemoteError::refused(Errno::ENODATA) => {
                        Ok(Settled::NotDone)
                    }
                    there => there.map(|_| Settled::Untold),
                }
            },
        )
    }

    fn list_xattr(&self, call: &Call<'_>, each: &mut dyn FnMut(&[u8])) -> RemoteResult<()> {
        let names = self.again(call, |_, file| {
            let mut names: Vec<Vec<u8>> = Vec::new();
            file.list_xattr(call, &mut |name| names.push(name.to_vec()))?;
            Ok(names)
        })?;
        names.iter().for_each(|name| each(name));
        Ok(())
    }

    fn remove_xattr(&self, call: &Call<'_>, name: &[u8]) -> RemoteResult<()> {
        self.once(
            call,
            &[],
            |_, file, _| file.remove_xattr(call, name),
            |_, file| match file.get_xattr(call, name, 0) {
                Err(error) if error == RemoteError::refused(Errno::ENODATA) => {
                    Ok(Settled::Done(()))
                }
                there => there.map(|_| Settled::NotDone),
            },
        )
    }

    fn connect(&self, call: &Call<'_>, kind: SocketType) -> RemoteResult<OwnedFd> {
        // Whoever listens there may have seen a first connection already.
        let ask = |_, file: &dyn RemoteFile, _: &[_]| file.connect(call, kind);
        self.once(call, &[], ask, |_, _| Ok(Settled::Untold))
    }

    fn bind(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        kind: SocketType,
        perm: u16,
        owner: Owner,
    ) -> RemoteResult<(Found, Box<dyn RemoteSocket>)> {
        self.once(
            call,
            &[],
            |generation, dir, _| {
                let (found, socket) = dir.bind(call, name, kind, perm, owner)?;
                Ok((self.wrapped(generation, found), socket))
            },
            |_, _| Ok(Settled::Untold),
        )
    }

    fn release(&self, when: Promptness) {
        self.last().1.release(when);
    }
}
