//! Pictures in a message: delivered; other files: refused with the reason.

use serde_json::{Value, json};

use super::Stage;

/// A red square.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEklEQVR4nGP4z8CAFWEXHbQSACj/P8Fu7N9hAAAAAElFTkSuQmCC";

fn request(stage: &Stage, parts: Value) -> Value {
    json!({ "backend": "codex", "cwd": stage.host.work(), "config": { "model": "gpt-5.5" }, "message": { "parts": parts } })
}

#[test]
fn pictures_are_delivered_and_other_files_refused() {
    let Some(stage) = Stage::set("pictures to codex") else { return };
    let file = |mime: &str, name: &str| json!({ "type": "file", "mime_type": mime, "name": name, "bytes_base64": PNG });
    let parts = json!([
        { "type": "text", "text": "MOCK:hello" },
        file("image/png", "mouse.png"),
        { "type": "data", "data": { "colour": "grey" } },
    ]);
    let (run, events) = stage.completed(request(&stage, parts));
    assert_eq!(run["result"]["text"], "Hello from the mock model.");
    let sent = stage.mock.bodies("").pop().unwrap();
    let content: Vec<&Value> = sent["input"].as_array().unwrap().iter().filter_map(|item| item["content"].as_array()).flatten().collect();
    let picture = content.iter().find(|part| part["type"] == "input_image").unwrap_or_else(|| panic!("{content:#?}"));
    assert_eq!(picture["image_url"], format!("data:image/png;base64,{PNG}"), "{picture}");
    assert!(content.iter().any(|part| part["text"].as_str().is_some_and(|text| text.trim() == r#"{"colour":"grey"}"#)), "{content:#?}");
    assert!(!json!(events).to_string().contains(PNG), "the picture is in no event");

    let refused = request(&stage, json!([{ "type": "text", "text": "MOCK:hello" }, file("application/pdf", "paper.pdf")]));
    // By the host, which knows what Codex takes.
    let refusal = stage.client.refused("spawn_run", refused, "unsupported");
    assert!(refusal.message.contains("application/pdf"), "{refusal:?}");
    assert_eq!(stage.mock.bodies("").len(), 1, "nothing was sent");
}

#[test]
fn what_codex_would_not_take_is_refused_before_it_is_sent() {
    let Some(stage) = Stage::set("lies and lengths to codex") else { return };
    let text = json!({ "type": "text", "text": "MOCK:hello" });
    let lie = |mime: &str| json!({ "type": "file", "mime_type": mime, "name": "mouse", "bytes_base64": "bm8gcGljdHVyZQ==" });
    for mime in ["image/png", "image/svg+xml"] {
        let (view, _) = stage.failed(request(&stage, json!([text, lie(mime)])), "unsupported");
        assert!(view["error"]["message"].as_str().unwrap().contains("mouse"), "{view}");
    }
    let long = json!([{ "type": "text", "text": format!("MOCK:hello {}", "x".repeat(1 << 20)) }]);
    let (view, _) = stage.failed(request(&stage, long), "prompt_too_long");
    assert!(view["error"]["hint"].is_string(), "{view}");
    assert_eq!(stage.mock.bodies("").len(), 0, "nothing was sent");
}
