//! `checkpoint` and `restore`.

use crate::common::Tree;

/// A tree with a directory to stand in and a file to lock.
fn tree(lisafs: bool) -> Tree {
    let tree = Tree::new(lisafs);
    std::fs::create_dir(tree.host("d")).unwrap();
    tree.write("d/f", "content");
    tree
}

#[test]
fn a_shell_goes_on_over_the_other_protocol() {
    for first in [false, true] {
        let images = tempfile::TempDir::new().unwrap();
        let image = images.path().join("i").display().to_string();
        let mut tree = tree(first);
        let saved = tree.script(&[], &format!("cd d\nlock -s f\ncheckpoint {image}\n"));
        saved.ok();
        tree.lisafs = !first;
        let restored = tree.script(&[], &format!("restore {image}\npwd\ncat f\nlock -u f\n"));
        assert_eq!(restored.ok().text(), "/d\ncontent");
        // Only the image is left.
        assert_eq!(std::fs::read_dir(images.path()).unwrap().count(), 1);

        tree.write("d/f", "changed since");
        let refused = tree.script(&[], &format!("restore {image}\n")).fails(1);
        let told = "restore /d/f: the size was 7 bytes, is 13 bytes";
        assert!(refused.stderr.contains(told), "{refused:?}");
        let flags = "--any-size --any-mtime";
        let script = format!("restore {flags} {image}\npwd\n");
        assert_eq!(tree.script(&[], &script).ok().text(), "/d\n");
    }
}

#[test]
fn files_that_were_written_come_back_after_the_shell_has_ended() {
    for first in [false, true] {
        let images = tempfile::TempDir::new().unwrap();
        let image = images.path().join("i").display().to_string();
        let mut tree = tree(first);
        let script = format!(
            "open -rwc d/new\nwrite 3 hello\nopen -rwc d/name\nwrite 4 one\nln d/name d/other\n\
             ls d/other\nrm d/name\nopen -rwc d/gone\nwrite 5 secret\nrm d/gone\ncheckpoint {image}\n"
        );
        tree.script(&[], &script).ok();
        tree.lisafs = !first;
        let script = format!(
            "restore {image}\nread 3 --at 0\nread 4 --at 0\nread 5 --at 0\nwrite 4 ' more'\n"
        );
        let restored = tree.script(&[], &script).ok();
        assert_eq!(restored.text(), "helloonesecret");
        assert_eq!(tree.read("d/other"), "one more");
    }
}

#[test]
fn what_is_no_image_is_refused_and_the_shell_stays_where_it_is() {
    let images = tempfile::TempDir::new().unwrap();
    let image = images.path().join("i");
    std::fs::write(&image, "no image").unwrap();
    let tree = tree(false);
    let run = tree.script(&[], &format!("restore {}\n", image.display()));
    assert!(
        run.stderr.contains("this is no image of a file system"),
        "{run:?}"
    );
    let missing = tree.script(&[], "restore /nonexistent/image\n").fails(1);
    assert!(missing.stderr.contains("ENOENT"), "{missing:?}");
    tree.run("checkpoint x").fails(2);
}
