//! Files in messages: by bytes and by name, at the start, while a run lives, and when it is carried on.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::host::Host;

/// The first bytes of a PNG, and some more.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\npixels";
/// The same in base64.
const PNG_BASE64: &str = "iVBORw0KGgpwaXhlbHM=";

fn with_parts(mut request: Value, parts: Value) -> Value {
    request.as_object_mut().unwrap().remove("prompt");
    request["message"] = json!({ "parts": parts });
    request
}

#[test]
fn a_file_is_delivered_by_bytes_or_by_name() {
    let host = Host::usual();
    let client = host.client();
    fs::write(host.work().join("a picture.png"), PNG).unwrap();
    let uri = format!("file://{}/a%20picture.png", host.work().display());
    for (part, name) in [
        (json!({ "type": "file", "bytes_base64": PNG_BASE64, "name": "dir/b.png" }), "b.png"),
        (json!({ "type": "file", "uri": uri }), "a picture.png"),
        (json!({ "type": "file", "uri": uri, "name": "c.png", "mime_type": "image/png" }), "c.png"),
        (json!({ "type": "file", "bytes_base64": PNG_BASE64, "name": "../.." }), "nameless"),
    ] {
        let run = client.run(with_parts(host.hostile(json!({ "mode": "echo" })), json!([{ "type": "text", "text": "look" }, part])));
        let text = run["result"]["text"].as_str().unwrap_or_else(|| panic!("{run}"));
        assert!(text.starts_with(&format!("look\n[{name}: 14 bytes of image/png: ")) && text.ends_with("pixels]"), "{text}");
    }
}

#[test]
fn what_is_said_to_a_session_may_have_files() {
    let host = Host::usual();
    let client = host.client();
    fs::write(host.work().join("b.png"), PNG).unwrap();
    let parts = json!([{ "type": "text", "text": "see " }, { "type": "file", "uri": format!("file://{}/b.png", host.work().display()) }]);
    let run = client.spawn(host.hostile(json!({ "mode": "idle" })));
    client.until_status(&run, "running");
    let steered = client.call("continue_run", json!({ "run_id": run, "parts": parts }));
    assert_eq!(steered["action"], "steered");
    client.event(&run, "the file", |event| {
        event["data"]["text"]
            .as_str()
            .is_some_and(|text| text.starts_with("steered see [b.png: 14 bytes of image/png: ") && text.ends_with("pixels]"))
    });
    client.cancel(&run);
    let run = client.run(host.hostile(json!({ "mode": "echo" })));
    let next = client.call("continue_run", json!({ "run_id": run["run_id"], "parts": parts }));
    let ended = client.ended(next["run_id"].as_str().unwrap());
    assert!(ended["result"]["text"].as_str().is_some_and(|text| text.contains("pixels] (after native-1)")), "{ended}");
    client.refused("continue_run", json!({ "run_id": run["run_id"], "parts": [] }), "invalid_argument");
}

#[test]
fn a_file_that_may_not_be_read_is_refused_with_its_reason() {
    let host = Host::usual();
    let client = host.client();
    fs::write(host.path("outside.png"), PNG).unwrap();
    fs::write(host.work().join("text"), "plain").unwrap();
    symlink(host.path("outside.png"), host.work().join("way-out.png")).unwrap();
    fs::create_dir(host.work().join("dir.png")).unwrap();
    fs::File::create(host.work().join("large.png")).unwrap().set_len((16 << 20) + 1).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        host.work().join("pipe.png"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let at = |name: &str| format!("file://{}/{name}", host.work().display());
    for (part, code) in [
        (json!({ "uri": at("way-out.png") }), "file_not_granted"),
        (json!({ "uri": at("../outside.png") }), "file_not_granted"),
        (json!({ "uri": "file:///etc/passwd" }), "file_not_granted"),
        (json!({ "uri": at("none.png") }), "file_not_found"),
        (json!({ "uri": at("dir.png") }), "file_not_found"),
        (json!({ "uri": at("pipe.png") }), "file_not_found"),
        (json!({ "uri": at("large.png"), "mime_type": "image/png" }), "invalid_argument"),
        (json!({ "uri": "https://example.org/a.png" }), "invalid_argument"),
        (json!({ "uri": "file://elsewhere/a.png" }), "invalid_argument"),
        (json!({ "uri": at("text"), "bytes_base64": PNG_BASE64 }), "conflicting_fields"),
        (json!({}), "invalid_argument"),
        (json!({ "bytes_base64": "not base64" }), "invalid_argument"),
        (json!({ "uri": at("text") }), "unsupported"),
        (json!({ "bytes_base64": PNG_BASE64, "mime_type": "text/plain" }), "unsupported"),
    ] {
        let mut file = part.clone();
        file["type"] = json!("file");
        let request = with_parts(host.hostile(json!({ "mode": "echo" })), json!([file]));
        let refusal = client.refused("spawn_run", request, code);
        assert!(!refusal.message.contains("pixels"), "{refusal:?}");
    }
    let request = with_parts(host.exec(json!({ "program": "cat" })), json!([{ "type": "file", "bytes_base64": PNG_BASE64 }]));
    client.refused("spawn_run", request, "unsupported");
    assert_eq!(client.call("list_runs", json!({}))["runs"], json!([]), "none of them left a run");
}

#[test]
fn the_bytes_of_a_file_are_kept_once() {
    let host = Host::usual();
    let client = host.client();
    let part = json!({ "type": "file", "bytes_base64": "QUJD".repeat(5_000), "mime_type": "image/png" });
    let run = client.run(with_parts(host.hostile(json!({ "mode": "echo" })), json!([part])));
    assert!(run["result"]["text"].as_str().unwrap().contains("15000 bytes of image/png"), "{run}");
    assert_eq!(host.data_holding("QUJD".repeat(1_000).as_bytes()), Vec::<std::path::PathBuf>::new(), "beside the file itself");
}

#[test]
fn data_that_is_too_large_for_a_backend_is_refused() {
    let host = Host::usual();
    let client = host.client();
    let run = client.spawn(host.hostile(json!({ "mode": "idle" })));
    client.until_status(&run, "running");
    let parts = json!([{ "type": "data", "data": "x".repeat(2 << 20) }]);
    client.refused("continue_run", json!({ "run_id": run, "parts": parts }), "invalid_argument");
    client.call("continue_run", json!({ "run_id": run, "message": "and on" }));
    client.cancel(&run);
}

#[test]
fn the_command_line_sends_files() {
    let host = Host::usual();
    // By the rights of whoever types it: also from outside of the workspaces.
    fs::write(host.path("b.png"), PNG).unwrap();
    let file = host.path("b.png");
    let file = file.to_str().unwrap();
    let text = host.run(&["run", "hostile", "look", "--set", "mode=echo", "--name", "walter", "--file", file]).well();
    assert!(text.contains("[b.png: 14 bytes of image/png: "), "{text}");
    let text = host.run(&["continue", "walter", "again", "--file", file]).well();
    assert!(text.contains("again") && text.contains("pixels] (after native-1)"), "{text}");
    let text = host.run(&["continue", "walter", "aside", "--fork"]).well();
    assert!(text.contains("aside (beside native-2)"), "{text}");
    assert_eq!(host.run(&["run", "hostile", "look", "--set", "mode=echo", "--file", "/no/such/file"]).code, Some(2));
    assert_eq!(host.run(&["continue", "walter", "x", "--fork", "--answer", "q1", "--hash", "ab"]).code, Some(2));
}
