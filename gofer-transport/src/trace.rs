//! Where the lines of `--trace` go.

use std::fmt;
use std::sync::Arc;

type Sink = Arc<dyn Fn(&str) + Send + Sync>;

/// Takes one line per message. Off by default, and then nothing is formatted.
#[derive(Clone, Default)]
pub struct Tracer {
    sink: Option<Sink>,
}

impl Tracer {
    /// Hands each line, without its line end, to `sink`.
    pub fn new(sink: impl Fn(&str) + Send + Sync + 'static) -> Tracer {
        Tracer {
            sink: Some(Arc::new(sink)),
        }
    }

    /// Whether lines are wanted.
    pub fn is_on(&self) -> bool {
        self.sink.is_some()
    }

    /// Formats and hands on the line that `line` makes, if lines are wanted.
    pub fn line<D: fmt::Display>(&self, line: impl FnOnce() -> D) {
        if let Some(sink) = &self.sink {
            sink(&line().to_string());
        }
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("on", &self.is_on()).finish()
    }
}
