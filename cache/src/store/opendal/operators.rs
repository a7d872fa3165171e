//! The operators of a store, made anew when it refuses the credentials: a signer keeps what it has read for as long as it lives, and a key in a
//! profile file may have been replaced since.
//!
//! Owns when that is done. Does not own where credentials come from (the signer reads them), nor what a refusal looks like (`errors.rs`).

use super::{TRY_DEADLINE_SECONDS, UPLOAD_TRY_DEADLINE_SECONDS, build::layered, seconds};
use opendal::Operator;
use parking_lot::{Mutex, RwLock};
use std::time::{Duration, Instant};

/// A key that stays wrong is read again this often.
const RENEWAL_PAUSE_SECONDS: u64 = 2;

/// Makes an operator that has read nothing yet.
pub(super) type Make = Box<dyn Fn() -> opendal::Result<Operator> + Send + Sync>;

#[derive(Clone)]
struct Made {
    impatient: Operator,
    patient: Operator,
}

pub(super) struct Operators {
    made: RwLock<Made>,
    make: Make,
    renewed: Mutex<Option<Instant>>,
}

impl Operators {
    pub(super) fn new(make: Make) -> opendal::Result<Operators> {
        Ok(Operators {
            made: RwLock::new(Made::of(make()?)),
            make,
            renewed: Mutex::new(None),
        })
    }

    /// For small requests.
    pub(super) fn impatient(&self) -> Operator {
        self.made.read().impatient.clone()
    }

    /// For requests that carry a body.
    pub(super) fn patient(&self) -> Operator {
        self.made.read().patient.clone()
    }

    /// The store has refused the credentials: the next call reads them again.
    pub(super) fn renew(&self) {
        let mut renewed = self.renewed.lock();
        let pause = Duration::from_secs(RENEWAL_PAUSE_SECONDS);
        if renewed.is_some_and(|last| last.elapsed() < pause) {
            return;
        }
        *renewed = Some(Instant::now());
        match (self.make)() {
            Ok(operator) => *self.made.write() = Made::of(operator),
            Err(error) => tracing::warn!(%error, "The credentials could not be read again"),
        }
    }
}

impl Made {
    fn of(operator: Operator) -> Made {
        Made {
            patient: layered(operator.clone(), seconds(UPLOAD_TRY_DEADLINE_SECONDS)),
            impatient: layered(operator, seconds(TRY_DEADLINE_SECONDS)),
        }
    }
}
