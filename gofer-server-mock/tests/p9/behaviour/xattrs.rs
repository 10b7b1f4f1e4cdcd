//! Extended attributes of both dialects.

use super::*;

const E2BIG: u32 = 7;
const ENOMEM: u32 = 12;

/// A tree and a client of it, where the file system has attributes of users.
fn start(version: &str) -> Option<(tempfile::TempDir, Client)> {
    let dir = tree();
    if !has_user_xattrs(dir.path()) {
        eprintln!("not run: no user attributes in {}", dir.path().display());
        return None;
    }
    let client = Client::attached(dir.path(), ALL, version);
    Some((dir, client))
}

fn create(client: &Client, name: &[u8], attr_size: u64, flags: XattrFlags) -> Result<(), u32> {
    client.walk(ROOT, Fid(1), &["dir", "file"]).unwrap();
    let result = client.ask(&Txattrcreate {
        fid: Fid(1),
        name,
        attr_size,
        flags,
    });
    if result.is_err() {
        client.clunk(Fid(1)).unwrap();
    }
    result.map(drop)
}

fn get(client: &Client, name: &[u8]) -> Result<Vec<u8>, u32> {
    client.walk(ROOT, Fid(2), &["dir", "file"]).unwrap();
    let walked = client.ask(&Txattrwalk {
        fid: Fid(2),
        newfid: Fid(3),
        name,
    });
    client.clunk(Fid(2)).unwrap();
    let size = walked?.of::<Rxattrwalk>().size;
    let value = client.read(Fid(3), 0, size as u32 + 10).unwrap();
    assert_eq!(value.len() as u64, size);
    assert_eq!(client.read(Fid(3), size, 10).unwrap(), b"");
    client.clunk(Fid(3)).unwrap();
    Ok(value)
}

#[test]
fn a_value_is_stored_when_its_fid_is_clunked() {
    let Some((_dir, client)) = start(BASE) else {
        return;
    };
    assert_eq!(get(&client, b"user.a"), Err(ENODATA));
    create(&client, b"user.a", 6, XattrFlags::empty()).unwrap();
    assert_eq!(write(&client, Fid(1), 0, b"val"), Ok(3));
    assert_eq!(write(&client, Fid(1), 3, b"ues"), Ok(3));
    assert_eq!(get(&client, b"user.a"), Err(ENODATA));
    client.clunk(Fid(1)).unwrap();
    assert_eq!(get(&client, b"user.a").unwrap(), b"values");
    assert_eq!(get(&client, b"").unwrap(), b"user.a\0");
    create(&client, b"user.a", 0, XattrFlags::REPLACE).unwrap();
    client.clunk(Fid(1)).unwrap();
    assert_eq!(get(&client, b"user.a"), Err(ENODATA));
    create(&client, b"user.none", 0, XattrFlags::empty()).unwrap();
    client.clunk(Fid(1)).unwrap();
    assert_eq!(get(&client, b"user.none").unwrap(), b"");
}

#[test]
fn what_cannot_work_fails_early_and_a_short_value_late() {
    let Some((_dir, client)) = start(BASE) else {
        return;
    };
    assert_eq!(
        create(&client, b"user.a", 65_537, XattrFlags::empty()),
        Err(E2BIG)
    );
    assert_eq!(
        create(&client, b"user.a", u64::MAX, XattrFlags::empty()),
        Err(E2BIG)
    );
    assert_eq!(
        create(&client, b"user.a", 3, XattrFlags::REPLACE),
        Err(ENODATA)
    );
    assert_eq!(
        create(&client, b"nonsense", 3, XattrFlags::empty()),
        Err(EOPNOTSUPP)
    );
    let odd = XattrFlags::from_bits_retain(4);
    assert_eq!(create(&client, b"user.a", 3, odd), Err(EINVAL));
    create(&client, b"user.a", 3, XattrFlags::CREATE).unwrap();
    assert_eq!(write(&client, Fid(1), 0, b"valu"), Err(28));
    assert_eq!(write(&client, Fid(1), 2, b"v"), Err(EINVAL));
    assert_eq!(write(&client, Fid(1), 0, b"va"), Ok(2));
    assert_eq!(client.clunk(Fid(1)).unwrap_err(), EINVAL);
    assert_eq!(client.clunk(Fid(1)).unwrap_err(), EBADF);
    assert_eq!(get(&client, b"user.a"), Err(ENODATA));
    create(&client, b"user.a", 1, XattrFlags::CREATE).unwrap();
    write(&client, Fid(1), 0, b"v").unwrap();
    client.clunk(Fid(1)).unwrap();
    assert_eq!(
        create(&client, b"user.a", 3, XattrFlags::CREATE),
        Err(EEXIST)
    );
}

#[test]
fn values_that_wait_are_limited_in_all() {
    let Some((_dir, client)) = start(BASE) else {
        return;
    };
    let mut made = 0;
    let refused = loop {
        let fid = Fid(100 + made);
        client.walk(ROOT, fid, &["empty"]).unwrap();
        let flags = XattrFlags::empty();
        let name = b"user.large";
        match client.ask(&Txattrcreate {
            fid,
            name,
            attr_size: 65_536,
            flags,
        }) {
            Ok(_) => made += 1,
            Err(ecode) => break ecode,
        }
    };
    assert_eq!((refused, made), (ENOMEM, 64));
    assert_eq!(client.clunk(Fid(100)).unwrap_err(), EINVAL);
    create(&client, b"user.large", 65_536, XattrFlags::empty()).unwrap();
}

#[test]
fn the_google_requests_need_no_fid_of_their_own() {
    let Some((_dir, client)) = start(GOOGLE) else {
        return;
    };
    client.walk(ROOT, Fid(1), &["dir", "file"]).unwrap();
    let fid = Fid(1);
    let set = |name, value, flags| {
        error(
            &client,
            &Tsetxattr {
                fid,
                name,
                value,
                flags,
            },
        )
    };
    let get = |size| {
        let answer = client.ask(&Tgetxattr {
            fid,
            name: b"user.a",
            size,
        })?;
        Ok(answer.of::<Rgetxattr<'_>>().value.to_vec())
    };
    assert_eq!(set(b"user.a", b"one", XattrFlags::CREATE), None);
    assert_eq!(set(b"user.a", b"two", XattrFlags::CREATE), Some(EEXIST));
    assert_eq!(set(b"user.b", b"", XattrFlags::REPLACE), Some(ENODATA));
    assert_eq!(set(b"user.b", b"", XattrFlags::empty()), None);
    for size in [0, 1, 100] {
        assert_eq!(get(size), Ok(b"one".to_vec()));
    }
    let answer = client.ask(&Tlistxattr { fid, size: 0 }).unwrap();
    let mut names: Vec<_> = answer.of::<Rlistxattr<'_>>().names.iter().collect();
    names.sort_unstable();
    assert_eq!(names, [b"user.a", b"user.b"]);
    client
        .ask(&Tremovexattr {
            fid,
            name: b"user.a",
        })
        .unwrap();
    assert_eq!(get(0), Err(ENODATA));
    assert_eq!(
        error(
            &client,
            &Tremovexattr {
                fid,
                name: b"user.a"
            }
        ),
        Some(ENODATA)
    );
}
