//! Fids: numbers, states, limits.

use super::*;

#[test]
fn numbers_in_use_and_unknown_ones_are_refused() {
    let dir = tree();
    let client = Client::attached(dir.path(), ALL, BASE);
    client.walk(ROOT, Fid(1), &["dir"]).unwrap();
    assert_eq!(client.walk(ROOT, Fid(1), &["dir"]), Err(EINVAL));
    assert_eq!(client.attach(Fid(1), b"").unwrap_err(), EINVAL);
    assert_eq!(client.attach(Fid::NONE, b"").unwrap_err(), EINVAL);
    assert_eq!(client.walk(ROOT, Fid::NONE, &[]), Err(EINVAL));
    assert_eq!(client.walk(NOWHERE, Fid(2), &[]), Err(EBADF));
    client.clunk(Fid(1)).unwrap();
    assert_eq!(client.clunk(Fid(1)).unwrap_err(), EBADF);
    client.walk(ROOT, Fid(1), &["empty"]).unwrap();
}

#[test]
fn there_is_a_limit_and_failed_requests_make_none() {
    let dir = tree();
    let export = Export::open(dir.path(), ALL).unwrap();
    let limits = Limits {
        handles: 3,
        ..Limits::default()
    };
    let client = Client::with_limits(&export, limits).0.start(BASE);
    assert_eq!(client.walk(ROOT, Fid(1), &["missing"]), Err(ENOENT));
    assert_eq!(client.clunk(Fid(1)).unwrap_err(), EBADF);
    client.walk(ROOT, Fid(1), &[]).unwrap();
    client.walk(ROOT, Fid(2), &[]).unwrap();
    assert_eq!(client.walk(ROOT, Fid(3), &[]), Err(EMFILE));
    assert_eq!(client.attach(Fid(3), b"").unwrap_err(), EMFILE);
    // Moving one needs no other.
    client.walk(Fid(2), Fid(2), &["dir"]).unwrap();
    client.clunk(Fid(1)).unwrap();
    client.walk(ROOT, Fid(3), &[]).unwrap();
}

#[test]
fn each_request_wants_a_fid_in_the_right_state() {
    let dir = tree();
    let client = Client::attached(dir.path(), ALL, BASE);
    client.walk(ROOT, Fid(1), &["dir", "file"]).unwrap();
    assert_eq!(client.read(Fid(1), 0, 10), Err(EBADF));
    assert_eq!(write(&client, Fid(1), 0, b"x"), Err(EBADF));
    assert_eq!(
        error(
            &client,
            &Tfsync {
                fid: Fid(1),
                datasync: Some(0)
            }
        ),
        Some(EBADF)
    );
    assert_eq!(
        error(
            &client,
            &Treaddir {
                fid: Fid(1),
                offset: 0,
                count: 100
            }
        ),
        Some(EBADF)
    );
    client
        .ask(&Tlopen {
            fid: Fid(1),
            flags: OpenFlags::RDONLY,
        })
        .unwrap();
    assert_eq!(
        error(
            &client,
            &Tlopen {
                fid: Fid(1),
                flags: OpenFlags::RDONLY
            }
        ),
        Some(EINVAL)
    );
    assert_eq!(write(&client, Fid(1), 0, b"x"), Err(EBADF));
    assert_eq!(
        error(
            &client,
            &Treaddir {
                fid: Fid(1),
                offset: 0,
                count: 100
            }
        ),
        Some(ENOTDIR)
    );
    client
        .open(Fid(2), &["dir", "file"], OpenFlags::WRONLY)
        .unwrap();
    assert_eq!(client.read(Fid(2), 0, 10), Err(EBADF));
    client.open(Fid(3), &["dir"], OpenFlags::RDONLY).unwrap();
    assert_eq!(client.read(Fid(3), 0, 10), Err(EISDIR));
    // An open fid cannot move.
    assert_eq!(client.walk(Fid(3), Fid(3), &["file"]), Err(EINVAL));
    client.walk(Fid(3), Fid(4), &["file"]).unwrap();
}
