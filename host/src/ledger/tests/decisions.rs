//! Decisions: kept in order, found by what they are about, and bounded.

use std::time::Duration;

use super::*;
use crate::ledger::{DecisionFilter, DecisionRow, Glance, KEPT_DECISIONS, schema};

fn row(run: Option<RunId>, allowed: bool, rule: &str) -> DecisionRow {
    DecisionRow {
        n: 0,
        at: Millis(1000),
        caller: "a client 1".to_owned(),
        parent: None,
        run,
        backend: "ssh".to_owned(),
        target: Some("web-1".to_owned()),
        what: "spawn_run".to_owned(),
        allowed,
        code: (!allowed).then(|| "not_allowed".to_owned()),
        rule: rule.to_owned(),
        address: Some("203.0.113.7".to_owned()),
        command: Some(r#"{"args":["uptime"]}"#.to_owned()),
    }
}

fn rules(ledger: &Ledger, filter: &DecisionFilter) -> Vec<String> {
    ledger.decisions(filter).unwrap().into_iter().map(|row| row.rule).collect()
}

#[tokio::test]
async fn they_are_found_newest_first_by_run_and_outcome() {
    let (_temporary, dir, ledger) = open();
    let (one, two) = (begin(&ledger).await, begin(&ledger).await);
    let inside = DecisionRow { parent: Some(two), ..row(Some(one), false, "d") };
    ledger
        .commit(None, vec![Op::PutDecisions(vec![row(Some(one), true, "a"), row(None, false, "b"), row(Some(two), true, "c"), inside])])
        .await
        .unwrap();
    let all = DecisionFilter { limit: 10, ..DecisionFilter::default() };
    assert_eq!(rules(&ledger, &all), ["d", "c", "b", "a"]);
    assert_eq!(rules(&ledger, &DecisionFilter { limit: 2, ..all.clone() }), ["d", "c"]);
    assert_eq!(rules(&ledger, &DecisionFilter { refused: true, ..all.clone() }), ["d", "b"]);
    assert_eq!(rules(&ledger, &DecisionFilter { run: Some(one), ..all.clone() }), ["d", "a"]);
    assert_eq!(rules(&ledger, &DecisionFilter { run: Some(two), ..all.clone() }), ["d", "c"], "and what was asked from inside it");
    let first = ledger.decisions(&all).unwrap().pop().unwrap();
    assert_eq!(first, DecisionRow { n: 1, ..row(Some(one), true, "a") });
    // A change that is refused leaves no decision behind.
    ledger.commit(None, vec![Op::PutDecisions(vec![row(None, true, "e")]), key("k")]).await.unwrap();
    assert!(ledger.commit(None, vec![Op::PutDecisions(vec![row(None, true, "f")]), key("k")]).await.is_err());
    assert_eq!(rules(&ledger, &DecisionFilter { limit: 1, ..all.clone() }), ["e"]);
    ledger.close(Duration::from_secs(30)).await;
    assert_eq!(Glance::open(&dir).unwrap().unwrap().decisions(&all).unwrap().len(), 5);
}

#[tokio::test]
async fn the_oldest_go_where_there_are_too_many() {
    let (_temporary, _dir, ledger) = open();
    let kept = u64::from(KEPT_DECISIONS);
    let mut left = kept + 10;
    while left > 0 {
        let count = left.min(5_000);
        ledger.commit(None, vec![Op::PutDecisions((0..count).map(|_| row(None, true, "x")).collect())]).await.unwrap();
        left -= count;
    }
    let all = ledger.decisions(&DecisionFilter { limit: u32::MAX, ..DecisionFilter::default() }).unwrap();
    assert_eq!((all.len() as u64, all[0].n, all[all.len() - 1].n), (kept, kept + 10, 11));
}

#[tokio::test]
async fn a_ledger_of_the_first_format_gets_the_table() {
    let (_temporary, dir) = data_dir();
    let first = &schema::steps()[..1];
    drop(schema::open_as(&dir, first).unwrap());
    let all = DecisionFilter { limit: 10, ..DecisionFilter::default() };
    assert_eq!(Glance::open(&dir).unwrap().unwrap().decisions(&all).unwrap(), [], "one that is only looked at stays as it is");
    let ledger = Ledger::open(&dir).unwrap();
    ledger.commit(None, vec![Op::PutDecisions(vec![row(None, false, "x")])]).await.unwrap();
    assert_eq!(rules(&ledger, &all), ["x"]);
}
