//! How far a run is: a bar on a terminal, else one line per interval. The engine calls
//! [`Progress::update`] through a callback and knows nothing of terminals.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::logging::LogFormat;

/// Between two lines where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(10);
/// Before the first of them: long enough for a rate to mean something.
const FIRST: Duration = Duration::from_secs(2);
/// Steps of the bar.
const STEPS: u64 = 10_000;

/// What [`set_style`] chose, and the bar that messages must not write over.
static SCREEN: Mutex<Screen> = Mutex::new(Screen { style: Style::Lines, bar: None });

struct Screen {
    style: Style,
    bar: Option<ProgressBar>,
}

#[derive(Clone, Copy, PartialEq)]
enum Style {
    Bar,
    Lines,
    Silent,
}

fn screen() -> std::sync::MutexGuard<'static, Screen> {
    // A panic while drawing leaves nothing half-done that matters.
    SCREEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A bar for people at a terminal, lines for files and machines, nothing when asked to be quiet.
pub(super) fn set_style(quiet: bool, format: LogFormat) {
    screen().style = match (quiet, format) {
        (true, _) => Style::Silent,
        (false, LogFormat::Text) if std::io::stderr().is_terminal() => Style::Bar,
        _ => Style::Lines,
    };
}

/// Does something with the bar out of the way.
pub(super) fn suspend<T>(work: impl FnOnce() -> T) -> T {
    let bar = screen().bar.clone();
    match bar {
        Some(bar) => bar.suspend(work),
        None => work(),
    }
}

/// The progress of one pass.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    lines: bool,
    meter: Meter,
    next_line: Instant,
}

impl Progress {
    /// Starts the clock. `label` names the pass ("reading", "calibrating").
    pub fn new(label: &str) -> Self {
        let style = screen().style;
        let bar = (style == Style::Bar).then(|| draw_bar(label));
        screen().bar.clone_from(&bar);
        let now = Instant::now();
        let meter = Meter { start: now, first: None, last: (0, 0.0) };
        Self { bar, lines: style == Style::Lines, meter, next_line: now + FIRST }
    }

    /// Called after every batch: tokens done so far, those of earlier attempts included, and the
    /// share of the work that is done, 0 to 1.
    pub fn update(&mut self, tokens: u64, share: f64) {
        let now = Instant::now();
        self.meter.note(tokens, share);
        if let Some(bar) = &self.bar {
            bar.set_position(steps(share));
            bar.set_message(self.meter.describe(now));
        } else if self.lines && now >= self.next_line {
            tracing::info!(
                tokens,
                tokens_per_second = self.meter.rate(now).round(),
                percent = (share * 1000.0).round() / 10.0,
                seconds_left = self.meter.left(now).map(|left| left.as_secs()),
                "progress"
            );
            self.next_line = now + INTERVAL;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            screen().bar = None;
        }
    }
}

fn draw_bar(label: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(STEPS), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{prefix} [{bar:30}] {percent:>3}%  {msg}")
        .expect("the template is constant and right")
        .progress_chars("=> ");
    bar.set_style(style);
    bar.set_prefix(label.to_owned());
    bar
}

/// Of [`STEPS`]; NaN is 0.
fn steps(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * STEPS as f64) as u64
}

/// Rate and time left, counted from where this attempt began: a resumed run has not done in a
/// second what earlier attempts did.
#[derive(Debug)]
struct Meter {
    start: Instant,
    first: Option<(u64, f64)>,
    last: (u64, f64),
}

impl Meter {
    fn note(&mut self, tokens: u64, share: f64) {
        // The first report is the state on arrival only if it comes at once; a fresh run starts
        // from nothing.
        let fresh = self.start.elapsed() < Duration::from_millis(50);
        self.first.get_or_insert(if fresh { (tokens, share) } else { (0, 0.0) });
        self.last = (tokens, share);
    }

    fn rate(&self, now: Instant) -> f64 {
        let done = self.last.0.saturating_sub(self.first.map_or(0, |first| first.0));
        done as f64 / now.duration_since(self.start).as_secs_f64().max(1e-3)
    }

    fn left(&self, now: Instant) -> Option<Duration> {
        let done = self.last.1 - self.first.map_or(0.0, |first| first.1);
        let elapsed = now.duration_since(self.start).as_secs_f64();
        Duration::try_from_secs_f64(elapsed * (1.0 - self.last.1).max(0.0) / done).ok()
    }

    fn describe(&self, now: Instant) -> String {
        let left = match self.left(now).map(|left| left.as_secs()) {
            Some(s) => format!("{}:{:02} left", s / 60, s % 60),
            None => String::new(),
        };
        format!("{} tokens  {:.0} tokens/s  {left}", self.last.0, self.rate(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_counts_from_where_the_attempt_began() {
        let start = Instant::now();
        let meter = Meter { start, first: Some((500, 0.5)), last: (750, 0.75) };
        let now = start + Duration::from_secs(10);
        assert_eq!(meter.rate(now).round(), 25.0);
        assert_eq!(meter.left(now).map(|left| left.as_secs()), Some(10));
    }

    #[test]
    fn no_share_yet_means_no_time_left() {
        let start = Instant::now();
        let meter = Meter { start, first: None, last: (0, 0.0) };
        assert_eq!(meter.left(start + Duration::from_secs(1)), None);
        assert_eq!(steps(f64::NAN), 0);
        assert_eq!(steps(2.0), STEPS);
    }
}
