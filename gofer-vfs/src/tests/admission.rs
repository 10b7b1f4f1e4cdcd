//! `access=UID`: a mount for one user.

use super::*;

#[test]
fn a_mount_for_one_user_refuses_all_others_whatever_the_modes_allow() {
    for mode in InteropMode::ALL {
        let mut setup = Setup::new(mode).user(1000);
        setup.access = Admission::Only(1000);
        let rig = setup.mount();
        rig.outside.mkdir(b"d").unwrap();
        assert!(rig.stat("d").is_ok() && rig.stat("").is_ok());
        // Root is somebody else, too.
        for creds in [Credentials::root(), Credentials::user(7, 7, Vec::new())] {
            let cx = Context::new(&creds);
            for path in ["", "d", "d/missing", "missing"] {
                let error = rig.fs.stat(&cx, rig.at(path), Follow::Yes).unwrap_err();
                assert_eq!(error.errno(), Errno::EPERM, "{path}");
            }
            let error = rig.fs.mkdir(&cx, rig.at("new"), 0o755).unwrap_err();
            assert_eq!(error.errno(), Errno::EPERM);
        }
        rig.calls();
        assert!(rig.stat("new").is_err());
    }
}
