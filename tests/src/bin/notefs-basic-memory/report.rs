//! Steps with their outcomes and times, and the table of all places side by side.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::outcome::Left;

/// What one step came to.
struct Outcome {
    took: Duration,
    failure: Option<String>,
}

/// All steps in one place.
pub(crate) struct Report {
    place: String,
    start: Instant,
    took: Duration,
    steps: Vec<(String, Outcome)>,
}

/// All places, the plain folder first.
#[derive(Default)]
pub(crate) struct Table {
    reports: Vec<Report>,
    plain: Option<Left>,
}

impl Report {
    pub(crate) fn new(place: &str) -> Report {
        Report {
            place: place.to_owned(),
            start: Instant::now(),
            took: Duration::ZERO,
            steps: Vec::new(),
        }
    }

    /// Makes one step and keeps how it went.
    pub(crate) fn step(&mut self, name: &str, work: impl FnOnce() -> Result<()>) {
        let start = Instant::now();
        let result = work().map(|()| start.elapsed());
        self.keep(name, start, result);
    }

    /// Makes one step that tells itself which of its time counts.
    pub(crate) fn timed(&mut self, name: &str, work: impl FnOnce() -> Result<Duration>) {
        let start = Instant::now();
        let result = work();
        self.keep(name, start, result);
    }

    /// Makes what is only kept if it fails; tells whether it did not.
    pub(crate) fn holds(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> bool {
        let start = Instant::now();
        match work() {
            Ok(()) => true,
            Err(error) => {
                self.keep(name, start, Err(error));
                false
            }
        }
    }

    fn keep(&mut self, name: &str, start: Instant, result: Result<Duration>) {
        let outcome = Outcome {
            took: result.as_ref().map_or_else(|_| start.elapsed(), |took| *took),
            failure: result.err().map(|error| format!("{error:#}")),
        };
        let told = outcome
            .failure
            .as_ref()
            .map_or(String::new(), |why| format!("  FAILED: {why}"));
        eprintln!(
            "{:<14} {:<46} {:>8.2} s{told}",
            self.place,
            name,
            outcome.took.as_secs_f64()
        );
        self.steps.push((name.to_owned(), outcome));
    }

    fn passed(&self) -> usize {
        self.steps.iter().filter(|(_, step)| step.failure.is_none()).count()
    }

    fn outcome(&self, name: &str) -> Option<&Outcome> {
        self.steps
            .iter()
            .find(|(given, _)| given == name)
            .map(|(_, outcome)| outcome)
    }
}

impl Table {
    pub(crate) fn add(&mut self, mut report: Report) {
        report.took = report.start.elapsed();
        self.reports.push(report);
    }

    pub(crate) fn set_plain(&mut self, left: Left) {
        self.plain = Some(left);
    }

    pub(crate) fn plain(&self) -> Option<&Left> {
        self.plain.as_ref()
    }

    /// Whether a step failed anywhere but on rclone, whose failures are only shown.
    pub(crate) fn has_failures_in_question(&self) -> bool {
        let judged = self.reports.iter().filter(|report| report.place != "rclone mount");
        judged.into_iter().any(|report| report.passed() < report.steps.len())
    }

    /// Steps as rows, places as columns: seconds, or FAILED with the reason below.
    pub(crate) fn text(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in self.reports.iter().flat_map(|report| &report.steps) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        let row = |name: &str, cells: Vec<String>| {
            let cells: String = cells.iter().map(|cell| format!(" {cell:>14}")).collect();
            format!("{name:<46}{cells}")
        };
        let places = self.reports.iter().map(|report| report.place.clone());
        let mut lines = vec![row("seconds", places.collect())];
        for name in names {
            let cell = |report: &Report| match report.outcome(name) {
                Some(step) if step.failure.is_none() => format!("{:.2}", step.took.as_secs_f64()),
                Some(_) => "FAILED".to_owned(),
                None => "-".to_owned(),
            };
            lines.push(row(name, self.reports.iter().map(cell).collect()));
        }
        let whole = |report: &Report| format!("{:.0}", report.took.as_secs_f64());
        lines.push(row("all steps", self.reports.iter().map(whole).collect()));
        let counts = |report: &Report| format!("{}/{}", report.passed(), report.steps.len());
        lines.push(row("passed", self.reports.iter().map(counts).collect()));
        for report in &self.reports {
            for (name, step) in &report.steps {
                lines.extend(
                    step.failure
                        .iter()
                        .map(|why| format!("{}: {name}: {why}", report.place)),
                );
            }
        }
        lines.join("\n")
    }
}
