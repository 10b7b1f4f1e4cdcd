//! Arguments that mean nothing: most are refused before the question what file, as in Linux.

use super::*;
use crate::XattrFlags;

const END: u64 = i64::MAX as u64;

#[test]
fn names_of_attributes_come_before_what_a_file_was_opened_for() {
    let rig = Rig::new(InteropMode::Exclusive);
    drop(rig.create("f").unwrap());
    let place = rig.open("f", OpenFlags::PATH).unwrap();
    let (cx, none) = (rig.cx(), XattrFlags::empty());
    for (name, refusal) in [(&b""[..], Errno::ERANGE), (b"user.a", Errno::EBADF)] {
        assert_eq!(errno(place.get_xattr(&cx, name, 0)), refusal);
        assert_eq!(errno(place.remove_xattr(&cx, name)), refusal);
        assert_eq!(errno(place.set_xattr(&cx, name, b"", none)), refusal);
    }
}

#[test]
fn a_size_below_nothing_comes_before_the_file() {
    let rig = Rig::new(InteropMode::Exclusive);
    drop(rig.create("f").unwrap());
    let size = |size| SetAttr {
        size: Some(size),
        ..SetAttr::default()
    };
    let set = |path, to| errno(rig.set_attr(path, size(to)));
    assert_eq!(set("missing", END + 1), Errno::EINVAL);
    assert_eq!(set("missing", END), Errno::ENOENT);
    // Before the question what the file was opened for, too.
    let file = rig.open("f", OpenFlags::PATH).unwrap();
    let cut = |to| errno(file.set_attr(&rig.cx(), &size(to)));
    assert_eq!(cut(END + 1), Errno::EINVAL);
    assert_eq!(cut(END), Errno::EBADF);
}

#[test]
fn nothing_is_read_or_written_beyond_the_last_place() {
    for mode in InteropMode::ALL {
        let rig = Rig::new(mode);
        let file = rig.create("f").unwrap();
        let cx = rig.cx();
        file.write_at(&cx, b"content", 0).unwrap();
        let read = |at, len| file.read_at(&cx, &mut vec![0; len], at);
        assert_eq!(read(END, 0).unwrap(), 0);
        assert_eq!(read(END - 1, 1).unwrap(), 0, "{mode}");
        for (at, len) in [(END, 1), (END - 9, 10), (END + 1, 0), (u64::MAX, 10)] {
            assert_eq!(errno(read(at, len)), Errno::EINVAL, "{at} {len}");
            let written = file.write_at(&cx, &vec![1; len], at);
            assert_eq!(errno(written), Errno::EINVAL, "{at} {len}");
        }
        assert_eq!(file.write_at(&cx, b"", END).unwrap(), 0);
        // Below nothing comes before all else, beyond the end before the type.
        let place = rig.open("f", OpenFlags::PATH).unwrap();
        for at in [0, END] {
            assert_eq!(errno(place.read_at(&cx, &mut [0], at)), Errno::EBADF);
        }
        assert_eq!(errno(place.read_at(&cx, &mut [], END + 1)), Errno::EINVAL);
        assert_eq!(errno(place.write_at(&cx, b"", END + 1)), Errno::EINVAL);
        let dir = rig.open("/", OpenFlags::DIRECTORY).unwrap();
        assert_eq!(errno(dir.read_at(&cx, &mut [0], 0)), Errno::EISDIR);
        assert_eq!(errno(dir.read(&cx, &mut [0])), Errno::EISDIR);
        assert_eq!(errno(dir.read_at(&cx, &mut [0], END)), Errno::EINVAL);
        assert_eq!(file.stat(&cx).unwrap().attr.size, 7, "{mode}");
    }
}

#[test]
fn a_copy_is_refused_where_its_range_has_no_end_and_cut_where_the_file_has() {
    let rig = Rig::new(InteropMode::Exclusive);
    let cx = rig.cx();
    let (from, to) = (rig.create("from").unwrap(), rig.create("to").unwrap());
    from.write_at(&cx, b"content", 0).unwrap();
    let copy = |at, to_at, len| from.copy_range(&cx, at, &to, to_at, len);
    assert_eq!(copy(2, 0, END).unwrap(), 5);
    assert_eq!(copy(2, 9, u64::MAX - 9).unwrap(), 5);
    assert_eq!(errno(copy(2, 0, u64::MAX - 1)), Errno::EOVERFLOW);
    assert_eq!(errno(copy(0, 2, u64::MAX - 1)), Errno::EOVERFLOW);
    assert_eq!(errno(copy(END + 1, 0, 1)), Errno::EINVAL);
    assert_eq!(errno(copy(0, END + 1, 1)), Errno::EINVAL);
    // Also where there is nothing to copy.
    assert_eq!(errno(copy(0, END, 0)), Errno::EFBIG);
    assert_eq!(errno(copy(7, END, 1)), Errno::EFBIG);
}
