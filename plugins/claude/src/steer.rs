//! Which messages of the person are still to be answered: the run's own, and those that came while it ran.
//!
//! Each has a UUID. The program tells by it when a message was queued, started, completed or cancelled
//! (`command_lifecycle`), and a result names those that it answers. Versions that tell neither answer all with each result.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use falconer_backend::Timing;

use crate::incoming::Lifecycle;

/// Messages on their way.
#[derive(Debug)]
pub struct Inbox {
    /// Of the run: no two messages of a session have one UUID.
    run: String,
    count: u64,
    waiting: VecDeque<Waiting>,
    /// The program has told of a message by its UUID.
    tells: bool,
}

#[derive(Debug)]
struct Waiting {
    uuid: String,
    /// Of the steering, for people; none: the run's own message.
    id: Option<String>,
    /// It is to be looked at before the turn in hand is over.
    cuts: bool,
    started: bool,
}

impl Inbox {
    /// Empty.
    pub fn new(run: &str) -> Self {
        Self { run: run.to_owned(), count: 0, waiting: VecDeque::new(), tells: false }
    }

    /// Notes a message that is sent now, and names it.
    pub fn send(&mut self, id: Option<String>, timing: Option<Timing>) -> String {
        self.count += 1;
        let uuid = uuid(&self.run, self.count);
        self.waiting.push_back(Waiting { uuid: uuid.clone(), id, cuts: timing == Some(Timing::Now), started: false });
        uuid
    }

    /// What the program tells of a message. The answer: the id of one that was given up before it was looked at.
    pub fn lifecycle(&mut self, uuid: &str, state: Lifecycle) -> Option<String> {
        let at = self.waiting.iter().position(|waiting| waiting.uuid == uuid)?;
        self.tells = true;
        match state {
            Lifecycle::Queued => None,
            Lifecycle::Started => {
                self.waiting[at].started = true;
                None
            }
            Lifecycle::Completed => self.waiting.remove(at).and(None),
            Lifecycle::Cancelled => self.waiting.remove(at).filter(|waiting| !waiting.started)?.id,
        }
    }

    /// A turn ended that answers these.
    pub fn answered(&mut self, uuids: Option<&[String]>) {
        match uuids {
            Some(uuids) if !uuids.is_empty() => {
                self.tells = true;
                self.waiting.retain(|waiting| !uuids.contains(&waiting.uuid));
            }
            _ if !self.tells => self.waiting.clear(),
            _ => {}
        }
    }

    /// Whether this message was sent here.
    pub fn holds(&self, uuid: &str) -> bool {
        self.waiting.iter().any(|waiting| waiting.uuid == uuid)
    }

    /// Whether one that cuts the turn short is known to be waiting still.
    pub fn cannot_wait(&self) -> bool {
        self.tells && self.waiting.iter().any(|waiting| waiting.cuts && !waiting.started)
    }

    /// Whether every message is answered, or given up.
    pub fn is_settled(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A message of a recorded stream.
    #[cfg(test)]
    pub fn sent(&mut self, uuid: &str) {
        self.waiting.push_back(Waiting { uuid: uuid.to_owned(), id: None, cuts: false, started: false });
    }

    /// How many are on their way.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Steerings that the program never looked at; they are given up.
    pub fn give_up(&mut self) -> Vec<String> {
        self.waiting.drain(..).filter(|waiting| !waiting.started).filter_map(|waiting| waiting.id).collect()
    }
}

/// A UUID (version 4 in form) that this run, and no other, gives its message of this number.
fn uuid(run: &str, number: u64) -> String {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, run, number).hash(&mut hasher);
        hasher.finish()
    };
    let (high, low) = (half(0), half(1));
    let (high, low) = ((high & !0xf000) | 0x4000, (low & !(0b11 << 62)) | (0b10 << 62));
    format!("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", high >> 32, (high >> 16) & 0xffff, high & 0xffff, low >> 48, low & 0xffff_ffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_answered_or_given_up() {
        let mut inbox = Inbox::new("run_x");
        let (first, second, third) = (
            inbox.send(None, None),
            inbox.send(Some("m2".to_owned()), Some(Timing::Now)),
            inbox.send(Some("m3".to_owned()), Some(Timing::AfterStep)),
        );
        assert!(first.len() == 36 && first != second && inbox.holds(&second));
        assert_eq!(inbox.lifecycle(&first, Lifecycle::Started), None);
        assert_eq!(inbox.lifecycle(&first, Lifecycle::Cancelled), None, "one that was looked at was superseded");
        inbox.answered(Some(&[first, second]));
        assert!(!inbox.is_settled());
        assert_eq!(inbox.lifecycle(&third, Lifecycle::Queued), None);
        assert_eq!(inbox.lifecycle(&third, Lifecycle::Cancelled).as_deref(), Some("m3"));
        assert!(inbox.is_settled());
        inbox.send(Some("m4".to_owned()), Some(Timing::Now));
        inbox.answered(None);
        assert_eq!(inbox.give_up(), ["m4"]);
    }

    #[test]
    fn a_program_that_tells_nothing_answers_all() {
        let mut inbox = Inbox::new("run_x");
        inbox.send(None, None);
        inbox.send(Some("m2".to_owned()), Some(Timing::Now));
        inbox.answered(None);
        assert!(inbox.is_settled());
    }
}
