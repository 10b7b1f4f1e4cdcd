//! Progress of a copy, on standard error, once it has lasted half a second.

use std::time::{Duration, Instant};

use gofer_vfs::error::printable;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;

const PATIENCE: Duration = Duration::from_millis(500);

/// Counts bytes and files of one copy. Shared by its threads.
pub struct Progress {
    bar: ProgressBar,
    /// When to begin to show; `None` once shown, or never to be.
    shows_at: Mutex<Option<Instant>>,
}

impl Progress {
    /// Shows nothing yet, and nothing ever when not `wanted`.
    pub fn new(wanted: bool) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template(
            "{wide_msg} {bar:20} {bytes:>10}/{total_bytes:<10} {bytes_per_sec:>12} {eta:>4}",
        );
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        Progress {
            bar,
            shows_at: Mutex::new(wanted.then(|| Instant::now() + PATIENCE)),
        }
    }

    /// A file of so many bytes was found.
    pub fn found(&self, bytes: u64) {
        self.bar.inc_length(bytes);
    }

    /// The copy of a file begins.
    pub fn begins(&self, name: &[u8]) {
        self.show();
        if !self.bar.is_hidden() {
            self.bar.set_message(printable(name).into_owned());
        }
    }

    /// So many bytes were copied, or skipped as holes.
    pub fn moved(&self, bytes: u64) {
        self.bar.inc(bytes);
        self.show();
    }

    /// Says something without tearing the bar.
    pub fn suspend(&self, say: impl FnOnce()) {
        self.bar.suspend(say);
    }

    /// Leaves a line with the total when the bar was seen.
    pub fn finish(&self, files: u64) {
        if self.bar.is_hidden() {
            return;
        }
        let bytes = self.bar.position();
        let seconds = self.bar.elapsed().as_secs_f64();
        let rate = bytes as f64 / seconds.max(0.001);
        self.bar.finish_and_clear();
        eprintln!(
            "{files} files, {}, {seconds:.1} s, {}/s",
            indicatif::HumanBytes(bytes),
            indicatif::HumanBytes(rate as u64),
        );
    }

    fn show(&self) {
        // Whoever finds it locked can leave it to the holder.
        let Some(mut shows_at) = self.shows_at.try_lock() else {
            return;
        };
        if shows_at.is_some_and(|at| Instant::now() >= at) {
            *shows_at = None;
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }
}
