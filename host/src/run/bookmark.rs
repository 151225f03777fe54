//! Where the host was in a run's history when its backend gave a checkpoint: kept with it, in one piece, so that both go on from
//! the same place after a restart.
//!
//! What came to the disk after the checkpoint is read from the events, and counts: offsets are never told twice. A kept piece that
//! cannot be read is none, and its run cannot be taken up.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::EventType;
use super::open::ItemKind;
use super::record::Record;
use super::status::State;
use crate::ledger::{EventRow, Op};

/// Bytes of a backend's checkpoint (the contract's 64 KiB).
pub(super) const MAX_CHECKPOINT: usize = 64 * 1024;

/// How far the host was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bookmark {
    /// The last event of the checkpoint's step.
    pub(super) seq: u64,
    /// Bytes that count against the run's limit.
    pub(super) written: u64,
    /// Commands and tools that are open.
    pub(super) open: Vec<(ItemKind, String)>,
    /// Outputs that go on.
    pub(super) streams: Vec<Mark>,
}

/// How far one output of a command was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The command.
    pub(super) id: String,
    /// `stdout` or `stderr`.
    pub(super) stream: String,
    /// The offset of the next byte to be told.
    pub(super) next: u64,
    /// Bytes of a character that is not complete: the backend has given them, and they are not told yet.
    pub(super) half: Vec<u8>,
}

impl Bookmark {
    /// As it is kept, before the backend's own bytes: a length of four bytes, little-endian, and JSON.
    fn with(&self, checkpoint: &[u8]) -> Vec<u8> {
        let own = serde_json::to_vec(self).unwrap_or_default();
        let length = u32::try_from(own.len()).unwrap_or(0).to_le_bytes();
        [&length[..], &own, checkpoint].concat()
    }

    /// The bookmark and the backend's own bytes.
    pub(super) fn split(kept: &[u8]) -> Option<(Self, Vec<u8>)> {
        let (length, rest) = kept.split_first_chunk::<4>()?;
        let (own, checkpoint) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        Some((serde_json::from_slice(own).ok()?, checkpoint.to_vec()))
    }

    /// Takes in an event that came to the disk after the checkpoint.
    pub(super) fn pass(&mut self, event: &EventRow) {
        self.seq = event.seq;
        let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        let id = data["id"].as_str().unwrap_or_default();
        let Some(kind) = EventType::from_word(&event.kind) else { return };
        if kind != EventType::StatusChanged {
            let aside = data["artifacts"].as_array().into_iter().flatten().filter_map(|part| part["bytes"].as_u64()).sum::<u64>();
            self.written += event.data.len() as u64 + aside;
        }
        match kind {
            EventType::CommandStarted => self.open.push((ItemKind::Command, id.to_owned())),
            EventType::ToolStarted => self.open.push((ItemKind::Tool, id.to_owned())),
            EventType::CommandFinished => {
                self.close(ItemKind::Command, id);
                self.streams.retain(|mark| mark.id != id);
            }
            EventType::ToolFinished => self.close(ItemKind::Tool, id),
            EventType::CommandOutput => {
                let (stream, offset, bytes) = (data["stream"].as_str().unwrap_or_default(), &data["offset"], &data["bytes"]);
                let next = offset.as_u64().unwrap_or(0) + bytes.as_u64().unwrap_or(0);
                self.streams.retain(|mark| mark.id != id || mark.stream != stream);
                self.streams.push(Mark { id: id.to_owned(), stream: stream.to_owned(), next, half: Vec::new() });
            }
            _ => {}
        }
    }

    fn close(&mut self, kind: ItemKind, id: &str) {
        if let Some(at) = self.open.iter().rposition(|(open, item)| *open == kind && item == id) {
            self.open.remove(at);
        }
    }
}

impl Record {
    /// Keeps a checkpoint with the step in hand; the last one counts.
    pub(super) fn keep(&mut self, checkpoint: &[u8], streams: Vec<Mark>) {
        let bookmark = Bookmark { seq: self.update.last_seq, written: self.written, open: self.open.clone(), streams };
        self.kept = true;
        self.with(Op::PutCheckpoint { run: self.update.id, bytes: bookmark.with(checkpoint) });
    }

    /// Goes on where an earlier host was.
    pub(super) fn go_on(&mut self, state: State, bookmark: &Bookmark) {
        self.resume(state);
        self.written = bookmark.written;
        self.open.clone_from(&bookmark.open);
        self.kept = true;
    }

    /// Whether the run has a checkpoint: it goes on though the host ends.
    #[must_use]
    pub(super) fn is_kept(&self) -> bool {
        self.kept
    }

    /// The run is in another life from the step in hand on.
    pub(super) fn begin_life(&mut self, life: u32) {
        self.update.life = life;
    }

    /// Of what is told so far, no process lives any more: that is proven.
    pub(super) fn proven_so_far(&mut self) {
        self.outline.proven = self.update.last_seq;
        self.touched = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Millis;
    use crate::id::RunId;
    use serde_json::json;

    fn mark(next: u64, half: &[u8]) -> Mark {
        Mark { id: "c".into(), stream: "stdout".into(), next, half: half.to_vec() }
    }

    #[test]
    fn what_is_kept_reads_back_and_nothing_else_does() {
        let bookmark = Bookmark { seq: 7, written: 99, open: vec![(ItemKind::Command, "c".into())], streams: vec![mark(3, b"\xe2\x82")] };
        for checkpoint in [&b""[..], b"{\"n\":1}", &[0; MAX_CHECKPOINT]] {
            let kept = bookmark.with(checkpoint);
            assert_eq!(Bookmark::split(&kept), Some((bookmark.clone(), checkpoint.to_vec())));
        }
        for broken in [&b""[..], b"\x01\0\0", b"\xff\xff\xff\xff{}", b"\x02\0\0\0[]"] {
            assert_eq!(Bookmark::split(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn later_events_count_where_they_came_to_the_disk() {
        let mut bookmark = Bookmark { seq: 4, written: 10, open: vec![(ItemKind::Command, "c".into())], streams: vec![mark(3, b"\xe2")] };
        let mut seq = 4;
        let mut pass = |kind: EventType, data: Value, bookmark: &mut Bookmark| {
            seq += 1;
            bookmark.pass(&EventRow { run: RunId::random(), seq, ts: Millis(0), kind: kind.word().into(), data: data.to_string() });
        };
        pass(EventType::CommandOutput, json!({ "id": "c", "stream": "stdout", "offset": 3, "bytes": 5, "text": "…" }), &mut bookmark);
        assert_eq!(bookmark.streams, [mark(8, b"")], "what was told is told");
        pass(EventType::ToolStarted, json!({ "id": "t", "tool": "x", "input": {} }), &mut bookmark);
        assert_eq!(bookmark.open.len(), 2);
        pass(EventType::CommandFinished, json!({ "id": "c", "status": "succeeded" }), &mut bookmark);
        assert_eq!((bookmark.open.as_slice(), bookmark.streams.as_slice()), (&[(ItemKind::Tool, "t".to_owned())][..], &[][..]));
        assert_eq!(bookmark.seq, 7);
        let before = bookmark.written;
        pass(EventType::StatusChanged, json!({ "from": "running", "to": "cancelling" }), &mut bookmark);
        assert_eq!(bookmark.written, before, "what the host says by itself costs the run nothing");
        pass(EventType::Native, json!({ "kind": "x", "data": "", "artifacts": [{ "bytes": 5_000 }] }), &mut bookmark);
        assert!(bookmark.written > before + 5_000);
    }
}
