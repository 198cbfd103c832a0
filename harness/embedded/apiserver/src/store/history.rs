//! The last events of one resource: what watches are replayed from and what old snapshots are rebuilt from.

use crate::Status;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;

/// One committed change. Creation has no `before`, removal no `after`.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) before: Option<Arc<Value>>,
    pub(crate) after: Option<Arc<Value>>,
    /// The last state with the revision of the removal: what a watch shows for a deleted object.
    pub(crate) removed: Option<Arc<Value>>,
}

/// Bytes of objects that the changes of one resource may hold; large objects are remembered for a shorter time.
const MAX_BYTES: usize = 16 << 20;

/// Changes in the order of their revisions, at most `capacity` of them.
#[derive(Debug)]
pub(crate) struct History {
    /// Each with the size of what it brought.
    changes: VecDeque<(Change, usize)>,
    bytes: usize,
    capacity: usize,
    /// Revision of the newest change that was dropped. Readers that have seen it can go on.
    compacted: u64,
}

impl History {
    pub(crate) fn new(capacity: usize, created_at: u64) -> Self {
        Self {
            changes: VecDeque::new(),
            bytes: 0,
            capacity: capacity.max(1),
            compacted: created_at,
        }
    }

    /// Remembers a change, whose objects take `bytes`.
    pub(crate) fn push(&mut self, change: Change, bytes: usize) {
        while (self.changes.len() >= self.capacity || self.bytes + bytes > MAX_BYTES)
            && let Some((dropped, size)) = self.changes.pop_front()
        {
            self.bytes -= size;
            self.compacted = dropped.revision;
        }
        self.bytes += bytes;
        self.changes.push_back((change, bytes));
    }

    /// The changes after a revision.
    ///
    /// # Errors
    /// 410 when some of them were dropped.
    pub(crate) fn since(&self, revision: u64) -> Result<impl DoubleEndedIterator<Item = &Change>, Status> {
        if revision < self.compacted {
            return Err(Status::expired(format!(
                "too old resource version: {revision} ({})",
                self.compacted
            )));
        }
        let start = self.changes.partition_point(|(c, _)| c.revision <= revision);
        Ok(self.changes.range(start..).map(|(change, _)| change))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: u64) -> Change {
        Change {
            revision,
            before: None,
            after: None,
            removed: None,
        }
    }

    #[test]
    fn old_revisions_expire() {
        let mut history = History::new(3, 0);
        for revision in [2, 4, 6, 8] {
            history.push(change(revision), 1);
        }
        assert_eq!(history.since(1).map(|_| ()).unwrap_err().code, 410);
        let seen: Vec<u64> = history.since(2).unwrap().map(|c| c.revision).collect();
        assert_eq!(seen, [4, 6, 8]);
        assert_eq!(history.since(5).unwrap().count(), 2);
        assert_eq!(history.since(100).unwrap().count(), 0);
    }

    #[test]
    fn large_changes_are_remembered_for_a_shorter_time() {
        let mut history = History::new(64, 0);
        for revision in 1..=20 {
            history.push(change(revision), 1 << 20);
        }
        assert_eq!(history.since(0).map(|_| ()).unwrap_err().code, 410);
        assert_eq!(history.since(4).unwrap().count(), 16);
        history.push(change(21), MAX_BYTES * 2);
        assert_eq!(
            history.since(20).unwrap().count(),
            1,
            "the newest change is always told"
        );
    }
}
