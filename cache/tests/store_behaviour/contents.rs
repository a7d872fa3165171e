//! Names and sizes that stores find hard.

use super::{body, done, fixtures, key, keys, put, user};
use async_trait::async_trait;
use bytes::Bytes;
use notefs_cache::store::{Condition, StoreResult, UploadSource, Written, escape_name};
use std::ops::Range;

const AWKWARD_NAMES: &[&[u8]] = &[
    b"plain.md",
    b" leading",
    b"trailing ",
    b"  ",
    b"a\nb",
    b"a\\b",
    b"tab\t",
    b"\x01\x7f",
    b"a+b",
    b"a&b",
    b"a?b=c",
    b"a#b",
    b"~a~",
    b"*",
    b"a:b",
    b"'\"`",
    b"<a>&amp;",
    b"100%",
    b"%41",
    b"a%2Fb",
    b"%0A",
    b"a%25b",
    b"%FF",
    b"\xff\xfe",
    b"caf\xe9",
    b"...",
    b"..a",
    b"-",
    b"=",
    b"a,b;c",
    b"$HOME",
    b"[x](y)",
    b"{a|b}^",
    b"@",
    b"!",
    b"\xc2\xa0x\xc2\xa0",
    b"\xe3\x80\x80",
    "\u{85}x".as_bytes(),
    "x\u{2028}y".as_bytes(),
    "\u{fffe}".as_bytes(),
    "\u{ffff}".as_bytes(),
    "\u{80}".as_bytes(),
    "e\u{301}".as_bytes(),
    "\u{e9}".as_bytes(),
    "日本語 ノート.md".as_bytes(),
    "a\u{200d}b".as_bytes(),
    "\u{feff}bom".as_bytes(),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_file_name_survives_as_an_escaped_key() {
    let long = ["n".repeat(255), "\u{1F600}".repeat(63)];
    let names: Vec<&[u8]> = AWKWARD_NAMES
        .iter()
        .copied()
        .chain(long.iter().map(|name| name.as_bytes()))
        .collect();
    for fixture in fixtures().await {
        let store = &*fixture.store;
        for (number, name) in names.iter().enumerate() {
            let text = format!("{number}");
            put(store, &format!("n/{}", escape_name(name)), &text).await;
            put(store, &format!("d/{}/f", escape_name(name)), &text).await;
        }
        let listed = keys(store, "n/", false).await;
        let folders = keys(store, "d/", false).await;
        for (number, name) in names.iter().enumerate() {
            let segment = escape_name(name);
            let expected = Some(format!("{number}"));
            assert_eq!(
                body(store, &format!("n/{segment}")).await,
                expected,
                "{segment:?} {}",
                store.name()
            );
            assert_eq!(
                body(store, &format!("d/{segment}/f")).await,
                expected,
                "{segment:?} {}",
                store.name()
            );
            assert!(
                listed.contains(&format!("n/{segment}")),
                "{segment:?} is not listed by {}: {listed:?}",
                store.name()
            );
            assert!(
                folders.contains(&format!("d/{segment}/")),
                "{segment:?} is not listed by {}",
                store.name()
            );
        }
        assert_eq!(listed.len(), names.len(), "{}: {listed:?}", store.name());
    }
}

/// Twenty MiB that can change on the way.
struct Source {
    size: u64,
    changes_at: Option<u64>,
}

#[async_trait]
impl UploadSource for Source {
    fn size(&self) -> u64 {
        self.size
    }

    async fn part(&self, range: Range<u64>) -> StoreResult<Option<Bytes>> {
        if self.changes_at.is_some_and(|limit| range.end > limit) {
            return Ok(None);
        }
        Ok(Some(range.map(|offset| (offset / 1000) as u8).collect()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_uploads_appear_whole_or_not_at_all() {
    for fixture in fixtures().await {
        let store = &*fixture.store;
        let whole = Source {
            size: (20 << 20) + 17,
            changes_at: None,
        };
        let etag = store
            .put_large(&key("big"), &whole, &user("big"), &Condition::Absent)
            .await
            .unwrap()
            .unwrap();
        let etag = done(etag);
        let info = store.head(&key("big")).await.unwrap().unwrap();
        assert_eq!(
            (info.size, &info.etag, info.user.unwrap().write_id()),
            (whole.size, &etag, Some("big")),
            "{}",
            store.name()
        );
        let middle = store
            .get(&key("big"), Some(8_388_000..8_389_000), Some(&etag))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(middle.bytes, whole.part(8_388_000..8_389_000).await.unwrap().unwrap());
        let again = store
            .put_large(&key("big"), &whole, &user("x"), &Condition::Absent)
            .await
            .unwrap();
        assert_eq!(again, Some(Written::ConditionFailed), "{}", store.name());
        let changing = Source {
            size: 20 << 20,
            changes_at: Some(9 << 20),
        };
        assert!(
            store
                .put_large(&key("never"), &changing, &user("x"), &Condition::None)
                .await
                .unwrap()
                .is_none()
        );
        assert!(store.head(&key("never")).await.unwrap().is_none());
        assert_eq!(keys(store, "", true).await, ["big"], "{}", store.name());
        let small = Source {
            size: 3,
            changes_at: None,
        };
        done(
            store
                .put_large(&key("small"), &small, &user("s"), &Condition::None)
                .await
                .unwrap()
                .unwrap(),
        );
        assert_eq!(store.head(&key("small")).await.unwrap().unwrap().size, 3);
    }
}
