//! `notefs pin`: pins, takes pins back, and lists them with what is here of each.
//!
//! Owns how pins look. Does not own what is pinned (`notefs_cache::pin`).

use super::args::PinArgs;
use super::units::{show_bytes, show_count, show_things};
use super::{Outcome, find_mount, output};
use crate::control::client;
use crate::control::protocol::{Answer, PinAmount, Pinned, Request};
use serde_json::json;

/// Runs the command.
pub(super) fn run(args: &PinArgs) -> Outcome {
    let (record, path) = find_mount(args.path.as_deref())?;
    let listing = args.list || args.path.is_none();
    let request = match (listing, args.remove) {
        (true, _) => Request::Pins {},
        (false, remove) => Request::Pin {
            path: path.clone(),
            remove,
        },
    };
    let Answer::Pins(list) = client::ask(&record, &request, &mut |_| ())? else {
        return Err(client::unexpected(&record));
    };
    if args.json {
        output::json(&json!({ "mountpoint": record.mountpoint, "pinned": list.pinned, "pins": list.pins }))?;
        return Ok(0);
    }
    for pin in &list.pins {
        let shown = if pin.folder {
            format!("{}/", pin.path)
        } else {
            pin.path.clone()
        };
        if listing || pin.path.as_bytes() == path {
            output::line(format_args!("{}  {}", output::printable(&shown), progress(&pin.amount)))?;
        }
    }
    if listing {
        output::line(format_args!(
            "everything pinned (--pin {}): {}",
            list.pinned.policy,
            line(&list.pinned)
        ))?;
    }
    Ok(0)
}

/// All that is pinned, in one line.
pub(super) fn line(pinned: &Pinned) -> String {
    let mut line = progress(&pinned.amount);
    if pinned.unfit_files > 0 {
        line.push_str(&format!(
            "; {} ({}) do not fit: raise --cache-size",
            show_things(pinned.unfit_files, "file"),
            show_bytes(pinned.unfit_bytes)
        ));
    }
    if pinned.unlisted > 0 {
        line.push_str(&format!("; {} to look into", show_things(pinned.unlisted, "folder")));
    }
    line
}

fn progress(amount: &PinAmount) -> String {
    let all = format!("{}, {}", show_things(amount.files, "file"), show_bytes(amount.bytes));
    match amount.missing_files {
        0 => format!("{all}, all here"),
        missing => format!(
            "{all}, {} ({}) to fetch",
            show_count(missing),
            show_bytes(amount.missing_bytes)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_and_what_does_not_fit_is_told() {
        let mut pinned = Pinned {
            amount: PinAmount {
                files: 2,
                bytes: 2048,
                ..PinAmount::default()
            },
            ..Pinned::default()
        };
        assert_eq!(line(&pinned), "2 files, 2.0 KiB, all here");
        pinned.amount.missing_files = 1;
        pinned.amount.missing_bytes = 1024;
        (pinned.unfit_files, pinned.unfit_bytes, pinned.unlisted) = (1, 1024, 1);
        assert_eq!(
            line(&pinned),
            "2 files, 2.0 KiB, 1 (1.0 KiB) to fetch; 1 file (1.0 KiB) do not fit: raise --cache-size; 1 folder to look into"
        );
    }
}
