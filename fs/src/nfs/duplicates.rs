//! Replies to calls that must not be run twice, kept for a while: a client that lost its connection sends what it saw no reply to
//! again, and a second REMOVE or RENAME would fail where the first one went through.
//!
//! A call is known by its peer's address, its transaction number and a checksum of what it says; not by the port, since a
//! client may come back from another one. While the first is still under way, the second waits for its reply.
//!
//! Nothing of this outlives the daemon.

use super::rpc::Reply;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

/// Replies that are kept after they were sent. A client has far fewer calls under way.
const KEPT_MAX: usize = 4096;

/// Bytes of a call that go into its checksum, beside its length: the arguments, and the beginning of a WRITE's content.
const CHECKED_BYTES: usize = 1024;

/// What makes two calls one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    peer: IpAddr,
    xid: u32,
    checksum: u64,
}

enum State {
    /// Under way; these want the same reply.
    Running(Vec<Reply>),
    /// The record that answered it.
    Answered(Bytes),
}

/// What to do with a call.
pub(super) enum Found {
    /// Run it.
    New(Reply),
    /// It has been answered as before, or will be.
    Known,
}

#[derive(Default)]
struct Calls {
    states: HashMap<Key, State>,
    /// Answered calls, the oldest first.
    answered: VecDeque<Key>,
}

/// The calls of all connections.
#[derive(Default)]
pub(super) struct Duplicates {
    hasher: RandomState,
    calls: Mutex<Calls>,
}

impl Duplicates {
    /// The key of a call.
    pub(super) fn key(&self, peer: IpAddr, xid: u32, record: &[u8]) -> Key {
        let beginning = &record[..record.len().min(CHECKED_BYTES)];
        Key {
            peer,
            xid,
            checksum: self.hasher.hash_one((beginning, record.len())),
        }
    }

    /// Takes a call in: the first of its kind is to be run.
    pub(super) fn begin(&self, key: Key, reply: Reply) -> Found {
        let mut calls = self.calls.lock();
        match calls.states.get_mut(&key) {
            None => {
                calls.states.insert(key, State::Running(Vec::new()));
                Found::New(reply)
            }
            Some(State::Running(waiting)) => {
                waiting.push(reply);
                Found::Known
            }
            Some(State::Answered(record)) => {
                let record = record.clone();
                drop(calls);
                reply.send(record);
                Found::Known
            }
        }
    }

    /// Keeps the reply of a call that was run, and gives it to all who wait for it.
    pub(super) fn finish(&self, key: Key, record: &Bytes) {
        let mut calls = self.calls.lock();
        let before = calls.states.insert(key, State::Answered(record.clone()));
        calls.answered.push_back(key);
        if calls.answered.len() > KEPT_MAX
            && let Some(oldest) = calls.answered.pop_front()
        {
            calls.states.remove(&oldest);
        }
        drop(calls);
        if let Some(State::Running(waiting)) = before {
            for reply in waiting {
                reply.send(record.clone());
            }
        }
    }

    /// A call that came to nothing may be run again. Who waits for it is told by the end of its [`Reply`].
    pub(super) fn abandon(&self, key: Key) {
        let before = self.calls.lock().states.remove(&key);
        drop(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn reply(xid: u32) -> (Reply, UnboundedReceiver<super::super::records::Outgoing>) {
        let (sender, receiver) = unbounded_channel();
        (Reply::new(xid, sender, None), receiver)
    }

    #[test]
    fn what_was_answered_is_answered_again_and_not_run() {
        let calls = Duplicates::default();
        let key = calls.key(PEER, 7, b"remove a");
        let (first, mut first_sent) = reply(7);
        assert!(matches!(calls.begin(key, first), Found::New(_)));
        first_sent.try_recv().unwrap(); // the dropped reply says that the call failed
        let (second, mut second_sent) = reply(7);
        assert!(matches!(calls.begin(key, second), Found::Known));
        assert!(second_sent.try_recv().is_err());
        calls.finish(key, &Bytes::from("done"));
        assert_eq!(second_sent.try_recv().unwrap().0, "done");
        let (third, mut third_sent) = reply(7);
        assert!(matches!(calls.begin(key, third), Found::Known));
        assert_eq!(third_sent.try_recv().unwrap().0, "done");
    }

    #[test]
    fn another_call_with_the_same_number_is_another_call() {
        let calls = Duplicates::default();
        let key = calls.key(PEER, 7, b"remove a");
        assert_ne!(key, calls.key(PEER, 7, b"remove b"));
        assert_ne!(key, calls.key(PEER, 8, b"remove a"));
        assert_ne!(key, calls.key(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), 7, b"remove a"));
        assert_eq!(key, calls.key(PEER, 7, b"remove a"));
    }

    #[test]
    fn old_replies_make_room_and_failed_calls_are_forgotten() {
        let calls = Duplicates::default();
        for xid in 0..=KEPT_MAX as u32 {
            let key = calls.key(PEER, xid, b"x");
            drop(calls.begin(key, reply(xid).0));
            calls.finish(key, &Bytes::from("done"));
        }
        assert_eq!(calls.calls.lock().states.len(), KEPT_MAX);
        let oldest = calls.key(PEER, 0, b"x");
        assert!(matches!(calls.begin(oldest, reply(0).0), Found::New(_)));
        calls.abandon(oldest);
        assert!(matches!(calls.begin(oldest, reply(0).0), Found::New(_)));
    }
}
