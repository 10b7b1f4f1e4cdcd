//! `cache=none`: each description has a handle of its own (semantics 16).

use super::{CaseResult, Fixture};
use crate::flags::OpenFlags;

cases![
    each_description_opens_on_the_server: handle_per_description,
    descriptions_share_no_data: handle_per_description,
    direct_is_accepted_for_files: handle_per_description,
    append_per_description_goes_to_the_end: handle_per_description,
    write_per_description_drops_set_id_bits: handle_per_description,
    closing_one_description_leaves_the_other: handle_per_description,
];

fn each_description_opens_on_the_server(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    let first = fs.open("f", OpenFlags::RDONLY)?;
    let (second, trips) = fs.trips(|| fs.open("f", OpenFlags::RDONLY));
    check!(
        trips >= 2,
        "only {trips} round trips: the path must be checked and the file opened"
    );
    check_eq!(fs.read_all(&second?)?, b"x", "content through the second");
    check_eq!(fs.read_all(&first)?, b"x", "content through the first");
    Ok(())
}

fn descriptions_share_no_data(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "one")?;
    let (one, two) = (
        fs.open("f", OpenFlags::RDONLY)?,
        fs.open("f", OpenFlags::RDONLY)?,
    );
    check_eq!(fs.read_all(&one)?, b"one", "content before");
    fx.outside.write(b"f", b"two")?;
    check_eq!(fs.read_all(&one)?, b"two", "what the first reads");
    check_eq!(fs.read_all(&two)?, b"two", "what the second reads");
    Ok(())
}

fn direct_is_accepted_for_files(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    let file = fs.open("f", OpenFlags::DIRECT)?;
    check!(
        file.flags().contains(OpenFlags::DIRECT),
        "flags are {:?}",
        file.flags()
    );
    check_eq!(fs.read_all(&file)?, b"x", "content");
    Ok(())
}

fn append_per_description_goes_to_the_end(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "start")?;
    let one = fs.open("f", OpenFlags::WRONLY | OpenFlags::APPEND)?;
    let two = fs.open("f", OpenFlags::WRONLY | OpenFlags::APPEND)?;
    one.write(&fs.cx(), b"-1")?;
    fx.outside.append(b"f", b"-outside")?;
    two.write(&fs.cx(), b"-2")?;
    check_eq!(fx.outside.read(b"f")?, b"start-1-outside-2", "content");
    Ok(())
}

fn write_per_description_drops_set_id_bits(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    fs.chmod("f", 0o4777)?;
    let user = fx.user();
    let file = user.open("f", OpenFlags::WRONLY)?;
    file.write_at(&user.cx(), b"y", 0)?;
    check_eq!(
        fx.outside.stat(b"f")?.attr.mode,
        0o777,
        "mode on the server"
    );
    Ok(())
}

fn closing_one_description_leaves_the_other(fx: &Fixture) -> CaseResult {
    let fs = fx.root();
    fs.create("f", "x")?;
    let (one, two) = (
        fs.open("f", OpenFlags::RDWR)?,
        fs.open("f", OpenFlags::RDWR)?,
    );
    fs.unlink("f")?;
    one.close(&fs.cx())?;
    fs.write_all(&two, b"y", 0)?;
    check_eq!(fs.read_all(&two)?, b"y", "content");
    Ok(())
}
