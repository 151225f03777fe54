//! The numbers of events, the end of a run, and one refused submission among others.

use super::*;
use crate::run::event::EventType;
use crate::run::status::Status;

#[tokio::test]
async fn numbers_are_without_gap_or_repeat() {
    let (_temporary, dir, ledger) = open();
    let run = begin(&ledger).await;
    ledger.commit(Some(run), vec![append(run, 1..=3)]).await.unwrap();
    for wrong in [vec![1], vec![3], vec![5], vec![4, 6], vec![4, 4], vec![0]] {
        let answer = ledger.commit(Some(run), vec![append(run, wrong.clone())]).await;
        assert!(matches!(answer, Err(LedgerError::OutOfOrder { .. })), "{wrong:?}: {answer:?}");
        assert_eq!(numbers(&ledger, run), [1, 2, 3], "{wrong:?}");
    }
    ledger.commit(Some(run), vec![append(run, [4]), append(run, [5])]).await.unwrap();
    // What the writer does not remember it reads.
    ledger.close(std::time::Duration::from_secs(30)).await;
    let ledger = Ledger::open(&dir).unwrap();
    let answer = ledger.commit(Some(run), vec![append(run, [5])]).await;
    assert_eq!(answer, Err(LedgerError::OutOfOrder { run, expected: 6, found: 5 }));
    ledger.commit(Some(run), vec![append(run, [6])]).await.unwrap();
    assert_eq!(numbers(&ledger, run), [1, 2, 3, 4, 5, 6]);
    assert_eq!(ledger.run(run).unwrap().unwrap().last_seq, 6);
}

#[tokio::test]
async fn nothing_follows_the_end() {
    for reopened in [false, true] {
        for order in [false, true] {
            let (_temporary, dir, mut ledger) = open();
            let run = begin(&ledger).await;
            let last = Op::AppendEvents(vec![event(run, 1, "notice"), event(run, 2, "run_completed")]);
            let mut end = vec![last, update(run, "completed")];
            if order {
                end.reverse();
            }
            ledger.commit(Some(run), end).await.unwrap();
            if reopened {
                ledger.close(std::time::Duration::from_secs(30)).await;
                ledger = Ledger::open(&dir).unwrap();
            }
            for late in [append(run, [3]), update(run, "running"), update(run, "lost")] {
                assert_eq!(ledger.commit(Some(run), vec![late]).await, Err(LedgerError::Ended(run)));
            }
            // What is known about an ended run may still grow (a receipt, say).
            ledger.commit(Some(run), vec![update(run, "completed")]).await.unwrap();
            assert_eq!(numbers(&ledger, run), [1, 2]);
            assert_eq!(ledger.run(run).unwrap().unwrap().status, "completed");
        }
    }
}

#[tokio::test]
async fn the_last_event_and_the_last_status_come_together() {
    let (_temporary, _dir, ledger) = open();
    let run = begin(&ledger).await;
    let last = || Op::AppendEvents(vec![event(run, 1, "run_failed")]);
    let beyond = Op::AppendEvents(vec![event(run, 1, "run_failed"), event(run, 2, "notice")]);
    assert_eq!(ledger.commit(Some(run), vec![last()]).await, Err(LedgerError::TornEnd(run)));
    assert_eq!(ledger.commit(Some(run), vec![last(), update(run, "completed")]).await, Err(LedgerError::TornEnd(run)));
    assert_eq!(ledger.commit(Some(run), vec![beyond, update(run, "failed")]).await, Err(LedgerError::Ended(run)));
    assert!(numbers(&ledger, run).is_empty());
    assert_eq!(ledger.run(run).unwrap().unwrap().status, "running");
    ledger.commit(Some(run), vec![last(), update(run, "failed")]).await.unwrap();
}

#[test]
fn the_ledger_and_the_run_agree_on_what_is_the_end() {
    for status in Status::ALL {
        assert_eq!(super::super::row::is_last_status(status.word()), status.is_terminal(), "{status:?}");
        let kind = format!("run_{}", status.word());
        assert_eq!(EventType::from_word(&kind).is_some(), status.is_terminal(), "{kind}");
    }
    for kind in EventType::ALL {
        let ends = Status::ALL.iter().any(|status| status.is_terminal() && kind.word() == format!("run_{}", status.word()));
        assert_eq!(super::super::row::is_last_event(kind.word()), ends, "{kind:?}");
    }
}

#[tokio::test]
async fn a_refused_submission_fails_only_itself() {
    let (_temporary, _dir, ledger) = open();
    let run = begin(&ledger).await;
    let lead = session(Some("lead"));
    ledger.commit(None, vec![Op::PutSession(lead.clone()), key("spawn:1")]).await.unwrap();
    // Put into the line at once, so that most of them share a transaction.
    let other = RunId::random();
    let inbox = SessionId::random();
    let mut commits = vec![
        ledger.submit(Some(run), vec![append(run, [1])]).await,
        ledger.submit(None, vec![Op::PutMessage(message(inbox, "gone")), insert(other), Op::PutSession(session(Some("lead")))]).await,
        ledger.submit(Some(run), vec![append(run, [2]), key("spawn:1")]).await,
        ledger.submit(Some(run), vec![append(run, [2])]).await,
        ledger.submit(None, vec![insert(run)]).await,
        ledger.submit(Some(other), vec![append(other, [1])]).await,
        ledger.submit(None, vec![Op::PutMessage(message(inbox, "kept"))]).await,
        ledger.submit(None, vec![Op::PutSession(SessionRow { native_id: Some("n".to_owned()), ..lead.clone() })]).await,
    ];
    // Awaited in another order than they were submitted in.
    let mut answers = Vec::new();
    while let Some(commit) = commits.pop() {
        answers.push(commit.await);
    }
    answers.reverse();
    assert_eq!(answers[0], Ok(()));
    assert_eq!(answers[1], Err(LedgerError::NameTaken("lead".to_owned())));
    assert_eq!(answers[2], Err(LedgerError::KeyTaken));
    assert_eq!(answers[3], Ok(()));
    assert!(is_broken(answers[4].clone()).contains("UNIQUE"), "{:?}", answers[4]);
    assert_eq!(answers[5], Err(LedgerError::NoRun(other)));
    assert_eq!(answers[6..], [Ok(()), Ok(())]);
    assert_eq!(numbers(&ledger, run), [1, 2]);
    assert_eq!(ledger.run(other).unwrap(), None);
    let messages = ledger.messages(inbox, 0, 10).unwrap();
    assert_eq!(messages.iter().map(|message| (message.seq, message.text.as_str())).collect::<Vec<_>>(), [(1, "kept")]);
    assert_eq!(ledger.session_named("lead").unwrap().unwrap().native_id.as_deref(), Some("n"));
}

#[tokio::test]
async fn names_are_unique_and_what_was_learnt_of_a_session_stays() {
    let (_temporary, _dir, ledger) = open();
    let (first, second) = (session(Some("lead")), session(Some("lead")));
    ledger.commit(None, vec![Op::PutSession(first.clone())]).await.unwrap();
    ledger.commit(None, vec![Op::PutSession(first.clone())]).await.unwrap();
    let taken = Err(LedgerError::NameTaken("lead".to_owned()));
    assert_eq!(ledger.commit(None, vec![Op::PutSession(second.clone())]).await, taken);
    // Whoever read the row earlier and knows less takes nothing away.
    let native = SessionRow { native_id: Some("theirs".into()), ..first.clone() };
    ledger.commit(None, vec![Op::PutSession(native.clone())]).await.unwrap();
    ledger.commit(None, vec![Op::PutSession(SessionRow { name: None, native_id: None, ..first })]).await.unwrap();
    assert_eq!(ledger.session_named("lead").unwrap(), Some(native));
    ledger.commit(None, vec![Op::PutSession(session(None)), Op::PutSession(session(None))]).await.unwrap();
}
