//! A progress bar on stderr, where somebody looks.
//!
//! Owns the drawing. Does not own the numbers: the daemon sends them.

use super::units::show_bytes;
use crate::control::protocol::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

/// A bar that begins with the first number it is shown and grows with what is added meanwhile.
pub(super) struct Bar {
    bar: Option<ProgressBar>,
    total: u64,
    title: &'static str,
}

impl Bar {
    /// Draws nothing unless stderr is a terminal.
    pub(super) fn new(title: &'static str) -> Bar {
        let bar = std::io::stderr()
            .is_terminal()
            .then(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()));
        Bar { bar, total: 0, title }
    }

    /// Shows how much is left.
    pub(super) fn show(&mut self, progress: Progress) {
        let Some(bar) = &self.bar else {
            return;
        };
        if self.total == 0 {
            if progress.left == 0 {
                return;
            }
            if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:40}] {pos} of {len} {msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(self.title);
        }
        self.total = self.total.max(progress.left);
        bar.set_length(self.total);
        bar.set_position(self.total - progress.left);
        match progress.left_bytes {
            0 => bar.set_message(""),
            bytes => bar.set_message(format!("({} left)", show_bytes(bytes))),
        }
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
