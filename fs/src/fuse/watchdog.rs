//! Notices that a mount no longer answers: a program that asks it would wait in the kernel for ever, where not even `kill -9` reaches it.
//!
//! Three signs, none of which touches the mount: an event loop has died (a panic outside every handler), a handler has not come
//! back, or requests are there to be read and nobody reads them.
//!
//! Owns: the signs. Does not own what is done then (`mount.rs`: the connection is aborted, which answers everybody, and mounted anew).

use std::cell::Cell;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Once, Weak};
use std::time::{Duration, Instant};

/// Between two looks.
const LOOK_SECONDS: u64 = 1;

/// How long a handler may take. What waits for the bucket waits outside of it, so this is the local disk's time.
const HANDLER_SECONDS_MAX: u64 = 150;

/// A handler that takes longer than this is not well.
const SLOW_SECONDS: u64 = 10;

/// Looks in a row at requests that nobody reads.
const UNREAD_LOOKS_MAX: u32 = 30;

/// Event loops whose handlers are watched.
const LOOPS_MAX: usize = 16;

thread_local! {
    /// The event loop's place in `started_ms`, and whether it is inside a handler.
    static PLACE: Cell<Option<usize>> = const { Cell::new(None) };
    static IN_HANDLER: Cell<bool> = const { Cell::new(false) };
    static PULSE: Cell<Option<Weak<Pulse>>> = const { Cell::new(None) };
}

/// What the event loops of one mount show of their life.
#[derive(Debug)]
pub(super) struct Pulse {
    born: Instant,
    begun: AtomicU64,
    loops: AtomicUsize,
    dead: AtomicUsize,
    /// When each loop's handler began, in milliseconds since `born` and at least 1; 0 between requests.
    started_ms: [AtomicU64; LOOPS_MAX],
}

/// One look at the signs.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    dead: usize,
    begun: u64,
    oldest_ms: Option<u64>,
    readable: bool,
}

/// The looks before.
#[derive(Debug, Default)]
struct Watch {
    begun: u64,
    unread: u32,
}

impl Pulse {
    pub(super) fn new() -> Arc<Pulse> {
        note_panics();
        Arc::new(Pulse {
            born: Instant::now(),
            begun: AtomicU64::new(0),
            loops: AtomicUsize::new(0),
            dead: AtomicUsize::new(0),
            started_ms: std::array::from_fn(|_| AtomicU64::new(0)),
        })
    }

    fn now_ms(&self) -> u64 {
        self.born.elapsed().as_millis() as u64 + 1
    }

    /// Runs a handler, watched.
    pub(super) fn around<T>(self: &Arc<Self>, handler: impl FnOnce() -> T) -> T {
        self.begin();
        let answered = handler();
        self.end();
        answered
    }

    fn begin(self: &Arc<Self>) {
        let place = PLACE.get().unwrap_or_else(|| {
            let place = self.loops.fetch_add(1, Ordering::Relaxed);
            PLACE.set(Some(place));
            PULSE.set(Some(Arc::downgrade(self)));
            place
        });
        IN_HANDLER.set(true);
        self.begun.fetch_add(1, Ordering::Relaxed);
        if let Some(started) = self.started_ms.get(place) {
            started.store(self.now_ms(), Ordering::Relaxed);
        }
    }

    fn end(&self) {
        IN_HANDLER.set(false);
        if let Some(started) = PLACE.get().and_then(|place| self.started_ms.get(place)) {
            started.store(0, Ordering::Relaxed);
        }
    }

    fn look(&self, channel: &File) -> Look {
        let now_ms = self.now_ms();
        let started = self.started_ms.iter().map(|started| started.load(Ordering::Relaxed));
        Look {
            dead: self.dead.load(Ordering::Relaxed),
            begun: self.begun.load(Ordering::Relaxed),
            oldest_ms: started
                .filter(|started| *started > 0)
                .map(|at| now_ms.saturating_sub(at))
                .max(),
            readable: is_readable(channel),
        }
    }

    /// Whether requests come and go, as far as a single look tells.
    pub(super) fn is_well(&self, channel: &File) -> bool {
        let look = self.look(channel);
        look.dead == 0 && look.oldest_ms.is_none_or(|ms| ms < SLOW_SECONDS * 1000)
    }

    /// Looks regularly, and calls `stuck` once, with the reason, when the mount no longer answers. Ends with the connection.
    pub(super) fn watch(self: Arc<Self>, channel: File, stuck: impl FnOnce(&'static str) + Send + 'static) {
        let spawned = std::thread::Builder::new().name("notefs-watch".into()).spawn(move || {
            let mut watch = Watch::default();
            while super::is_connected(&channel) {
                if let Some(reason) = watch.judge(self.look(&channel)) {
                    return stuck(reason);
                }
                std::thread::sleep(Duration::from_secs(LOOK_SECONDS));
            }
        });
        if let Err(error) = spawned {
            tracing::error!("Could not start the watchdog: {error}");
        }
    }
}

impl Watch {
    fn judge(&mut self, look: Look) -> Option<&'static str> {
        let unread = look.readable && look.oldest_ms.is_none() && look.begun == self.begun;
        self.unread = if unread { self.unread + 1 } else { 0 };
        self.begun = look.begun;
        if look.dead > 0 {
            Some("an event loop has died")
        } else if look.oldest_ms.is_some_and(|ms| ms > HANDLER_SECONDS_MAX * 1000) {
            Some("a request does not come back")
        } else if self.unread > UNREAD_LOOKS_MAX {
            Some("requests are not read")
        } else {
            None
        }
    }
}

/// A panic of an event loop outside of a handler ends the loop, and its request is never answered.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let pulse = PULSE.take().and_then(|pulse| pulse.upgrade());
            if let Some(pulse) = pulse {
                if IN_HANDLER.get() {
                    PULSE.set(Some(Arc::downgrade(&pulse)));
                } else {
                    pulse.dead.fetch_add(1, Ordering::Relaxed);
                }
            }
            before(info);
        }));
    });
}

fn is_readable(channel: &File) -> bool {
    let mut poll = libc::pollfd {
        fd: channel.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: `poll` is one valid pollfd, and the descriptor is open as long as `channel`.
    let answered = unsafe { libc::poll(&raw mut poll, 1, 0) };
    answered > 0 && poll.revents & libc::POLLIN != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_that_answers_is_left_alone() {
        let mut watch = Watch::default();
        for begun in 0..1000 {
            let busy = Look {
                begun,
                readable: true,
                oldest_ms: Some(HANDLER_SECONDS_MAX * 1000),
                ..Look::default()
            };
            assert_eq!(watch.judge(busy), None);
            assert_eq!(
                watch.judge(Look {
                    begun,
                    ..Look::default()
                }),
                None
            );
        }
    }

    #[test]
    fn each_sign_is_seen() {
        let mut watch = Watch::default();
        assert!(
            watch
                .judge(Look {
                    dead: 1,
                    ..Look::default()
                })
                .is_some()
        );
        let late = Some(HANDLER_SECONDS_MAX * 1000 + 1);
        assert!(
            watch
                .judge(Look {
                    oldest_ms: late,
                    ..Look::default()
                })
                .is_some()
        );
        let unread = Look {
            readable: true,
            ..Look::default()
        };
        let seen = (0..=UNREAD_LOOKS_MAX).filter(|_| watch.judge(unread).is_some()).count();
        assert_eq!(seen, 1, "after so many looks, not before");
    }
}
