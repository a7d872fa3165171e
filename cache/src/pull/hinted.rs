//! Hints of others where the bucket may hold something new: each becomes a look, so that a wrong one costs a question and no more.

use super::Look;
use super::listing::Differences;
use super::pace::feed_interval_ms;
use super::places::{Placed, Planned, place};
use crate::error::Result;
use crate::replica::{FOREIGN, Replica, Way, follow_path};
use crate::state::Tables;
use std::sync::Arc;
use std::time::Duration;

/// What somebody says about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// Path below the mount.
    pub path: Vec<u8>,
    /// The version that its object has; `None`: there is none.
    pub etag: Option<String>,
    /// The writer; empty if that is not known.
    pub writer: String,
}

impl Replica {
    /// How long to leave those alone who tell of others' changes: as long as a feed.
    pub fn hint_pause(&self) -> Duration {
        Duration::from_millis(feed_interval_ms(self.unused_ms(), None))
    }

    /// Has the bucket asked about every hint that says more than is known here; what it answers has taken effect on return, but for what waits
    /// for a reader. Answers how many were worth a question.
    pub async fn take_hints(self: &Arc<Self>, hints: &[Hint]) -> Result<usize> {
        let _reading = self.read_listing();
        let began = self.view(|tables| Ok(tables.op()))?;
        let mut found = Differences {
            may_wait: true,
            ..Differences::default()
        };
        for hint in hints {
            let key = self.view(|tables| key_to_ask(tables, hint))?;
            let origin = if hint.writer.is_empty() { FOREIGN } else { &hint.writer };
            found.looks.extend(key.map(|key| Look::doubt(key, origin)));
        }
        let count = found.looks.len();
        if count > 0 {
            self.bring_about(found, began).await?;
        }
        Ok(count)
    }
}

/// The key to ask about, if what is known here is something else, and somebody has looked into its folder.
fn key_to_ask(tables: &mut Tables, hint: &Hint) -> Result<Option<String>> {
    let key = match follow_path(tables, &hint.path)? {
        Way::Found(Some(key), _) | Way::Missing(key) => key,
        Way::Found(None, _) | Way::Unlisted => return Ok(None),
    };
    let known = tables.remote(&key)?.map(|row| row.etag);
    if known == hint.etag {
        return Ok(None);
    }
    if known.is_some() {
        return Ok(Some(key));
    }
    let has_place = matches!(place(tables, &mut Planned::default(), &key)?, Placed::At { .. });
    Ok(has_place.then_some(key))
}
