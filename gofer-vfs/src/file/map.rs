//! Mapping a file into memory (semantics 15.11, 16.9).

use super::File;
use crate::attr::FileType;
use crate::context::Context;
use crate::error::{Errno, Result};
use crate::filesystem::run;
use crate::mapping::{Area, Mapping, Protection, Request, Sharing, check};
use crate::page_cache::Reading;
use crate::superblock::Res;

impl File {
    /// Maps `length` bytes at `offset`, a multiple of 4096; they may reach beyond the end of the
    /// file. All that is mapped can be read.
    ///
    /// Where no donated descriptor can be mapped, cached pages are; all of them are fetched
    /// before this returns. `ENODEV` in modes in which that would not be the truth: to be seen
    /// by others, what is written to a shared mapping needs a descriptor unless nobody else uses
    /// the file, and so does any mapping of a file that others change (`force_page_cache` lifts
    /// this). `ENOMEM` if the option `page_cache_limit` does not allow for so much mapped memory.
    /// `EACCES` if the file is not open for what is asked.
    pub fn map(
        &self,
        cx: &Context<'_>,
        offset: u64,
        length: usize,
        protection: Protection,
        sharing: Sharing,
    ) -> Result<Mapping> {
        run("mmap", &self.path, || {
            if self.is_path() {
                return Err(Errno::EBADF.into());
            }
            let request = Request {
                offset,
                length,
                protection,
                sharing,
            };
            let access = (self.is_readable(), self.is_writable());
            check(self.file_type(), access, &request)?;
            let mapping = Mapping::new(self.node.clone(), self.map_area(cx, request)?);
            self.touch_atime();
            Ok(mapping)
        })
    }

    fn map_area(&self, cx: &Context<'_>, request: Request) -> Res<Area> {
        let inode = self.node.inode();
        // Which way data goes must not change before the mapping is there to be moved along.
        let _data = inode.open().data.write();
        let sb = self.node.sb();
        let small = sb.options.limit_host_fd_translation;
        if let Some(own) = &self.own {
            // A mapping of cached pages would not be of what this handle reads.
            return match sb.options.force_page_cache {
                true => Err(Errno::ENODEV.into()),
                false => Area::of_handle(request, own, small),
            };
        }
        let forced = sb.options.force_page_cache;
        if !inode.is_cached() && !forced {
            let handle = inode.open().handles.coherent().ok_or(Errno::ENODEV)?;
            return Area::of_handle(request, &handle, small);
        }
        let seen_by_others = request.changes_file() && !sb.mode.may_defer_writes();
        if (seen_by_others && !forced) || self.file_type() != FileType::Regular {
            return Err(Errno::ENODEV.into());
        }
        let reading = Reading {
            cx,
            inode,
            handle: &|| self.reader(),
            size: &|| match sb.mode.must_revalidate() {
                true => self.fresh_size(cx),
                false => self.size(cx),
            },
        };
        Area::of_cache(request, inode.make_cache(), &reading)
    }
}
