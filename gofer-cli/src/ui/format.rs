//! Modes, sizes and times as text, and back.

use gofer_vfs::{FileType, Timestamp};
use jiff::tz::TimeZone;

/// The letter `ls -l` begins with.
pub fn type_letter(file_type: FileType) -> char {
    match file_type {
        FileType::Regular => '-',
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
        FileType::CharDevice => 'c',
        FileType::BlockDevice => 'b',
    }
}

/// The word for a type, also its stable name in JSON.
pub fn type_word(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Regular => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::CharDevice => "char_device",
        FileType::BlockDevice => "block_device",
    }
}

/// The mark `ls -F` puts behind a name.
pub fn type_mark(file_type: FileType, mode: u16) -> &'static str {
    match file_type {
        FileType::Directory => "/",
        FileType::Symlink => "@",
        FileType::Fifo => "|",
        FileType::Socket => "=",
        FileType::Regular if mode & 0o111 != 0 => "*",
        _ => "",
    }
}

/// `-rwxr-sr-t`, as `ls -l` shows it.
pub fn mode(file_type: FileType, mode: u16) -> String {
    let special = |on: bool, execute: bool, letter: char| match (on, execute) {
        (true, true) => letter,
        (true, false) => letter.to_ascii_uppercase(),
        (false, true) => 'x',
        (false, false) => '-',
    };
    let bit = |mask: u16, letter: char| if mode & mask != 0 { letter } else { '-' };
    [
        type_letter(file_type),
        bit(0o400, 'r'),
        bit(0o200, 'w'),
        special(mode & 0o4000 != 0, mode & 0o100 != 0, 's'),
        bit(0o040, 'r'),
        bit(0o020, 'w'),
        special(mode & 0o2000 != 0, mode & 0o010 != 0, 's'),
        bit(0o004, 'r'),
        bit(0o002, 'w'),
        special(mode & 0o1000 != 0, mode & 0o001 != 0, 't'),
    ]
    .into_iter()
    .collect()
}

/// A size as `ls -h` prints it: `999`, `1.2K`, `34M`, rounded up.
pub fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    if bytes < 1024 {
        return bytes.to_string();
    }
    let mut unit = 0;
    let mut scale = 1024u128;
    // Rounding up can reach the next unit: 1023.5K reads 1.0M.
    while unit + 1 < UNITS.len() && u128::from(bytes).div_ceil(scale) >= 1024 {
        unit += 1;
        scale *= 1024;
    }
    let tenths = (u128::from(bytes) * 10).div_ceil(scale);
    if tenths < 100 {
        format!("{}.{}{}", tenths / 10, tenths % 10, UNITS[unit])
    } else {
        format!("{}{}", u128::from(bytes).div_ceil(scale), UNITS[unit])
    }
}

/// A size with a unit, as users type it: `4096`, `64K`, `1.5M`, `2GiB`, `1kB` (powers of 1000
/// with `kB`, `MB`, ...). `None` for anything else, and when it does not fit.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let letter = unit.chars().next().map(|c| c.to_ascii_uppercase());
    let power = match letter {
        None => 0,
        Some('B') if unit.len() == 1 => 0,
        Some(letter) => 1 + "KMGTPE".find(letter)? as u32,
    };
    let base: u64 = match unit.get(1..).unwrap_or("") {
        "" | "iB" => 1024,
        "B" if power > 0 => 1000,
        _ => return None,
    };
    let scale = base.checked_pow(power)?;
    if let Some((whole, part)) = number.split_once('.') {
        if part.is_empty() || part.len() > 9 || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let whole: u64 = whole.parse().ok()?;
        let part_scale = 10u128.pow(part.len() as u32);
        let part = part.parse::<u128>().ok()? * u128::from(scale) / part_scale;
        return whole.checked_mul(scale)?.checked_add(part as u64);
    }
    number.parse::<u64>().ok()?.checked_mul(scale)
}

/// A time in UTC with all nine digits, as RFC 3339; far-off times as `@seconds.nanoseconds`.
pub fn rfc3339(time: Timestamp) -> String {
    match jiff::Timestamp::new(time.sec, time.nsec.min(999_999_999) as i32) {
        // jiff counts nanoseconds towards the sign of the seconds and normalises.
        Ok(at) => format!("{at:.9}"),
        Err(_) => format!("@{}.{:09}", time.sec, time.nsec),
    }
}

/// A time as `stat` shows it, local with offset.
pub fn full_time(time: Timestamp, zone: &TimeZone) -> String {
    match jiff::Timestamp::new(time.sec, time.nsec.min(999_999_999) as i32) {
        Ok(at) => at
            .to_zoned(zone.clone())
            .strftime("%Y-%m-%d %H:%M:%S.%9f %z")
            .to_string(),
        Err(_) => format!("@{}.{:09}", time.sec, time.nsec),
    }
}

/// A time as `ls -l` shows it: with the time of day when less than half a year old, with the year
/// otherwise.
pub fn short_time(time: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    const HALF_YEAR: i64 = 31_556_952 / 2;
    let Ok(at) = jiff::Timestamp::new(time.sec, 0) else {
        return format!("@{}", time.sec);
    };
    let recent = (now.sec - HALF_YEAR..=now.sec).contains(&time.sec);
    let form = if recent { "%b %e %H:%M" } else { "%b %e  %Y" };
    at.to_zoned(zone.clone()).strftime(form).to_string()
}

/// Reads a time as users type it: `@SECONDS[.FRACTION]`, RFC 3339, `2026-01-31`,
/// `2026-01-31 12:00[:00]` (local), or `now`.
pub fn parse_time(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    if text == "now" {
        return Some(std::time::SystemTime::now().into());
    }
    if let Some(seconds) = text.strip_prefix('@') {
        let (sec, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
        if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let nsec = format!("{fraction:0<9}").parse().ok()?;
        return Some(Timestamp {
            sec: sec.parse().ok()?,
            nsec,
        });
    }
    let at = match text.parse::<jiff::Timestamp>() {
        Ok(at) => at,
        Err(_) => {
            let civil = match text.parse::<jiff::civil::DateTime>() {
                Ok(civil) => civil,
                Err(_) => text.parse::<jiff::civil::Date>().ok()?.into(),
            };
            civil.to_zoned(zone.clone()).ok()?.timestamp()
        }
    };
    let nanos = at.as_nanosecond();
    Some(Timestamp {
        sec: nanos.div_euclid(1_000_000_000) as i64,
        nsec: nanos.rem_euclid(1_000_000_000) as u32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_read_as_ls_prints_them() {
        for (file_type, bits, text) in [
            (FileType::Regular, 0o644, "-rw-r--r--"),
            (FileType::Directory, 0o1777, "drwxrwxrwt"),
            (FileType::Regular, 0o4755, "-rwsr-xr-x"),
            (FileType::Regular, 0o6644, "-rwSr-Sr--"),
            (FileType::Symlink, 0o777, "lrwxrwxrwx"),
        ] {
            assert_eq!(mode(file_type, bits), text);
        }
    }

    #[test]
    fn human_sizes_round_up_like_ls() {
        for (bytes, text) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1.0K"),
            (1025, "1.1K"),
            (10 * 1024, "10K"),
            (1024 * 1024 - 1, "1.0M"),
            (u64::MAX, "16E"),
        ] {
            assert_eq!(human_size(bytes), text);
        }
    }

    #[test]
    fn sizes_are_read_with_units_and_refused_without_sense() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("512", Some(512)),
            ("4K", Some(4096)),
            ("4KiB", Some(4096)),
            ("1kB", Some(1000)),
            ("1.5M", Some(3 << 19)),
            ("16E", None),
            ("", None),
            ("K", None),
            ("-1", None),
            ("1X", None),
            ("1.", None),
            ("5é", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }

    #[test]
    fn times_round_trip_through_text() {
        let utc = TimeZone::UTC;
        for time in [
            Timestamp { sec: 0, nsec: 0 },
            Timestamp {
                sec: 1_700_000_000,
                nsec: 123_456_789,
            },
            Timestamp {
                sec: -2,
                nsec: 500_000_000,
            },
        ] {
            assert_eq!(parse_time(&rfc3339(time), &utc), Some(time));
        }
        let early = Timestamp { sec: 0, nsec: 1 };
        assert_eq!(rfc3339(early), "1970-01-01T00:00:00.000000001Z");
        assert_eq!(
            parse_time("2026-01-31 12:00", &utc),
            parse_time("2026-01-31T12:00:00Z", &utc)
        );
        assert_eq!(
            parse_time("@5.25", &utc),
            Some(Timestamp {
                sec: 5,
                nsec: 250_000_000
            })
        );
        assert_eq!(parse_time("yesterday-ish", &utc), None);
        let far = Timestamp {
            sec: i64::MAX,
            nsec: 1,
        };
        assert_eq!(rfc3339(far), "@9223372036854775807.000000001");
    }

    #[test]
    fn old_times_show_the_year() {
        let now = Timestamp {
            sec: 1_700_000_000,
            nsec: 0,
        };
        let at = |sec| short_time(Timestamp { sec, nsec: 0 }, now, &TimeZone::UTC);
        assert_eq!(at(1_700_000_000), "Nov 14 22:13");
        assert_eq!(at(1_600_000_000), "Sep 13  2020");
        assert_eq!(at(1_800_000_000), "Jan 15  2027");
    }
}
