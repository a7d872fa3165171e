//! Tests of what travels over the control socket.

use super::*;

#[test]
fn requests_survive_the_wire() {
    let requests = [
        Request::Status {},
        Request::FileStatus {
            path: b"a/\xff.md".to_vec(),
        },
        Request::Wait {
            step: WaitStep::Indexed,
            path: None,
            timeout_ms: 60_000,
        },
        Request::Search {
            query: "\"object storage\"\n".into(),
            limit: 20,
            offset: 40,
            below: Vec::new(),
        },
        Request::Know {
            question: Question::Recent {
                below: Vec::new(),
                limit: 5,
            },
        },
        Request::Events { below: b"a".to_vec() },
        Request::Unmount { timeout_ms: 1 },
    ];
    for request in requests {
        let line = serde_json::to_string(&request).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);
    }
}

#[test]
fn replies_survive_the_wire() {
    let replies = [
        Reply::Progress(Progress {
            left: 3,
            left_bytes: 4096,
        }),
        Reply::Event(Box::new(Event::new(
            crate::events::EventKind::Moved,
            b"b/\xff.md".to_vec(),
            Some(b"a".to_vec()),
            false,
        ))),
        Reply::Lost(3),
        Reply::Done(Answer::Unmounted(Left {
            count: 1,
            cache_dir: "/c".into(),
            ..Left::default()
        })),
        Reply::Failed(Failure::new("Could not").hint("Do")),
    ];
    for reply in replies {
        let line = serde_json::to_string(&reply).unwrap();
        assert_eq!(serde_json::from_str::<Reply>(&line).unwrap(), reply);
    }
}

#[test]
fn unknown_requests_are_refused() {
    assert!(serde_json::from_str::<Request>(r#"{"request":"format"}"#).is_err());
    assert!(serde_json::from_str::<Request>(r#"{"request":"tags","extra":1}"#).is_err());
    assert!(serde_json::from_str::<Request>("[]").is_err());
}
