//! What the program says: results on standard output, warnings and progress on standard error.

use indicatif::{ProgressBar, ProgressStyle};
use std::fmt;
use std::io::{self, Write as _};

/// Prints a line to standard output; a reader that has gone away (`| head`) ends the program quietly.
pub fn print_line(line: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout().lock(), "{line}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}

/// Warns of what does not end the program.
pub fn warn(what: impl fmt::Display) {
    eprintln!("vadlite: warning: {what}");
}

/// Shows what is being done, how much of it is done, and of how much; the time left is counted anew for each thing.
pub fn show_on(bar: &ProgressBar) -> impl FnMut(&'static str, usize, usize) {
    let mut shown = "";
    move |what, done, of| {
        if shown != what {
            bar.reset();
            bar.set_message(what);
            bar.set_length(of as u64);
            shown = what;
        }
        bar.set_position(done as u64);
    }
}

/// A progress bar on a terminal, nothing elsewhere.
pub fn progress(length: usize, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len}, {eta} left") {
        bar.set_style(style);
    }
    bar.with_message(what)
}
