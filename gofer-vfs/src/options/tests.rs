//! Conformance items 1 to 8 of the semantics, the escapes, and that printing and parsing agree.

use proptest::prelude::*;

use super::*;

const FD: &str = "trans=fd,rfdno=3,wfdno=3";

fn parsed(rest: &str) -> MountOptions {
    match format!("{FD},{rest}").parse() {
        Ok(options) => options,
        Err(error) => panic!("{rest}: {error}"),
    }
}

/// The key an option string is refused for.
fn refused(text: &str) -> String {
    let error = MountOptions::parse(text.as_bytes()).expect_err(text);
    assert_eq!(error.errno(), Errno::EINVAL);
    error.key
}

#[test]
fn transport_and_descriptors_are_required() {
    assert_eq!(refused(""), "trans");
    assert_eq!(refused("rfdno=3,wfdno=3"), "trans");
    assert_eq!(refused("trans=virtio,rfdno=3,wfdno=3"), "trans");
    assert_eq!(refused("trans=FD,rfdno=3,wfdno=3"), "trans");
    assert_eq!(refused("trans=fd,wfdno=3"), "rfdno");
    assert_eq!(refused("trans=fd,rfdno=3"), "wfdno");
    assert_eq!(refused("trans=fd,rfdno=x,wfdno=3"), "rfdno");
    assert_eq!(refused("trans=fd,rfdno=3,wfdno=0x3"), "wfdno");
    assert_eq!(refused("trans=unix"), "address");
    assert_eq!(refused("trans=unix,address="), "address");
    assert_eq!(refused("trans=fd,rfdno=3,wfdno=3,address=/s"), "address");
    assert_eq!(refused("trans=unix,address=/s,rfdno=3"), "rfdno");
}

#[test]
fn two_descriptors_are_for_9p_only() {
    let two: MountOptions = "trans=fd,rfdno=+3,wfdno=4".parse().unwrap();
    assert_eq!(two.trans, Trans::Fd { rfd: 3, wfd: 4 });
    assert_eq!(refused("trans=fd,rfdno=3,wfdno=4,lisafs=true"), "wfdno");
    assert_eq!(refused("trans=fd,rfdno=3,wfdno=4,lisafs"), "wfdno");
    assert!(
        "trans=fd,rfdno=3,wfdno=4,lisafs=0"
            .parse::<MountOptions>()
            .is_ok()
    );
}

#[test]
fn lisafs_needs_a_transport_for_descriptors() {
    assert_eq!(refused("trans=tcp,address=h:564,lisafs"), "lisafs");
    assert!("trans=tcp,address=h:564".parse::<MountOptions>().is_ok());
    assert!(
        "trans=unix,address=/s,lisafs"
            .parse::<MountOptions>()
            .is_ok()
    );
}

#[test]
fn cache_is_one_of_four_words() {
    assert_eq!(parsed("").cache, InteropMode::Exclusive);
    for mode in InteropMode::ALL {
        assert_eq!(parsed(&format!("cache={mode}")).cache, mode);
    }
    for bad in ["cache=", "cache", "cache=loose", "cache=none "] {
        assert_eq!(refused(&format!("{FD},{bad}")), "cache");
    }
}

#[test]
fn numbers_are_plain_decimal_and_fit() {
    let options = parsed("dfltuid=0,dfltgid=4294967295,msize=8192,dentry_cache_limit=0");
    assert_eq!((options.dfltuid, options.dfltgid), (0, u32::MAX));
    assert_eq!((options.msize, options.dentry_cache_limit), (8192, 0));
    assert_eq!(
        parsed("dentry_cache_limit=18446744073709551615").dentry_cache_limit,
        u64::MAX
    );
    for key in [
        "dfltuid",
        "dfltgid",
        "msize",
        "channels",
        "revalidate_after",
    ] {
        for value in ["-1", "4294967296", "", "0x10", "1_0", "+1", " 1", "1 "] {
            assert_eq!(refused(&format!("{FD},{key}={value}")), key, "{value}");
        }
    }
    let too_large = format!("{FD},dentry_cache_limit=18446744073709551616");
    assert_eq!(refused(&too_large), "dentry_cache_limit");
}

#[test]
fn access_is_any_or_one_number() {
    assert_eq!(parsed("").access, Admission::Any);
    assert_eq!(parsed("access=any").access, Admission::Any);
    let options = parsed("access=1000,locks=server");
    assert_eq!(options.access, Admission::Only(1000));
    assert!(options.to_string().ends_with(",locks=server,access=1000"));
    for bad in [
        "",
        "user",
        "client",
        "-1",
        "4294967295",
        "4294967296",
        "+1",
        "root",
    ] {
        assert_eq!(refused(&format!("{FD},access={bad}")), "access");
    }
    let error = MountOptions::parse(format!("{FD},access=client").as_bytes()).unwrap_err();
    assert!(
        error
            .message
            .contains("an attach for each user is not supported")
    );
}

#[test]
fn unknown_keys_name_the_nearest_known() {
    let error = MountOptions::parse(format!("{FD},cahce=none").as_bytes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "mount option `cahce`: unknown; did you mean `cache`?"
    );
    let error = MountOptions::parse(format!("{FD},dentry_cache=4").as_bytes()).unwrap_err();
    assert_eq!(error.message, "unknown; did you mean `dentry_cache_limit`?");
    let error = MountOptions::parse(format!("{FD},\x1b[31mzz").as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "mount option `\\u{1b}[31mzz`: unknown");
    assert_eq!(refused(&format!("{FD},Cache=none")), "Cache");
    assert_eq!(refused(&format!("{FD},=x")), "");
    assert_eq!(refused(&format!("{FD}, cache=none")), " cache");
}

#[test]
fn last_of_a_repeated_key_counts() {
    let options = parsed("cache=bogus,msize=1,,cache=none,msize=4096,");
    assert_eq!(options.cache, InteropMode::SharedPerHandle);
    assert_eq!(options.msize, 4096);
    assert_eq!(refused(&format!("{FD},cache=none,cache=bogus")), "cache");
}

#[test]
fn the_earlier_in_the_order_of_evaluation_is_reported() {
    let order = [
        ("trans", "trans=x"),
        ("rfdno", "rfdno=x"),
        ("wfdno", "wfdno=x"),
        ("aname", "aname=x"),
        ("cache", "cache=x"),
        ("dfltuid", "dfltuid=x"),
        ("dfltgid", "dfltgid=x"),
        ("msize", "msize=x"),
        ("dentry_cache_limit", "dentry_cache_limit=x"),
        ("channels", "channels=x"),
        ("locks", "locks=maybe"),
        ("access", "access=user"),
        ("revalidate_after", "revalidate_after=x"),
        ("lisafs", "lisafs=x"),
        ("directfs", "directfs=x"),
        ("x", "x"),
    ];
    for first in 0..order.len() {
        let later: Vec<&str> = order[first..].iter().rev().map(|bad| bad.1).collect();
        let text = format!("{FD},{}", later.join(","));
        assert_eq!(refused(&text), order[first].0, "{text}");
    }
}

#[test]
fn lisafs_is_a_boolean_word_or_bare() {
    for word in [
        "lisafs",
        "lisafs=",
        "lisafs=1",
        "lisafs=t",
        "lisafs=T",
        "lisafs=True",
    ] {
        assert!(parsed(word).lisafs, "{word}");
    }
    for word in ["lisafs=0", "lisafs=f", "lisafs=FALSE", "lisafs=False", ""] {
        assert!(!parsed(word).lisafs, "{word}");
    }
    for word in ["lisafs=yes", "lisafs=TrUe", "lisafs=2"] {
        assert_eq!(refused(&format!("{FD},{word}")), "lisafs");
    }
}

#[test]
fn directfs_is_a_boolean_and_needs_lisafs() {
    let options = parsed("lisafs,directfs");
    assert!(options.directfs);
    assert!(options.to_string().ends_with(",lisafs,directfs"));
    let last = options.describe().pop().unwrap();
    assert_eq!(last.0, "directfs");
    assert!(!last.2.is_empty());
    assert!(!parsed("lisafs,directfs=false").directfs);
    assert_eq!(refused(&format!("{FD},directfs")), "directfs");
    assert_eq!(refused(&format!("{FD},lisafs,directfs=maybe")), "directfs");
}

#[test]
fn reconnect_needs_9p_over_an_address() {
    let unix = "trans=unix,address=/s";
    let options: MountOptions = format!("{unix},reconnect=30,channels=1").parse().unwrap();
    assert_eq!(options.reconnect, 30);
    assert!(options.to_string().ends_with(",channels=1,reconnect=30"));
    assert_ne!(options.describe().pop().unwrap().2, "");
    let off: MountOptions = format!("{unix},reconnect=0").parse().unwrap();
    assert!(!off.to_string().contains("reconnect"));
    assert_eq!(parsed("reconnect=0").reconnect, 0);
    for bad in [
        format!("{FD},reconnect=30"),
        format!("{unix},lisafs,reconnect=30"),
        format!("{unix},reconnect=soon"),
        format!("{unix},reconnect=-1"),
        format!("{unix},reconnect"),
        format!("{unix},reconnect=4294967296"),
    ] {
        assert_eq!(refused(&bad), "reconnect", "{bad}");
    }
}

#[test]
fn checks_are_trusted_only_where_there_are_any() {
    let options = parsed("cache=none,revalidate_after=250,channels=1");
    assert_eq!(options.revalidate_after, 250);
    assert!(
        options
            .to_string()
            .ends_with("cache=none,channels=1,revalidate_after=250")
    );
    assert_eq!(parsed("revalidate_after=0").revalidate_after, 0);
    for mode in ["fscache", "fscache_writethrough"] {
        let text = format!("{FD},revalidate_after=1,cache={mode}");
        assert_eq!(refused(&text), "revalidate_after");
    }
}

#[test]
fn flags_need_no_value_and_ignore_one() {
    let options = parsed("force_page_cache=no,limit_host_fd_translation,overlayfs_stale_read=");
    assert!(options.force_page_cache);
    assert!(options.limit_host_fd_translation);
    assert!(options.overlayfs_stale_read);
}

#[test]
fn aname_is_absolute_and_normalised() {
    assert_eq!(parsed("").aname, b"/");
    for (given, kept) in [
        ("/", "/"),
        ("//a/./b/", "/a/b"),
        ("/a/../../b", "/b"),
        ("/a=b", "/a=b"),
        ("/a\\,b\\\\c\\d", "/a,b\\c\\d"),
    ] {
        let options = parsed(&format!("aname={given}"));
        assert_eq!(String::from_utf8_lossy(&options.aname), kept);
    }
    for bad in ["aname", "aname=", "aname=a/b"] {
        assert_eq!(refused(&format!("{FD},{bad}")), "aname");
    }
}

#[test]
fn printed_string_has_the_order_of_the_specification() {
    insta::assert_snapshot!(parsed(""), @"trans=fd,rfdno=3,wfdno=3,aname=/,dfltuid=4294967294,dfltgid=4294967294,msize=1048576,version=9P2000.L.Google.13,dentry_cache_limit=1000,cache=fscache");
    insta::assert_snapshot!(
        parsed("overlayfs_stale_read,locks=server,channels=8,force_page_cache,limit_host_fd_translation,cache=none,lisafs=t"),
        @"trans=fd,rfdno=3,wfdno=3,aname=/,dfltuid=4294967294,dfltgid=4294967294,msize=1048576,dentry_cache_limit=1000,cache=none,channels=8,locks=server,force_page_cache,limit_host_fd_translation,overlayfs_stale_read,lisafs");
    let tcp: MountOptions = "address=[::1]:564,trans=tcp".parse().unwrap();
    insta::assert_snapshot!(tcp, @"trans=tcp,address=[::1]:564,aname=/,dfltuid=4294967294,dfltgid=4294967294,msize=1048576,version=9P2000.L,dentry_cache_limit=1000,cache=fscache");
    let unix: MountOptions = r"trans=unix,address=/a\,b,version=9P2000.L.Google.7"
        .parse()
        .unwrap();
    insta::assert_snapshot!(unix, @r"trans=unix,address=/a\,b,aname=/,dfltuid=4294967294,dfltgid=4294967294,msize=1048576,version=9P2000.L.Google.7,dentry_cache_limit=1000,cache=fscache");
}

#[test]
fn every_printed_option_has_a_meaning() {
    let options = parsed(
        "cache=none,revalidate_after=5,overlayfs_stale_read,force_page_cache,limit_host_fd_translation,channels=1,locks=server,lisafs",
    );
    let unix: MountOptions = "trans=unix,address=/s".parse().unwrap();
    for (key, _, meaning) in options.describe().into_iter().chain(unix.describe()) {
        assert!(!meaning.is_empty(), "{key}");
    }
}

fn any_trans() -> impl Strategy<Value = Trans> {
    prop_oneof![
        (-1..100i32, any::<bool>()).prop_map(|(rfd, same)| Trans::Fd {
            rfd,
            wfd: if same { rfd } else { rfd + 1 },
        }),
        proptest::collection::vec(1..=255u8, 1..20).prop_map(|address| Trans::Unix { address }),
        "[a-z\\\\,:=]{1,20}".prop_map(|address| Trans::Tcp { address }),
    ]
}

fn any_component() -> impl Strategy<Value = Vec<u8>> {
    let byte = (1..=255u8).prop_filter("a separator", |byte| *byte != b'/');
    proptest::collection::vec(byte, 1..6)
        .prop_filter("not a name", |name| name != b"." && name != b"..")
}

prop_compose! {
    fn any_options()(
        trans in any_trans(),
        components in proptest::collection::vec(any_component(), 0..4),
        mode in 0..4usize,
        ids in any::<(u32, u32)>(),
        msize in any::<u32>(),
        version in proptest::option::of("[A-Za-z0-9.,\\\\]{0,20}"),
        dentry_cache_limit in any::<u64>(),
        channels in any::<Option<u32>>(),
        server_locks in any::<bool>(),
        only in proptest::option::of(0..u32::MAX),
        reconnect in any::<u32>(),
        page_cache_limit in any::<u64>(),
        milliseconds in any::<u32>(),
        flags in any::<[bool; 5]>(),
    ) -> MountOptions {
        let one_socket = match &trans {
            Trans::Fd { rfd, wfd } => rfd == wfd,
            Trans::Unix { .. } => true,
            Trans::Tcp { .. } => false,
        };
        let lisafs = flags[3] && one_socket;
        let lasting = !lisafs && !matches!(trans, Trans::Fd { .. });
        let cache = InteropMode::ALL[mode];
        MountOptions {
            trans,
            aname: [b"/", components.join(&b'/').as_slice()].concat(),
            cache,
            dfltuid: ids.0,
            dfltgid: ids.1,
            msize,
            version,
            dentry_cache_limit,
            revalidate_after: if cache.must_revalidate() { milliseconds } else { 0 },
            channels,
            locks: match server_locks {
                true => LockPlace::Server,
                false => LockPlace::Local,
            },
            access: only.map_or(Admission::Any, Admission::Only),
            reconnect: if lasting { reconnect } else { 0 },
            page_cache_limit,
            force_page_cache: flags[0],
            limit_host_fd_translation: flags[1],
            overlayfs_stale_read: flags[2],
            lisafs,
            directfs: lisafs && flags[4],
        }
    }
}

proptest! {
    #[test]
    fn printed_options_parse_to_the_same(options in any_options()) {
        let printed = options.to_bytes();
        let mut again = MountOptions::parse(&printed).expect("what was printed");
        prop_assert_eq!(&again.to_bytes(), &printed);
        // The version is printed as it takes effect, and over lisafs it is not printed.
        again.version.clone_from(&options.version);
        prop_assert_eq!(again, options);
    }

    #[test]
    fn any_bytes_parse_or_are_refused(text in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(options) = MountOptions::parse(&text) {
            prop_assert_eq!(MountOptions::parse(&options.to_bytes()).map(|o| o.to_bytes()),
                Ok(options.to_bytes()));
        }
    }
}
