//! Watches for events (semantics 19).

use super::check::{CaseResult, Failure};
use super::{Fixture, Remount};
use crate::{EventMask, Follow, Notifier, OpenFlags, SetAttr};

cases![
    events_of_a_directory_come_in_order_and_with_names,
    the_two_halves_of_a_rename_share_a_cookie,
    a_deleted_file_tells_of_its_end_at_its_last_close,
    a_watched_file_is_not_evicted,
    unmounting_ends_watches,
    changes_by_others_are_told_once_a_check_finds_them: sharing,
    changes_by_others_are_not_looked_for: caching,
];

type Told = Vec<(EventMask, String)>;

fn told(notifier: &Notifier) -> Told {
    let events = notifier.try_read(usize::MAX).into_iter();
    let short = events.map(|event| {
        let name = String::from_utf8_lossy(&event.name).into_owned();
        (event.mask, name)
    });
    short.collect()
}

fn named(events: &[(EventMask, &str)]) -> Told {
    let owned = events
        .iter()
        .map(|(mask, name)| (*mask, (*name).to_owned()));
    owned.collect()
}

fn events_of_a_directory_come_in_order_and_with_names(fx: &Fixture) -> CaseResult {
    let c = fx.root();
    c.mkdir("d")?;
    let notifier = fx.fs.notifier()?;
    notifier.add(&c.cx(), c.at("d"), EventMask::ALL)?;
    let file = c.open("d/f", OpenFlags::CREAT | OpenFlags::RDWR)?;
    c.write_all(&file, b"content", 0)?;
    c.read_at(&file, 3, 0)?;
    file.close(&c.cx())?;
    let set = SetAttr {
        mode: Some(0o600),
        ..SetAttr::default()
    };
    c.fs.set_attr(&c.cx(), c.at("d/f"), Follow::Yes, &set)?;
    c.open("d/f", OpenFlags::WRONLY | OpenFlags::TRUNC)?
        .close(&c.cx())?;
    c.mkdir("d/sub")?;
    c.link("d/f", "d/g")?;
    c.unlink("d/f")?;
    c.rmdir("d/sub")?;
    let expected = named(&[
        (EventMask::CREATE, "f"),
        (EventMask::OPEN, "f"),
        (EventMask::MODIFY, "f"),
        (EventMask::ACCESS, "f"),
        (EventMask::CLOSE_WRITE, "f"),
        (EventMask::ATTRIB, "f"),
        (EventMask::OPEN, "f"),
        (EventMask::MODIFY, "f"),
        (EventMask::CLOSE_WRITE, "f"),
        (EventMask::CREATE | EventMask::ISDIR, "sub"),
        (EventMask::CREATE, "g"),
        (EventMask::DELETE, "f"),
        (EventMask::DELETE | EventMask::ISDIR, "sub"),
    ]);
    check_eq!(told(&notifier), expected, "events");
    Ok(())
}

fn the_two_halves_of_a_rename_share_a_cookie(fx: &Fixture) -> CaseResult {
    let c = fx.root();
    c.mkdir("a")?;
    c.mkdir("b")?;
    c.create("a/f", "")?;
    let notifier = fx.fs.notifier()?;
    let from = notifier.add(&c.cx(), c.at("a"), EventMask::ALL)?;
    let to = notifier.add(&c.cx(), c.at("b"), EventMask::ALL)?;
    let file = notifier.add(&c.cx(), c.at("a/f"), EventMask::MOVE_SELF)?;
    c.rename("a/f", "b/g")?;
    let events = notifier.try_read(usize::MAX);
    let shape: Vec<(i32, EventMask)> = events.iter().map(|one| (one.watch, one.mask)).collect();
    let expected = vec![
        (from, EventMask::MOVED_FROM),
        (to, EventMask::MOVED_TO),
        (file, EventMask::MOVE_SELF),
    ];
    check_eq!(shape, expected, "events of a rename");
    let cookies: Vec<u32> = events.iter().map(|one| one.cookie).collect();
    check!(
        cookies[0] != 0 && cookies[0] == cookies[1] && cookies[2] == 0,
        "cookies: {cookies:?}"
    );
    Ok(())
}

fn a_deleted_file_tells_of_its_end_at_its_last_close(fx: &Fixture) -> CaseResult {
    let c = fx.root();
    c.create("f", "content")?;
    let notifier = fx.fs.notifier()?;
    let mask = EventMask::DELETE_SELF | EventMask::CLOSE_NOWRITE;
    notifier.add(&c.cx(), c.at("f"), mask)?;
    let file = c.open("f", OpenFlags::RDONLY)?;
    c.unlink("f")?;
    check_eq!(told(&notifier), named(&[]), "events while it is open");
    file.close(&c.cx())?;
    let expected = named(&[
        (EventMask::CLOSE_NOWRITE, ""),
        (EventMask::DELETE_SELF, ""),
        (EventMask::IGNORED, ""),
    ]);
    check_eq!(told(&notifier), expected, "events of its end");
    Ok(())
}

fn a_watched_file_is_not_evicted(fx: &Fixture) -> CaseResult {
    let c = fx.remount(&Remount {
        dentry_cache_limit: Some(0),
        ..Remount::default()
    })?;
    c.create("f", "content")?;
    let notifier = c.fs.notifier()?;
    notifier.add(&c.cx(), c.at("f"), EventMask::OPEN)?;
    c.fs.drop_caches();
    c.read("f")?;
    check_eq!(told(&notifier), named(&[(EventMask::OPEN, "")]), "events");
    Ok(())
}

fn unmounting_ends_watches(fx: &Fixture) -> CaseResult {
    let c = fx.second()?;
    let notifier = c.fs.notifier()?;
    notifier.add_node(&c.cx(), &c.root, EventMask::ALL)?;
    c.fs.unmount(&c.cx()).map_err(Failure::new)?;
    let expected = named(&[(EventMask::UNMOUNT, ""), (EventMask::IGNORED, "")]);
    check_eq!(told(&notifier), expected, "events");
    Ok(())
}

fn changes_by_others_are_told_once_a_check_finds_them(fx: &Fixture) -> CaseResult {
    let c = fx.root();
    for name in ["gone", "changed", "replaced"] {
        c.create(name, "1")?;
        c.stat(name)?;
    }
    let notifier = fx.fs.notifier()?;
    notifier.add_node(&c.cx(), &c.root, EventMask::ALL)?;
    fx.outside.unlink(b"gone")?;
    fx.outside.write(b"changed", b"longer")?;
    fx.outside.write(b"new", b"other")?;
    fx.outside.rename(b"new", b"replaced")?;
    check_eq!(told(&notifier), named(&[]), "events before anybody looked");
    check_errno!(c.stat("gone"), ENOENT);
    c.stat("changed")?;
    c.stat("replaced")?;
    let expected = named(&[
        (EventMask::DELETE, "gone"),
        (EventMask::MODIFY, "changed"),
        (EventMask::DELETE, "replaced"),
        (EventMask::CREATE, "replaced"),
    ]);
    check_eq!(told(&notifier), expected, "events of what was found");
    Ok(())
}

fn changes_by_others_are_not_looked_for(fx: &Fixture) -> CaseResult {
    let c = fx.root();
    c.create("f", "1")?;
    let notifier = fx.fs.notifier()?;
    notifier.add_node(&c.cx(), &c.root, EventMask::ALL)?;
    fx.outside.write(b"f", b"longer")?;
    c.stat("f")?;
    check_eq!(told(&notifier), named(&[]), "events");
    Ok(())
}
