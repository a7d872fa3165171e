//! `notefs check`: compares a mount with its bucket, and says every step of the mending.
//!
//! Owns the words and the exit code. Does not own the comparison (`notefs_cache::check`).

use super::args::CheckArgs;
use super::progress::Bar;
use super::units::{show_count, show_things};
use super::{Outcome, mount_at, output};
use crate::control::client;
use crate::control::protocol::{Answer, Request};
use crate::failure::EXIT_FAILED;
use notefs_cache::check::CheckReport;

/// Runs the command.
pub(super) fn run(args: &CheckArgs) -> Outcome {
    let record = mount_at(&args.dir)?;
    let mut bar = Bar::new("Checking");
    let request = Request::Check { dry_run: args.dry_run };
    let answer = client::ask(&record, &request, &mut |left| bar.show(left));
    bar.end();
    let Answer::Checked(report) = answer? else {
        return Err(client::unexpected(&record));
    };
    let code = if report.left > 0 { EXIT_FAILED } else { 0 };
    if args.json {
        output::json(&report)?;
        return Ok(code);
    }
    for step in &report.steps {
        let path = output::printable(&step.path);
        let done = match (report.dry_run, step.mends) {
            (true, true) => format!("would be {}", step.done),
            _ => step.done.clone(),
        };
        output::line(format_args!("{path}: {}: {done}", step.found))?;
    }
    output::note(summary(&report));
    Ok(code)
}

fn summary(report: &CheckReport) -> String {
    let compared = format!(
        "Compared {} and {} of local copies",
        show_things(report.objects, "object"),
        show_things(report.contents, "content")
    );
    let found = match (report.step_count, report.dry_run) {
        (0, _) => "nothing differs".to_owned(),
        (count, true) => format!("{} to look after", show_things(count, "difference")),
        (count, false) => format!("{}, {} left", show_things(count, "difference"), show_count(report.left)),
    };
    format!("{compared}: {found}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts() {
        let report = CheckReport {
            objects: 3,
            contents: 1,
            ..CheckReport::default()
        };
        assert_eq!(
            summary(&report),
            "Compared 3 objects and 1 content of local copies: nothing differs"
        );
        let report = CheckReport {
            step_count: 2,
            left: 1,
            ..report
        };
        assert!(
            summary(&report).ends_with("2 differences, 1 left"),
            "{}",
            summary(&report)
        );
    }
}
