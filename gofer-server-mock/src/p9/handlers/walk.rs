//! Going down names: Twalk, Twalkgetattr, Tmultigetattr.

use std::sync::Arc;

use gofer_9p::wire::{
    Fid, Names, Qid, Qids, Rmultigetattr, Rwalk, Rwalkgetattr, Stat as Record, Stats,
    Tmultigetattr, Twalk, Twalkgetattr, WALK_NAMES_MAX,
};

use smallvec::SmallVec;

use crate::host::{Errno, FileType, Found, Name, Node, Result, Stat};
use crate::p9::fids::{State, Target};
use crate::p9::qid;
use crate::p9::reply::Reply;
use crate::p9::session::Session;

/// How far a walk came.
struct Walked {
    from: Target,
    /// One qid for each name that worked.
    qids: SmallVec<[Qid; WALK_NAMES_MAX]>,
    /// Where it ended: the place, and its attributes if a name led there.
    end: Arc<Node>,
    stat: Option<Stat>,
    /// Why it did not come further.
    error: Option<Errno>,
}

impl Session {
    /// Walks down `wnames` and makes `newfid` of where that leads; without names a second fid for
    /// the same file, whatever its state. In the base dialect a walk that fails behind its first
    /// name answers with what worked and makes no fid; in the Google dialects it is an error
    /// (9P 8.3).
    pub(super) fn walk(&self, request: Twalk<'_>, reply: &mut Reply) -> Result<()> {
        let walked = self.go(request.fid, request.newfid, request.wnames)?;
        match walked.error {
            None => self.settle(request.fid, request.newfid, &walked)?,
            Some(error) if walked.qids.is_empty() || self.walks_whole() => return Err(error),
            Some(_) => {}
        }
        let wqids = Qids::new(&walked.qids);
        reply.send(Rwalk { wqids })
    }

    /// [`Session::walk`], all or nothing, with the attributes of where it leads (9P 9.3).
    pub(super) fn walk_getattr(&self, request: Twalkgetattr<'_>, reply: &mut Reply) -> Result<()> {
        let walked = self.go(request.fid, request.newfid, request.wnames)?;
        if let Some(error) = walked.error {
            return Err(error);
        }
        let stat = match walked.stat {
            Some(stat) => stat,
            None => walked.end.stat()?,
        };
        self.settle(request.fid, request.newfid, &walked)?;
        let (valid, attr) = qid::attributes(&stat);
        let wqids = Qids::new(&walked.qids);
        reply.send(Rwalkgetattr { valid, attr, wqids })
    }

    /// Attributes of each file along `names`, an empty first one standing for the fid's own file.
    /// Ends early, without error, before a missing name and behind what is no directory
    /// (9P 9.12).
    pub(super) fn multi_getattr(
        &self,
        request: Tmultigetattr<'_>,
        reply: &mut Reply,
    ) -> Result<()> {
        let (target, _acting) = self.act(request.fid)?;
        let start = target.file()?;
        let most = self.body_max() / Record::SIZE;
        let mut records = Vec::new();
        let mut above = FileType::Directory;
        let mut record = |stat: &Stat| {
            if records.len() >= most {
                return Err(Errno::MSGSIZE);
            }
            above = qid::file_type(stat);
            let (valid, attr) = qid::attributes(stat);
            let qid = self.qid(stat);
            records.push(Record { qid, valid, attr });
            Ok(())
        };
        let mut names = request.names.iter().peekable();
        let own = names.next_if(|name| name.is_empty()).is_some();
        if own {
            record(&start.stat()?)?;
        }
        if !own || start.is_dir() {
            let names: Vec<_> = names.map(Name::new).collect::<Result<_>>()?;
            match start.walk_stat(names, record) {
                // Behind something it has told of.
                Err(Errno::NOTDIR) if above != FileType::Directory => {}
                result => result?,
            }
        }
        let stats = Stats::new(&records);
        reply.send(Rmultigetattr { stats })
    }

    /// Walks as far as the names lead.
    fn go(&self, fid: Fid, new_fid: Fid, names: Names<'_>) -> Result<Walked> {
        let (from, _acting) = self.act(fid)?;
        let mut walked = Walked {
            end: from.file()?.clone(),
            from,
            qids: SmallVec::new(),
            stat: None,
            error: None,
        };
        if names.len() > WALK_NAMES_MAX {
            return Err(Errno::INVAL);
        }
        if new_fid != fid {
            self.fids.check_new(new_fid)?;
        } else if !matches!(walked.from.state, State::Unopened) {
            return Err(Errno::INVAL);
        }
        for name in names.iter() {
            match step(&walked.from.attach.root, &walked.end, name) {
                Ok(Found { node, stat }) => {
                    walked.qids.push(self.qid(&stat));
                    walked.end = node;
                    walked.stat = Some(stat);
                }
                Err(error) => {
                    walked.error = Some(error);
                    break;
                }
            }
        }
        Ok(walked)
    }

    /// Makes `new_fid` of where a whole walk led.
    fn settle(&self, fid: Fid, new_fid: Fid, walked: &Walked) -> Result<()> {
        let target = Target::unopened(walked.end.clone(), walked.from.attach.clone());
        if new_fid == fid {
            self.fids.replace(fid, &walked.from, target)
        } else {
            self.fids.insert(new_fid, target)
        }
    }
}

/// One name further from `node`. `..` stops at `root`.
fn step(root: &Arc<Node>, node: &Arc<Node>, name: &[u8]) -> Result<Found> {
    let there = match name {
        b"." => node.clone(),
        b".." if node.identity() == root.identity() => node.clone(),
        b".." => node.parent(),
        name => {
            let name = Name::new(name)?;
            return node.walk(name);
        }
    };
    if !node.is_dir() {
        return Err(Errno::NOTDIR);
    }
    let stat = there.stat()?;
    Ok(Found { node: there, stat })
}
