//! The protocol over raw JSON lines.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

use super::{Client, PATIENCE, call, initialize, modern, small};
use crate::fault::code;
use crate::mcp::serve_table;
use crate::mcp::server::INSTRUCTIONS;
use crate::mcp::tool::MAX_WAITS;

#[tokio::test]
async fn initialize_takes_every_older_version_and_offers_the_newest_of_them() {
    for (asked, given) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ] {
        let mut client = Client::new();
        client.send(&initialize(asked)).await;
        let answer = client.answer(0).await;
        assert_eq!(answer["result"]["protocolVersion"], given, "{asked}");
        assert_eq!(answer["result"]["serverInfo"]["name"], "falconer");
        assert_eq!(answer["result"]["capabilities"], json!({ "tools": {} }));
        assert_eq!(answer["result"]["instructions"], INSTRUCTIONS);
    }
}

#[tokio::test]
async fn discover_and_a_call_need_no_initialize() {
    let mut client = Client::new();
    client.send(&modern(1, "server/discover", json!({}))).await;
    let answer = client.answer(1).await;
    let versions = answer["result"]["supportedVersions"].as_array().unwrap();
    assert!(versions.contains(&json!("2026-07-28")) && versions.contains(&json!("2025-06-18")));
    client.send(&modern(2, "tools/list", json!({}))).await;
    let answer = client.answer(2).await;
    let names: Vec<&str> = answer["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["break_down", "echo", "hold", "refuse", "tell"]);
    assert_eq!(answer["result"]["resultType"], "complete");
    client.send(&modern(3, "tools/call", json!({ "name": "echo", "arguments": { "text": "hello" } }))).await;
    let answer = client.answer(3).await;
    assert_eq!(answer["result"]["structuredContent"]["text"], "hello");
    assert_eq!(answer["result"]["resultType"], "complete");
}

#[tokio::test]
async fn a_probe_may_be_followed_by_initialize() {
    let mut client = Client::new();
    client.send(&modern(1, "server/discover", json!({}))).await;
    client.answer(1).await;
    client.send(&initialize("2025-11-25")).await;
    assert_eq!(client.answer(0).await["result"]["protocolVersion"], "2025-11-25");
    let answer = client.call(2, "echo", json!({ "text": "hello" })).await;
    assert_eq!(answer["result"]["structuredContent"]["text"], "hello");
    assert_eq!(answer["result"].get("resultType"), None, "unknown to that version");
}

#[tokio::test]
async fn text_and_structured_content_say_the_same() {
    let mut client = Client::legacy().await;
    for (tool, failed) in [("echo", json!(false)), ("refuse", json!(true))] {
        let result = client.call(1, tool, json!({ "text": "\"quoted\"\n… ünïcode" })).await["result"].take();
        assert_eq!(result["isError"], failed);
        let text: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
        assert_eq!(text, result["structuredContent"]);
    }
}

#[tokio::test]
async fn a_refusal_is_a_tool_error_with_its_code() {
    let mut client = Client::legacy().await;
    let result = client.call(1, "refuse", json!({ "text": "way" })).await["result"].take();
    let expected = json!({ "code": "not_allowed", "message": "no way", "retryable": false, "hint": "ask a person" });
    assert_eq!(result["structuredContent"], expected);
}

#[tokio::test]
async fn wrong_arguments_are_tool_errors_and_unknown_tools_are_not() {
    let mut client = Client::legacy().await;
    for arguments in [json!({}), json!({ "text": 1 }), json!({ "text": "x", "more": 1 })] {
        let result = client.call(1, "echo", arguments).await["result"].take();
        assert_eq!(result["isError"], true);
        assert_eq!(result["structuredContent"]["code"], code::INVALID_ARGUMENT);
    }
    let answer = client.call(2, "ehco", json!({})).await;
    assert_eq!(answer["error"]["code"], -32602);
    let mut bare = call(3, "echo", json!({}));
    bare["params"].as_object_mut().unwrap().remove("arguments");
    client.send(&bare).await;
    assert_eq!(client.answer(3).await["result"]["structuredContent"]["message"], "echo needs `text`");
}

#[tokio::test]
async fn at_the_end_of_input_every_call_is_answered_and_waits_end_at_once() {
    let mut client = Client::legacy().await;
    for id in 1..=20 {
        client.send(&call(id, if id % 2 == 0 { "hold" } else { "echo" }, json!({ "text": "x" }))).await;
    }
    client.end_input().await;
    for id in 1..=20 {
        assert_eq!(client.answer(id).await["result"]["structuredContent"]["broken_off"], id % 2 == 0);
    }
    assert_eq!(client.next().await, None);
    tokio::time::timeout(PATIENCE, client.server).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_cancelled_request_ends_its_wait_alone() {
    let mut client = Client::legacy().await;
    client.send(&call(1, "hold", json!({ "text": "first" }))).await;
    client.send(&call(2, "hold", json!({ "text": "second" }))).await;
    client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } })).await;
    let answer = client.call(3, "echo", json!({ "text": "after" })).await;
    assert_eq!(answer["result"]["structuredContent"]["text"], "after");
    client.end_input().await;
    let mut ids = Vec::new();
    while let Some(message) = client.next().await {
        ids.push(message["id"].clone());
    }
    assert_eq!(ids, [json!(2)], "nothing is sent for a cancelled request");
}

#[tokio::test]
async fn too_many_waits_are_refused_and_leave_room_for_calls() {
    let mut client = Client::legacy().await;
    let most = i64::try_from(MAX_WAITS).unwrap();
    for id in 1..=most + 1 {
        client.send(&call(id, "hold", json!({ "text": "x" }))).await;
    }
    // Which of them is refused is not said: handlers run side by side.
    let refused = client.next().await.unwrap();
    assert_eq!(refused["result"]["structuredContent"]["code"], code::LIMIT_REACHED);
    assert_eq!(refused["result"]["structuredContent"]["retryable"], true);
    let answer = client.call(1_000, "echo", json!({ "text": "still here" })).await;
    assert_eq!(answer["result"]["structuredContent"]["text"], "still here");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_not_read_from() {
    let mut client = Client::with_room(64 << 10);
    client.send(&initialize("2025-06-18")).await;
    client.answer(0).await;
    // It writes and writes, and reads nothing: at some point a write waits.
    let mut sent = 0;
    let text = "x".repeat(1_000);
    loop {
        let line = format!("{}\n", call(sent + 1, "echo", json!({ "text": text })));
        match tokio::time::timeout(Duration::from_millis(500), client.output.write_all(line.as_bytes())).await {
            Ok(written) => written.unwrap(),
            // The line is in part in the pipe; nothing more is written.
            Err(_) => break,
        }
        sent += 1;
        assert!(sent < 20_000, "nothing holds the client up");
    }
    // It reads again, and nothing that was taken is lost.
    for id in 1..=sent {
        assert_eq!(client.answer(id).await["result"]["structuredContent"]["text"], text);
    }
}

#[tokio::test]
async fn the_closing_token_ends_a_connection() {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (input, output) = tokio::io::split(theirs);
    let closing = CancellationToken::new();
    let server = tokio::spawn(serve_table(small(), (), input, output, closing.clone()));
    let (_input, mut output) = tokio::io::split(ours);
    output.write_all(format!("{}\n{}\n", initialize("2025-06-18"), call(1, "hold", json!({ "text": "x" }))).as_bytes()).await.unwrap();
    let other = closing.child_token();
    closing.cancel();
    tokio::time::timeout(PATIENCE, server).await.unwrap().unwrap();
    assert!(other.is_cancelled());
}

#[tokio::test]
async fn the_end_of_one_connection_does_not_cancel_the_token_it_was_given() {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (input, output) = tokio::io::split(theirs);
    let closing = CancellationToken::new();
    let server = tokio::spawn(serve_table(small(), (), input, output, closing.clone()));
    drop(ours);
    tokio::time::timeout(PATIENCE, server).await.unwrap().unwrap();
    assert!(!closing.is_cancelled());
}

#[tokio::test]
async fn a_defect_in_a_tool_is_answered() {
    let mut client = Client::legacy().await;
    let result = client.call(1, "break_down", json!({ "text": "x" })).await["result"].take();
    assert_eq!((&result["isError"], &result["structuredContent"]["code"]), (&json!(true), &json!(code::INTERNAL)));
    assert_eq!(client.call(2, "echo", json!({ "text": "x" })).await["result"]["isError"], false);
}

#[tokio::test]
async fn progress_is_told_to_those_who_ask_and_comes_before_the_answer() {
    let mut client = Client::legacy().await;
    let mut asking = call(1, "tell", json!({ "text": "news" }));
    asking["params"]["_meta"] = json!({ "progressToken": "token" });
    client.send(&asking).await;
    let mut numbers = Vec::new();
    loop {
        let message = client.next().await.unwrap();
        if message["id"] == 1 {
            break;
        }
        assert_eq!((&message["method"], &message["params"]["progressToken"]), (&json!("notifications/progress"), &json!("token")));
        assert_eq!(message["params"]["message"], "news");
        numbers.push(message["params"]["progress"].as_f64().unwrap());
    }
    assert!(!numbers.is_empty() && numbers.is_sorted_by(|one, other| one < other), "{numbers:?}");

    client.send(&call(2, "tell", json!({ "text": "news" }))).await;
    assert_eq!(client.next().await.unwrap()["id"], 2, "nobody asked for news of this one");
}
