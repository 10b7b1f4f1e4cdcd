//! Colours: whether, and which one a file gets by `LS_COLORS`.

use std::ffi::OsString;

use anstyle::{Ansi256Color, AnsiColor, Effects, RgbColor, Style};
use gofer_vfs::{Attr, FileType};
use lscolors::{Indicator, LsColors};

use crate::args::ColorChoice;

/// How errors look.
pub const ERROR: Style = AnsiColor::Red.on_default();
/// How headings and the prompt's directory look.
pub const STRONG: Style = Style::new().bold();

/// Decides by the flag, then by `NO_COLOR` and `CLICOLOR_FORCE` (both count when not empty), then
/// by the terminal.
pub fn wanted(choice: ColorChoice, terminal: bool, env: impl Fn(&str) -> Option<OsString>) -> bool {
    let set = |key| env(key).is_some_and(|value| !value.is_empty());
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto if set("NO_COLOR") => false,
        ColorChoice::Auto if env("CLICOLOR_FORCE").is_some_and(|v| !v.is_empty() && v != "0") => {
            true
        }
        ColorChoice::Auto => terminal && env("TERM").is_none_or(|term| term != "dumb"),
    }
}

/// Colours of file names.
#[derive(Clone)]
pub struct FileColors(LsColors);

impl FileColors {
    /// As `LS_COLORS` says, or as `ls` does without it.
    pub fn from_env() -> FileColors {
        FileColors(LsColors::from_env().unwrap_or_default())
    }

    /// Wraps `text`, the display form of `name`, in the colour of such a file.
    pub fn paint(&self, text: &[u8], name: &[u8], attr: &Attr) -> Vec<u8> {
        let style = self.style(name, attr);
        if style == Style::new() {
            return text.to_vec();
        }
        let mut out = style.render().to_string().into_bytes();
        out.extend_from_slice(text);
        out.extend_from_slice(style.render_reset().to_string().as_bytes());
        out
    }

    fn style(&self, name: &[u8], attr: &Attr) -> Style {
        let indicator = indicator(attr);
        let by_suffix = || {
            let name = std::str::from_utf8(name).ok()?;
            self.0.style_for_str(name)
        };
        let found = match indicator {
            Indicator::RegularFile => by_suffix().or_else(|| self.0.style_for_indicator(indicator)),
            _ => self.0.style_for_indicator(indicator),
        };
        found.map(convert).unwrap_or_default()
    }
}

fn indicator(attr: &Attr) -> Indicator {
    let mode = attr.mode;
    match attr.file_type {
        FileType::Directory if mode & 0o1002 == 0o1002 => Indicator::StickyAndOtherWritable,
        FileType::Directory if mode & 0o1000 != 0 => Indicator::Sticky,
        FileType::Directory if mode & 0o002 != 0 => Indicator::OtherWritable,
        FileType::Directory => Indicator::Directory,
        FileType::Symlink => Indicator::SymbolicLink,
        FileType::Fifo => Indicator::FIFO,
        FileType::Socket => Indicator::Socket,
        FileType::CharDevice => Indicator::CharacterDevice,
        FileType::BlockDevice => Indicator::BlockDevice,
        FileType::Regular if mode & 0o4000 != 0 => Indicator::Setuid,
        FileType::Regular if mode & 0o2000 != 0 => Indicator::Setgid,
        FileType::Regular if mode & 0o111 != 0 => Indicator::ExecutableFile,
        FileType::Regular => Indicator::RegularFile,
    }
}

fn convert(style: &lscolors::Style) -> Style {
    let font = &style.font_style;
    let effects = [
        (font.bold, Effects::BOLD),
        (font.dimmed, Effects::DIMMED),
        (font.italic, Effects::ITALIC),
        (font.underline, Effects::UNDERLINE),
        (font.slow_blink || font.rapid_blink, Effects::BLINK),
        (font.reverse, Effects::INVERT),
        (font.hidden, Effects::HIDDEN),
        (font.strikethrough, Effects::STRIKETHROUGH),
    ];
    let effects = effects
        .into_iter()
        .filter(|(on, _)| *on)
        .fold(Effects::new(), |all, (_, effect)| all | effect);
    Style::new()
        .effects(effects)
        .fg_color(style.foreground.as_ref().map(convert_color))
        .bg_color(style.background.as_ref().map(convert_color))
}

fn convert_color(color: &lscolors::Color) -> anstyle::Color {
    use lscolors::Color as From;
    match color {
        From::Black => AnsiColor::Black.into(),
        From::Red => AnsiColor::Red.into(),
        From::Green => AnsiColor::Green.into(),
        From::Yellow => AnsiColor::Yellow.into(),
        From::Blue => AnsiColor::Blue.into(),
        From::Magenta => AnsiColor::Magenta.into(),
        From::Cyan => AnsiColor::Cyan.into(),
        From::White => AnsiColor::White.into(),
        From::BrightBlack => AnsiColor::BrightBlack.into(),
        From::BrightRed => AnsiColor::BrightRed.into(),
        From::BrightGreen => AnsiColor::BrightGreen.into(),
        From::BrightYellow => AnsiColor::BrightYellow.into(),
        From::BrightBlue => AnsiColor::BrightBlue.into(),
        From::BrightMagenta => AnsiColor::BrightMagenta.into(),
        From::BrightCyan => AnsiColor::BrightCyan.into(),
        From::BrightWhite => AnsiColor::BrightWhite.into(),
        From::Fixed(index) => Ansi256Color(*index).into(),
        From::RGB(r, g, b) => RgbColor(*r, *g, *b).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_beats_the_environment_and_the_environment_the_terminal() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |key: &str| {
                let found = pairs.iter().find(|(k, _)| *k == key);
                found.map(|(_, value)| OsString::from(value))
            }
        };
        assert!(wanted(
            ColorChoice::Always,
            false,
            env(&[("NO_COLOR", "1")])
        ));
        assert!(!wanted(
            ColorChoice::Never,
            true,
            env(&[("CLICOLOR_FORCE", "1")])
        ));
        assert!(!wanted(ColorChoice::Auto, true, env(&[("NO_COLOR", "1")])));
        assert!(wanted(ColorChoice::Auto, true, env(&[("NO_COLOR", "")])));
        assert!(wanted(
            ColorChoice::Auto,
            false,
            env(&[("CLICOLOR_FORCE", "1")])
        ));
        assert!(!wanted(ColorChoice::Auto, false, env(&[])));
        assert!(!wanted(ColorChoice::Auto, true, env(&[("TERM", "dumb")])));
    }

    #[test]
    fn names_are_painted_by_type_and_by_suffix() {
        let colors = FileColors(LsColors::from_string("di=01;34:*.rs=32"));
        let dir = Attr::of_type(FileType::Directory);
        let file = Attr::of_type(FileType::Regular);
        assert_eq!(colors.paint(b"d", b"d", &dir), b"\x1b[1m\x1b[34md\x1b[0m");
        assert_eq!(
            colors.paint(b"a.rs", b"a.rs", &file),
            b"\x1b[32ma.rs\x1b[0m"
        );
        assert_eq!(colors.paint(b"a\xff", b"a\xff", &file), b"a\xff");
    }
}
