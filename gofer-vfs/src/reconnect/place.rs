//! A place in the tree over all connections: the remote file of the one in use, found again by
//! the path its dentry has.

use std::any::Any;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use super::line::Line;
use super::{is_lost, lasting_key};
use crate::attr::FileType;
use crate::dentry::Dentry;
use crate::error::Errno;
use crate::inode::Inode;
use crate::name::Name;
use crate::remote::{Call, FileKey, Found, RemoteError, RemoteFile, RemoteResult, WalkEnd};
use crate::sync;

/// A failed step, and the connection it was made on.
pub(super) type Step<T> = Result<T, (u64, RemoteError)>;

/// What stands for a file on the connection of a generation.
pub(super) type Bound = (u64, Arc<dyn RemoteFile>);

/// How often a walk that crossed a rename is repeated, and after what a pause.
const CROSSINGS_MAX: u32 = 20;
const CROSSING_PAUSE: Duration = Duration::from_millis(10);

/// See the module.
pub(super) struct Place {
    pub(super) line: Arc<Line>,
    /// The server's identity of the file; the same on every connection.
    pub(super) id: [u64; 2],
    pub(super) file_type: FileType,
    pub(super) spot: Arc<Spot>,
    // No other lock is taken while this one is held.
    bound: sync::Mutex<Bound>,
}

/// Where a file is: the dentry that has it, and for other names of it the inode.
#[derive(Default)]
pub(super) struct Spot(OnceLock<(Weak<Dentry>, Weak<Inode>)>);

/// Tells a remote file which dentry it belongs to, if it wants to know.
pub(crate) fn note_dentry(file: &Arc<dyn RemoteFile>, dentry: &Arc<Dentry>) {
    if let Some(place) = (&**file as &dyn Any).downcast_ref::<Place>() {
        let inode = Arc::downgrade(&dentry.inode);
        let _ = place.spot.0.set((Arc::downgrade(dentry), inode));
    }
}

impl Spot {
    fn dentry(&self) -> Option<Arc<Dentry>> {
        self.0.get()?.0.upgrade()
    }

    /// What to find the file by: its own name as long as that is its name, else another name of
    /// the same inode.
    pub(super) fn file(&self) -> Option<Arc<dyn RemoteFile>> {
        let (dentry, inode) = self.0.get()?;
        let own = dentry.upgrade().filter(|dentry| !dentry.is_gone());
        match own {
            Some(dentry) => Some(dentry.remote().clone()),
            None => inode.upgrade()?.live_remote(),
        }
    }
}

/// What is there now, under the name that was looked for.
pub(super) fn look(
    dir: &dyn RemoteFile,
    call: &Call<'_>,
    name: Name<'_>,
) -> RemoteResult<Option<Found>> {
    let mut there = None;
    let end = dir.walk(call, &[name], &mut |found| there = Some(found))?;
    match (end, there) {
        (_, Some(found)) => Ok(Some(found)),
        (WalkEnd::Missing, None) => Ok(None),
        _ => Err(RemoteError::refused(Errno::EIO)),
    }
}

fn stale() -> RemoteError {
    RemoteError::refused(Errno::ESTALE)
}

impl Place {
    /// What was found on the connection of `generation`, as the engine is to see it.
    pub(super) fn wrap(line: &Arc<Line>, generation: u64, found: Found) -> Found {
        let key = lasting_key(found.key);
        let place = Place {
            line: line.clone(),
            id: key.id,
            file_type: found.attr.file_type,
            spot: Arc::default(),
            bound: sync::Mutex::new((generation, found.file)),
        };
        Found {
            file: Arc::new(place),
            key,
            attr: found.attr,
        }
    }

    /// An argument of the engine's; `EXDEV` if it is of another filesystem.
    pub(super) fn of<'f>(&self, file: &'f dyn RemoteFile) -> RemoteResult<&'f Place> {
        (file as &dyn Any)
            .downcast_ref::<Place>()
            .filter(|place| Arc::ptr_eq(&place.line, &self.line))
            .ok_or(RemoteError::not_sent(Errno::EXDEV))
    }

    /// Whether this is the file, by the server's identity and its type.
    pub(super) fn is(&self, key: FileKey, file_type: FileType) -> bool {
        key.id == self.id && file_type == self.file_type
    }

    /// What there is, of whatever connection.
    pub(super) fn last(&self) -> Bound {
        self.bound.lock().clone()
    }

    fn bound_to(&self, generation: u64) -> Option<Arc<dyn RemoteFile>> {
        let bound = self.bound.lock();
        (bound.0 == generation).then(|| bound.1.clone())
    }

    /// Takes on what was found; an earlier find is given up.
    fn bind(&self, generation: u64, file: Arc<dyn RemoteFile>) {
        let mut bound = self.bound.lock();
        // Somebody else may have walked here at the same time, or on a later connection.
        let kept = bound.0 >= generation;
        let old = match kept {
            true => file,
            false => std::mem::replace(&mut *bound, (generation, file)).1,
        };
        drop(bound);
        drop(old);
    }

    /// The file on the connection in use, walked to again if need be. `ESTALE` if it is not
    /// where it was.
    pub(super) fn bound(&self, call: &Call<'_>) -> Step<Bound> {
        let generation = self.line.generation();
        for _ in 0..CROSSINGS_MAX {
            if let Some(file) = self.bound_to(generation) {
                return Ok((generation, file));
            }
            let dentry = self.spot.dentry().ok_or((generation, stale()))?;
            let moves = &dentry.inode.sb.moves;
            let then = moves.now();
            match walk_again(&self.line, call, generation, &dentry) {
                Ok(()) => {}
                Err(error) if is_lost(error) || error.errno != Errno::ESTALE => {
                    return Err((generation, error));
                }
                // Something on the way was renamed meanwhile, and may be where we did not look.
                Err(_) if moves.any_since(then) => {
                    self.line.sleep(call, Instant::now() + CROSSING_PAUSE);
                }
                Err(error) => return Err((generation, error)),
            }
        }
        Err((generation, stale()))
    }

    /// The file, and others, on the same connection.
    pub(super) fn bound_with(
        &self,
        call: &Call<'_>,
        others: &[&Place],
    ) -> Step<(Bound, Vec<Arc<dyn RemoteFile>>)> {
        let own = self.bound(call)?;
        let mut files = Vec::with_capacity(others.len());
        for other in others {
            let (generation, file) = other.bound(call)?;
            if generation != own.0 {
                return Err((own.0, RemoteError::not_sent(Errno::ESTALE)));
            }
            files.push(file);
        }
        Ok((own, files))
    }
}

/// Walks from the nearest place above that is bound already to this dentry, by the names they
/// have now, and binds everything on the way.
fn walk_again(
    line: &Line,
    call: &Call<'_>,
    generation: u64,
    dentry: &Arc<Dentry>,
) -> RemoteResult<()> {
    // Keeps alive what the places below are borrowed from.
    let mut dentries: Vec<(Arc<Dentry>, Box<[u8]>)> = Vec::new();
    let mut at = dentry.clone();
    let start = loop {
        if at.is_gone() {
            return Err(stale());
        }
        let place = (&**at.remote() as &dyn Any).downcast_ref::<Place>();
        let place = place.ok_or(stale())?;
        if let Some(file) = place.bound_to(generation) {
            break file;
        }
        let (parent, name) = at.above();
        let Some(parent) = parent else {
            if !name.is_empty() {
                return Err(stale());
            }
            let root = line.root(generation)?;
            place.bind(generation, root.clone());
            break root;
        };
        dentries.push((at, name));
        at = parent;
    };
    dentries.reverse();
    walk_down(call, generation, start, &dentries)
}

/// Walks down from `start` and binds the places of these dentries. A place that has another file
/// now is not bound: `ESTALE`.
fn walk_down(
    call: &Call<'_>,
    generation: u64,
    start: Arc<dyn RemoteFile>,
    dentries: &[(Arc<Dentry>, Box<[u8]>)],
) -> RemoteResult<()> {
    let mut names = Vec::with_capacity(dentries.len());
    for (_, name) in dentries {
        names.push(Name::new(name).map_err(RemoteError::refused)?);
    }
    let mut from = start;
    let mut done = 0;
    while done < names.len() {
        let mut found = Vec::new();
        let end = from.walk(call, names.get(done..).unwrap_or_default(), &mut |file| {
            found.push(file);
        })?;
        if found.is_empty() && end != WalkEnd::Missing {
            return Err(RemoteError::refused(Errno::EIO));
        }
        for found in found {
            let Some((dentry, _)) = dentries.get(done) else {
                return Err(RemoteError::refused(Errno::EIO));
            };
            let place = (&**dentry.remote() as &dyn Any).downcast_ref::<Place>();
            let place = place.filter(|place| place.is(found.key, found.attr.file_type));
            let place = place.ok_or(stale())?;
            place.bind(generation, found.file.clone());
            from = found.file;
            done += 1;
        }
        if end == WalkEnd::Missing && done < names.len() {
            return Err(stale());
        }
    }
    Ok(())
}
