//! The one place that names a lock implementation. Everything else takes its locks from
//! [`crate::locks`], which adds ranks, so that another implementation (a model checker's, say)
//! has to be slipped in here only.

pub(crate) use parking_lot::{
    Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
