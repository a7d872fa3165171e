//! Signals that end a mount, heard by one thread.
//!
//! Owns blocking and waiting for SIGTERM, SIGINT and SIGHUP. The first asks for an orderly end, every further one for a
//! hasty one. Does not own what the end is (`mount.rs`).

use super::End;
use crate::failure::Failure;
use crate::supervise::block_signals;
use std::sync::mpsc::SyncSender;
use tokio::sync::watch;

/// The signals that end a mount.
const ENDING: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// Signals that are blocked in this thread and all that it starts.
pub(super) struct Signals {
    set: libc::sigset_t,
}

impl Signals {
    /// Blocks the signals. Must come before the first thread is started.
    pub(super) fn block() -> Result<Signals, Failure> {
        Ok(Signals {
            set: block_signals(ENDING)?,
        })
    }

    /// Starts the thread that waits for them, for as long as the process lives.
    pub(super) fn listen(self, ends: SyncSender<End>, hurry: watch::Sender<bool>) -> Result<(), Failure> {
        let listen = move || {
            let mut count = 0;
            loop {
                let mut signal: libc::c_int = 0;
                // SAFETY: both point to initialised values of this frame.
                if unsafe { libc::sigwait(&raw const self.set, &raw mut signal) } != 0 {
                    return;
                }
                count += 1;
                if count > 1 || ends.try_send(End::Signal(signal)).is_err() {
                    hurry.send_replace(true);
                }
            }
        };
        let thread = std::thread::Builder::new().name("notefs-signals".into()).spawn(listen);
        thread
            .map(drop)
            .map_err(|e| Failure::new(format!("Could not start the signal thread: {e}")))
    }
}
