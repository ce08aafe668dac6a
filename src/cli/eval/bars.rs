//! How far an evaluation has come, on a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::eval::{Phase, Progress};

/// Repaints a second: more is flicker, and time taken from the work.
const REPAINTS: u8 = 10;

/// One bar a phase of one file. Where stderr is no terminal nothing is drawn.
pub(super) struct Bars {
    file: String,
    now: Option<(Phase, ProgressBar)>,
}

impl Bars {
    pub(super) fn of(file: &str) -> Self {
        Self { file: file.to_owned(), now: None }
    }

    pub(super) fn show(&mut self, at: Progress) {
        let same = |now: &(Phase, ProgressBar)| {
            now.0 == at.stage && now.1.length() == Some(at.total as u64)
        };
        let bar = match self.now.take_if(|now| same(now)) {
            Some((_, bar)) => bar,
            None => self.bar(at),
        };
        bar.set_position(at.done as u64);
        if at.done >= at.total {
            bar.finish();
        } else {
            self.now = Some((at.stage, bar));
        }
    }

    fn bar(&self, at: Progress) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(
            Some(at.total as u64),
            ProgressDrawTarget::stderr_with_hz(REPAINTS),
        );
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {elapsed} (+{eta})");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_message(format!("{} {:<7}", self.file, at.stage.name()));
        bar
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_lasts_as_long_as_its_phase() {
        let mut bars = Bars::of("x");
        let at = |stage, done, total| Progress { stage, done, total };
        bars.show(at(Phase::Embed, 1, 3));
        assert!(bars.now.as_ref().is_some_and(|now| now.1.position() == 1));
        bars.show(at(Phase::Embed, 3, 3));
        assert!(bars.now.is_none());
        bars.show(at(Phase::Compare, 1, 9));
        bars.show(at(Phase::Replay, 2, 9));
        assert!(bars.now.is_some_and(|now| now.0 == Phase::Replay && now.1.position() == 2));
    }
}
