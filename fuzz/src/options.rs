//! Target of mount options: the text is a person's, or that of a program that mounts for one.

use gofer_vfs::MountOptions;

use crate::input::check_line;

/// Reads options, prints them, and reads what was printed: that prints the same.
pub fn mount_options(input: &[u8]) {
    let options = match MountOptions::parse(input) {
        Ok(options) => options,
        Err(error) => return check_line(&error.to_string()),
    };
    let printed = options.to_bytes();
    let again = MountOptions::parse(&printed)
        .unwrap_or_else(|error| panic!("{}: {error}", printed.escape_ascii()));
    assert_eq!(again.to_bytes(), printed);
    for (key, value, meaning) in options.describe() {
        assert!(!key.is_empty() && !meaning.is_empty());
        check_line(&value);
    }
}
