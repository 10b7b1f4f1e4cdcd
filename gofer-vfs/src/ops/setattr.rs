//! Changing attributes: chmod, chown, truncate, utimes in one (semantics 12.6, 13.5).

use crate::attr::{Attr, AttrMask, SetAttr, SetAttrReport, SetTime, Timestamp};
use crate::context::{At, Context, Follow};
use crate::dentry::Node;
use crate::error::{Errno, Result};
use crate::filesystem::Filesystem;
use crate::handle::Handle;
use crate::page_cache::PageCache;
use crate::permissions::{Caps, S_ISGID, S_ISUID, SetAttrSetting, check_set_attr, mode_to_set};
use crate::superblock::{Failure, Res};

impl Filesystem {
    /// Changes attributes. An empty `set` only checks that the file exists. When the server
    /// changes only some, those are changed and the error is returned.
    ///
    /// `EPERM` for what only the owner may do, or who may give files away; `EACCES` for a size, or
    /// for times of now, without permission to write; `EISDIR` and `EINVAL` for the size of what is
    /// no regular file; `EFBIG` beyond [`Context::file_size_limit`]; `EOPNOTSUPP` for the mode of a
    /// link. Cached data is written back before times are set.
    pub fn set_attr(
        &self,
        cx: &Context<'_>,
        at: At<'_>,
        follow: Follow,
        set: &SetAttr,
    ) -> Result<()> {
        self.run("setattr", at.path, || {
            check_size(set)?;
            let node = self.walk_to_end(cx, at, follow)?;
            change_attributes(cx, &node, set, None)
        })
    }

    /// [`Filesystem::set_attr`] by node.
    pub fn set_attr_node(&self, cx: &Context<'_>, node: &Node, set: &SetAttr) -> Result<()> {
        self.run("setattr", b"", || {
            check_size(set)?;
            learn_permissions(cx, node, set, None)?;
            change_attributes(cx, node, set, None)
        })
    }
}

/// `EINVAL` for a size below nothing, as who counts with a sign sees it. Comes, as in Linux, before
/// the question what file.
pub(crate) fn check_size(set: &SetAttr) -> Res<()> {
    match set.size {
        Some(size) if size > i64::MAX as u64 => Err(Errno::EINVAL.into()),
        _ => Ok(()),
    }
}

/// Where others change files, who may change attributes, and what mode comes of it, must not rest
/// on old news. A walk asks for the attributes along the way; who has the file already has to,
/// through `own`, a handle of its own, if there is one.
pub(crate) fn learn_permissions(
    cx: &Context<'_>,
    node: &Node,
    set: &SetAttr,
    own: Option<&Handle>,
) -> Res<()> {
    let inode = node.inode();
    let may_all = cx.creds.caps.contains(Caps::FOWNER | Caps::CHOWN);
    let privileged = inode.attr().mode & (S_ISUID | S_ISGID) != 0;
    // Only an owner that it has not got already is sent.
    let owner = set.uid.is_some() || set.gid.is_some();
    if !node.sb().mode.must_revalidate() || (may_all && !privileged && !owner) {
        return Ok(());
    }
    inode.refresh(cx, &*node.remote(), own)
}

/// Changes attributes of `node`, `through` a handle that is open for writing if there is one.
pub(crate) fn change_attributes(
    cx: &Context<'_>,
    node: &Node,
    set: &SetAttr,
    through: Option<&Handle>,
) -> Res<()> {
    let inode = node.inode();
    let sb = node.sb();
    let attr = inode.attr();
    let setting = SetAttrSetting {
        readonly: sb.flags.readonly,
        size_needs_write: through.is_none(),
        file_size_limit: cx.file_size_limit,
    };
    check_set_attr(cx.creds, &attr, set, setting)?;
    // Whoever moves the end of a file keeps writers away; nobody else needs to.
    let _end = set.size.map(|_| inode.open().data.write());
    if set.atime.is_some() || set.mtime.is_some() {
        // Written later, it would change the time that is set now (semantics 13.6).
        inode.write_back(cx)?;
    }
    // What is on its way must not make the file longer again.
    let cache = inode.cache().filter(|_| set.size.is_some());
    let _turn = cache.map(PageCache::stop_writing_back);
    let now = sb.stamp_of(node);
    let mut send = *set;
    send.uid = set.uid.filter(|uid| *uid != attr.uid);
    send.gid = set.gid.filter(|gid| *gid != attr.gid);
    send.mode = mode_to_set(cx.creds, &attr, set);
    if let Some(now) = now {
        send.atime = set.atime.map(|time| SetTime::At(at(time, now)));
        send.mtime = set.mtime.map(|time| SetTime::At(at(time, now)));
        if send.size.is_some() && send.mtime.is_none() {
            send.mtime = Some(SetTime::At(now));
        }
    }
    if send.mask().is_empty() {
        // The owner it has already: that counts as a change and is none to the server.
        if let Some(now) = now.filter(|_| !set.mask().is_empty()) {
            inode.change(|meta| meta.touch_ctime(now));
        }
        node.notify_set(set);
        return Ok(());
    }
    inode.about_to_change();
    let shared = match through {
        None => inode.any_handle(),
        Some(_) => None,
    };
    let through = through.or(shared.as_deref());
    let asked = node
        .remote()
        .set_attr(&cx.call(), &send, through.map(|handle| &*handle.remote));
    let report = match asked {
        Ok(report) => take_back(cx, node, &attr, (set, &send), report, through),
        Err(error) => {
            let failure = Failure::from(error);
            if failure.is_uncertain() {
                inode.change(|meta| meta.doubt());
            }
            return Err(failure);
        }
    };
    inode.change(|meta| {
        let done = |field| !report.failed.contains(field);
        if let Some(mode) = send.mode.filter(|_| done(AttrMask::MODE)) {
            meta.set_mode(mode);
        }
        meta.set_owner(
            send.uid.filter(|_| done(AttrMask::UID)),
            send.gid.filter(|_| done(AttrMask::GID)),
        );
        // In shared mode the rest is the server's to tell; permissions are taken on as a hint
        // for checks that ask nobody.
        let Some(now) = now else {
            return;
        };
        if let Some(size) = send.size.filter(|_| done(AttrMask::SIZE)) {
            meta.set_size(size);
        }
        let set_time = |time: Option<SetTime>| time.map(|time| at(time, now));
        meta.set_times(
            set_time(send.atime.filter(|_| done(AttrMask::ATIME))),
            set_time(send.mtime.filter(|_| done(AttrMask::MTIME))),
        );
        meta.touch_ctime(now);
    });
    if let (Some(cache), Some(size)) = (cache, send.size)
        && !report.failed.contains(AttrMask::SIZE)
    {
        cache.resize(&sb.pages, size);
    }
    node.notify_set(&set.without(report.failed));
    if !report.failed.is_empty() {
        return Err(report.errno.unwrap_or(crate::error::Errno::EIO).into());
    }
    Ok(())
}

/// A file whose size was not set keeps what would have changed with it, and went along: set-ID
/// bits and the time of modification.
fn take_back(
    cx: &Context<'_>,
    node: &Node,
    before: &Attr,
    (asked, sent): (&SetAttr, &SetAttr),
    report: SetAttrReport,
    through: Option<&Handle>,
) -> SetAttrReport {
    let along = sent.mask() - asked.mask() - report.failed;
    if !report.failed.contains(AttrMask::SIZE) || along.is_empty() {
        return report;
    }
    let all = SetAttr {
        mode: Some(before.mode),
        mtime: Some(SetTime::At(before.mtime)),
        ..SetAttr::default()
    };
    let back = all.without(all.mask() - along);
    let through = through.map(|handle| &*handle.remote);
    match node.remote().set_attr(&cx.call(), &back, through) {
        Ok(undone) if undone.failed.is_empty() => SetAttrReport {
            failed: report.failed | back.mask(),
            ..report
        },
        _ => report,
    }
}

fn at(time: SetTime, now: Timestamp) -> Timestamp {
    match time {
        SetTime::Now => now,
        SetTime::At(time) => time,
    }
}
