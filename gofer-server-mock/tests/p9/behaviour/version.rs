//! Tversion: what is spoken, and how large messages are.

use super::*;

fn ask(client: &Client, msize: u32, version: &[u8]) -> Result<(u32, String), u32> {
    client.send(Tag(7), &Tversion { msize, version });
    let answer = client.receive().unwrap();
    assert_eq!(answer.tag, Tag(7), "any tag comes back");
    if let Some(ecode) = answer.error() {
        return Err(ecode);
    }
    let reply: Rversion<'_> = answer.of();
    Ok((
        reply.msize,
        String::from_utf8(reply.version.to_vec()).unwrap(),
    ))
}

#[test]
fn supported_strings_are_echoed_and_google_clients_sent_down() {
    let dir = tree();
    let client = Client::of(&Export::open(dir.path(), ALL).unwrap());
    for version in [BASE, "9P2000.L.Google.0", "9P2000.L.Google.7", GOOGLE] {
        let answer = ask(&client, 65_536, version.as_bytes());
        assert_eq!(answer, Ok((65_536, version.to_string())));
    }
    assert_eq!(ask(&client, 65_536, b"9P2000.L.Google.14"), Err(EAGAIN));
    for version in [&b"9P2000"[..], b"9P2000.u", b"", b"9P2000.LX", b"\xff"] {
        assert_eq!(
            ask(&client, 65_536, version),
            Ok((65_536, "unknown".into()))
        );
    }
}

#[test]
fn the_size_is_cut_to_the_limit_and_never_below_a_page() {
    let dir = tree();
    let export = Export::open(dir.path(), ALL).unwrap();
    let limits = Limits {
        message_size: 10_000,
        ..Limits::default()
    };
    let (client, _) = Client::with_limits(&export, limits);
    assert_eq!(
        ask(&client, u32::MAX, BASE.as_bytes()),
        Ok((10_000, BASE.into()))
    );
    assert_eq!(ask(&client, 4096, BASE.as_bytes()), Ok((4096, BASE.into())));
    assert_eq!(ask(&client, 4095, BASE.as_bytes()), Err(EMSGSIZE));
    let client = Client::of(&export);
    assert_eq!(
        ask(&client, u32::MAX, BASE.as_bytes()),
        Ok((1 << 20, BASE.into()))
    );
}

#[test]
fn it_starts_over_whatever_comes_of_it() {
    let dir = tree();
    let client = Client::attached(dir.path(), ALL, BASE);
    ask(&client, 65_536, BASE.as_bytes()).unwrap();
    assert_eq!(getattr(&client, ROOT), Err(EBADF));
    client.attach(ROOT, b"").unwrap();
    ask(&client, 65_536, b"9P2000.L.Google.99").unwrap_err();
    const EPROTO: u32 = 71;
    assert_eq!(getattr(&client, ROOT), Err(EPROTO));
}

#[test]
fn replies_stay_below_the_size_agreed_on() {
    let dir = tree();
    fs::write(dir.path().join("large"), vec![1; 100_000]).unwrap();
    symlink("x".repeat(4095), dir.path().join("long")).unwrap();
    let client = Client::of(&Export::open(dir.path(), ALL).unwrap());
    ask(&client, 4096, BASE.as_bytes()).unwrap();
    client.attach(ROOT, b"").unwrap();
    client.open(Fid(1), &["large"], OpenFlags::RDONLY).unwrap();
    assert_eq!(client.read(Fid(1), 0, u32::MAX).unwrap().len(), 4096 - 24);
    client.walk(ROOT, Fid(2), &["long"]).unwrap();
    assert_eq!(error(&client, &Treadlink { fid: Fid(2) }), Some(EMSGSIZE));
}
