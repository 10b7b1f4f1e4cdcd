//! Images that were damaged, and such as were made up.

use proptest::prelude::*;

use super::*;
use crate::saving::{ImageError, seal_image};

/// A small image with a bit of everything, and its server.
fn small() -> (Rig, Vec<u8>) {
    let rig = Rig::new(InteropMode::Exclusive);
    rig.mkdir("d").unwrap();
    let file = rig.create("d/f").unwrap();
    file.write(&rig.cx(), b"content").unwrap();
    file.flock(&rig.cx(), LockKind::Write, false).unwrap();
    let gone = rig.create("gone").unwrap();
    gone.write(&rig.cx(), b"without a name").unwrap();
    rig.unlink("gone").unwrap();
    let set = SetAttr {
        mtime: Some(SetTime::At(Timestamp { sec: 7, nsec: 8 })),
        ..SetAttr::default()
    };
    rig.set_attr("d", set).unwrap();
    let node = file.node().clone();
    let image = save(&rig, &[(1, &file), (2, &gone)], &[(3, &node)]);
    drop((file, gone, node));
    (rig, image)
}

#[test]
fn every_truncation_and_every_flipped_byte_is_an_error() {
    let (rig, image) = small();
    restore(&rig, &image);
    let before = rig.outside.list(b"").unwrap();
    for end in 0..image.len() {
        let error = check_image(&image[..end]).unwrap_err();
        let expected = match end {
            0..8 => ImageError::NoImage,
            _ => ImageError::Truncated,
        };
        assert_eq!(error, expected, "{end}");
    }
    for at in 0..image.len() {
        for bit in 0..8 {
            let mut bad = image.clone();
            bad[at] ^= 1 << bit;
            check_image(&bad).unwrap_err();
        }
    }
    assert!(check_image(&[&image[..], b"x"].concat()).is_err());
    let mut newer = image.clone();
    newer[8] = 99;
    let error = restore_with(&rig, MemConfig::like_lisafs(), &newer, Verify::default()).err();
    let error = error.unwrap();
    assert_eq!(error.errno(), Errno::EINVAL);
    assert_eq!(
        error.to_string(),
        "restore: the image has version 99, not 2"
    );
    assert_eq!(rig.outside.list(b"").unwrap(), before);
}

/// The records of an image.
fn records(mut image: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    image = &image[12..];
    while let Some((length, rest)) = image.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        let (record, rest) = rest[4..].split_at(length);
        all.push(record);
        image = rest;
    }
    all
}

proptest! {
    #[test]
    fn sound_looking_nonsense_does_no_harm(
        changes in proptest::collection::vec((any::<u16>(), any::<u16>(), any::<u8>()), 1..6),
        order in proptest::collection::vec((any::<u8>(), any::<u8>()), 0..3),
    ) {
        let (rig, image) = small();
        let mut all: Vec<Vec<u8>> = records(&image).into_iter().map(<[u8]>::to_vec).collect();
        prop_assert_eq!(&seal_image(all.iter().map(Vec::as_slice)), &image);
        for (record, at, value) in changes {
            let count = all.len();
            let record = &mut all[usize::from(record) % count];
            if !record.is_empty() {
                let at = usize::from(at) % record.len();
                record[at] = value;
            }
        }
        for (one, other) in order {
            let count = all.len();
            all.swap(usize::from(one) % count, usize::from(other) % count);
        }
        let bad = seal_image(all.iter().map(Vec::as_slice));
        let restored = restore_with(&rig, MemConfig::like_9p(), &bad, Verify::default());
        if let Ok(restored) = restored {
            restored.fs.unmount(&rig.cx()).ok();
        }
        let names = rig.outside.list(b"").unwrap();
        prop_assert!(!names.iter().any(|name| name.starts_with(b".gofer")), "{:?}", names);
    }
}
