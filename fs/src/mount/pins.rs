//! `notefs pin` and `notefs status --wait pinned` in the daemon.
//!
//! Owns the commands' way to the replica. Does not own what is pinned (`notefs_cache::pin`).

use super::cache_failure;
use super::serve::{Desk, POLL_MS};
use crate::control::protocol::{Answer, PinAmount, PinList, PinRow, Pinned, Progress};
use crate::control::server::Asker;
use crate::failure::Failure;
use notefs_cache::pin;
use std::time::{Duration, Instant};

impl Desk {
    pub(super) fn set_pin(&self, path: &[u8], remove: bool) -> Result<Answer, Failure> {
        if !remove {
            self.with_needs(path, |replica| replica.pin(path))?;
        } else if !self.with_needs(path, |replica| replica.unpin(path))? {
            let path = String::from_utf8_lossy(path);
            return Err(Failure::new(format!("`{path}` has no pin of its own"))
                .hint("`notefs pin --list` tells what has one; what --pin keeps is decided when mounting"));
        }
        self.pins()
    }

    pub(super) fn pins(&self) -> Result<Answer, Failure> {
        let reports = self.replica.pin_reports().map_err(cache_failure)?;
        let rows = reports.into_iter().map(|report| PinRow {
            path: String::from_utf8_lossy(&report.path).into_owned(),
            folder: report.is_dir,
            amount: amount(report.amount),
        });
        Ok(Answer::Pins(PinList {
            pinned: pinned(&self.replica.pin_status()),
            pins: rows.collect(),
        }))
    }

    pub(super) fn wait_pinned(&self, until: Instant, asker: &Asker) -> Answer {
        loop {
            let status = self.replica.pin_status();
            let left = Progress {
                left: status.amount.missing_files + status.unlisted,
                left_bytes: status.amount.missing_bytes,
            };
            if status.complete || Instant::now() >= until || asker.is_gone() {
                return Answer::Waited {
                    reached: status.complete && status.unfit_files == 0,
                    left,
                    names: Vec::new(),
                    held: 0,
                };
            }
            asker.progress(left);
            std::thread::sleep(Duration::from_millis(POLL_MS));
        }
    }
}

/// The state of all that is pinned, for `notefs status`.
pub(super) fn pinned(status: &pin::PinStatus) -> Pinned {
    Pinned {
        policy: status.policy.as_str().to_owned(),
        named: status.named,
        amount: amount(status.amount),
        unfit_files: status.unfit_files,
        unfit_bytes: status.unfit_bytes,
        unlisted: status.unlisted,
        complete: status.complete,
    }
}

fn amount(amount: pin::PinAmount) -> PinAmount {
    PinAmount {
        files: amount.files,
        bytes: amount.bytes,
        missing_files: amount.missing_files,
        missing_bytes: amount.missing_bytes,
    }
}
