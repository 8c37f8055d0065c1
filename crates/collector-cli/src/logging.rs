//! Where log lines go, and how they look.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};

use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;

use crate::live::Above;
use crate::settings::Log;

/// How a run talks to people.
pub(crate) enum Voice {
    /// Live lines on a terminal, warnings above them.
    Live(MultiProgress),
    /// Log lines.
    Lines,
}

/// Writes a line for people, to standard error.
macro_rules! say {
    ($($words:tt)*) => { $crate::logging::say_line(format_args!($($words)*)) };
}
pub(crate) use say;

/// What cannot be said is not: a log on a full disk, or whose reader is gone, ends nothing. (`eprintln!` panics.)
pub(crate) fn say_line(words: fmt::Arguments<'_>) {
    let _unheard = writeln!(io::stderr().lock(), "{words}");
}

/// Sets up logging on standard error. `RUST_LOG` chooses what is logged. `stdout_is_data`: standard output shares the
/// terminal, so that live lines would run into it.
pub(crate) fn start(log: Log, stdout_is_data: bool) -> Voice {
    let terminal = io::stderr().is_terminal();
    let live = log == Log::Auto && terminal && !(stdout_is_data && io::stdout().is_terminal());
    let filter = |default: &str| EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    if live {
        let lines = MultiProgress::new();
        let above = Above(lines.clone());
        tracing_subscriber::fmt().log_internal_errors(false).with_env_filter(filter("warn")).with_target(false).with_writer(move || above.clone()).init();
        return Voice::Live(lines);
    }
    // It would say them on standard error, and panic where it cannot.
    let builder = tracing_subscriber::fmt().log_internal_errors(false).with_env_filter(filter("info")).with_writer(io::stderr);
    match log {
        Log::Text => builder.with_target(false).with_ansi(terminal).init(),
        Log::Auto if terminal => builder.with_target(false).init(),
        Log::Auto | Log::Json => builder.json().flatten_event(true).init(),
    }
    Voice::Lines
}
