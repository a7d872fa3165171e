//! Whose turn it is to read the kernel's next request.
//!
//! A program that works on small files sends one request after the other, and each costs two wake-ups of a sleeping thread, which is more
//! than all the rest. So only one event loop is on duty while requests are quick, and after an answer it looks for the next request
//! a moment before it sleeps. The others rest, and are called before a request that may take long.
//!
//! Looking ahead pays only where programs answer at once: after a miss it is left out a few times, twice as often after each further
//! miss. With one processor it is never done: the program could not run meanwhile.
//!
//! Owns: which event loop reads. Does not own: the loops (fuser), the requests (`handlers`).

use parking_lot::{Condvar, Mutex};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long the next request is looked for before the thread sleeps.
const LOOK_AHEAD_MICROSECONDS_MAX: u64 = 40;

/// Requests for no more bytes than this are answered before another event loop would be awake.
const QUICK_LENGTH_MAX_BYTES: u64 = 32 << 10;

/// After misses, looking ahead is left out this often at most.
const LEFT_OUT_MAX: u32 = 64;

/// How often a resting thread looks whether the mount is gone.
const REST_SECONDS_MAX: u64 = 1;

#[derive(Debug, Default)]
struct State {
    /// Event loops that read, or serve a request.
    on_duty: usize,
    resting: usize,
    /// Resting ones that shall read again.
    called: usize,
    look_ahead: LookAhead,
    ended: bool,
}

/// When to look ahead: a decision from how it went lately.
#[derive(Debug, Default)]
struct LookAhead {
    /// How often it is left out after the next miss.
    penalty: u32,
    left_out: u32,
}

impl LookAhead {
    fn is_due(&mut self) -> bool {
        let due = self.left_out == 0;
        self.left_out = self.left_out.saturating_sub(1);
        due
    }

    fn note(&mut self, hit: bool) {
        self.penalty = if hit {
            0
        } else {
            (self.penalty * 2).clamp(1, LEFT_OUT_MAX)
        };
        self.left_out = self.penalty;
    }
}

/// The turns of one mount's event loops.
#[derive(Debug)]
pub(super) struct Turns {
    state: Mutex<State>,
    called: Condvar,
    channel: OnceLock<File>,
    looks_ahead: bool,
}

impl Turns {
    /// For so many event loops, all of them about to read.
    pub(super) fn new(threads: usize) -> Turns {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Turns {
            state: Mutex::new(State {
                on_duty: threads,
                ..State::default()
            }),
            called: Condvar::new(),
            channel: OnceLock::new(),
            looks_ahead: processors > 1,
        }
    }

    /// Tells where requests come from; until then nobody looks ahead or rests.
    pub(super) fn set_channel(&self, channel: File) {
        // A second one would be the same device.
        drop(self.channel.set(channel));
    }

    /// To be called by an event loop before a request that may take long.
    pub(super) fn call_another(&self) {
        let mut state = self.state.lock();
        if state.on_duty == 1 && state.resting > state.called {
            state.called += 1;
            drop(state);
            self.called.notify_one();
        }
    }

    /// The same before a request for so many bytes, if they are many.
    pub(super) fn call_another_for(&self, length_bytes: u64) {
        if length_bytes > QUICK_LENGTH_MAX_BYTES {
            self.call_another();
        }
    }

    /// To be called by an event loop after each request; returns when it is to read the next.
    pub(super) fn finish(&self) {
        let Some(channel) = self.channel.get() else { return };
        let mut state = self.state.lock();
        if state.on_duty > 1 && !state.ended {
            state.on_duty -= 1;
            state.resting += 1;
            self.rest(&mut state, channel);
            state.resting -= 1;
            state.on_duty += 1;
            return;
        }
        let due = self.looks_ahead && state.look_ahead.is_due();
        drop(state);
        if due {
            let hit = look_ahead(channel);
            self.state.lock().look_ahead.note(hit);
        }
    }

    fn rest(&self, state: &mut parking_lot::MutexGuard<'_, State>, channel: &File) {
        loop {
            let late = self
                .called
                .wait_for(state, Duration::from_secs(REST_SECONDS_MAX))
                .timed_out();
            if state.called > 0 {
                state.called -= 1;
                return;
            }
            if state.ended || (late && !super::is_connected(channel)) {
                return;
            }
        }
    }

    /// The mount is gone: nobody shall rest any longer.
    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.called.notify_all();
    }
}

/// Looks for a request until there is one or the time is over; answers whether there is one.
fn look_ahead(channel: &File) -> bool {
    let until = Instant::now() + Duration::from_micros(LOOK_AHEAD_MICROSECONDS_MAX);
    let mut poll = libc::pollfd {
        fd: channel.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    loop {
        // SAFETY: `poll` is one valid pollfd, and the descriptor is open as long as `channel`.
        let answered = unsafe { libc::poll(&raw mut poll, 1, 0) };
        if answered != 0 {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn looking_ahead_is_left_out_after_misses_and_resumed_after_a_hit() {
        let mut look_ahead = LookAhead::default();
        let mut due = 0;
        for _ in 0..1_000 {
            if look_ahead.is_due() {
                due += 1;
                look_ahead.note(false);
            }
        }
        assert!((10..40).contains(&due), "{due} looks in vain");
        while !look_ahead.is_due() {}
        look_ahead.note(true);
        assert!(look_ahead.is_due());
    }

    #[test]
    fn one_of_several_stays_on_duty_and_calls_another() {
        let (channel, _writer) = std::io::pipe().unwrap();
        let turns = Arc::new(Turns::new(2));
        turns.set_channel(File::from(std::os::fd::OwnedFd::from(channel)));
        let resting = {
            let turns = Arc::clone(&turns);
            std::thread::spawn(move || turns.finish())
        };
        while turns.state.lock().resting == 0 {
            std::thread::yield_now();
        }
        turns.finish();
        assert!(!resting.is_finished(), "it must rest while the other is on duty");
        turns.call_another();
        resting.join().unwrap();
        assert_eq!(turns.state.lock().on_duty, 2);
    }
}
