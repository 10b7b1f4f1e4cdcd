//! What the targets have in common: records cut from an input, and checks.

use std::time::Duration;

/// How long a peer may take for what it must do at once. Long, because the machine may be busy;
/// what takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// An input that is used up piece by piece. Past its end everything is 0 or empty, so that any
/// bytes are an input.
#[derive(Clone, Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Starts at the front.
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input(bytes)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// The next 16-bit number, little-endian.
    pub fn number(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// The next `count` bytes, or what is left.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Bytes with their count, a 16-bit number, before them.
    pub fn counted(&mut self) -> &'a [u8] {
        let count = self.number();
        self.bytes(count.into())
    }
}

/// Runs a decoder, which must not allocate: then no count it reads can make it allocate.
pub fn without_heap<T>(decode: impl FnOnce() -> T) -> T {
    let mut result = None;
    let used = allocation_counter::measure(|| result = Some(decode()));
    assert_eq!(used.count_total, 0, "{} bytes of heap", used.bytes_total);
    result.expect("measure runs what it is given")
}

/// A line for people stays one line, whatever a peer put into it.
pub fn check_line(line: &str) {
    assert!(!line.contains(char::is_control), "{line:?}");
}
