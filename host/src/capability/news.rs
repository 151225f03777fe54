//! How sources say that there is news: one bell for a run, one armed flag for a source.
//!
//! A source is armed when it is made and whenever a call on it answers `not-yet` (or takes less than offered). News on
//! an armed source rings once and disarms. There is no task and no timer: a source is a waker in the serving runtime's
//! driver, and a source that is not armed rings nobody.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio::sync::Notify;

/// Rings when an armed source has news, and says whether the host is at work in the component's call. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct News(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    bell: Notify,
    at_work: AtomicBool,
}

/// The host is at work for the component until this is dropped.
#[derive(Debug)]
pub struct AtWork(News);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.0.at_work.store(false, Ordering::Release);
    }
}

impl News {
    /// Waits for the next ring; rings that came meanwhile count as one. One listener at a time.
    pub async fn heard(&self) {
        self.0.bell.notified().await;
    }
    /// Rings.
    pub fn ring(&self) {
        self.0.bell.notify_one();
    }
    /// The component's call is in the host from now on, where it takes time that is not the component's own.
    pub fn work(&self) -> AtWork {
        self.0.at_work.store(true, Ordering::Release);
        AtWork(self.clone())
    }
    /// Whether the component's call is in the host.
    #[must_use]
    pub fn is_at_work(&self) -> bool {
        self.0.at_work.load(Ordering::Acquire)
    }
}

/// One source's armed flag, as a waker.
#[derive(Debug)]
struct Flag {
    armed: AtomicBool,
    news: News,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        if self.armed.swap(false, Ordering::AcqRel) {
            self.news.ring();
        }
    }
}

/// One source's end of the bell.
#[derive(Debug)]
pub struct Bell {
    flag: Arc<Flag>,
    waker: Waker,
}

impl Bell {
    /// A bell that is not armed.
    pub fn new(news: &News) -> Self {
        let flag = Arc::new(Flag { armed: AtomicBool::new(false), news: news.clone() });
        Self { waker: Waker::from(Arc::clone(&flag)), flag }
    }

    /// Arms, then asks `poll` whether there is something already. `Pending` leaves the source armed.
    pub fn arm<T>(&self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        self.flag.armed.store(true, Ordering::Release);
        // The guest's task may have used up its share of tokio's cooperative budget; then a poll would wake at once
        // without a reason, again and again.
        let unbudgeted = pin!(tokio::task::coop::unconstrained(poll_fn(|context| poll(context))));
        unbudgeted.poll(&mut Context::from_waker(&self.waker))
    }

    /// The caller got something by itself: no ring for it.
    pub fn disarm(&self) {
        self.flag.armed.store(false, Ordering::Release);
    }

    /// News that is there already: rings if armed.
    pub fn ring(&self) {
        self.waker.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(news: &News) -> bool {
        let heard = pin!(news.heard());
        heard.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn an_armed_source_rings_once() {
        let news = News::default();
        let bell = Bell::new(&news);
        bell.ring();
        assert!(!heard(&news), "not armed");
        let mut stored = None;
        let _: Poll<()> = bell.arm(|context| {
            stored = Some(context.waker().clone());
            Poll::Pending
        });
        stored.as_ref().unwrap().wake_by_ref();
        stored.as_ref().unwrap().wake_by_ref();
        assert!(heard(&news));
        assert!(!heard(&news));
        let _: Poll<()> = bell.arm(|_| Poll::Pending);
        bell.disarm();
        stored.unwrap().wake_by_ref();
        assert!(!heard(&news), "disarmed");
    }

    #[test]
    fn rings_count_as_one() {
        let news = News::default();
        news.ring();
        news.ring();
        assert!(heard(&news));
        assert!(!heard(&news));
    }
}
