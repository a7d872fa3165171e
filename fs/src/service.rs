//! Talking to the service manager that started this process (`Type=notify` of systemd), if one did.
//!
//! Owns what is told when, and the watchdog's beat. Does not own the protocol (the crate sd-notify), nor health (`mount/observe.rs`).

use sd_notify::NotifyState;
use std::time::Duration;

/// The end may take this much longer than the store is given.
const END_GRACE_SECONDS: u64 = 60;

/// Programs are served. From now on the watchdog hears of it regularly, for as long as `is_well`.
pub(crate) fn ready(what: impl std::fmt::Display, is_well: impl Fn() -> bool + Send + 'static) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("Serving {what}"))]);
    let Some(patience) = sd_notify::watchdog_enabled() else {
        return;
    };
    let beat = move || {
        loop {
            if is_well() {
                tell(&[NotifyState::Watchdog]);
            }
            std::thread::sleep(patience / 3);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("notefs-beat".into()).spawn(beat) {
        tracing::error!("Could not start the thread that tells the watchdog: {error}");
    }
}

/// The end has begun; the store may take this long.
pub(crate) fn stopping(timeout: Duration) {
    let micros = timeout
        .saturating_add(Duration::from_secs(END_GRACE_SECONDS))
        .as_micros();
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("Storing what is left"),
        NotifyState::ExtendTimeoutUsec(u32::try_from(micros).unwrap_or(u32::MAX)),
    ]);
}

/// One line for people.
pub(crate) fn status(words: &str) {
    tell(&[NotifyState::Status(words)]);
}

fn tell(states: &[NotifyState<'_>]) {
    // Without a service manager, nobody is told and nothing fails.
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("The service manager could not be told: {error}");
    }
}
